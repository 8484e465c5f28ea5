/**
 * What every format is opened and created with: the same shape for each, so that the registry
 * treats them alike. A format ignores what it has no notion of (raw has no clusters, only qcow2 has
 * refcounts).
 *
 * Invariants:
 * - An open image owns `device`, which its `close` or `abandon` closes; a failed open leaves it to
 *   the caller. `create…` does not own it: the caller syncs and closes.
 * - A backing file is reached only through `openBacking`; an engine never opens a name by itself.
 */

import type { BlockDevice } from '../device/block-device.ts';
import type { Purpose } from '../device/purpose.ts';
import type { CacheSizes } from './cache-sizes.ts';
import type { CommitPolicy } from './commit-policy.ts';
import type { DiskImage, Format } from './disk-image.ts';
import type { EnginePolicyName } from './engine-policy.ts';
import { REFCOUNT_MODES, type ImageShape, type RefcountMode } from './image-shape.ts';

export { REFCOUNT_MODES, type RefcountMode };

export const DISCARD_MODES = ['unmap', 'ignore'] as const;
/**
 * What becomes of guest discards, as QEMU's option `discard` says it: with `ignore` none is served,
 * and clusters that a zero-write frees are not given back to the file system.
 */
export type DiscardMode = (typeof DISCARD_MODES)[number];

/** The backing file as an image's header names it. */
export interface BackingReference {
  /** As stored; relative names are relative to the directory of the image that holds them. */
  readonly name: string;
  /** `undefined` if the image does not name one that is supported; it is never probed. */
  readonly format: Format | undefined;
  /** What the image names instead: another program's format, or a protocol. */
  readonly otherFormat?: string | undefined;
}

/**
 * Opens the backing image read-only, or throws. Called at most once an open, after the header is
 * checked.
 */
export type OpenBacking = (reference: BackingReference) => Promise<DiskImage>;

/**
 * Opens the external data file that a qcow2 image names, or throws; called at most once an open.
 * The name is as stored, `undefined` if the image names none.
 */
export type OpenDataFile = (name: string | undefined) => BlockDevice;

/** How an image is served, as the user of the image chooses at each opening. */
export interface OpeningChoices {
  /** qcow2 only: overrides the image's lazy-refcounts bit. */
  readonly refcounts?: RefcountMode | undefined;
  /** Of the metadata caches; `undefined` takes the defaults, in qcow2 QEMU's. */
  readonly caches?: CacheSizes | undefined;
  /**
   * What becomes of guest discards, which are dropped above the format; for qcow2 also whether freed
   * clusters are punched. Default `unmap`.
   */
  readonly discard?: DiscardMode | undefined;
  /**
   * qcow2 of version 3 only: clusters that a guest discard or an unmapping zero-write would free
   * keep their place in the image and read as zeroes. Default false.
   */
  readonly discardNoUnref?: boolean | undefined;
  /** How the engine keeps its metadata in order. Default `qemu`; raw has no metadata. */
  readonly policy?: EnginePolicyName | undefined;
  /** B-tree only: how a flush makes the tree durable. Default `two-sync`. */
  readonly commit?: CommitPolicy | undefined;
}

/** What `openRaw`, `openQcow2` and `openQed` take. */
export interface OpenOptions extends OpeningChoices {
  readonly device: BlockDevice;
  /** Nothing is written: no repair, no dirty bit, no sync at close. */
  readonly readOnly: boolean;
  readonly openBacking: OpenBacking;
  /** qcow2 only; default: an image with an external data file is refused. */
  readonly openDataFile?: OpenDataFile | undefined;
  /**
   * What reads of guest data are counted as: `data`, or `backing-read` in an image that backs
   * another.
   */
  readonly readPurpose: Extract<Purpose, 'data' | 'backing-read'>;
  /**
   * Opened to be checked: a dirty or corrupt image is accepted as it is, and not repaired on the
   * way. Tables of qcow2 may are where nothing can be, and snapshots are not known before the
   * check.
   */
  readonly forCheck?: boolean | undefined;
}

/** What `createRaw`, `createQcow2` and `createQed` take. */
export interface CreateOptions {
  /** Empty, or to be overwritten: its former bytes are gone afterwards. */
  readonly device: BlockDevice;
  /** Bytes; a multiple of 512. */
  readonly virtualSize: number;
  /** Bytes; ignored by raw. `undefined` takes the format's default, 64 KiB. */
  readonly clusterSize?: number | undefined;
  /** qcow2 only; `undefined` is eager. */
  readonly refcounts?: RefcountMode | undefined;
  /** What the format does not have of it is ignored. */
  readonly shape?: ImageShape | undefined;
  readonly backingFile?: { readonly name: string; readonly format: Format } | undefined;
  /**
   * qcow2 with `shape.dataFile` only: the data file, by the name to be stored; emptied, and left to
   * the caller too.
   */
  readonly dataFile?: { readonly name: string; readonly device: BlockDevice } | undefined;
}

/** What a format may find to exclude one another in an image that is to be made. */
export type LayoutChoices = Pick<CreateOptions, 'clusterSize' | 'refcounts' | 'shape' | 'backingFile'>;

/** Why an image cannot be made so, with the way out. */
export interface BrokenRule {
  /** As a `Qcow2BenchError` has it. */
  readonly code: string;
  readonly message: string;
}
