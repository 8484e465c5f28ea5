/**
 * References that an L1 table holds, all at once: what a snapshot adds to every cluster below an L1
 * table, or drops, and the copied flags that follow from it.
 *
 * Invariants:
 * - Refcounts rise durably before a copied flag goes, and a copied flag is set before the refcounts
 *   drop that make it true: whatever a crash leaves, a cluster is at worst counted too often.
 * - A copied flag says afterwards exactly whether the refcount is one, below this L1 table.
 * - The caller holds the metadata lock.
 */

import { viewOf } from '../../../core/bytes.ts';
import { Qcow2BenchError, hex } from '../../../core/error.ts';
import type { HostOffset } from '../../../core/offsets.ts';
import type { ImageCore } from '../metadata/image-core.ts';
import {
  clusterTypeAt,
  compressedRangeAt,
  hostOffsetAt,
  isCopiedAt,
  setCopiedFlagAt,
  type ClusterType,
} from '../on-disk/l2-entry.ts';
import { l1EntryOffset } from '../on-disk/l1-entry.ts';
import { ENTRY_SIZE } from '../on-disk/layout.ts';

/** An L1 table, active or a snapshot's. */
export interface L1Place {
  /** Where it is in the file. */
  readonly offset: number;
  /** Its entries; the walk changes their copied flags. */
  readonly bytes: Uint8Array;
}

/** What the walk does to every reference; `recheck` only corrects the copied flags. */
export type ReferenceChange = 'add' | 'drop' | 'recheck';

const DELTA: Readonly<Record<ReferenceChange, number>> = { add: 1, drop: -1, recheck: 0 };

export class SharedReferences {
  readonly #core: ImageCore;

  constructor(core: ImageCore) {
    this.#core = core;
  }

  /**
   * Changes every reference below an L1 table and flushes. The table itself is written if its
   * copied flags changed, unless its references were dropped: it is not needed then.
   *
   * @throws Qcow2BenchError `qcow2-refcount-out-of-range` if a refcount is at its maximum,
   *   `qcow2-corrupt` for an entry that leads to no cluster. Clusters that were counted before may
   *   be left counted too often.
   */
  async change(l1: L1Place, change: ReferenceChange): Promise<void> {
    const { header, refcounts } = this.#core;
    const delta = DELTA[change];
    let isChanged: boolean;
    refcounts.gatherDiscards();
    try {
      isChanged = await this.#changeTables(viewOf(l1.bytes), delta);
      await this.#core.flush('snapshot');
    } catch (error) {
      refcounts.dropDiscards();
      throw error;
    }
    await refcounts.processDiscards();
    if (!isChanged || change === 'drop') return;
    await header.device.write(l1.offset, l1.bytes, 'l1-table');
    await header.device.sync('snapshot');
  }

  /** Answers whether a copied flag of the L1 table changed. */
  async #changeTables(l1: DataView, delta: number): Promise<boolean> {
    const { geometry, refcounts, header } = this.#core;
    let isChanged = false;
    for (let index = 0; index < l1.byteLength / ENTRY_SIZE; index++) {
      const offset = l1EntryOffset(l1, index);
      if (offset === 0) continue;
      if (offset % geometry.clusterSize !== 0 || !Number.isSafeInteger(offset)) {
        await header.markCorruptAt(
          `L1 entry ${String(index)} points to ${hex(offset)}, which is not a table`,
          offset,
        );
      }
      await this.#changeTable(offset, delta);
      if (delta !== 0) await this.#update(offset, geometry.clusterSize, delta);
      const answer = refcounts.get(offset / geometry.clusterSize);
      isChanged =
        correctCopiedFlag(l1, index, typeof answer === 'number' ? answer : await answer) || isChanged;
    }
    return isChanged;
  }

  async #changeTable(tableOffset: HostOffset, delta: number): Promise<void> {
    const { geometry, tables } = this.#core;
    const { l2Cache } = tables;
    for (let at = tableOffset; at < tableOffset + geometry.clusterSize; at += l2Cache.tableSize) {
      const acquired = l2Cache.acquire(at);
      const slot = typeof acquired === 'number' ? acquired : await acquired;
      try {
        await this.#changeSlice(slot, delta);
      } finally {
        l2Cache.release(slot);
      }
    }
  }

  async #changeSlice(slot: number, delta: number): Promise<void> {
    const { tables, refcounts } = this.#core;
    const { l2Cache } = tables;
    const slice = l2Cache.view(slot);
    const { entryWords } = this.#core.geometry;
    for (let index = 0; index < tables.sliceEntries; index++) {
      const word = index * entryWords;
      const type = clusterTypeAt(slice, word);
      // Most of a sparse disk: nothing to count, and no flag that could be wrong.
      if (type === 'unallocated' && !isCopiedAt(slice, word)) continue;
      const changing = this.#changeCluster(slice, word, { type, delta });
      const refcount = typeof changing === 'number' ? changing : await changing;
      if (isCopiedAt(slice, word) === (refcount === 1)) continue;
      if (delta > 0) {
        const pending = l2Cache.setDependency(refcounts.blockCache);
        if (pending !== undefined) await pending;
      }
      setCopiedFlagAt(slice, word, refcount === 1);
      l2Cache.markDirty(slot);
    }
  }

  /** Changes the references of one L2 entry; answers the refcount that its copied flag follows. */
  #changeCluster(
    slice: DataView,
    word: number,
    { type, delta }: { readonly type: ClusterType; readonly delta: number },
  ): number | Promise<number> {
    switch (type) {
      case 'unallocated':
      case 'zero':
        return 0;
      case 'compressed':
        return this.#changeCompressed(slice, word, delta);
      case 'normal':
      case 'zero-allocated':
        return this.#changeHostCluster(hostOffsetAt(slice, word), delta);
    }
  }

  async #changeCompressed(slice: DataView, word: number, delta: number): Promise<number> {
    const { hostOffset, length } = compressedRangeAt(slice, word, this.#core.geometry.clusterBits);
    if (delta !== 0) await this.#update(hostOffset, length, delta);
    // Never written in place, no matter who shares its clusters: it has no copied flag.
    return 0;
  }

  #changeHostCluster(hostOffset: HostOffset, delta: number): number | Promise<number> {
    const { geometry, refcounts, header } = this.#core;
    if (hostOffset % geometry.clusterSize !== 0 || !Number.isSafeInteger(hostOffset)) {
      return header.markCorruptAt(
        'an L2 entry points to a cluster that is not aligned or above 2^53 − 1',
        hostOffset,
      );
    }
    const cluster = hostOffset / geometry.clusterSize;
    if (delta === 0) return refcounts.get(cluster);
    return this.#update(hostOffset, geometry.clusterSize, delta).then(() => refcounts.get(cluster));
  }

  async #update(hostOffset: HostOffset, length: number, delta: number): Promise<void> {
    const { header, refcounts } = this.#core;
    if (await refcounts.update(hostOffset, length, delta, 'discard')) return;
    // No block described the cluster, although it is in use: adding to nothing would count it
    // wrongly.
    throw new Qcow2BenchError(
      'qcow2-no-refcount',
      `host cluster ${hex(hostOffset)} is in use, but no refcount block describes it; check the image`,
      { path: header.device.path, offset: hostOffset },
    );
  }
}

/**
 * Sets the copied flag of an entry if its refcount is one, else clears it; answers whether that
 * changed it.
 */
function correctCopiedFlag(table: DataView, index: number, refcount: number): boolean {
  if (isCopiedAt(table, index) === (refcount === 1)) return false;
  setCopiedFlagAt(table, index, refcount === 1);
  return true;
}
