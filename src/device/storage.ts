/**
 * Where the files of images lie: a directory of the host, memory, or memory that discards guest
 * data. Engines and runner ask a `Storage` for devices by name and need not know which it is.
 *
 * Invariants: a file of the user is never overwritten unless that was asked for; names never lead
 * out of the storage; the devices handed out are bare, without filters.
 */

import type { BlockDevice } from './block-device.ts';
import type { Capabilities } from './capabilities.ts';
import type { LockRole } from './image-lock.ts';

export const STORAGE_KINDS = ['file', 'memory', 'null'] as const;
export type StorageKind = (typeof STORAGE_KINDS)[number];

export interface OpenOptions {
  /** Which file of the image it is: `image` (default), `data`, `backing:N`. */
  readonly label?: string | undefined;
  readonly readOnly?: boolean | undefined;
  /**
   * Host files: the path that errors name, where the file is a copy of another. Default: its own.
   */
  readonly shownPath?: string | undefined;
  /** Open with O_DIRECT; memory models its alignment. */
  readonly direct?: boolean | undefined;
  /** Who else may use the file meanwhile; memory has no locks. Default: it is not locked. */
  readonly lock?: LockRole | undefined;
  /**
   * Host files: operations may be in flight at once, in the system's threads; memory has none.
   * Default false.
   */
  readonly overlap?: boolean | undefined;
}

export interface CreateOptions {
  /** Default `image`. */
  readonly label?: string | undefined;
  readonly direct?: boolean | undefined;
  /** Empty a file that is there; default false: an error. */
  readonly overwrite?: boolean | undefined;
}

export interface RenameOptions {
  /** Replace an existing file. */
  readonly overwrite: boolean;
  /**
   * The temporary name of a file that is going to be renamed next, or removed, and that this one
   * belongs to: until it has its name, what happens here is taken back where that is possible.
   */
  readonly before?: string | undefined;
}

export interface Storage {
  readonly kind: StorageKind;
  /** What can be done here, with reasons for what cannot. */
  readonly capabilities: Capabilities;

  /**
   * An empty file, open for writing. A host file is locked as one whose content is replaced.
   *
   * @throws Qcow2BenchError `file-exists`; `image-locked`; `no-o-direct`; `host-open-failed` with
   *   the system's code.
   */
  create(name: string, options?: CreateOptions): BlockDevice;
  /**
   * @throws Qcow2BenchError `file-missing`; `image-locked`; `no-o-direct`; `host-open-failed` with
   *   the system's code.
   */
  open(name: string, options?: OpenOptions): BlockDevice;
  /** The file's absolute name with symbolic links followed; left out by storages without links. */
  realName?(name: string): string;
  exists(name: string): boolean;
  /** A free name beside `name`, for a file that is renamed to it when it is whole. */
  temporaryName(name: string): string;
  /**
   * Makes a new file of a copy of the host file `path`; left out by storages that hold no host
   * files.
   */
  copyIn?(path: string, name: string, signal?: AbortSignal): Promise<void>;
  /** Does nothing if the file does not exist. */
  remove(name: string): void;
  /**
   * Gives a closed file another name, atomically: readers see either the previous file or this one,
   * complete.
   *
   * @throws Qcow2BenchError `file-exists` unless `overwrite` is given; `image-locked`;
   *   `host-rename-failed` with the system's code.
   */
  rename(name: string, newName: string, options: RenameOptions): void;
  /** For people: `directory /srv/images (ext4)`, `memory`. */
  describe(): string;
}
