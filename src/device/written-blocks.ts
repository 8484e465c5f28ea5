/**
 * Which blocks of a file hold data, as the file system sees it: a bit for every 4 KiB.
 * Distinguishes an overwrite in place from an allocating write.
 *
 * Invariant: memory is taken where blocks are written only, 4 KiB of bits for 128 MiB of file.
 */

const BLOCK_BITS = 12;
/** Bytes. */
export const BLOCK_SIZE = 2 ** BLOCK_BITS;
/** Blocks of one page of bits: 2^15 of 4 KiB, 128 MiB. */
const PAGE_BLOCKS = 1 << 15;

export class WrittenBlocks {
  readonly #pages = new Map<number, Uint8Array>();
  #count = 0;

  /** Blocks that hold data. */
  get count(): number {
    return this.#count;
  }

  /**
   * Marks the blocks that the range touches, and returns whether one of them held nothing before.
   */
  write(offset: number, length: number): boolean {
    return this.#each(offset, length, (bits, at, bit) => {
      const byte = bits[at] ?? 0;
      if ((byte & bit) !== 0) return false;
      bits[at] = byte | bit;
      this.#count++;
      return true;
    });
  }

  /** Forgets the blocks that lie whole within the range. */
  clear(offset: number, length: number): void {
    const first = Math.ceil(offset / BLOCK_SIZE) * BLOCK_SIZE;
    const end = Math.floor((offset + length) / BLOCK_SIZE) * BLOCK_SIZE;
    if (end <= first) return;
    this.#each(first, end - first, (bits, at, bit) => {
      const byte = bits[at] ?? 0;
      if ((byte & bit) === 0) return false;
      bits[at] = byte & ~bit;
      this.#count--;
      return false;
    });
  }

  #each(
    offset: number,
    length: number,
    visit: (bits: Uint8Array, at: number, bit: number) => boolean,
  ): boolean {
    if (length === 0) return false;
    let found = false;
    const last = Math.floor((offset + length - 1) / BLOCK_SIZE);
    for (let block = Math.floor(offset / BLOCK_SIZE); block <= last; block++) {
      const inPage = block % PAGE_BLOCKS;
      const bits = this.#page((block - inPage) / PAGE_BLOCKS);
      if (visit(bits, inPage >> 3, 1 << (inPage & 7))) found = true;
    }
    return found;
  }

  #page(index: number): Uint8Array {
    let page = this.#pages.get(index);
    if (page === undefined) {
      page = new Uint8Array(PAGE_BLOCKS / 8);
      this.#pages.set(index, page);
    }
    return page;
  }
}
