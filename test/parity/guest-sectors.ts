/**
 * What a guest ought to read: a third opinion beside the two engines. Every sector holds one byte
 * value, as all payloads of the lists are of one value; a discarded sector may read as anything.
 */

import { SECTOR_SIZE, type Request } from '../../src/workload/request.ts';
import { isSectorOf } from '../../src/peer/uniform-bytes.ts';

const ANYTHING = -1;

export class GuestSectors {
  readonly #values = new Map<number, number>();
  readonly #backing: GuestSectors | undefined;
  readonly #size: number;

  /** @param size bytes. */
  constructor(size: number, backing?: GuestSectors) {
    this.#size = size;
    this.#backing = backing;
  }

  /** Takes a request; `value` is what all bytes of a write are. */
  apply({ op, offset, length }: Request, value: number): void {
    switch (op) {
      case 'write':
        this.#set(offset, length, value);
        return;
      case 'write-zeroes':
        this.#set(offset, length, 0);
        return;
      case 'discard':
        this.forget({ offset, length });
        return;
      case 'read':
      case 'flush':
        return;
    }
  }

  /** From now on the range may read as anything. */
  forget({ offset, length }: { readonly offset: number; readonly length: number }): void {
    this.#set(offset, length, ANYTHING);
  }

  /** Of the bytes that were read at `offset`: the offset of the first that ought to be another. */
  firstWrong(offset: number, bytes: Uint8Array): number | undefined {
    for (let at = 0; at < bytes.byteLength; at += SECTOR_SIZE) {
      const value = this.#valueAt((offset + at) / SECTOR_SIZE);
      if (value === ANYTHING) continue;
      const sector = bytes.subarray(at, at + SECTOR_SIZE);
      if (!isSectorOf(sector, value)) return offset + at + sector.findIndex((byte) => byte !== value);
    }
    return undefined;
  }

  /** Where anything was ever written, in runs of bytes: what is worth reading back. */
  touchedRanges(): readonly { readonly offset: number; readonly length: number }[] {
    const sectors = new Set(this.#values.keys());
    for (let below = this.#backing; below !== undefined; below = below.#backing) {
      for (const sector of below.#values.keys()) sectors.add(sector);
    }
    const ranges: { offset: number; length: number }[] = [];
    for (const sector of [...sectors].sort((left, right) => left - right)) {
      const offset = sector * SECTOR_SIZE;
      if (offset >= this.#size) break;
      const last = ranges.at(-1);
      if (last !== undefined && last.offset + last.length === offset) last.length += SECTOR_SIZE;
      else ranges.push({ offset, length: SECTOR_SIZE });
    }
    return ranges;
  }

  #set(offset: number, length: number, value: number): void {
    for (let at = offset; at < offset + length; at += SECTOR_SIZE) this.#values.set(at / SECTOR_SIZE, value);
  }

  #valueAt(sector: number): number {
    if (sector * SECTOR_SIZE >= this.#size) return 0;
    const value = this.#values.get(sector);
    if (value !== undefined) return value;
    return this.#backing === undefined ? 0 : this.#backing.#valueAt(sector);
  }
}
