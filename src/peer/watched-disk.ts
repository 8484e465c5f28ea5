/**
 * Between the runner and the builtin engine's half of a comparison: which request is being served,
 * and what reads gave, in the form in which qemu-io can check its own.
 *
 * Invariants:
 * - The runner makes one call a request, one after another, so calls and requests have the same
 *   numbers.
 * - Of a read its longest stretch of one byte value is kept: qemu-io checks one a read. What is
 *   left of the disk is compared after the run (`read-back.ts`).
 */

import type { GuestDisk } from '../bench/verification.ts';
import type { Pending } from '../core/pending.ts';
import type { WriteFlags, WriteZeroesFlags } from '../format/block-backend.ts';
import type { ExpectedBytes } from './qemu-io.ts';
import { longestUniformRun } from './uniform-bytes.ts';

export class WatchedDisk implements GuestDisk {
  readonly image: GuestDisk['image'];
  /** By index of the request. */
  readonly reads = new Map<number, ExpectedBytes>();
  readonly #disk: GuestDisk;
  readonly #begins: (index: number) => void;
  #requests = 0;

  /** @param begins called with the index of each request before it is served. */
  constructor(disk: GuestDisk, begins: (index: number) => void) {
    this.#disk = disk;
    this.#begins = begins;
    this.image = disk.image;
  }

  read(offset: number, target: Uint8Array): Pending {
    const index = this.#begin();
    const pending = this.#disk.read(offset, target);
    if (pending !== undefined) return pending.then(() => this.#keep(index, target));
    this.#keep(index, target);
    return undefined;
  }

  write(offset: number, bytes: Uint8Array, flags: WriteFlags): Pending {
    this.#begin();
    return this.#disk.write(offset, bytes, flags);
  }

  writeZeroes(offset: number, length: number, flags: WriteZeroesFlags): Pending {
    this.#begin();
    return this.#disk.writeZeroes(offset, length, flags);
  }

  discard(offset: number, length: number): Pending {
    this.#begin();
    return this.#disk.discard(offset, length);
  }

  flush(): Pending {
    this.#begin();
    return this.#disk.flush();
  }

  #begin(): number {
    const index = this.#requests++;
    this.#begins(index);
    return index;
  }

  #keep(index: number, bytes: Uint8Array): void {
    this.reads.set(index, longestUniformRun(bytes));
  }
}
