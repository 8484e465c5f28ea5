/**
 * What was done to each block of a device, in bounded memory: a bit a block for each kind of
 * request, in pages that are made when they are needed.
 *
 * Invariant: never more than `PAGES_MAX` pages (128 MiB). Where that is not enough, blocks become
 * twice as large, as often as it takes: then it says a little too much, and `blockSize` says by how
 * much.
 */

import { bitsOf, joinedBits } from './bits.ts';

/** Planes of bits, one beside the other in each word of blocks. */
export const BLOCK_USES = { read: 0, write: 1, zero: 2, discard: 3 } as const;
export type BlockUse = (typeof BLOCK_USES)[keyof typeof BLOCK_USES];

const PLANES = 4;
const WORD_BLOCKS = 32;
const PAGE_BLOCKS = 65_536;
const PAGE_WORDS = PAGE_BLOCKS / WORD_BLOCKS;
const PAGES_MAX = 4096;
/** Pages that are found without the map; a power of two. */
const RECENT_PAGES = 256;

export class BlockUses {
  /** Bytes of a block; a power of two. */
  blockSize: number;
  #pages = new Map<number, Uint32Array>();
  /** Pages that were used last, by the low bits of their index. */
  readonly #recent = Array.from({ length: RECENT_PAGES }, () => new Uint32Array(0));
  readonly #recentIndices = new Float64Array(RECENT_PAGES).fill(-1);

  constructor(blockSize: number) {
    this.blockSize = blockSize;
  }

  /**
   * Marks the blocks that `length` bytes from `offset` touch. For a read, answers how many of the
   * bytes are in blocks that were neither written, zeroed nor discarded before; otherwise 0.
   */
  add(use: BlockUse, offset: number, length: number): number {
    const { blockSize } = this;
    const first = Math.floor(offset / blockSize);
    const last = Math.floor((offset + length - 1) / blockSize);
    let unwritten = 0;
    for (let block = first; block <= last;) {
      const pageIndex = Math.floor(block / PAGE_BLOCKS);
      const page = this.#page(pageIndex);
      if (page === undefined) {
        this.#coarsen();
        return this.add(use, offset, length);
      }
      const pageStart = pageIndex * PAGE_BLOCKS;
      const from = block - pageStart;
      const to = Math.min(last - pageStart, PAGE_BLOCKS - 1);
      unwritten += use === BLOCK_USES.read ? markRead(page, from, to) : mark(page, use, from, to);
      block = pageStart + to + 1;
    }
    if (unwritten === 0) return 0;
    return unwritten * blockSize - this.#outside(first, last, offset, length);
  }

  /** Blocks in pages that match: `takes` is asked for each word of the planes. */
  count(joined: (read: number, write: number, zero: number) => number): number {
    let blocks = 0;
    for (const page of this.#pages.values()) {
      for (let at = 0; at < page.length; at += PLANES) {
        const word = joined(page[at] ?? 0, page[at + 1] ?? 0, page[at + 2] ?? 0);
        if (word !== 0) blocks += bitsOf(word);
      }
    }
    return blocks;
  }

  /**
   * Bytes of the first and the last block that a read does not touch, where these blocks count as
   * not written.
   */
  #outside(first: number, last: number, offset: number, length: number): number {
    const { blockSize } = this;
    const before = offset - first * blockSize;
    const behind = (last + 1) * blockSize - (offset + length);
    const isFirst = before > 0 && !this.#isWritten(first);
    const isLast = behind > 0 && !this.#isWritten(last);
    return (isFirst ? before : 0) + (isLast ? behind : 0);
  }

  #isWritten(block: number): boolean {
    const pageIndex = Math.floor(block / PAGE_BLOCKS);
    const page = this.#pages.get(pageIndex);
    const bit = block - pageIndex * PAGE_BLOCKS;
    return page !== undefined && ((written(page, (bit >>> 5) * PLANES) >>> (bit & 31)) & 1) === 1;
  }

  /** `undefined` if there is none, and no room for another. */
  #page(index: number): Uint32Array | undefined {
    const slot = index & (RECENT_PAGES - 1);
    if (this.#recentIndices[slot] === index) return this.#recent[slot];
    let page = this.#pages.get(index);
    if (page === undefined) {
      if (this.#pages.size >= PAGES_MAX) return undefined;
      page = new Uint32Array(PAGE_WORDS * PLANES);
      this.#pages.set(index, page);
    }
    this.#recentIndices[slot] = index;
    this.#recent[slot] = page as Uint32Array<ArrayBuffer>;
    return page;
  }

  /** Two blocks become one. */
  #coarsen(): void {
    const before = this.#pages;
    this.#pages = new Map();
    this.#recentIndices.fill(-1);
    this.blockSize *= 2;
    for (const [index, page] of before) {
      const half = index % 2 === 0 ? 0 : page.length / 2;
      const pageIndex = Math.floor(index / 2);
      const joined = this.#pages.get(pageIndex) ?? new Uint32Array(page.length);
      this.#pages.set(pageIndex, joined);
      for (let word = 0; word < PAGE_WORDS; word += 2) {
        for (let plane = 0; plane < PLANES; plane++) {
          const at = word * PLANES + plane;
          const to = half + (word / 2) * PLANES + plane;
          joined[to] = joinedBits(page[at] ?? 0) | (joinedBits(page[at + PLANES] ?? 0) << 16);
        }
      }
    }
  }
}

function written(page: Uint32Array, at: number): number {
  return (page[at + 1] ?? 0) | (page[at + 2] ?? 0) | (page[at + 3] ?? 0);
}

/** The bits of the word `word` that are from `from` to `to`, which are bits of the page. */
function maskOf(word: number, from: number, to: number): number {
  const low = word === from >>> 5 ? -1 << (from & 31) : -1;
  return word === to >>> 5 ? low & (-1 >>> (31 - (to & 31))) : low;
}

function mark(page: Uint32Array, use: BlockUse, from: number, to: number): 0 {
  for (let word = from >>> 5; word <= to >>> 5; word++) {
    const at = word * PLANES + use;
    page[at] = (page[at] ?? 0) | maskOf(word, from, to);
  }
  return 0;
}

/** Answers how many of the blocks were not written. */
function markRead(page: Uint32Array, from: number, to: number): number {
  let blocks = 0;
  for (let word = from >>> 5; word <= to >>> 5; word++) {
    const at = word * PLANES;
    const mask = maskOf(word, from, to);
    page[at] = (page[at] ?? 0) | mask;
    const missing = mask & ~written(page, at);
    if (missing !== 0) blocks += bitsOf(missing);
  }
  return blocks;
}
