/**
 * The base of every filter: a `BlockDevice` around a `BlockDevice` that passes everything
 * through. A filter overrides only what it changes or watches.
 *
 * Invariant: whatever a filter calls below, through `inner` or `super`, gets every argument:
 * leaving one out is an error of the compiler.
 */

import type { Pending } from '../core/pending.ts';
import type { BlockDevice, Elision, FileGrowth, InnerDevice, WritePart } from './block-device.ts';
import type { FileExtent } from './hole-seek.ts';
import type { Purpose, SyncCause } from './purpose.ts';

export abstract class DeviceFilter implements BlockDevice {
  protected readonly inner: InnerDevice;

  constructor(inner: BlockDevice) {
    this.inner = inner;
  }

  get label(): string {
    return this.inner.label;
  }

  get path(): string {
    return this.inner.path;
  }

  get requestAlignment(): number {
    return this.inner.requestAlignment;
  }

  get hostAlignment(): number {
    return this.inner.hostAlignment;
  }

  get canZeroRange(): boolean {
    return this.inner.canZeroRange;
  }

  get canPunchHole(): boolean {
    return this.inner.canPunchHole;
  }

  get canReserve(): boolean {
    return this.inner.canReserve;
  }

  size(): number {
    return this.inner.size();
  }

  allocatedSize(): number | undefined {
    return this.inner.allocatedSize();
  }

  extentAt(offset: number): FileExtent {
    return this.inner.extentAt(offset);
  }

  read(offset: number, target: Uint8Array, purpose: Purpose): Pending {
    return this.inner.read(offset, target, purpose);
  }

  write(
    offset: number,
    bytes: Uint8Array,
    purpose: Purpose,
    from: number | undefined,
    to: number | undefined,
  ): Pending {
    return this.inner.write(offset, bytes, purpose, from, to);
  }

  writeMerged(offset: number, parts: readonly WritePart[]): Pending {
    return this.inner.writeMerged(offset, parts);
  }

  zeroRange(offset: number, length: number, purpose: Purpose): Pending {
    return this.inner.zeroRange(offset, length, purpose);
  }

  punchHole(offset: number, length: number, purpose: Purpose, isZeroWrite: boolean | undefined): Pending {
    return this.inner.punchHole(offset, length, purpose, isZeroWrite);
  }

  reserve(offset: number, length: number, purpose: Purpose): Pending {
    return this.inner.reserve(offset, length, purpose);
  }

  truncate(size: number, purpose: Purpose, growth: FileGrowth | undefined): Pending {
    return this.inner.truncate(size, purpose, growth);
  }

  noteChange(): void {
    this.inner.noteChange();
  }

  sync(cause: SyncCause, elision: Elision | undefined): Pending {
    return this.inner.sync(cause, elision);
  }

  close(): Pending {
    return this.inner.close();
  }
}
