/**
 * A file in memory: the device of exact counts, of tests and of crash states. It answers at once,
 * so any queue depth interleaves the same way in every run.
 *
 * Invariants: several devices may share the same bytes (a file opened twice); closing one ends
 * that one only and keeps the bytes.
 */

import { isAligned } from '../core/alignment.ts';
import { assertInvariant } from '../core/error.ts';
import type { BlockDevice, FileGrowth, WritePart } from './block-device.ts';
import { hostError, systemError, type HostErrorCode } from './host-error.ts';
import type { FileExtent } from './hole-seek.ts';
import { mergedLength } from './merged-write.ts';
import type { Purpose, SyncCause } from './purpose.ts';
import { SparseBytes } from './sparse-bytes.ts';

export interface MemoryDeviceOptions {
  /** Default `image`. */
  readonly label?: string | undefined;
  /** Default `memory:` and the label. */
  readonly path?: string | undefined;
  /** Bytes; default 1, and 512 models a file opened with O_DIRECT. */
  readonly requestAlignment?: number | undefined;
  /** Default true; false alone models a file system without `fallocate`. */
  readonly canZeroRange?: boolean | undefined;
  /** Default as `canZeroRange`; true beside a false one models tmpfs. */
  readonly canPunchHole?: boolean | undefined;
  readonly readOnly?: boolean | undefined;
  /** The bytes to use; default none. */
  readonly bytes?: SparseBytes | undefined;
}

export class MemoryDevice implements BlockDevice {
  readonly label: string;
  readonly path: string;
  readonly requestAlignment: number;
  readonly canZeroRange: boolean;
  readonly canPunchHole: boolean;
  protected readonly bytes: SparseBytes;
  readonly #readOnly: boolean;
  #closed = false;

  constructor(options: MemoryDeviceOptions = {}) {
    this.label = options.label ?? 'image';
    this.path = options.path ?? `memory:${this.label}`;
    this.requestAlignment = options.requestAlignment ?? 1;
    this.canZeroRange = options.canZeroRange ?? true;
    this.canPunchHole = options.canPunchHole ?? this.canZeroRange;
    this.#readOnly = options.readOnly ?? false;
    this.bytes = options.bytes ?? new SparseBytes();
  }

  get hostAlignment(): number {
    return this.requestAlignment;
  }

  /** Where one sort of `fallocate` works, this one does. */
  get canReserve(): boolean {
    return this.canZeroRange || this.canPunchHole;
  }

  size(): number {
    return this.bytes.size;
  }

  allocatedSize(): undefined {
    return undefined;
  }

  extentAt(offset: number): FileExtent {
    this.#checkOpen();
    return this.bytes.extentAt(offset);
  }

  read(offset: number, target: Uint8Array, _purpose: Purpose): undefined {
    this.#checkRequest(offset, target.byteLength);
    this.bytes.read(offset, target);
  }

  write(offset: number, bytes: Uint8Array, purpose: Purpose, from?: number, to?: number): undefined {
    this.#checkWritable();
    this.#checkRequest(offset, bytes.byteLength);
    this.put(offset, bytes, purpose, from, to);
  }

  writeMerged(offset: number, parts: readonly WritePart[]): undefined {
    this.#checkWritable();
    this.#checkRequest(offset, mergedLength(parts));
    let at = offset;
    for (const part of parts) {
      this.put(at, part.bytes, part.purpose);
      at += part.bytes.byteLength;
    }
  }

  zeroRange(offset: number, length: number, _purpose: Purpose): undefined {
    this.#checkWritable();
    this.#checkSupport(this.canZeroRange, 'host-zero-range-failed', offset);
    this.bytes.clear(offset, length);
    this.bytes.growTo(offset + length);
  }

  punchHole(offset: number, length: number, _purpose: Purpose): undefined {
    this.#checkWritable();
    this.#checkSupport(this.canPunchHole, 'host-punch-hole-failed', offset);
    this.bytes.clear(offset, length);
  }

  reserve(offset: number, length: number, _purpose: Purpose): undefined {
    this.#checkWritable();
    this.#checkSupport(this.canReserve, 'host-reserve-failed', offset);
    this.bytes.growTo(offset + length);
  }

  // There is nothing to reserve: what was not written is a hole, and takes no memory.
  truncate(size: number, _purpose: Purpose, _growth?: FileGrowth): undefined {
    this.#checkWritable();
    this.bytes.resize(size);
  }

  sync(_cause: SyncCause): undefined {
    this.#checkOpen();
  }

  noteChange(): void {
    // Nothing is elided here.
  }

  close(): undefined {
    this.#closed = true;
  }

  /** A copy of the whole file, for comparing; also after `close`. */
  contents(): Uint8Array<ArrayBuffer> {
    return this.bytes.contents();
  }

  /** An open, writable device of the same name and kind over a copy of the bytes. */
  clone(): MemoryDevice {
    const { label, path, requestAlignment, canZeroRange, canPunchHole } = this;
    const bytes = this.bytes.clone();
    return new MemoryDevice({ label, path, requestAlignment, canZeroRange, canPunchHole, bytes });
  }

  /**
   * Stores the bytes of one write, or of one part of a merged one; only those that change, if that
   * is known.
   */
  protected put(offset: number, bytes: Uint8Array, _purpose: Purpose, from?: number, to?: number): void {
    this.bytes.write(offset, bytes, from, to);
  }

  #checkOpen(): void {
    assertInvariant(!this.#closed, 'request to a closed device');
  }

  #checkWritable(): void {
    this.#checkOpen();
    assertInvariant(!this.#readOnly, 'change of a device that is open read-only');
  }

  #checkSupport(isSupported: boolean, code: HostErrorCode, offset: number): void {
    if (isSupported) return;
    throw hostError(code, { path: this.path, offset }, systemError('ENOTSUP', 'fallocate'));
  }

  #checkRequest(offset: number, length: number): void {
    this.#checkOpen();
    assertInvariant(
      isAligned(offset, this.requestAlignment) && isAligned(length, this.requestAlignment),
      'request not aligned to the device',
    );
  }
}
