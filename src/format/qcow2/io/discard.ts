/**
 * Discards and zero-writes of whole clusters: guest requests that change L2 entries without data.
 *
 * Invariants: the entry changes before the refcount drops, and the refcount cache waits for the L2
 * cache, so that no crash leaves an entry that points to a free cluster. The caller holds the
 * metadata lock.
 */

import { alignDown, alignUp, ceilDiv, remainder } from '../../../core/alignment.ts';
import type { GuestOffset } from '../../../core/offsets.ts';
import { hostRangeAt, type HostRange } from './data-writer.ts';
import { punchQuietly } from '../metadata/discard-queue.ts';
import type { ImageCore } from '../metadata/image-core.ts';
import {
  addZeroFlagAt,
  clearAt,
  clusterTypeAt,
  isCopiedAt,
  isSetAt,
  setZeroAt,
  type ClusterType,
} from '../on-disk/l2-entry.ts';
import {
  cutOffExtended,
  discardExtended,
  zeroExtended,
  zeroSubclusters,
  type EntryChange,
} from './subcluster-zeroes.ts';

export interface ClusterRange {
  /** Guest offset, a multiple of the cluster size. */
  readonly guestOffset: GuestOffset;
  readonly clusters: number;
}

type ChangeEntry = (slice: DataView, word: number) => EntryChange;

/**
 * Makes an allocated cluster read as zeroes and keep its place. Bytes that a snapshot may share
 * stay (exception `no-unref-of-shared`).
 */
function emptyAt(slice: DataView, word: number, type: ClusterType): EntryChange {
  if (type === 'zero-allocated') return 'kept';
  addZeroFlagAt(slice, word);
  return isCopiedAt(slice, word) ? 'emptied' : 'changed';
}

export class Discarder {
  readonly #core: ImageCore;

  constructor(core: ImageCore) {
    this.#core = core;
  }

  /** Drops clusters; they read as zeroes afterwards, never as the backing file. */
  async discard(range: ClusterRange): Promise<void> {
    const { version } = this.#core.header.values;
    const hasBacking = this.#core.backing !== undefined;
    const { keepsDiscarded } = this.#core;
    await this.#changeEntries(range, (slice, word) => {
      if (this.#isExtended) return discardExtended(slice, word, { hasBacking, keepsPlace: keepsDiscarded });
      const type = clusterTypeAt(slice, word);
      if (keepsDiscarded && (type === 'normal' || type === 'zero-allocated')) {
        return emptyAt(slice, word, type);
      }
      const wasAllocated = type === 'normal' || type === 'zero-allocated' || type === 'compressed';
      if (!hasBacking && !wasAllocated) return 'kept';
      if (version < 3) {
        if (type === 'unallocated') return 'kept';
        clearAt(slice, word);
        return 'freed';
      }
      if (type === 'zero') return 'kept';
      setZeroAt(slice, word);
      return 'freed';
    });
  }

  /** Drops clusters that the disk loses: their entries go, and what they used is given back. */
  async cutOff(range: ClusterRange): Promise<void> {
    await this.#changeEntries(range, (slice, word) => {
      if (this.#isExtended) return cutOffExtended(slice, word);
      if (!isSetAt(slice, word)) return 'kept';
      clearAt(slice, word);
      return 'freed';
    });
  }

  /**
   * Makes clusters read as zeroes by their flag; with `unmap` their host clusters are given back.
   */
  async writeZeroes(range: ClusterRange, unmap: boolean): Promise<void> {
    const { keepsDiscarded } = this.#core;
    await this.#changeEntries(range, (slice, word) => {
      if (this.#isExtended) return zeroExtended(slice, word, { unmap, keepsPlace: keepsDiscarded });
      const type = clusterTypeAt(slice, word);
      if (unmap && keepsDiscarded && (type === 'normal' || type === 'zero-allocated')) {
        return emptyAt(slice, word, type);
      }
      if (type === 'compressed' || (unmap && (type === 'normal' || type === 'zero-allocated'))) {
        setZeroAt(slice, word);
        return 'freed';
      }
      if (type === 'zero' || type === 'zero-allocated') return 'kept';
      addZeroFlagAt(slice, word);
      return 'changed';
    });
  }

  /**
   * Makes guest bytes read as zeroes that begin and end at subclusters, or at the disk's end: parts
   * of a cluster at either side by their subclusters, whole clusters between.
   *
   * @returns false if a part is in a compressed cluster, which has no subclusters; what is before
   *   it is zero then
   */
  async writeZeroesTo(start: number, end: number, unmap: boolean): Promise<boolean> {
    const { geometry, virtualSize } = this.#core;
    const { clusterSize } = geometry;
    const flags = { unmap, keepsPlace: this.#core.keepsDiscarded };
    const headEnd = Math.min(end, alignUp(start, clusterSize));
    const tailStart = end >= virtualSize ? end : Math.max(headEnd, alignDown(end, clusterSize));
    const whole = { guestOffset: headEnd, clusters: ceilDiv(tailStart - headEnd, clusterSize) };
    return this.#gathered(async () => {
      if (headEnd > start && !(await this.#zeroPart(start, headEnd))) return false;
      await this.#eachEntry(whole, (slice, word) => zeroExtended(slice, word, flags));
      return tailStart === end || this.#zeroPart(tailStart, end);
    });
  }

  /** Subclusters of one cluster. */
  async #zeroPart(start: number, end: number): Promise<boolean> {
    const { geometry, tables } = this.#core;
    const { clusterSize, subclusterSize } = geometry;
    const acquired = tables.acquireForWriting(start);
    const slot = typeof acquired === 'number' ? acquired : await acquired;
    try {
      const first = Math.floor(remainder(start, clusterSize) / subclusterSize);
      const count = ceilDiv(end - start, subclusterSize);
      const word = 2 * tables.indexInSlice(start);
      const outcome = zeroSubclusters(tables.view(slot), word, first, first + count);
      if (outcome === 'changed') tables.markEntries(slot, tables.indexInSlice(start), 1);
      return outcome !== 'refused';
    } finally {
      tables.release(slot);
    }
  }

  get #isExtended(): boolean {
    return this.#core.geometry.entryWords === 2;
  }

  #changeEntries(range: ClusterRange, change: ChangeEntry): Promise<void> {
    return this.#gathered(() => this.#eachEntry(range, change));
  }

  /** Does work whose freed clusters are punched at its end, in one go. */
  async #gathered<T>(work: () => Promise<T>): Promise<T> {
    const { refcounts } = this.#core;
    refcounts.gatherDiscards();
    try {
      return await work();
    } finally {
      await refcounts.processDiscards();
    }
  }

  /**
   * Gives back a cluster that no entry uses any more; a hole that cannot be punched only wastes
   * space.
   */
  async #free({ hostOffset, length }: HostRange): Promise<void> {
    const { refcounts, dataFile, passesDiscards } = this.#core;
    if (dataFile === undefined) await refcounts.free(hostOffset, length, passesDiscards ? 'discard' : 'keep');
    else if (passesDiscards) await punchQuietly(dataFile, hostOffset, length);
  }

  /**
   * Gives the bytes of a cluster back that keeps its place: at once, unlike those of freed ones.
   */
  async #empty({ hostOffset, length }: HostRange): Promise<void> {
    const { guestFile, passesDiscards } = this.#core;
    if (passesDiscards) await punchQuietly(guestFile, hostOffset, length);
  }

  async #eachEntry(range: ClusterRange, change: ChangeEntry): Promise<void> {
    const { geometry, tables } = this.#core;
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
          const word = index * geometry.entryWords;
          const host = hostRangeAt(slice, word, geometry);
          const outcome = change(slice, word);
          if (outcome === 'kept') continue;
          tables.markEntries(slot, index, 1);
          if (host === undefined) continue;
          if (outcome === 'freed') await this.#free(host);
          else if (outcome === 'emptied') await this.#empty(host);
        }
        done += count;
      } finally {
        tables.release(slot);
      }
    }
  }
}
