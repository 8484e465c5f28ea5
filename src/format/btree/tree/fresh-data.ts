/**
 * Data that commits whose order no sync keeps make part of the disk, by their checksums: what proves,
 * at the next opening, that such a commit is whole.
 *
 * Invariant: of the last commit, and of the one to come, the data stay as they were when they were
 * written: a request that writes there again gets other blocks. So a commit that was durable is
 * proved whatever came after it, up to the next one that is.
 */

import { checksum } from '../on-disk/checksum.ts';
import { BLOCK_SIZE } from '../on-disk/layout.ts';
import type { Proofs } from '../on-disk/superblock.ts';

export const NO_PROOFS: Proofs = new Map();

export class FreshData {
  readonly #most: number;
  #next = new Map<number, number>();
  #last: Proofs = NO_PROOFS;
  #isTooMuch: boolean;

  /** @param most blocks that one commit can prove; 0 where order is kept by syncs */
  constructor(most: number) {
    this.#most = most;
    this.#isTooMuch = most === 0;
  }

  /** For the commit to come; complete unless `isTooMuch`. */
  get proofs(): Proofs {
    return this.#next;
  }

  /** There are more data than can be proved: their order has to be kept by a sync. */
  get isTooMuch(): boolean {
    return this.#isTooMuch;
  }

  /** Whole blocks were written, and belong to the disk with the commit to come. */
  note(block: number, bytes: Uint8Array): void {
    if (this.#isTooMuch) return;
    const blocks = bytes.byteLength / BLOCK_SIZE;
    if (this.#next.size + blocks > this.#most) {
      this.#isTooMuch = true;
      this.#next.clear();
      return;
    }
    for (let index = 0; index < blocks; index++) {
      const part = bytes.subarray(index * BLOCK_SIZE, (index + 1) * BLOCK_SIZE);
      this.#next.set(block + index, checksum(part));
    }
  }

  /** Blocks no longer belong to the disk. */
  forget(block: number, blocks: number): void {
    if (this.#next.size === 0) return;
    for (let at = block; at < block + blocks; at++) this.#next.delete(at);
  }

  /** Whether data of the blocks have to stay as they are. */
  isKept(block: number, blocks: number): boolean {
    if (this.#next.size + this.#last.size === 0) return false;
    for (let at = block; at < block + blocks; at++) {
      if (this.#next.has(at) || this.#last.has(at)) return true;
    }
    return false;
  }

  /**
   * A commit is durable.
   *
   * @param proofs that it has
   */
  committed(proofs: Proofs): void {
    this.#last = proofs;
    this.#next = new Map();
    this.#isTooMuch = this.#most === 0;
  }
}
