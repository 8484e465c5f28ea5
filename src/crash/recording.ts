/**
 * What a run did to the files of an image, and what its guest was promised: all that crash states
 * are made of, and all that they are judged by.
 *
 * Invariants:
 * - Time is a counter of events: an operation issued, an operation done, a request begun, a request
 *   answered each have a number of their own, in the order in which they happened.
 * - An operation that failed is not in a recording, and neither is a sync that did nothing.
 */

import type { WrapDevice } from '../bench/stack.ts';
import type { Purpose, SyncCause } from '../device/purpose.ts';
import type { CacheMode } from '../format/cache-mode.ts';
import type { CacheSizes } from '../format/cache-sizes.ts';
import type { Format } from '../format/disk-image.ts';
import type { CommitPolicy } from '../format/commit-policy.ts';
import type { EnginePolicyName } from '../format/engine-policy.ts';
import type { DiscardMode, RefcountMode } from '../format/image-options.ts';
import type { RequestOp } from '../workload/request.ts';
import type { PageFiles } from './pages.ts';

/** A change of a file; `offset` and `length` are bytes. */
export interface Operation {
  /** Index of the file in `Subject.files`. */
  readonly file: number;
  readonly op: 'write' | 'zero-range' | 'punch-hole' | 'reserve' | 'truncate';
  /** Of a truncate: the new size. */
  readonly offset: number;
  readonly length: number;
  /** Of a write. */
  readonly bytes: Uint8Array | undefined;
  readonly purpose: Purpose;
  /** It carries data copied from elsewhere, whose loss no guest request explains. */
  readonly hasCopy: boolean;
  /** Index of the request that it was issued for; `undefined` at opening and closing. */
  readonly request: number | undefined;
  readonly issuedAt: number;
  /** `Infinity` if it never was. */
  readonly doneAt: number;
}

export interface Sync {
  readonly file: number;
  /** `undefined` where it is not known, as of another program. */
  readonly cause: SyncCause | undefined;
  readonly request: number | undefined;
  readonly issuedAt: number;
  readonly doneAt: number;
  /** Index of the one operation that it covers, a write with FUA; left out: all before it. */
  readonly only?: number | undefined;
  /**
   * A sync that failed makes nothing durable, and neither does any later one for what it was to
   * cover: the host may have dropped those pages.
   */
  readonly failed: boolean;
}

/** What is done to the image between guest requests. */
export const STEP_OPS = [
  'write-compressed',
  'snapshot-create',
  'snapshot-apply',
  'snapshot-delete',
  'grow',
  'shrink',
] as const;
export type StepOp = (typeof STEP_OPS)[number];

/** What a guest asked for, or what was done to its disk between two of its requests. */
export interface GuestRequest {
  readonly op: RequestOp | StepOp;
  /** Guest bytes; of a disk that gets larger or smaller, the part that comes or goes. */
  readonly offset: number;
  readonly length: number;
  /** Of a snapshot operation: the snapshot's name. */
  readonly snapshot: string | undefined;
  readonly fua: boolean;
  readonly unmap: boolean;
  readonly beganAt: number;
  /** `Infinity` if it was not answered, or failed. */
  readonly doneAt: number;
  /** Of a write: what each of its sectors holds. */
  readonly tokens: Float64Array | undefined;
}

/** A file that the run changed. */
export interface ImageFile {
  /** As the image is opened, or as it names its data file. */
  readonly name: string;
  readonly label: string;
}

/** The image, and how it is opened after the crash. */
export interface Subject {
  readonly format: Format;
  /** The image, then its data file. */
  readonly files: readonly [ImageFile, ...ImageFile[]];
  /** Files behind it, by name, whole: they do not change. */
  readonly constants: ReadonlyMap<string, Uint8Array>;
  readonly cache: CacheMode;
  readonly refcounts: RefcountMode | undefined;
  readonly caches: CacheSizes | undefined;
  readonly discard: DiscardMode | undefined;
  readonly policy: EnginePolicyName | undefined;
  readonly commit?: CommitPolicy | undefined;
  /** Put in front of the files after the crash: a fault of what repairs them, to be found. */
  readonly deviation?: WrapDevice | undefined;
  /** The format of backing files that the image does not name. */
  readonly unnamedFormat: Format | undefined;
  /** Bytes, when the recording began. */
  readonly virtualSize: number;
  /** Bytes in which the image allocates. */
  readonly clusterSize: number;
}

export interface Recording {
  readonly subject: Subject;
  /** The files when it began; all of it durable. */
  readonly base: PageFiles;
  readonly operations: readonly Operation[];
  readonly syncs: readonly Sync[];
  readonly requests: readonly GuestRequest[];
  /** Number of the event after the last one. */
  readonly endsAt: number;
  /** It ends with a clean close, which makes all of it durable. */
  readonly isClosed: boolean;
}
