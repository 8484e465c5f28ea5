/**
 * The contract of everything that stores bytes for an image: a host file, memory, a model, and
 * every filter around one. A filter takes a `BlockDevice` and is one, so meter, write log and fault
 * compose.
 *
 * Invariants:
 * - A method answers `undefined` when it is done at once, or a promise when it is not. Callers on a
 *   hot path write `const pending = device.write(…); if (pending !== undefined) await pending;`,
 *   which costs nothing on a synchronous device.
 * - Offsets and lengths are bytes below 2^53. A read past the end gives zeroes; a write, zero-range
 *   or truncate past the end grows the file; the gap reads as zeroes.
 * - A buffer handed to `write` is not kept after the operation is done and is not changed by it.
 * - An operation either happens whole or throws `Qcow2BenchError`; after a failed `sync` nothing is
 *   known to be durable, and every later `sync` of that file fails too.
 */

import type { HostOffset } from '../core/offsets.ts';
import type { Pending } from '../core/pending.ts';
import type { FileExtent } from './hole-seek.ts';
import type { Purpose, SyncCause } from './purpose.ts';

/**
 * How a file is made longer: by a hole, by reserved space that reads as zeroes, or by zeroes that
 * are written.
 */
export type FileGrowth = 'hole' | 'reserved' | 'zeroes';

/**
 * What rule R1 does with a sync: the number of changes issued last that count as in flight, since
 * nothing that waits for this sync needs them; or `never`: it is passed on, and elides no other.
 */
export type Elision = number | 'never';

/** One part of a merged write; parts follow each other in the file without a gap. */
export interface WritePart {
  readonly purpose: Purpose;
  readonly bytes: Uint8Array;
}

export interface BlockDevice {
  /**
   * Which file of the image this is: `image`, `data`, or `backing:N` with N from 0 for the nearest.
   */
  readonly label: string;
  /** Where it is, for error messages. */
  readonly path: string;
  /** Offsets and lengths of reads and writes are multiples of this (1 where anything goes). */
  readonly requestAlignment: number;
  /**
   * What the file itself asks of requests: a filter that takes any pads those that are not aligned
   * to this.
   */
  readonly hostAlignment: number;
  /**
   * Whether `zeroRange` works here. It may turn false: a file whose place was not tried beforehand
   * finds out at the first attempt. Where it is false, an attempt fails as `isUnsupported`.
   * `zeroing.ts` has what to do instead.
   */
  readonly canZeroRange: boolean;
  /** The same of `punchHole`: tmpfs has holes and no zero-range. */
  readonly canPunchHole: boolean;
  /** The same of `reserve`. */
  readonly canReserve: boolean;

  /** The file's present length in bytes. */
  size(): number;
  /** Bytes that the file system stores of the file; `undefined` where no file system does. */
  allocatedSize(): number | undefined;
  /**
   * Whether there are bytes or a hole at `offset`, which is before `size()`, and how far that
   * holds: no I/O for data. Where holes cannot be determined, everything is data.
   */
  extentAt(offset: HostOffset): FileExtent;
  read(offset: HostOffset, target: Uint8Array, purpose: Purpose): Pending;
  /**
   * @param changedFrom with `changedTo`: the caller knows that the file already holds all other
   *   bytes of `bytes`. It is one write of all bytes nevertheless, and a file may ignore this: it
   *   saves copies in memory.
   */
  write(
    offset: HostOffset,
    bytes: Uint8Array,
    purpose: Purpose,
    changedFrom?: number,
    changedTo?: number,
  ): Pending;
  /** One write of several buffers that lie one after another in the file, as `pwritev` does. */
  writeMerged(offset: HostOffset, parts: readonly WritePart[]): Pending;
  /** Makes the range read as zeroes, keeping it allocated; grows the file if it ends past it. */
  zeroRange(offset: HostOffset, length: number, purpose: Purpose): Pending;
  /**
   * Gives the range back to the file system; it reads as zeroes. Never changes the file's length.
   *
   * @param isZeroWrite the guest wants the zeroes, and not only the space back: what O_DIRECT asks
   *   to pad is then written
   */
  punchHole(offset: HostOffset, length: number, purpose: Purpose, isZeroWrite?: boolean): Pending;
  /**
   * Allocates the range and changes no byte; grows the file, by zeroes, if it ends past it (plain
   * `fallocate`). Not counted, as nothing is written.
   */
  reserve(offset: HostOffset, length: number, purpose: Purpose): Pending;
  /** Cuts the file off, or makes it longer: by a hole, or by what `growth` says. */
  truncate(size: number, purpose: Purpose, growth?: FileGrowth): Pending;
  /**
   * Makes everything written so far durable (`fdatasync`).
   *
   * @param elision what rule R1 does with it (`sync-elision`); to sync all is never wrong, so a
   *   file ignores this. Default: it is elided if nothing was changed since the last sync.
   */
  sync(cause: SyncCause, elision?: Elision): Pending;
  /**
   * Notes a change that the file system does not make, such as a discard: as in QEMU it keeps the
   * next sync from being elided. A file does nothing.
   */
  noteChange(): void;
  /** Releases the file without a sync. Does nothing the second time. */
  close(): Pending;
}

/**
 * A device as a filter above it has to call it: no argument may be left out, so a filter that drops
 * one does not compile. A filter that has dealt with an argument passes `undefined`.
 */
export interface InnerDevice extends Omit<BlockDevice, 'write' | 'punchHole' | 'truncate' | 'sync'> {
  write(
    offset: HostOffset,
    bytes: Uint8Array,
    purpose: Purpose,
    changedFrom: number | undefined,
    changedTo: number | undefined,
  ): Pending;
  punchHole(offset: HostOffset, length: number, purpose: Purpose, isZeroWrite: boolean | undefined): Pending;
  truncate(size: number, purpose: Purpose, growth: FileGrowth | undefined): Pending;
  sync(cause: SyncCause, elision: Elision | undefined): Pending;
}
