/**
 * Which clusters of the file are spoken for: a set of bits that takes memory only where some are.
 *
 * Invariant: memory grows with the clusters found in use, not with the length that the file claims:
 * a sparse file of petabytes takes no more than what is in it.
 */

/** Clusters of a chunk: 4 KiB of bits. */
const CHUNK = 32_768;

export class ClaimedClusters {
  readonly #chunks = new Map<number, Uint8Array>();
  #count = 0;

  /** How many clusters are claimed. */
  get count(): number {
    return this.#count;
  }

  /** Takes a cluster; false if it is taken already. */
  claim(cluster: number): boolean {
    const index = Math.floor(cluster / CHUNK);
    let chunk = this.#chunks.get(index);
    if (chunk === undefined) this.#chunks.set(index, (chunk = new Uint8Array(CHUNK / 8)));
    const bit = cluster % CHUNK;
    const byte = bit >> 3;
    const mask = 1 << (bit & 7);
    const held = chunk[byte] as number;
    if ((held & mask) !== 0) return false;
    chunk[byte] = held | mask;
    this.#count++;
    return true;
  }
}
