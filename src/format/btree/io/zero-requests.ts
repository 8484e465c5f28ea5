/**
 * Zero-writes and discards: whole blocks leave the tree, or read as zeroes by an extent without a
 * place where something is behind the image; parts of blocks get zeroes.
 */

import type { GuestOffset } from '../../../core/offsets.ts';
import { zeroBytes } from '../../real-zeroes.ts';
import { BLOCK_SIZE, NO_EXTENT, ZERO_EXTENT } from '../on-disk/layout.ts';
import type { ImageCore } from '../tree/image-core.ts';
import type { GuestWriter } from './guest-writer.ts';

/** Blocks that a range has as a whole; the last block of the disk is whole where the disk ends. */
interface WholeBlocks {
  readonly first: number;
  readonly end: number;
}

export class ZeroRequests {
  readonly #core: ImageCore;
  readonly #writer: GuestWriter;

  constructor(core: ImageCore, writer: GuestWriter) {
    this.#core = core;
    this.#writer = writer;
  }

  /** @param unmap the file system may have the space back */
  async writeZeroes(guestOffset: GuestOffset, length: number, unmap: boolean): Promise<void> {
    const end = guestOffset + length;
    const whole = this.#wholeBlocks(guestOffset, end);
    const from = whole.first * BLOCK_SIZE;
    const to = Math.min(whole.end * BLOCK_SIZE, end);
    if (from > to) {
      await this.#zeroParts(guestOffset, end);
      return;
    }
    await this.#zeroParts(guestOffset, from);
    await this.#unmap(whole, unmap);
    await this.#zeroParts(to, end);
  }

  /** Parts of blocks stay as they are. */
  async discard(guestOffset: GuestOffset, length: number): Promise<void> {
    await this.#unmap(this.#wholeBlocks(guestOffset, guestOffset + length), true);
  }

  async #unmap({ first, end }: WholeBlocks, isDiscard: boolean): Promise<void> {
    if (end <= first) return;
    const { lock, backing } = this.#core;
    const place = backing === undefined ? NO_EXTENT : ZERO_EXTENT;
    await lock.hold(() => this.#core.map(first, end - first, place, undefined, isDiscard));
  }

  /** Writes zeroes, block by block, where there are none. */
  async #zeroParts(from: GuestOffset, to: GuestOffset): Promise<void> {
    for (let at = from; at < to;) {
      const part = Math.min(to, (Math.floor(at / BLOCK_SIZE) + 1) * BLOCK_SIZE) - at;
      if (!(await this.#isZero(Math.floor(at / BLOCK_SIZE)))) await this.#writer.write(at, zeroBytes(part));
      at += part;
    }
  }

  async #isZero(block: number): Promise<boolean> {
    const { tree, backing } = this.#core;
    for (;;) {
      const pending = tree.find(block);
      if (pending === undefined) break;
      await pending;
    }
    return tree.foundHost === ZERO_EXTENT || (tree.foundHost === NO_EXTENT && backing === undefined);
  }

  #wholeBlocks(from: GuestOffset, to: GuestOffset): WholeBlocks {
    const isEnd = to === this.#core.virtualSize;
    return {
      first: Math.ceil(from / BLOCK_SIZE),
      end: isEnd ? Math.ceil(to / BLOCK_SIZE) : Math.floor(to / BLOCK_SIZE),
    };
  }
}
