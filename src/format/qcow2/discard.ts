/**
 * Discards and zero-writes of whole clusters: guest requests that change L2 entries without data.
 *
 * Invariants: the entry changes before the refcount drops, and the refcount cache waits for the L2 cache, so
 * that no crash leaves an entry that points to a free cluster. The caller holds the metadata lock.
 */

import { hostRangeAt } from './data-writer.ts';
import type { Geometry } from './geometry.ts';
import { addZeroFlagAt, clearAt, clusterTypeAt, isSetAt, setZeroAt } from './l2-entry.ts';
import type { L2Tables } from './l2-tables.ts';
import type { FreedClusters, Refcounts } from './refcounts.ts';

export interface ClusterRange {
  /** Guest offset, a multiple of the cluster size. */
  readonly guestOffset: number;
  readonly clusters: number;
}

export interface DiscarderOptions {
  readonly geometry: Geometry;
  readonly version: 2 | 3;
  readonly hasBacking: boolean;
  readonly tables: L2Tables;
  readonly refcounts: Refcounts;
  /** Whether discarded clusters are given back to the file system. */
  readonly passThrough: boolean;
}

type ChangeEntry = (slice: DataView, index: number) => 'kept' | 'changed' | 'freed';

export class Discarder {
  readonly #options: DiscarderOptions;

  constructor(options: DiscarderOptions) {
    this.#options = options;
  }

  /** Drops clusters; they read as zeroes afterwards, never as the backing file. */
  async discard(range: ClusterRange): Promise<void> {
    const { hasBacking, version } = this.#options;
    await this.#changeEntries(range, (slice, index) => {
      const type = clusterTypeAt(slice, index);
      const wasAllocated = type === 'normal' || type === 'zero-allocated' || type === 'compressed';
      if (!hasBacking && !wasAllocated) return 'kept';
      if (version < 3) {
        if (type === 'unallocated') return 'kept';
        clearAt(slice, index);
        return 'freed';
      }
      if (type === 'zero') return 'kept';
      setZeroAt(slice, index);
      return 'freed';
    });
  }

  /** Drops clusters that the disk loses: their entries go, and what they used is given back. */
  async cutOff(range: ClusterRange): Promise<void> {
    await this.#changeEntries(range, (slice, index) => {
      if (!isSetAt(slice, index)) return 'kept';
      clearAt(slice, index);
      return 'freed';
    });
  }

  /** Makes clusters read as zeroes by their flag; with `unmap` their host clusters are given back. */
  async writeZeroes(range: ClusterRange, unmap: boolean): Promise<void> {
    await this.#changeEntries(range, (slice, index) => {
      const type = clusterTypeAt(slice, index);
      if (type === 'compressed' || (unmap && (type === 'normal' || type === 'zero-allocated'))) {
        setZeroAt(slice, index);
        return 'freed';
      }
      if (type === 'zero' || type === 'zero-allocated') return 'kept';
      addZeroFlagAt(slice, index);
      return 'changed';
    });
  }

  async #changeEntries(range: ClusterRange, change: ChangeEntry): Promise<void> {
    const { geometry, tables, refcounts, passThrough } = this.#options;
    const freed: FreedClusters = passThrough ? 'discard' : 'keep';
    refcounts.gatherDiscards();
    try {
      let done = 0;
      while (done < range.clusters) {
        const at = range.guestOffset + done * geometry.clusterSize;
        const acquired = tables.acquireForWriting(at);
        const slot = typeof acquired === 'number' ? acquired : await acquired;
        try {
          const slice = tables.view(slot);
          const first = tables.indexInSlice(at);
          const count = Math.min(range.clusters - done, tables.sliceEntries - first);
          for (let index = first; index < first + count; index++) {
            const host = hostRangeAt(slice, index, geometry);
            const outcome = change(slice, index);
            if (outcome === 'kept') continue;
            tables.l2Cache.markDirty(slot);
            if (outcome === 'freed' && host !== undefined) {
              await refcounts.free(host.hostOffset, host.length, freed);
            }
          }
          done += count;
        } finally {
          tables.release(slot);
        }
      }
    } finally {
      await refcounts.processDiscards();
    }
  }
}
