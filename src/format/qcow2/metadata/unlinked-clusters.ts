/**
 * Host clusters that were freed, and of which an entry in the file may still lead there: what a
 * policy must not use again yet.
 *
 * Invariant: a cluster is in the set from when it is freed until a sync that began after its entry
 * was written has ended.
 */

import type { HostCluster } from '../../../core/offsets.ts';

export class UnlinkedClusters {
  /** The generation in which each was freed. */
  readonly #clusters = new Map<HostCluster, number>();
  #generation = 0;

  /** The entries of all clusters of generations before it are in the file. */
  get generation(): number {
    return this.#generation;
  }

  add(cluster: HostCluster): void {
    this.#clusters.set(cluster, this.#generation);
  }

  /** Whether any cluster from `first` to before `end` is one of them. */
  hasAny(first: HostCluster, end: HostCluster): boolean {
    if (this.#clusters.size === 0) return false;
    for (let cluster = first; cluster < end; cluster++) if (this.#clusters.has(cluster)) return true;
    return false;
  }

  /** The L2 tables were written. */
  noteWritten(): void {
    this.#generation++;
  }

  /** What was in the file when `generation` was asked for is durable. */
  noteDurable(generation: number): void {
    for (const [cluster, freedIn] of this.#clusters) {
      if (freedIn < generation) this.#clusters.delete(cluster);
    }
  }

  clear(): void {
    this.#clusters.clear();
  }
}
