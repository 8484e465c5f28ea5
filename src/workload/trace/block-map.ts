/**
 * Which blocks of a device were touched, in bounded memory: a bit a block, in pages that are made
 * when they are needed.
 *
 * Invariant: never more than `PAGES_MAX` pages (32 MiB). Where that is not enough, blocks become
 * twice as large, as often as it takes: then the map says a little too much, and `blockSize` says
 * by how much.
 */

import { bitsOf, joinedBits } from './bits.ts';

/** Bytes of a page, which cover 65,536 blocks. */
const PAGE_BYTES = 8192;
const PAGE_BLOCKS = PAGE_BYTES * 8;
const PAGES_MAX = 4096;
/** Pages that are found without the map; a power of two. */
const RECENT_PAGES = 256;

export class BlockMap {
  /** Bytes of a block; a power of two. */
  blockSize: number;
  #pages = new Map<number, Uint8Array>();
  /** Pages that were used last, by the low bits of their index. */
  readonly #recent = Array.from({ length: RECENT_PAGES }, () => new Uint8Array(0));
  readonly #recentIndices = new Float64Array(RECENT_PAGES).fill(-1);

  constructor(blockSize: number) {
    this.blockSize = blockSize;
  }

  /**
   * Marks the blocks that `length` bytes from `offset` touch; answers whether one of them was
   * unmarked.
   */
  add(offset: number, length: number): boolean {
    const first = Math.floor(offset / this.blockSize);
    const last = Math.floor((offset + length - 1) / this.blockSize);
    let isNew = false;
    for (let block = first; block <= last;) {
      const pageIndex = Math.floor(block / PAGE_BLOCKS);
      const pageStart = pageIndex * PAGE_BLOCKS;
      const from = block - pageStart;
      const to = Math.min(last - pageStart, PAGE_BLOCKS - 1);
      const page = this.#page(pageIndex);
      if (page === undefined) {
        this.#coarsen();
        return this.add(offset, length) || isNew;
      }
      if (mark(page, from, to)) isNew = true;
      block = pageStart + to + 1;
    }
    return isNew;
  }

  /**
   * Calls `found` with each stretch of blocks, in bytes, that `length` bytes from `offset` touch and
   * that are not marked, clipped to these bytes.
   */
  forUnmarked(offset: number, length: number, found: (offset: number, length: number) => void): void {
    const { blockSize } = this;
    const end = offset + length;
    for (let at = offset; at < end;) {
      const stop = this.#endOfRun(at, end);
      const isMarked = this.#isMarked(Math.floor(at / blockSize));
      if (!isMarked) found(at, stop - at);
      at = stop;
    }
  }

  /** The stretches of marked blocks, in order, as offset and length in bytes. */
  *stretches(): Generator<{ readonly offset: number; readonly length: number }, undefined> {
    const { blockSize } = this;
    let start: number | undefined;
    let next = -1;
    for (const pageIndex of [...this.#pages.keys()].toSorted((a, b) => a - b)) {
      const page = this.#pages.get(pageIndex) ?? new Uint8Array(0);
      for (let at = 0; at < page.length; at++) {
        const byte = page[at] ?? 0;
        if (byte === 0) continue;
        for (let bit = 0; bit < 8; bit++) {
          if (((byte >>> bit) & 1) === 0) continue;
          const block = pageIndex * PAGE_BLOCKS + at * 8 + bit;
          if (block !== next) {
            if (start !== undefined) yield { offset: start * blockSize, length: (next - start) * blockSize };
            start = block;
          }
          next = block + 1;
        }
      }
    }
    if (start !== undefined) yield { offset: start * blockSize, length: (next - start) * blockSize };
    return undefined;
  }

  #isMarked(block: number): boolean {
    const pageIndex = Math.floor(block / PAGE_BLOCKS);
    const bit = block - pageIndex * PAGE_BLOCKS;
    const byte = this.#pages.get(pageIndex)?.[bit >>> 3] ?? 0;
    return ((byte >>> (bit & 7)) & 1) === 1;
  }

  /** Where the run of blocks that are alike ends, which begins at `offset`; `end` at most. */
  #endOfRun(offset: number, end: number): number {
    const { blockSize } = this;
    let block = Math.floor(offset / blockSize);
    const isMarked = this.#isMarked(block);
    const whole = isMarked ? 0xff : 0;
    const last = Math.floor((end - 1) / blockSize);
    let pageIndex = -1;
    let page: Uint8Array | undefined;
    while (block < last) {
      const index = Math.floor((block + 1) / PAGE_BLOCKS);
      if (index !== pageIndex) page = this.#pages.get(index);
      pageIndex = index;
      if (page === undefined) {
        if (isMarked) break;
        // A page that is not there is not marked as a whole.
        block = Math.min(last, (index + 1) * PAGE_BLOCKS - 1);
        continue;
      }
      const bit = block + 1 - index * PAGE_BLOCKS;
      const byte = page[bit >>> 3] ?? 0;
      if ((bit & 7) === 0 && byte === whole) block = Math.min(last, block + 8);
      else if ((((byte >>> (bit & 7)) & 1) === 1) === isMarked) block++;
      else break;
    }
    return Math.min(end, (block + 1) * blockSize);
  }

  /** Blocks that are marked. */
  count(): number {
    let blocks = 0;
    for (const page of this.#pages.values()) {
      const words = new Uint32Array(page.buffer);
      for (const word of words) if (word !== 0) blocks += bitsOf(word);
    }
    return blocks;
  }

  /** `undefined` if there is none, and no room for another. */
  #page(index: number): Uint8Array | undefined {
    const slot = index & (RECENT_PAGES - 1);
    if (this.#recentIndices[slot] === index) return this.#recent[slot];
    let page = this.#pages.get(index);
    if (page === undefined) {
      if (this.#pages.size >= PAGES_MAX) return undefined;
      page = new Uint8Array(PAGE_BYTES);
      this.#pages.set(index, page);
    }
    this.#recentIndices[slot] = index;
    this.#recent[slot] = page as Uint8Array<ArrayBuffer>;
    return page;
  }

  /** Two blocks become one. */
  #coarsen(): void {
    const before = this.#pages;
    this.#recentIndices.fill(-1);
    this.#pages = new Map();
    this.blockSize *= 2;
    for (const [index, page] of before) {
      const half = index % 2 === 0 ? 0 : PAGE_BYTES / 2;
      const pageIndex = Math.floor(index / 2);
      const joined = this.#pages.get(pageIndex) ?? new Uint8Array(PAGE_BYTES);
      this.#pages.set(pageIndex, joined);
      for (let at = 0; at < PAGE_BYTES; at += 2) {
        joined[half + at / 2] = joinedBits(page[at] ?? 0) | (joinedBits(page[at + 1] ?? 0) << 4);
      }
    }
  }
}

/** Sets the bits `from` to `to`; answers whether one was clear. */
function mark(page: Uint8Array, from: number, to: number): boolean {
  let isNew = false;
  for (let bit = from; bit <= to;) {
    const at = bit >>> 3;
    const low = bit & 7;
    const high = Math.min(7, low + to - bit);
    const mask = ((2 << (high - low)) - 1) << low;
    const byte = page[at] ?? 0;
    if ((byte & mask) !== mask) {
      isNew = true;
      page[at] = byte | mask;
    }
    bit += high - low + 1;
  }
  return isNew;
}
