/**
 * A real file, driven by synchronous system calls: an asynchronous call costs 60–100 µs in Node, a
 * synchronous one 2–4 µs, so at depth 1 an asynchronous file would mostly measure Node.
 *
 * Invariants:
 * - One request is one system call, but for what the system does short; the rest then follows at
 *   once.
 * - With O_DIRECT no request is ever served buffered. Offsets and lengths are multiples of
 *   `requestAlignment` (`AlignedDevice` sees to it); memory that is not page-aligned goes through a
 *   bounce buffer of this file.
 * - After one failed `fdatasync` every later one fails: the system may have dropped the dirty pages
 *   and answer the next call as if nothing were amiss.
 * - `size()` is kept here; no other process changes the file's length while it is open.
 * - What the place turns out not to support is remembered at the first failure, as in QEMU: no file
 *   is written to find out.
 */

import {
  closeSync,
  fdatasyncSync,
  fstatSync,
  fsyncSync,
  ftruncateSync,
  readSync,
  writeSync,
  writevSync,
} from 'node:fs';
import { isAligned } from '../core/alignment.ts';
import { assertInvariant } from '../core/error.ts';
import { allocatePages, isPageMemory } from '../core/page-memory.ts';
import type { BlockDevice, FileGrowth, WritePart } from './block-device.ts';
import { loadFallocate, type Fallocate } from './fallocate.ts';
import { hostError, isUnsupported, systemError, type HostErrorCode } from './host-error.ts';
import { extentOfFile, type FileExtent } from './hole-seek.ts';
import { openHostFile, type HostFileOptions } from './host-file-open.ts';
import { MERGED_PARTS_MAX, gatherParts, mergedLength } from './merged-write.ts';
import type { Purpose, SyncCause } from './purpose.ts';

/** Of `stat.blocks`, whatever the file system's own. */
const STAT_BLOCK_BYTES = 512;
/** Bytes of the first bounce buffer; it doubles until a request fits. */
const BOUNCE_SIZE = 65_536;
/** Bytes of one write where a file is filled with zeroes. */
const FILL_SIZE = 65_536;

/** Operations that a place may not have, with the error of each. */
const ALLOCATING_CALLS = {
  zeroRange: 'host-zero-range-failed',
  punchHole: 'host-punch-hole-failed',
  reserve: 'host-reserve-failed',
} as const satisfies Record<keyof Fallocate, HostErrorCode>;
export type AllocatingCall = keyof typeof ALLOCATING_CALLS;

export class HostFile implements BlockDevice, Disposable {
  readonly label: string;
  readonly path: string;
  readonly requestAlignment: number;
  /** The system's number of the open file. */
  readonly fd: number;
  /** Opened with O_DIRECT. */
  readonly isDirect: boolean;
  readonly #isDevice: boolean;
  readonly #fallocate: Fallocate | undefined;
  readonly #can: Record<AllocatingCall, boolean>;
  /** Reused by every merged write, so that none makes an array; empty between them. */
  readonly #vector: Uint8Array[] = [];
  #size: number;
  #bounce: Uint8Array | undefined;
  #syncFailure: unknown;
  #closed = false;

  /**
   * Opens or creates `path`.
   *
   * @throws Qcow2BenchError `file-missing`, `file-exists`, `not-a-regular-file`, `no-o-direct`, or
   * `host-open-failed` with the system's code.
   */
  constructor(path: string, options: HostFileOptions & { readonly shownPath?: string | undefined }) {
    const binding = loadFallocate();
    const opened = openHostFile(path, options);
    this.label = options.label;
    this.path = options.shownPath ?? path;
    this.fd = opened.fd;
    this.#size = opened.size;
    this.#isDevice = opened.isDevice;
    this.isDirect = options.direct === true;
    this.requestAlignment = opened.requestAlignment;
    this.#fallocate = binding.ok ? binding.fallocate : undefined;
    const { canZeroRange = true, canPunchHole = true } = options;
    this.#can = {
      zeroRange: canZeroRange && binding.ok,
      punchHole: canPunchHole && binding.ok,
      reserve: binding.ok,
    };
  }

  get hostAlignment(): number {
    return this.requestAlignment;
  }

  get canZeroRange(): boolean {
    return this.#can.zeroRange;
  }

  get canPunchHole(): boolean {
    return this.#can.punchHole;
  }

  get canReserve(): boolean {
    return this.#can.reserve;
  }

  size(): number {
    return this.#size;
  }

  allocatedSize(): number | undefined {
    this.#checkOpen();
    if (this.#isDevice) return undefined;
    return fstatSync(this.fd).blocks * STAT_BLOCK_BYTES;
  }

  extentAt(offset: number): FileExtent {
    this.#checkOpen();
    return extentOfFile(this.fd, { offset, size: this.#size });
  }

  read(offset: number, target: Uint8Array, _purpose: Purpose): undefined {
    const { byteLength } = target;
    this.checkRequest(offset, byteLength);
    if (this.#takes(target)) {
      this.#readFully(offset, target, byteLength);
      return;
    }
    const bounce = this.#bounceFor(byteLength);
    this.#readFully(offset, bounce, byteLength);
    target.set(bounce.subarray(0, byteLength));
  }

  write(offset: number, bytes: Uint8Array, _purpose: Purpose): undefined {
    const { byteLength } = bytes;
    this.checkRequest(offset, byteLength);
    if (this.#takes(bytes)) {
      this.#writeFully(offset, bytes, byteLength);
      return;
    }
    const bounce = this.#bounceFor(byteLength);
    bounce.set(bytes);
    this.#writeFully(offset, bounce, byteLength);
  }

  writeMerged(offset: number, parts: readonly WritePart[]): undefined {
    assertInvariant(parts.length <= MERGED_PARTS_MAX, 'merged write of too many parts');
    const length = mergedLength(parts);
    this.checkRequest(offset, length);
    if (this.isDirect && !parts.every((part) => this.#takesPart(part.bytes))) {
      const bounce = this.#bounceFor(length);
      gatherParts(parts, bounce);
      this.#writeFully(offset, bounce, length);
      return;
    }
    for (const part of parts) this.#vector.push(part.bytes);
    let done: number;
    try {
      done = writevSync(this.fd, this.#vector, offset);
    } catch (error) {
      throw this.#failure('host-write-failed', offset, error);
    } finally {
      this.#vector.length = 0;
    }
    if (done < length) this.#writeRest(offset, parts, done);
    this.grewTo(offset + length);
  }

  zeroRange(offset: number, length: number, _purpose: Purpose): undefined {
    this.#allocate('zeroRange', offset, length);
    this.grewTo(offset + length);
  }

  punchHole(offset: number, length: number, _purpose: Purpose): undefined {
    this.#allocate('punchHole', offset, length);
  }

  reserve(offset: number, length: number, _purpose: Purpose): undefined {
    this.#allocate('reserve', offset, length);
    this.grewTo(offset + length);
  }

  truncate(size: number, _purpose: Purpose, growth: FileGrowth = 'hole'): undefined {
    this.#checkOpen();
    const before = this.#size;
    if (this.#isDevice) {
      // What is not needed of a device stays there.
      if (size <= before) return;
      throw this.#failure('host-truncate-failed', size, systemError('ENOSPC', 'a block device cannot grow'));
    }
    if (growth === 'reserved' && size >= before && this.#growReserved(before, size)) return;
    try {
      ftruncateSync(this.fd, size);
    } catch (error) {
      throw this.#failure('host-truncate-failed', size, error);
    }
    this.#size = size;
    if (growth !== 'hole') this.#fillWithZeroes(before, size);
  }

  sync(_cause: SyncCause): undefined {
    this.#checkOpen();
    if (this.#syncFailure === undefined) {
      try {
        fdatasyncSync(this.fd);
        return;
      } catch (error) {
        this.#syncFailure = error;
      }
    }
    throw hostError('host-sync-failed', { path: this.path }, this.#syncFailure);
  }

  noteChange(): void {
    // Nothing is elided here.
  }

  close(): undefined {
    if (this.#closed) return;
    this.#closed = true;
    try {
      closeSync(this.fd);
    } catch (error) {
      throw hostError('host-close-failed', { path: this.path }, error);
    }
  }

  /** For callers that write to `fd` directly: the file now ends at `size` or later. */
  grewTo(size: number): void {
    if (size > this.#size) this.#size = size;
  }

  /**
   * For the same: the error to throw after a call that failed; one that is not supported is not
   * tried again.
   */
  allocatingFailed(call: AllocatingCall, offset: number, error: unknown): Error {
    if (isUnsupported(error)) this.#can[call] = false;
    return this.#failure(ALLOCATING_CALLS[call], offset, error);
  }

  /** For the same: refuses what the file does not take, and anything once it is closed. */
  checkRequest(offset: number, length: number): void {
    this.#checkOpen();
    assertInvariant(
      isAligned(offset, this.requestAlignment) && isAligned(length, this.requestAlignment),
      'request not aligned to the device',
    );
  }

  [Symbol.dispose](): void {
    this.close();
  }

  /** Whether the system takes this memory as it is. */
  #takes(bytes: Uint8Array): boolean {
    return !this.isDirect || isPageMemory(bytes, this.requestAlignment);
  }

  #takesPart(bytes: Uint8Array): boolean {
    return isPageMemory(bytes, this.requestAlignment) && isAligned(bytes.byteLength, this.requestAlignment);
  }

  #readFully(offset: number, target: Uint8Array, length: number): void {
    let done = 0;
    // Past the end the system has nothing to say, and with O_DIRECT the last read may end off the
    // alignment, from where no other could start.
    const readable = Math.min(length, Math.max(0, this.#size - offset));
    while (done < readable) {
      let count: number;
      try {
        count = readSync(this.fd, target, done, length - done, offset + done);
      } catch (error) {
        throw this.#failure('host-read-failed', offset + done, error);
      }
      if (count === 0) break;
      done += count;
    }
    if (done < length) target.fill(0, done, length);
  }

  #writeFully(offset: number, bytes: Uint8Array, length: number): void {
    this.#put(offset, bytes, 0, length);
    this.grewTo(offset + length);
  }

  /** Writes `bytes` from `from` to `length` so that its first byte would be at `offset`. */
  #put(offset: number, bytes: Uint8Array, from: number, length: number): void {
    for (let done = from; done < length;) {
      try {
        done += writeSync(this.fd, bytes, done, length - done, offset + done);
      } catch (error) {
        throw this.#failure('host-write-failed', offset + done, error);
      }
    }
  }

  /** Ends a merged write of which the system took only the first `done` bytes. */
  #writeRest(offset: number, parts: readonly WritePart[], done: number): void {
    let start = 0;
    for (const { bytes } of parts) {
      const from = Math.max(0, done - start);
      if (from < bytes.byteLength) this.#put(offset + start, bytes, from, bytes.byteLength);
      start += bytes.byteLength;
    }
  }

  #bounceFor(length: number): Uint8Array {
    if (this.#bounce === undefined || this.#bounce.byteLength < length) {
      let size = this.#bounce?.byteLength ?? BOUNCE_SIZE;
      while (size < length) size *= 2;
      this.#bounce = allocatePages(size);
    }
    return this.#bounce;
  }

  /** Whether the file was made longer by reserved space; false where that is not supported. */
  #growReserved(from: number, size: number): boolean {
    if (!this.#can.reserve) return false;
    if (from === size) return true;
    try {
      this.reserve(from, size - from, 'data');
    } catch (error) {
      if (isUnsupported(error)) return false;
      throw error;
    }
    return true;
  }

  #allocate(call: AllocatingCall, offset: number, length: number): void {
    this.#checkOpen();
    try {
      if (this.#fallocate === undefined || !this.#can[call]) throw systemError('ENOTSUP', 'fallocate');
      this.#fallocate[call](this.fd, offset, length);
    } catch (error) {
      throw this.allocatingFailed(call, offset, error);
    }
  }

  /**
   * Writes zeroes over a range, and makes them durable as QEMU does: a disk that is full says so
   * now.
   */
  #fillWithZeroes(from: number, to: number): void {
    const zeroes = allocatePages(FILL_SIZE);
    for (let at = from; at < to;) {
      const length = Math.min(FILL_SIZE, to - at);
      this.#put(at, zeroes, 0, length);
      at += length;
    }
    try {
      fsyncSync(this.fd);
    } catch (error) {
      throw this.#failure('host-sync-failed', to, error);
    }
  }

  #failure(code: HostErrorCode, offset: number, error: unknown): Error {
    return hostError(code, { path: this.path, offset }, error);
  }

  #checkOpen(): void {
    // The system hands a closed number to the next file that is opened: a late write would hit
    // that.
    assertInvariant(!this.#closed, 'request to a closed file');
  }
}
