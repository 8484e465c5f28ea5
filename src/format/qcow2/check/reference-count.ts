/**
 * How often each host cluster is referenced: one counter a cluster, of the width that the image's
 * refcounts have.
 *
 * Invariants:
 * - A counter never passes what a refcount of the image can say: one reference more is refused, as
 *   in QEMU.
 * - Memory grows with the references, not with what a damaged entry or a sparse file of petabytes
 *   claims. The counters of a file of usual size are in one array; those of a larger one in chunks,
 *   each of which begins as a map and becomes an array where that is smaller.
 */

import type { HostCluster } from '../../../core/offsets.ts';

type Counters = Uint8Array | Uint16Array | Uint32Array;

/** Bytes of counters that are kept in one array: 33 million clusters with 16-bit refcounts. */
const FLAT_BYTES_MAX = 64 * 1024 * 1024;
/**
 * By how much flat counters grow: a rebuild adds few clusters, and both arrays are held while one
 * is copied.
 */
const GROWTH = 1.125;
/** Clusters of a chunk. */
const CHUNK = 4096;
/** References of a chunk from which on an array takes less than a map. */
const MAPPED_MAX = 256;

export interface ReferenceCountsOptions {
  /** log2 of the width of the image's refcounts in bits. */
  readonly refcountOrder: number;
  /** The largest refcount that the image can hold. */
  readonly refcountMax: number;
  /** Clusters of the file when the counting begins. */
  readonly fileClusters: number;
}

export class ReferenceCounts {
  readonly #options: ReferenceCountsOptions;
  readonly #max: number;
  #flat: Counters | undefined;
  readonly #chunks = new Map<number, Counters | Map<number, number>>();
  /** Keys of the chunks in ascending order, as long as no chunk was added since. */
  #sorted: readonly number[] = [];
  #end: number;

  constructor(options: ReferenceCountsOptions) {
    const { refcountOrder, fileClusters } = options;
    this.#options = options;
    this.#max = Math.min(options.refcountMax, 0xffff_ffff);
    this.#end = fileClusters;
    // A reference may lead one cluster past the file's end.
    const length = fileClusters + 1;
    if (length * widthOf(refcountOrder) <= FLAT_BYTES_MAX) this.#flat = newCounters(refcountOrder, length);
  }

  /** One past the last cluster that is looked at: of the file, or of a reference past its end. */
  get end(): number {
    return this.#end;
  }

  get(cluster: HostCluster): number {
    const flat = this.#flat;
    if (flat !== undefined) return flat[cluster] ?? 0;
    const chunk = this.#chunks.get(Math.floor(cluster / CHUNK));
    if (chunk === undefined) return 0;
    return (chunk instanceof Map ? chunk.get(cluster % CHUNK) : chunk[cluster % CHUNK]) ?? 0;
  }

  /** Notes one reference more; false if the counter is at its maximum. */
  add(cluster: HostCluster): boolean {
    if (cluster >= this.#end) this.#end = cluster + 1;
    let flat = this.#flat;
    if (flat !== undefined && cluster >= flat.length) flat = this.#grow(flat, cluster + 1);
    if (flat === undefined) return this.#addToChunk(cluster);
    const count = flat[cluster] as number;
    if (count === this.#max) return false;
    flat[cluster] = count + 1;
    return true;
  }

  /**
   * The first cluster from `cluster` on, and before `limit`, that may have a reference; `limit` if
   * there is none.
   */
  nextCounted(cluster: HostCluster, limit: number): number {
    if (this.#flat !== undefined) {
      let next = cluster;
      while (next < limit && this.#flat[next] === 0) next++;
      return Math.min(next, limit);
    }
    const index = Math.floor(cluster / CHUNK);
    if (this.#chunks.has(index)) return cluster;
    const following = this.#chunkAfter(index);
    return following === undefined ? limit : Math.min(following * CHUNK, limit);
  }

  /** Takes in that the file has grown. */
  growTo(fileClusters: number): void {
    if (fileClusters > this.#end) this.#end = fileClusters;
  }

  /** The key of the first chunk after `index`. */
  #chunkAfter(index: number): number | undefined {
    if (this.#sorted.length !== this.#chunks.size) {
      this.#sorted = [...this.#chunks.keys()].toSorted((a, b) => a - b);
    }
    let low = 0;
    let high = this.#sorted.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.#sorted[middle] as number) > index) high = middle;
      else low = middle + 1;
    }
    return this.#sorted[low];
  }

  #addToChunk(cluster: HostCluster): boolean {
    const index = Math.floor(cluster / CHUNK);
    const at = cluster % CHUNK;
    let chunk = this.#chunks.get(index);
    if (chunk === undefined) this.#chunks.set(index, (chunk = new Map()));
    if (chunk instanceof Map) {
      const count = chunk.get(at) ?? 0;
      if (count === this.#max) return false;
      chunk.set(at, count + 1);
      if (chunk.size > MAPPED_MAX) this.#chunks.set(index, this.#arrayOf(chunk));
      return true;
    }
    const count = chunk[at] as number;
    if (count === this.#max) return false;
    chunk[at] = count + 1;
    return true;
  }

  #arrayOf(chunk: ReadonlyMap<number, number>): Counters {
    const counters = newCounters(this.#options.refcountOrder, CHUNK);
    for (const [at, count] of chunk) counters[at] = count;
    return counters;
  }

  /**
   * Room for more clusters, as a rebuild's new tables take them; undefined if the chunks hold them
   * from here on.
   */
  #grow(flat: Counters, length: number): Counters | undefined {
    const { refcountOrder } = this.#options;
    const lengthMax = FLAT_BYTES_MAX / widthOf(refcountOrder);
    if (length <= lengthMax) {
      const larger = newCounters(refcountOrder, Math.min(lengthMax, Math.ceil(length * GROWTH)));
      larger.set(flat);
      this.#flat = larger;
      return larger;
    }
    for (let start = 0; start < flat.length; start += CHUNK) {
      const chunk = newCounters(this.#options.refcountOrder, CHUNK);
      chunk.set(flat.subarray(start, start + CHUNK));
      this.#chunks.set(start / CHUNK, chunk);
    }
    this.#flat = undefined;
    return undefined;
  }
}

function widthOf(refcountOrder: number): number {
  return refcountOrder <= 3 ? 1 : refcountOrder === 4 ? 2 : 4;
}

/**
 * Counts above 2^32 − 1 would take as many table entries, so 64-bit refcounts are counted in 32
 * bits.
 */
function newCounters(refcountOrder: number, length: number): Counters {
  switch (widthOf(refcountOrder)) {
    case 1:
      return new Uint8Array(length);
    case 2:
      return new Uint16Array(length);
    default:
      return new Uint32Array(length);
  }
}
