/**
 * The bytes of a file in memory, in chunks that exist only where something was written.
 *
 * Invariants: a chunk that is absent reads as zeroes; no chunk lies wholly at or past `size`; the
 * bytes of the last chunk past `size` are zero, so growing the file never uncovers old bytes.
 */

import { alignUp } from '../core/alignment.ts';
import { assertInvariant } from '../core/error.ts';

/** Bytes of a chunk: the default cluster of both formats, so that a cluster is one chunk. */
export const CHUNK_SIZE = 65_536;

/**
 * Chunks that were dropped, to be used again: a new one costs its allocation, its zeroing by the runtime and its
 * collection, several times what filling an old one costs. At most 16 MiB are kept.
 */
const spareChunks: Buffer[] = [];
const SPARE_CHUNKS_MAX = 256;

function newChunk(): Buffer {
  return spareChunks.pop()?.fill(0) ?? Buffer.alloc(CHUNK_SIZE);
}

function spare(chunk: Buffer): void {
  if (spareChunks.length < SPARE_CHUNKS_MAX) spareChunks.push(chunk);
}

export class SparseBytes {
  // Buffers rather than plain arrays: their `copy` takes a range of the source without making a view.
  readonly #chunks = new Map<number, Buffer>();
  #size = 0;

  get size(): number {
    return this.#size;
  }

  /** Bytes of memory held, a multiple of the chunk. */
  get storedBytes(): number {
    return this.#chunks.size * CHUNK_SIZE;
  }

  read(offset: number, target: Uint8Array): void {
    const { byteLength } = target;
    for (let done = 0; done < byteLength;) {
      const at = (offset + done) % CHUNK_SIZE;
      const length = Math.min(CHUNK_SIZE - at, byteLength - done);
      const chunk = this.#chunks.get((offset + done - at) / CHUNK_SIZE);
      if (chunk === undefined) target.fill(0, done, done + length);
      else chunk.copy(target, done, at, at + length);
      done += length;
    }
  }

  /** Whether `offset`, which lies before the end, is stored, and for how many bytes the answer holds. */
  extentAt(offset: number): { readonly isData: boolean; readonly length: number } {
    const first = Math.floor(offset / CHUNK_SIZE);
    const end = Math.ceil(this.#size / CHUNK_SIZE);
    const isData = this.#chunks.has(first);
    let next = first + 1;
    if (isData) {
      while (next < end && this.#chunks.has(next)) next++;
    } else {
      next = end;
      for (const index of this.#chunks.keys()) if (index > first && index < next) next = index;
    }
    return { isData, length: Math.min(next * CHUNK_SIZE, this.#size) - offset };
  }

  write(offset: number, bytes: Uint8Array): void {
    const { byteLength } = bytes;
    const at = offset % CHUNK_SIZE;
    if (at + byteLength <= CHUNK_SIZE) {
      if (byteLength > 0) this.#chunkFor((offset - at) / CHUNK_SIZE).set(bytes, at);
    } else {
      this.#writeAcross(offset, bytes);
    }
    this.growTo(offset + byteLength);
  }

  /** Makes the range read as zeroes and frees the chunks wholly inside it; never changes the size. */
  clear(offset: number, length: number): void {
    const end = offset + length;
    const firstWhole = Math.ceil(offset / CHUNK_SIZE);
    const endWhole = Math.floor(end / CHUNK_SIZE);
    if (firstWhole > endWhole) {
      this.#chunks.get(endWhole)?.fill(0, offset % CHUNK_SIZE, end % CHUNK_SIZE);
      return;
    }
    if (offset % CHUNK_SIZE !== 0) this.#chunks.get(firstWhole - 1)?.fill(0, offset % CHUNK_SIZE);
    if (end % CHUNK_SIZE !== 0) this.#chunks.get(endWhole)?.fill(0, 0, end % CHUNK_SIZE);
    this.#drop(firstWhole, endWhole);
  }

  growTo(size: number): void {
    if (size > this.#size) this.#size = size;
  }

  resize(size: number): void {
    if (size < this.#size) this.clear(size, alignUp(this.#size, CHUNK_SIZE) - size);
    this.#size = size;
  }

  /** Drops everything: the file is gone. Nobody may use the bytes afterwards. */
  discardAll(): void {
    this.resize(0);
  }

  /** All bytes in one array; meant for files that fit one (an error of the runtime otherwise). */
  contents(): Uint8Array<ArrayBuffer> {
    const all = new Uint8Array(this.#size);
    for (const [index, chunk] of this.#chunks) {
      const start = index * CHUNK_SIZE;
      all.set(chunk.subarray(0, Math.min(CHUNK_SIZE, this.#size - start)), start);
    }
    return all;
  }

  clone(): SparseBytes {
    const copy = new SparseBytes();
    for (const [index, chunk] of this.#chunks) copy.#chunks.set(index, Buffer.from(chunk));
    copy.#size = this.#size;
    return copy;
  }

  #chunkFor(index: number): Buffer {
    let chunk = this.#chunks.get(index);
    if (chunk === undefined) {
      assertInvariant(Number.isSafeInteger(index) && index >= 0, 'chunk index out of range');
      chunk = newChunk();
      this.#chunks.set(index, chunk);
    }
    return chunk;
  }

  #writeAcross(offset: number, bytes: Uint8Array): void {
    for (let done = 0; done < bytes.byteLength;) {
      const at = (offset + done) % CHUNK_SIZE;
      const length = Math.min(CHUNK_SIZE - at, bytes.byteLength - done);
      this.#chunkFor((offset + done - at) / CHUNK_SIZE).set(bytes.subarray(done, done + length), at);
      done += length;
    }
  }

  /** Frees chunks `first` to `end − 1`, walking whichever is shorter: the range or what is stored. */
  #drop(first: number, end: number): void {
    if (end - first <= this.#chunks.size) {
      for (let index = first; index < end; index++) this.#dropOne(index);
      return;
    }
    for (const index of this.#chunks.keys()) {
      if (index >= first && index < end) this.#dropOne(index);
    }
  }

  #dropOne(index: number): void {
    const chunk = this.#chunks.get(index);
    if (chunk === undefined) return;
    this.#chunks.delete(index);
    spare(chunk);
  }
}
