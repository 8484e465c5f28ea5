/**
 * What a format declares: its facts, and the engine that serves it. Its folder has both; all that
 * is above reads them through `formats.ts`, and knows no format by its name.
 *
 * Invariant: facts are plain values and rules over them. The engine, which is large, is loaded when
 * the first image of the format is opened.
 */

import type { BlockDevice } from '../device/block-device.ts';
import type { LockedContents } from '../device/image-lock.ts';
import type { CacheSizes } from './cache-sizes.ts';
import type { CheckOptions, CheckReport } from './check-report.ts';
import type { CommitPolicy } from './commit-policy.ts';
import type { DiskImage, SnapshotInfo } from './disk-image.ts';
import type { FileLayout } from './file-layout.ts';
import type {
  BackingReference,
  BrokenRule,
  CreateOptions,
  LayoutChoices,
  OpenOptions,
  RefcountMode,
} from './image-options.ts';
import type { ImageShape } from './image-shape.ts';

export interface FormatFacts {
  /** In sentences and names of cells. */
  readonly title: string;
  /** In one line, for help. */
  readonly meaning: string;
  /** What it does without, in a report's sentence "TITLE, which has no …"; absent: nothing. */
  readonly lacks?: string | undefined;
  /** The first bytes of a file; absent if any file can be one. */
  readonly magic?: readonly number[] | undefined;
  /** By which its files are locked. */
  readonly contents: Exclude<LockedContents, 'data'>;
  /** Bytes that a cluster may have: powers of two. Absent: the format has no clusters. */
  readonly clusterSizes?: { readonly min: number; readonly max: number } | undefined;
  /** Empty: the format has no refcounts. */
  readonly refcountModes: readonly RefcountMode[];
  /**
   * Whether an image can be over another file, and which formats of that file it can store:
   * `plain` if it stores only that the file is raw.
   */
  readonly backing: 'none' | 'any' | 'plain';
  /** The properties that can be chosen when an image is made. */
  readonly shape: readonly (keyof ImageShape)[];
  /** How a flush can make its metadata durable; absent: in one way. */
  readonly commitPolicies?: readonly CommitPolicy[] | undefined;
  /** The sizes of its metadata caches that can be chosen. */
  readonly cacheSizes: readonly (keyof CacheSizes)[];
  /** Whether discarded clusters can keep their place (`discard-no-unref`). */
  readonly hasDiscardNoUnref: boolean;
  /** Whether its engine has other policies than QEMU's (`engine-policy`). */
  readonly hasPolicies: boolean;
  readonly hasCompression: boolean;
  readonly hasSnapshots: boolean;
  /** Whether it has metadata that `check` looks at. */
  readonly hasCheck: boolean;
  /** When serving requests zeroes ranges or punches holes. */
  readonly zeroing: 'never' | 'on-request' | 'on-allocation';
  /** Nanoseconds of a guest request beside its host operations, on a present machine. */
  readonly requestNs: number;

  /** Whether the file's first bytes mark it as in use; absent if the format has no such mark. */
  readonly isInUse?: (header: Uint8Array) => boolean;
  /** The first rule that the choices break; absent if there are none. */
  readonly impossible?: (choices: LayoutChoices) => BrokenRule | undefined;
  /** Why its tables cannot map such a disk, as text after "skipped: ". */
  readonly unmappable?: (disk: ClusteredDisk) => string | undefined;
  /** Why its caches cannot have these sizes, as text after "skipped: ". */
  readonly unsupportedCaches?: (sizes: CacheSizes, disk: ClusteredDisk) => string | undefined;
  /**
   * Bytes of the image file when the whole disk is allocated; absent where that is not known in
   * advance.
   */
  readonly fullFileSize?: (disk: ClusteredDisk) => number;

  readonly loadEngine: () => Promise<FormatEngine>;
}

/** A disk in an image with clusters. Bytes. */
export interface ClusteredDisk {
  readonly virtualSize: number;
  readonly clusterSize: number;
  readonly shape: ImageShape | undefined;
}

/** What a format does with files. */
export interface FormatEngine {
  /** A failed opening leaves `device` to the caller, and closes what else it opened. */
  readonly open: (options: OpenOptions) => Promise<DiskImage>;
  readonly create: (options: CreateOptions) => Promise<void>;
  readonly describe: (file: LoneFile) => Promise<ImageDetails>;
  /** Absent without `hasCheck`. */
  readonly check?: (file: LoneFile, options: CheckOptions) => Promise<CheckReport>;
  /**
   * Throws if the file is damaged and the disk is to get smaller, as data could be lost then;
   * absent where a smaller disk loses nothing else.
   */
  readonly refuseDamaged?: (file: LoneFile, getsSmaller: (image: DiskImage) => boolean) => Promise<void>;
  /** Reads where the file has what. The device stays open. */
  readonly readLayout: (device: BlockDevice) => Promise<FileLayout>;
}

/** One file of an image, without those behind it. The caller closes it. */
export interface LoneFile {
  readonly device: BlockDevice;
  /** To open the image with, at most once; nothing behind it is opened. */
  readonly options: OpenOptions;
  /** What the image, once opened, says it is over. */
  readonly backing: () => BackingReference | undefined;
}

/** What an image's own file says of it. */
export interface ImageDetails {
  /** Bytes the guest sees. */
  readonly virtualSize: number;
  /** Bytes; absent where the format has no clusters. */
  readonly clusterSize?: number | undefined;
  /** It was not closed cleanly: the next opening for writing repairs it. */
  readonly isDirty?: boolean | undefined;
  /** Such an image can only be described. */
  readonly isEncrypted?: boolean | undefined;
  /** As stored. */
  readonly backing?: BackingReference | undefined;
  readonly refcounts?: RefcountMode | undefined;
  /** Guest data is in this file, as stored; `isRaw`: it can be read as a raw image. */
  readonly dataFile?: { readonly name: string | undefined; readonly isRaw: boolean } | undefined;
  readonly snapshots?: readonly SnapshotInfo[] | undefined;
  /** What only this format has, with the names, and in the order, of `qemu-img info`. */
  readonly specific?: Readonly<Record<string, unknown>> | undefined;
}
