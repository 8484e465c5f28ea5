/**
 * The bytes of a file in memory, in pages that exist only where something was written.
 *
 *      offset → directory (4 MiB of file) → page number → a page of 4 KiB in a slab of 64
 *
 * A page is as large as a block of the usual file system, so that a small write into a large
 * cluster takes what it takes there. Slabs and not single pages: a buffer of its own for every page
 * would cost several times the page.
 *
 * Invariants: a page that is absent reads as zeroes; no page is wholly at or past `size`; the bytes
 * of the last page past `size` are zero, so growing the file never uncovers old bytes.
 */

import { alignUp, remainder } from '../core/alignment.ts';
import { assertInvariant } from '../core/error.ts';

/** Bytes of a page. */
export const PAGE_BYTES = 4096;
const SLAB_PAGES = 64;
const DIRECTORY_PAGES = 1024;
/** Up to so many bytes, an entry of a table, a loop copies faster than a call of the runtime. */
const LOOP_BYTES_MAX = 32;

/**
 * Slabs of files that are gone, to be used again: a new one costs its allocation, its zeroing by
 * the system and its collection, several times what filling an old one costs. At most 16 MiB are
 * kept.
 */
const spareSlabs: Buffer[] = [];
const SPARE_SLABS_MAX = 64;

/**
 * For each page of 4 MiB of file its number in the slabs, from 1; 0 where there is none; −1 − B for
 * a page whose bytes are all B, which takes no slab.
 */
type Directory = Int32Array;

/** For each byte a page of it, made when it is first used. */
const uniformPages: (Buffer | undefined)[] = new Array<undefined>(256).fill(undefined);

export class SparseBytes {
  // Buffers rather than plain arrays: their `copy` takes a range of the source without making a
  // view.
  readonly #slabs: Buffer[] = [];
  readonly #directories = new Map<number, Directory>();
  /** The directory that was found last, and which one it is. */
  #found: Directory | undefined;
  #foundIndex = -1;
  /** Numbers of pages that were given back. */
  readonly #free: number[] = [];
  /** How many numbers were ever given out; the pages above are fresh, but perhaps not zero. */
  #numbers = 0;
  #size = 0;

  get size(): number {
    return this.#size;
  }

  /** Bytes of pages held in slabs, a multiple of the page. */
  get storedBytes(): number {
    return (this.#numbers - this.#free.length) * PAGE_BYTES;
  }

  read(offset: number, target: Uint8Array): void {
    const { byteLength } = target;
    for (let done = 0; done < byteLength;) {
      const at = remainder(offset + done, PAGE_BYTES);
      const length = Math.min(PAGE_BYTES - at, byteLength - done);
      const number = this.#pageNumber((offset + done - at) / PAGE_BYTES);
      if (number <= 0) target.fill(byteOf(number), done, done + length);
      else {
        const start = startInSlab(number) + at;
        this.#slabOf(number).copy(target, done, start, start + length);
      }
      done += length;
    }
  }

  /**
   * Whether `offset`, which is before the end, is stored, and for how many bytes the answer holds.
   */
  extentAt(offset: number): { readonly isData: boolean; readonly length: number } {
    const first = Math.floor(offset / PAGE_BYTES);
    const end = Math.ceil(this.#size / PAGE_BYTES);
    const isData = this.#pageNumber(first) !== 0;
    let next = first + 1;
    while (next < end && (this.#pageNumber(next) !== 0) === isData) {
      const directory = Math.floor(next / DIRECTORY_PAGES);
      // A hole may be terabytes wide: what has no directory is passed by in one step.
      if (!isData && !this.#directories.has(directory)) {
        next = this.#nextDirectory(directory) * DIRECTORY_PAGES;
      } else next++;
    }
    return { isData, length: Math.min(next * PAGE_BYTES, this.#size) - offset };
  }

  /**
   * Stores `bytes` at `offset`, or only those from `from` to `to` where the others are there
   * already.
   */
  write(offset: number, bytes: Uint8Array, from = 0, to = bytes.byteLength): void {
    for (let done = from; done < to;) {
      const at = remainder(offset + done, PAGE_BYTES);
      const length = Math.min(PAGE_BYTES - at, to - done);
      this.#writeIn((offset + done - at) / PAGE_BYTES, at, bytes, done, done + length);
      done += length;
    }
    this.growTo(offset + bytes.byteLength);
  }

  /** Stores bytes `from` to `to` in page `index`, from its byte `at` on. */
  #writeIn(index: number, at: number, bytes: Uint8Array, from: number, to: number): void {
    const length = to - from;
    if (length <= LOOP_BYTES_MAX) {
      const number = this.#pageFor(index, false);
      const slab = this.#slabOf(number);
      const start = startInSlab(number) + at;
      for (let byte = 0; byte < length; byte++) slab[start + byte] = bytes[from + byte] as number;
      return;
    }
    const part = length === bytes.byteLength ? bytes : bytes.subarray(from, to);
    if (length === PAGE_BYTES && isUniform(part)) {
      this.#setUniform(index, part[0] as number);
      return;
    }
    const number = this.#pageFor(index, length === PAGE_BYTES);
    this.#slabOf(number).set(part, startInSlab(number) + at);
  }

  /**
   * Makes the range read as zeroes and frees the pages wholly inside it; never changes the size.
   */
  clear(offset: number, length: number): void {
    const end = offset + length;
    const firstWhole = Math.ceil(offset / PAGE_BYTES);
    const endWhole = Math.floor(end / PAGE_BYTES);
    const head = remainder(offset, PAGE_BYTES);
    const tail = remainder(end, PAGE_BYTES);
    if (firstWhole > endWhole) {
      this.#zero(endWhole, head, tail);
      return;
    }
    if (head > 0) this.#zero(firstWhole - 1, head, PAGE_BYTES);
    if (tail > 0) this.#zero(endWhole, 0, tail);
    this.#drop(firstWhole, endWhole);
  }

  growTo(size: number): void {
    if (size > this.#size) this.#size = size;
  }

  resize(size: number): void {
    if (size < this.#size) this.clear(size, alignUp(this.#size, PAGE_BYTES) - size);
    this.#size = size;
  }

  /** Drops everything: the file was removed. The bytes must not be used afterwards. */
  discardAll(): void {
    this.#directories.clear();
    this.#foundIndex = -1;
    this.#free.length = 0;
    this.#numbers = 0;
    this.#size = 0;
    const room = Math.max(0, SPARE_SLABS_MAX - spareSlabs.length);
    spareSlabs.push(...this.#slabs.splice(0, room));
    this.#slabs.length = 0;
  }

  /** All bytes in one array; meant for files that fit one (an error of the runtime otherwise). */
  contents(): Uint8Array<ArrayBuffer> {
    const all = new Uint8Array(this.#size);
    for (const [index, number] of this.#pages()) {
      const start = index * PAGE_BYTES;
      const length = Math.min(PAGE_BYTES, this.#size - start);
      if (number < 0) all.fill(byteOf(number), start, start + length);
      else this.#slabOf(number).copy(all, start, startInSlab(number), startInSlab(number) + length);
    }
    return all;
  }

  clone(): SparseBytes {
    const copy = new SparseBytes();
    for (const [index, number] of this.#pages()) {
      if (number < 0) {
        copy.#setUniform(index, byteOf(number));
        continue;
      }
      const to = copy.#pageFor(index, true);
      const from = startInSlab(number);
      this.#slabOf(number).copy(copy.#slabOf(to), startInSlab(to), from, from + PAGE_BYTES);
    }
    copy.#size = this.#size;
    return copy;
  }

  /** Index in the file of every page, and its number as in a directory. */
  *#pages(): Generator<readonly [number, number], undefined> {
    for (const [directory, numbers] of this.#directories) {
      for (const [index, number] of numbers.entries()) {
        if (number !== 0) yield [directory * DIRECTORY_PAGES + index, number];
      }
    }
    return undefined;
  }

  #pageNumber(index: number): number {
    const directory = this.#find(Math.floor(index / DIRECTORY_PAGES));
    return directory === undefined ? 0 : (directory[index % DIRECTORY_PAGES] as number);
  }

  #find(directoryIndex: number): Directory | undefined {
    if (directoryIndex === this.#foundIndex) return this.#found;
    const directory = this.#directories.get(directoryIndex);
    if (directory !== undefined) {
      this.#found = directory;
      this.#foundIndex = directoryIndex;
    }
    return directory;
  }

  #slabOf(number: number): Buffer {
    return this.#slabs[Math.floor((number - 1) / SLAB_PAGES)] as Buffer;
  }

  #directoryOf(index: number): Directory {
    const directoryIndex = Math.floor(index / DIRECTORY_PAGES);
    let directory = this.#find(directoryIndex);
    if (directory === undefined) {
      assertInvariant(Number.isSafeInteger(index) && index >= 0, 'page index out of range');
      directory = new Int32Array(DIRECTORY_PAGES);
      this.#directories.set(directoryIndex, directory);
      this.#found = directory;
      this.#foundIndex = directoryIndex;
    }
    return directory;
  }

  /**
   * The number of page `index` in the slabs, where it is put if it is absent or of one byte; its
   * bytes are undefined if it is `overwritten` as a whole.
   */
  #pageFor(index: number, overwritten: boolean): number {
    const directory = this.#directoryOf(index);
    const present = directory[index % DIRECTORY_PAGES] as number;
    if (present > 0) return present;
    const number = this.#takeNumber();
    directory[index % DIRECTORY_PAGES] = number;
    const start = startInSlab(number);
    if (!overwritten) this.#slabOf(number).fill(byteOf(present), start, start + PAGE_BYTES);
    return number;
  }

  #setUniform(index: number, byte: number): void {
    const directory = this.#directoryOf(index);
    const present = directory[index % DIRECTORY_PAGES] as number;
    if (present > 0) this.#free.push(present);
    directory[index % DIRECTORY_PAGES] = -1 - byte;
  }

  #takeNumber(): number {
    const freed = this.#free.pop();
    if (freed !== undefined) return freed;
    if (this.#numbers === this.#slabs.length * SLAB_PAGES) {
      this.#slabs.push(spareSlabs.pop() ?? Buffer.allocUnsafeSlow(SLAB_PAGES * PAGE_BYTES));
    }
    return ++this.#numbers;
  }

  #zero(index: number, from: number, to: number): void {
    const present = this.#pageNumber(index);
    if (present <= 0 && byteOf(present) === 0) return;
    const number = this.#pageFor(index, false);
    const start = startInSlab(number);
    this.#slabOf(number).fill(0, start + from, start + to);
  }

  /** Frees pages `first` to `end − 1`; where no directory is, 4 MiB at a time or none at all. */
  #drop(first: number, end: number): void {
    const firstDirectory = Math.floor(first / DIRECTORY_PAGES);
    const endDirectory = Math.ceil(end / DIRECTORY_PAGES);
    if (endDirectory - firstDirectory <= this.#directories.size) {
      for (let directory = firstDirectory; directory < endDirectory; directory++) {
        this.#dropWithin(directory, first, end);
      }
      return;
    }
    for (const directory of this.#directories.keys()) {
      if (directory >= firstDirectory && directory < endDirectory) this.#dropWithin(directory, first, end);
    }
  }

  #dropWithin(directoryIndex: number, first: number, end: number): void {
    const directory = this.#find(directoryIndex);
    if (directory === undefined) return;
    const base = directoryIndex * DIRECTORY_PAGES;
    const last = Math.min(DIRECTORY_PAGES, end - base);
    for (let index = Math.max(0, first - base); index < last; index++) {
      const number = directory[index] as number;
      if (number === 0) continue;
      directory[index] = 0;
      if (number > 0) this.#free.push(number);
    }
    // A whole directory that was emptied: a hole of terabytes is to take no memory.
    if (first <= base && end >= base + DIRECTORY_PAGES) {
      this.#directories.delete(directoryIndex);
      this.#foundIndex = -1;
    }
  }

  /** The first directory after `index`; past every possible page if there is none. */
  #nextDirectory(index: number): number {
    let next = Number.MAX_SAFE_INTEGER / DIRECTORY_PAGES;
    for (const other of this.#directories.keys()) if (other > index && other < next) next = other;
    return next;
  }
}

/** Of a page that is in no slab: absent, or of one byte. */
function byteOf(number: number): number {
  return number === 0 ? 0 : -1 - number;
}

/** Whether all bytes of a page are the same, as in the payload `pattern`. */
function isUniform(page: Uint8Array): boolean {
  const byte = page[0] as number;
  if (page[1] !== byte || page[PAGE_BYTES - 1] !== byte) return false;
  const same = (uniformPages[byte] ??= Buffer.alloc(PAGE_BYTES, byte));
  return Buffer.compare(page, same) === 0;
}

/** Where a page begins in its slab. */
function startInSlab(number: number): number {
  return ((number - 1) % SLAB_PAGES) * PAGE_BYTES;
}
