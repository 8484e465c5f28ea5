/**
 * A set of blocks of a file, as bits.
 *
 * Invariant: memory is taken for pages of 128 MiB of the file that hold some blocks and not all: 4
 * KiB each, so at most 32 MiB for each TiB.
 */

const PAGE_WORDS = 1024;
const PAGE_BLOCKS = PAGE_WORDS * 32;
const ALL = 0xffff_ffff;
/** A page of which all blocks are in the set; never changed. */
const FULL = new Uint32Array(PAGE_WORDS).fill(ALL);

export class BlockMap {
  readonly #pages = new Map<number, Uint32Array>();
  readonly #counts = new Map<number, number>();
  /** The page that was used last. */
  #index = -1;
  #page: Uint32Array | undefined;

  /** Blocks in the set. */
  size = 0;

  get byteLength(): number {
    return this.#counts.size * FULL.byteLength;
  }

  has(block: number): boolean {
    const page = this.#pageAt(Math.floor(block / PAGE_BLOCKS));
    if (page === undefined) return false;
    return (((page[(block % PAGE_BLOCKS) >>> 5] as number) >>> (block & 31)) & 1) === 1;
  }

  /** Whether one of the blocks from `from` up to `to` is in it. */
  hasAny(from: number, to: number): boolean {
    return this.absentRun(from, to - from) < to - from;
  }

  /** Adds blocks; answers how many of them were not in it. */
  add(block: number, blocks: number): number {
    let added = 0;
    for (let at = block; at < block + blocks;) {
      const index = Math.floor(at / PAGE_BLOCKS);
      const from = at - index * PAGE_BLOCKS;
      const to = Math.min(PAGE_BLOCKS, from + block + blocks - at);
      added += this.#addInPage(index, from, to);
      at += to - from;
    }
    this.size += added;
    return added;
  }

  /** Takes blocks out of it; answers how many of them were in it. */
  delete(block: number, blocks: number): number {
    let deleted = 0;
    for (let at = block; at < block + blocks;) {
      const index = Math.floor(at / PAGE_BLOCKS);
      const from = at - index * PAGE_BLOCKS;
      const to = Math.min(PAGE_BLOCKS, from + block + blocks - at);
      deleted += this.#deleteInPage(index, from, to);
      at += to - from;
    }
    this.size -= deleted;
    return deleted;
  }

  /** The first block from `block` on that is not in it. */
  nextAbsent(block: number): number {
    for (let at = block; ;) {
      const index = Math.floor(at / PAGE_BLOCKS);
      const page = this.#pageAt(index);
      if (page === undefined) return at;
      const start = index * PAGE_BLOCKS;
      let within = at - start;
      while (page !== FULL && within < PAGE_BLOCKS) {
        // Bits below `within` count as set.
        const word = (page[within >>> 5] as number) | ((1 << (within & 31)) - 1);
        if (word !== -1 && word >>> 0 !== ALL) return start + (within & ~31) + trailingOnes(word);
        within = (within & ~31) + 32;
      }
      at = start + PAGE_BLOCKS;
    }
  }

  /** How many blocks from `block` on are not in it, up to `most`. */
  absentRun(block: number, most: number): number {
    let run = 0;
    while (run < most) {
      const index = Math.floor((block + run) / PAGE_BLOCKS);
      const page = this.#pageAt(index);
      if (page === undefined) {
        run = (index + 1) * PAGE_BLOCKS - block;
        continue;
      }
      const within = (block + run) % PAGE_BLOCKS;
      const word = (page[within >>> 5] as number) >>> (within & 31);
      if (word !== 0) return Math.min(run + trailingOnes(~word), most);
      run += 32 - (within & 31);
    }
    return most;
  }

  #addInPage(index: number, from: number, to: number): number {
    let page = this.#pageAt(index);
    if (page === FULL) return 0;
    if (page === undefined) {
      if (from === 0 && to === PAGE_BLOCKS) {
        this.#put(index, FULL);
        return PAGE_BLOCKS;
      }
      page = new Uint32Array(PAGE_WORDS);
      this.#put(index, page);
    }
    let added = 0;
    for (let at = from; at < to; at++) {
      const word = page[at >>> 5] as number;
      const bit = 1 << (at & 31);
      if ((word & bit) !== 0) continue;
      page[at >>> 5] = word | bit;
      added++;
    }
    const count = (this.#counts.get(index) ?? 0) + added;
    if (count === PAGE_BLOCKS) this.#put(index, FULL);
    else this.#counts.set(index, count);
    return added;
  }

  #deleteInPage(index: number, from: number, to: number): number {
    let page = this.#pageAt(index);
    if (page === undefined) return 0;
    if (page === FULL) {
      page = FULL.slice();
      this.#put(index, page);
      this.#counts.set(index, PAGE_BLOCKS);
    }
    let deleted = 0;
    for (let at = from; at < to; at++) {
      const word = page[at >>> 5] as number;
      const bit = 1 << (at & 31);
      if ((word & bit) === 0) continue;
      page[at >>> 5] = word & ~bit;
      deleted++;
    }
    const count = (this.#counts.get(index) ?? 0) - deleted;
    this.#counts.set(index, count);
    if (count === 0) this.#drop(index);
    return deleted;
  }

  #pageAt(index: number): Uint32Array | undefined {
    if (index !== this.#index) {
      this.#index = index;
      this.#page = this.#pages.get(index);
    }
    return this.#page;
  }

  #put(index: number, page: Uint32Array): void {
    this.#pages.set(index, page);
    if (page === FULL) this.#counts.delete(index);
    this.#index = index;
    this.#page = page;
  }

  #drop(index: number): void {
    this.#pages.delete(index);
    this.#counts.delete(index);
    this.#index = -1;
  }
}

/** How many of the lowest bits are set. */
function trailingOnes(word: number): number {
  const inverted = ~word;
  return 31 - Math.clz32(inverted & -inverted);
}
