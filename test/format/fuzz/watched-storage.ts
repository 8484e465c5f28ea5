/**
 * Files in memory that note what is done to them, and stop code that does too much.
 *
 * Invariants: every file that is opened is noted by its name, whether it is there or not; work
 * beyond the budget ends in `OverBudget`, which is no error of an image.
 */

import type { Pending } from '../../../src/core/pending.ts';
import type { BlockDevice, FileGrowth, WritePart } from '../../../src/device/block-device.ts';
import { DeviceFilter } from '../../../src/device/filter.ts';
import { MemoryStorage } from '../../../src/device/memory-storage.ts';
import type { Purpose } from '../../../src/device/purpose.ts';
import type { CreateOptions, OpenOptions, Storage } from '../../../src/device/storage.ts';

/** Host operations between two calls of `begin`. */
const OPERATIONS_MAX = 100_000;
/** Bytes of one host operation: the largest table. */
const REQUEST_BYTES_MAX = 64 * 1024 * 1024;

export class OverBudget extends Error {
  override readonly name = 'OverBudget';
}

export class WatchedStorage implements Storage {
  readonly kind = 'memory';
  readonly #files = new MemoryStorage();
  readonly #watch: Watch = { operations: 0, changes: 0 };
  #opened = new Set<string>();

  constructor(files: Iterable<readonly [name: string, bytes: Uint8Array]>) {
    for (const [name, bytes] of files) {
      const device = this.#files.create(name);
      if (bytes.byteLength > 0) device.write(0, bytes, 'data');
      device.close();
    }
  }

  get capabilities() {
    return this.#files.capabilities;
  }

  /** Names that were opened since `begin`. */
  get opened(): ReadonlySet<string> {
    return this.#opened;
  }

  /** Operations since `begin` that changed a file. */
  get changes(): number {
    return this.#watch.changes;
  }

  /** Begins to count again. */
  begin(): void {
    this.#opened = new Set();
    this.#watch.operations = 0;
    this.#watch.changes = 0;
  }

  open(name: string, options?: OpenOptions): BlockDevice {
    this.#opened.add(name);
    return new WatchedDevice(this.#files.open(name, options), this.#watch);
  }

  create(name: string, options?: CreateOptions): BlockDevice {
    return this.#files.create(name, options);
  }

  exists(name: string): boolean {
    return this.#files.exists(name);
  }

  temporaryName(name: string): string {
    return this.#files.temporaryName(name);
  }

  remove(name: string): void {
    this.#files.remove(name);
  }

  rename(name: string, newName: string, options: { readonly overwrite: boolean }): void {
    this.#files.rename(name, newName, options);
  }

  describe(): string {
    return 'watched memory';
  }
}

interface Watch {
  operations: number;
  changes: number;
}

class WatchedDevice extends DeviceFilter {
  readonly #watch: Watch;

  constructor(inner: BlockDevice, watch: Watch) {
    super(inner);
    this.#watch = watch;
  }

  override read(offset: number, target: Uint8Array, purpose: Purpose): Pending {
    this.#spend(target.byteLength);
    return super.read(offset, target, purpose);
  }

  override write(offset: number, bytes: Uint8Array, purpose: Purpose, from?: number, to?: number): Pending {
    this.#change((to ?? bytes.byteLength) - (from ?? 0));
    return super.write(offset, bytes, purpose, from, to);
  }

  override writeMerged(offset: number, parts: readonly WritePart[]): Pending {
    this.#change(parts.reduce((sum, { bytes }) => sum + bytes.byteLength, 0));
    return super.writeMerged(offset, parts);
  }

  override zeroRange(offset: number, length: number, purpose: Purpose): Pending {
    this.#change(0);
    return super.zeroRange(offset, length, purpose);
  }

  override punchHole(offset: number, length: number, purpose: Purpose, isZeroWrite?: boolean): Pending {
    this.#change(0);
    return super.punchHole(offset, length, purpose, isZeroWrite);
  }

  override truncate(size: number, purpose: Purpose, growth?: FileGrowth): Pending {
    this.#change(0);
    return super.truncate(size, purpose, growth);
  }

  #change(byteLength: number): void {
    this.#watch.changes++;
    this.#spend(byteLength);
  }

  #spend(byteLength: number): void {
    if (++this.#watch.operations > OPERATIONS_MAX) {
      throw new OverBudget(`more than ${String(OPERATIONS_MAX)} host operations`);
    }
    if (byteLength > REQUEST_BYTES_MAX) {
      throw new OverBudget(`one host operation of ${String(byteLength)} bytes`);
    }
  }
}
