/**
 * The contract of an open disk image of any format: what a guest can ask of it.
 *
 * Invariants:
 * - One async function a guest request, as QEMU has one coroutine a request; like a `BlockDevice`,
 *   a method answers `undefined` when it is done at once.
 * - Requests are within `virtualSize` and in whole sectors; `BlockBackend` checks that before it
 *   calls.
 * - What a `flush` acknowledged survives any crash; what was written after it may or may not.
 */

import type { GuestOffset, HostOffset } from '../core/offsets.ts';
import type { Pending } from '../core/pending.ts';
import type { SyncCause } from '../device/purpose.ts';
import { FORMATS, isFormat, type Format } from '../core/format-name.ts';
import type { CompatLevel, ImageShape, Preallocation, RefcountMode } from './image-shape.ts';

export { FORMATS, isFormat, type Format };

/** What a guest range is, before any I/O for its data. */
export type MappingKind =
  /** Stored in this image's file at `hostOffset`. */
  | 'data'
  /** The same, where the file has a hole, so that it reads as zeroes; only with `seeHoles`. */
  | 'hole'
  /** Reads as zeroes, and the image says so. */
  | 'zero'
  /** Not in this image: reads from the backing file, or as zeroes without one. */
  | 'unallocated'
  /** Stored compressed. */
  | 'compressed';

export interface MapOptions {
  readonly seeHoles: boolean;
  readonly far?: boolean;
  /** With `seeHoles`: the end of a raw file may cut a sector in two. */
  readonly cutSectors?: boolean;
}

export interface Mapping {
  readonly kind: MappingKind;
  /** Bytes from the asked guest offset for which this answer holds; at least 1. */
  readonly length: number;
  /**
   * Host offset of the first byte; only for `data` and `hole`, for `zero` where a place in the file
   * is kept, and for `unallocated` where the place belongs to a cluster that is partly in use.
   */
  readonly hostOffset: HostOffset | undefined;
}

/** An internal snapshot. */
export interface SnapshotInfo {
  /** Unique within the image; QEMU gives decimal numbers. */
  readonly id: string;
  /** Need not be unique. */
  readonly name: string;
  /** When it was taken: since 1970, UTC. */
  readonly seconds: number;
  readonly nanoseconds: number;
  /** How long the guest had run, in nanoseconds. */
  readonly vmClockNs: bigint;
  /**
   * Bytes of the guest's memory and devices, stored past the end of the disk; 0 if only the disk
   * was taken.
   */
  readonly vmStateSize: number;
  /** Bytes of the disk when it was taken. */
  readonly diskSize: number;
  /** Instructions that the guest had executed, if they were counted. */
  readonly icount: bigint | undefined;
}

export interface NewSnapshot {
  /** At most 255 bytes; need not be unique. */
  readonly name: string;
  /** When it is taken: since 1970, UTC. */
  readonly seconds: number;
  readonly nanoseconds: number;
}

/** What of an image's header is to change; what is left out stays. */
export interface ImageAmendment {
  readonly compat?: CompatLevel | undefined;
  readonly refcounts?: RefcountMode | undefined;
}

/** What becomes of a persistent dirty bitmap. */
export type BitmapChange =
  | {
      readonly action: 'add';
      /** 1 to 1,023 bytes. */
      readonly name: string;
      /** Guest bytes of one bit, a power of two from 512; default: a cluster, at least 4 KiB. */
      readonly granularity?: number | undefined;
    }
  | {
      /** `clear` forgets what was written; a disabled bitmap does not follow writes. */
      readonly action: 'remove' | 'clear' | 'enable' | 'disable';
      readonly name: string;
    }
  | {
      readonly action: 'merge';
      /** Gets what the other has recorded, too. */
      readonly name: string;
      /** A bitmap of the same image, of any granularity; it stays as it is. */
      readonly source: string;
    };

/** The internal snapshots of an open image. */
export interface ImageSnapshots {
  readonly list: readonly SnapshotInfo[];
  /** By its id, or else its name. */
  find(idOrName: string): SnapshotInfo | undefined;
  create(snapshot: NewSnapshot): Promise<SnapshotInfo>;
  /** Makes the disk what it was. */
  apply(idOrName: string): Promise<void>;
  delete(nameOrId: string): Promise<void>;
  /** Shows the snapshot in place of the disk until the image, open read-only, is closed. */
  show(idOrName: string): Promise<void>;
}

export interface DiskImage {
  readonly format: Format;
  /** Bytes the guest sees. */
  readonly virtualSize: number;
  /** Bytes of the unit in which the image allocates; 1 for raw. */
  readonly clusterSize: number;
  /**
   * What of its shape the open image shows, defaults included; left out by formats that have only
   * one.
   */
  readonly shape?: ImageShape | undefined;
  /** When this opening writes refcounts; left out by formats without them. */
  readonly refcountMode?: RefcountMode | undefined;
  /** Internal snapshots; left out by formats that have none. */
  readonly snapshots?: ImageSnapshots | undefined;
  /** The image that shows through where this one is unallocated. */
  readonly backing: DiskImage | undefined;
  /** Guest writes so far that allocated at least one cluster. */
  readonly allocatingWrites: number;
  /**
   * Bytes of this image's metadata in memory now: tables or nodes, and the map of free space of a format
   * that stores none. What an engine keeps only to be faster is not counted.
   */
  readonly metadataInMemory: number;

  read(guestOffset: GuestOffset, target: Uint8Array): Pending;
  write(guestOffset: GuestOffset, bytes: Uint8Array): Pending;
  /**
   * Writes whole clusters compressed, the last one up to the disk's end; left out by formats that
   * have no compressed clusters. Rejects with Qcow2BenchError `qcow2-compressed-overwrite` where
   * something was written before. No flush follows it in any cache mode, as in QEMU.
   */
  writeCompressed?(guestOffset: GuestOffset, bytes: Uint8Array): Pending;
  /** After the last compressed write: makes the file end at a whole sector. */
  endCompressedWrites?(): Pending;
  writeZeroes(guestOffset: GuestOffset, length: number, options: { readonly unmap: boolean }): Pending;
  discard(guestOffset: GuestOffset, length: number): Pending;
  /** Writes what R3 asks for and syncs; `cause` is what the sync is counted under. */
  flush(cause: SyncCause): Pending;
  /**
   * Makes a write that is done durable, apart from rule R1, as a file does of its own for a write
   * with FUA; left out by formats that have metadata to write first.
   */
  syncWrite?(cause: SyncCause): Pending;
  /**
   * Gives the disk another size, in whole sectors, with space for what is new as `preallocation`
   * asks, by default none. The image must be idle. What a backing file holds behind the old end
   * stays hidden.
   */
  resize?(virtualSize: number, preallocation?: Preallocation): Promise<void>;
  /**
   * Changes the version of the format, or when refcounts are written from the next opening on; left
   * out by formats that have neither. The image must be idle.
   */
  amend?(change: ImageAmendment): Promise<void>;
  /**
   * Makes all that was written durable, then names another backing file, or none, in the header;
   * left out by formats that cannot change theirs. What the image reads from stays until it is
   * closed. The image must be idle.
   */
  changeBacking?(backing: { readonly name: string; readonly format: Format } | undefined): Promise<void>;
  /**
   * Gives up every cluster, so that the disk reads as what is behind the image; left out by formats
   * that cannot. The image must be idle.
   */
  makeEmpty?(): Promise<void>;
  /**
   * Changes a persistent dirty bitmap; left out by formats that have none. What is not a removal
   * reaches the file at the close. The image must be idle.
   */
  changeBitmap?(change: BitmapChange): Promise<void>;
  /**
   * What the range beginning at `guestOffset` is, from this image's tables alone.
   *
   * @param options with `seeHoles`, a hole in a raw file is `zero`, and preallocated data of a qcow2
   *   image are a `hole`; without, both are data. With `far`, what no table maps is one range even if
   *   other images are behind this one; without, only if none does.
   */
  map(guestOffset: GuestOffset, length: number, options?: MapOptions): Promise<Mapping>;
  /** Flushes, marks the image clean, syncs and releases its files and its backing chain. */
  close(): Promise<void>;
  /** Releases the files without writing anything, as a crash does. */
  abandon(): Promise<void>;
}
