/**
 * Refcounts of host clusters: looking them up, allocating and freeing clusters (rule R8).
 *
 * Invariants:
 * - Only refcount blocks in the cache are changed here; when they reach the file is the caches'
 *   affair.
 * - Allocation is first fit from `freeClusterIndex`: no cluster below it is free, as far as this
 *   opening knows.
 * - The caller holds the image's metadata lock.
 */

import { ceilDiv, remainder } from '../../../core/alignment.ts';
import { Qcow2BenchError, assertInvariant, hex } from '../../../core/error.ts';
import type { HostCluster, HostOffset } from '../../../core/offsets.ts';
import { after, type MaybePromise, type Pending } from '../../../core/pending.ts';
import type { BlockDevice } from '../../../device/block-device.ts';
import type { TableCache } from './table-cache.ts';
import type { DiscardQueue } from './discard-queue.ts';
import type { Geometry } from '../on-disk/geometry.ts';
import type { HeaderStore } from './header-store.ts';
import { refcountCodec, type RefcountCodec } from '../on-disk/refcount-codec.ts';
import { RESTART, addRefcountBlock, type RefcountGrowth } from './refcount-growth.ts';
import type { RefcountTable } from './refcount-table.ts';
import { UnlinkedClusters } from './unlinked-clusters.ts';

/** What happens to the bytes of a cluster whose refcount falls to zero. */
export type FreedClusters = 'keep' | 'discard';

export interface RefcountsOptions {
  readonly header: HeaderStore;
  readonly geometry: Geometry;
  readonly table: RefcountTable;
  readonly blockCache: TableCache;
  readonly l2Cache: TableCache;
  readonly discards: DiscardQueue;
  /** As `EnginePolicy` has it. */
  readonly syncsUnlinkBeforeReuse: boolean;
}

/** Of an update: what it has changed counts also if it fails. */
interface UpdateProgress {
  /** The first cluster that is not changed yet. */
  next: HostCluster;
}

/** Where a look through the refcount blocks is. */
interface ScanPosition {
  readonly index: number;
  /** Clusters in use so far. */
  readonly used: number;
}

interface ScanLimits {
  readonly blocks: number;
  /** Of the file. */
  readonly clusters: number;
  /** So many in use end the look. */
  readonly usedMax: number;
}

export class Refcounts implements RefcountGrowth {
  readonly header: HeaderStore;
  readonly geometry: Geometry;
  readonly table: RefcountTable;
  readonly blockCache: TableCache;
  readonly l2Cache: TableCache;
  readonly codec: RefcountCodec;
  /** Where a policy orders them before the next use; otherwise `undefined`. */
  readonly unlinked: UnlinkedClusters | undefined;
  readonly #discards: DiscardQueue;
  /** An eighth to eight. */
  readonly #bytesPerRefcount: number;
  #freeClusterIndex: HostCluster = 0;
  #isScanned = false;
  #isPreallocated = false;
  /**
   * Host offset behind the bytes that were packed last, in a cluster that has room left; 0 if there
   * is none.
   */
  #packedEnd: HostOffset = 0;
  /** The cluster in which `#packedEnd` is was freed since: it may have another owner. */
  #packedWasFreed = false;
  /**
   * While set, discards gather until the caller processes them: one request punches adjacent holes
   * at once.
   */
  #gathering = false;

  constructor(options: RefcountsOptions) {
    this.header = options.header;
    this.geometry = options.geometry;
    this.table = options.table;
    this.blockCache = options.blockCache;
    this.l2Cache = options.l2Cache;
    this.codec = refcountCodec(options.geometry.refcountOrder);
    this.#discards = options.discards;
    this.unlinked = options.syncsUnlinkBeforeReuse ? new UnlinkedClusters() : undefined;
    this.#bytesPerRefcount = 2 ** options.geometry.refcountOrder / 8;
  }

  /** The refcount of a host cluster; clusters without a refcount block have 0. */
  get(hostCluster: HostCluster): MaybePromise<number> {
    const { refcountBlockEntries } = this.geometry;
    const offset = this.table.checkedBlockOffset(Math.floor(hostCluster / refcountBlockEntries));
    if (typeof offset !== 'number') return offset;
    if (offset === 0) return 0;
    const slot = this.blockCache.acquire(offset);
    if (typeof slot !== 'number') return after(slot, this.#getFrom.bind(this, hostCluster));
    return this.#getFrom(hostCluster, slot);
  }

  /** Releases the slot. */
  #getFrom(hostCluster: HostCluster, slot: number): number {
    const index = remainder(hostCluster, this.geometry.refcountBlockEntries);
    const refcount = this.codec.get(this.blockCache.view(slot), index);
    this.blockCache.release(slot);
    return refcount;
  }

  /** Allocates `count` contiguous clusters anywhere; answers the host offset of the first. */
  allocate(count: number): MaybePromise<HostOffset> {
    const cluster = this.#allocateWithinBlock(count);
    return cluster >= 0 ? cluster * this.geometry.clusterSize : this.#allocateAnywhere(count);
  }

  /**
   * Allocates as many clusters as are free from `hostOffset` on, at most `count`; answers how many
   * (0 if the first is taken).
   */
  async allocateAt(hostOffset: HostOffset, count: number): Promise<number> {
    const first: HostCluster = hostOffset / this.geometry.clusterSize;
    for (;;) {
      let free = 0;
      while (free < count && (await this.get(first + free)) === 0) free++;
      if (free === 0 || (await this.update(hostOffset, free * this.geometry.clusterSize, 1, 'keep'))) {
        return free;
      }
    }
  }

  /**
   * Allocates `length` bytes, at most a cluster, right behind those that were packed last if that
   * can be: clusters are shared, and each counts one reference for every range of bytes that
   * touches it.
   *
   * QEMU 7.2 goes on packing into a cluster that was freed and then taken for other data, and so
   * damages that data; here packing then starts over.
   *
   * @returns the host offset of the first byte
   */
  async allocateBytes(length: number): Promise<HostOffset> {
    const { clusterSize, refcountMax } = this.geometry;
    let offset: HostOffset = this.#packedEnd;
    if (offset !== 0) {
      const refcount = await this.get(Math.floor(offset / clusterSize));
      if (refcount === refcountMax || (this.#packedWasFreed && refcount > 0)) offset = 0;
    }
    for (;;) {
      const isOpen = offset !== 0;
      const room = isOpen ? clusterSize - (offset % clusterSize) : 0;
      if (room < length) {
        const cluster = await this.findFree(1);
        if (cluster === 0) {
          await this.header.markCorruptAt(
            'the header cluster has refcount 0 and would be allocated for data',
            0,
          );
        }
        // A free cluster right behind is joined; the bytes then are in both.
        if (!isOpen || offset + room !== cluster * clusterSize) offset = cluster * clusterSize;
      }
      if (await this.update(offset, length, 1, 'keep')) break;
      offset = 0;
    }
    const pending = this.l2Cache.setDependency(this.blockCache);
    if (pending !== undefined) await pending;
    const end = offset + length;
    this.#packedEnd = end % clusterSize === 0 ? 0 : end;
    this.#packedWasFreed = false;
    return offset;
  }

  /**
   * Drops one reference of every cluster that the range touches. A failure is not the caller's: at
   * worst the clusters leak, which `check` finds, and a file that cannot be written says so at the
   * next write.
   */
  async free(hostOffset: HostOffset, length: number, freed: FreedClusters): Promise<void> {
    if (length === 0) return;
    try {
      await this.update(hostOffset, length, -1, freed);
    } catch (error) {
      if (!(error instanceof Qcow2BenchError)) throw error;
    }
  }

  /** Finds `count` contiguous free clusters, without taking them; answers the first's index. */
  async findFree(count: number): Promise<HostCluster> {
    if (this.#gathering) await this.#discards.process();
    let run = 0;
    while (run < count) run = (await this.get(this.#freeClusterIndex++)) === 0 ? run + 1 : 0;
    return this.#freeClusterIndex - count;
  }

  /**
   * Gives up a refcount block that describes nothing any more, not counting itself. The refcount
   * table still has it; the caller has taken it out of the file's.
   */
  async freeBlock(blockOffset: HostOffset): Promise<void> {
    const { clusterSize, refcountBlockEntries } = this.geometry;
    const cluster: HostCluster = blockOffset / clusterSize;
    const describing = await this.table.checkedBlockOffset(Math.floor(cluster / refcountBlockEntries));
    if (describing === 0) {
      const what = `no refcount block describes the one at ${hex(blockOffset)}`;
      return this.header.markCorruptAt(what, blockOffset);
    }
    const slot = await this.blockCache.acquire(describing);
    this.codec.set(this.blockCache.view(slot), cluster % refcountBlockEntries, 0);
    this.blockCache.markDirty(slot);
    this.blockCache.release(slot);
    this.#freeClusterIndex = Math.min(this.#freeClusterIndex, cluster);
    this.blockCache.forget(blockOffset);
    this.#discards.add(blockOffset, clusterSize);
  }

  /** From here on, freed clusters are punched in one go, by `processDiscards`. */
  gatherDiscards(): void {
    this.#gathering = true;
  }

  async processDiscards(): Promise<void> {
    this.#gathering = false;
    await this.#discards.process();
  }

  /** Ends `gatherDiscards` after a failure: what was to be punched may still be in use. */
  dropDiscards(): void {
    this.#gathering = false;
    this.#discards.clear();
  }

  /**
   * Looks through the refcount blocks up to the file's end, once in an opening: before QEMU first
   * asks what a guest range is, it counts the clusters in use, to tell images whose data were
   * preallocated. The look ends where clearly more are in use than the file system stores. Which
   * blocks are cached afterwards follows from it. Where no file system stores the file, as in
   * memory, all blocks are looked at, so that counts depend on none.
   */
  scanOnce(file: Pick<BlockDevice, 'size' | 'allocatedSize'>): Pending {
    if (this.#isScanned) return undefined;
    this.#isScanned = true;
    const { clusterSize, refcountBlockEntries } = this.geometry;
    const clusters = ceilDiv(file.size(), clusterSize);
    // A sparse file may be far longer than its refcount table describes.
    const blocks = Math.min(this.table.entries, ceilDiv(clusters, refcountBlockEntries));
    const allocated = file.allocatedSize();
    const stored = allocated === undefined ? Infinity : Math.floor(allocated / clusterSize);
    // As in QEMU: a tenth more, or two clusters.
    const usedMax = Math.max(Math.floor((stored * 10) / 9), stored + 2);
    return this.#scan({ index: 0, used: 0 }, { blocks, clusters, usedMax });
  }

  /** Whether `scanOnce` has nothing left to do. */
  get isScanned(): boolean {
    return this.#isScanned;
  }

  /**
   * Whether `scanOnce` found clearly more clusters in use than the file system stores: data were
   * preallocated and are holes of the file.
   */
  get isPreallocated(): boolean {
    return this.#isPreallocated;
  }

  #scan(from: ScanPosition, limits: ScanLimits): Pending {
    let { used } = from;
    for (let { index } = from; index < limits.blocks && used < limits.usedMax; index++) {
      const offset = this.table.checkedBlockOffset(index);
      if (typeof offset !== 'number') return offset;
      if (offset === 0) continue;
      const slot = this.blockCache.acquire(offset);
      if (typeof slot !== 'number') {
        const usedBefore = used;
        return after(slot, (loaded) => {
          const usedAfter = usedBefore + this.#usedInScan(loaded, index, limits);
          return this.#scan({ index: index + 1, used: usedAfter }, limits);
        });
      }
      used += this.#usedInScan(slot, index, limits);
    }
    this.#isPreallocated = used >= limits.usedMax;
    return undefined;
  }

  /**
   * How many clusters that the block describes are in use; not counted where that decides nothing.
   * Releases the slot.
   */
  #usedInScan(slot: number, index: number, { clusters, usedMax }: ScanLimits): number {
    const { refcountBlockEntries } = this.geometry;
    let used = 0;
    if (usedMax <= clusters) {
      const block = this.blockCache.view(slot);
      const entries = Math.min(refcountBlockEntries, clusters - index * refcountBlockEntries);
      for (let entry = 0; entry < entries; entry++) if (this.codec.get(block, entry) !== 0) used++;
    }
    this.blockCache.release(slot);
    return used;
  }

  /** Makes the next search begin at the file's start: the refcounts were replaced. */
  resetSearch(): void {
    this.#freeClusterIndex = 0;
    this.#packedEnd = 0;
  }

  /**
   * Adds `delta` to the refcount of every cluster that the range touches. What was changed is
   * undone if it fails in the middle.
   *
   * @returns false if a new refcount block was needed: nothing was changed, and a search for free
   *   clusters has to start over because the block may be where the caller wanted to allocate
   */
  async update(
    hostOffset: HostOffset,
    length: number,
    delta: number,
    freed: FreedClusters,
  ): Promise<boolean> {
    const { clusterSize } = this.geometry;
    const first: HostCluster = Math.floor(hostOffset / clusterSize);
    const last: HostCluster = Math.floor((hostOffset + length - 1) / clusterSize);
    if (delta < 0) {
      const pending = this.blockCache.setDependency(this.l2Cache);
      if (pending !== undefined) await pending;
    } else if (this.unlinked?.hasAny(first, last + 1) === true) {
      // Entries are changed before their clusters are freed, and refcount blocks wait for them
      // since: what satisfied that made the entries durable.
      const pending = this.blockCache.settleDependency('reuse-after-unlink');
      if (pending !== undefined) await pending;
      this.unlinked.clear();
    }
    const progress: UpdateProgress = { next: first };
    try {
      await this.#updateClusters(progress, last, delta, freed);
      if (progress.next <= last) {
        this.#freeClusterIndex = Math.min(this.#freeClusterIndex, first);
        await this.#undo(first, progress.next, delta);
        return false;
      }
    } catch (error) {
      this.#discards.clear();
      await this.#undo(first, progress.next, delta);
      throw error;
    }
    if (!this.#gathering && !this.#discards.isEmpty) await this.#discards.process();
    return true;
  }

  /**
   * Corrects the refcount of one cluster that has a refcount block, as a repair does. It is given
   * whole: 64-bit refcounts that are damaged have no exact difference.
   */
  async correct(
    cluster: HostCluster,
    refcount: number,
    { change, freed }: { readonly change: 'raise' | 'lower'; readonly freed: FreedClusters },
  ): Promise<void> {
    if (change === 'lower') {
      const pending = this.blockCache.setDependency(this.l2Cache);
      if (pending !== undefined) await pending;
    }
    const slot = await this.#acquireBlockOf(cluster);
    assertInvariant(slot !== RESTART, 'a nonzero refcount is in a block');
    try {
      this.blockCache.markDirty(slot);
      this.#set(slot, cluster, refcount, freed);
    } finally {
      this.blockCache.release(slot);
    }
    if (!this.#discards.isEmpty) await this.#discards.process();
  }

  /** Changes the clusters from `progress` on, up to `last` or to where a block had to be added. */
  async #updateClusters(
    progress: UpdateProgress,
    last: HostCluster,
    delta: number,
    freed: FreedClusters,
  ): Promise<void> {
    const { refcountBlockEntries } = this.geometry;
    while (progress.next <= last) {
      const slot = await this.#acquireBlockOf(progress.next);
      if (slot === RESTART) return;
      try {
        const blockEnd = (Math.floor(progress.next / refcountBlockEntries) + 1) * refcountBlockEntries;
        const end = Math.min(last + 1, blockEnd);
        for (; progress.next < end; progress.next++) this.#change(slot, progress.next, delta, freed);
      } finally {
        this.blockCache.release(slot);
      }
    }
  }

  #change(slot: number, cluster: HostCluster, delta: number, freed: FreedClusters): void {
    const { clusterSize, refcountBlockEntries, refcountMax } = this.geometry;
    const index = remainder(cluster, refcountBlockEntries);
    this.#markRefcounts(slot, index, index + 1);
    const refcount = this.codec.get(this.blockCache.view(slot), index) + delta;
    if (refcount < 0 || refcount > refcountMax) {
      throw new Qcow2BenchError(
        'qcow2-refcount-out-of-range',
        refcount < 0
          ? `the refcount of host cluster ${hex(cluster * clusterSize)} would fall below 0; check the image`
          : `the refcount of host cluster ${hex(cluster * clusterSize)} is ${String(refcountMax)}, the most that this image can hold; a snapshot needs wider refcounts (--refcount-bits)`,
        { path: this.header.device.path, offset: cluster * clusterSize },
      );
    }
    this.#set(slot, cluster, refcount, freed);
  }

  #set(slot: number, cluster: HostCluster, refcount: number, freed: FreedClusters): void {
    const { clusterSize, refcountBlockEntries } = this.geometry;
    this.codec.set(this.blockCache.view(slot), remainder(cluster, refcountBlockEntries), refcount);
    if (refcount > 0) return;
    if (cluster === Math.floor(this.#packedEnd / clusterSize)) this.#packedWasFreed = true;
    this.#freeClusterIndex = Math.min(this.#freeClusterIndex, cluster);
    this.unlinked?.add(cluster);
    // A freed table must not be written back later over whatever takes its cluster.
    this.l2Cache.forget(cluster * clusterSize);
    this.blockCache.forget(cluster * clusterSize);
    if (freed === 'discard') this.#discards.add(cluster * clusterSize, clusterSize);
  }

  /** The slot of the block that holds a cluster's refcount, adding the block if there is none. */
  #acquireBlockOf(cluster: HostCluster): MaybePromise<number> {
    const index = Math.floor(cluster / this.geometry.refcountBlockEntries);
    const offset = this.table.checkedBlockOffset(index);
    if (typeof offset !== 'number') return offset;
    return offset === 0 ? addRefcountBlock(this, cluster) : this.blockCache.acquire(offset);
  }

  async #undo(first: HostCluster, end: HostCluster, delta: number): Promise<void> {
    if (end <= first) return;
    try {
      if (delta > 0) await this.blockCache.setDependency(this.l2Cache);
      await this.#updateClusters({ next: first }, end - 1, -delta, 'keep');
    } catch {
      // Best effort after a first error, which the caller reports: at worst clusters leak.
    }
  }

  /**
   * The common case without I/O: the next free run is within one cached block. -1 if it does not.
   */
  #allocateWithinBlock(count: number): HostCluster {
    if (this.#gathering) return -1;
    const { refcountBlockEntries } = this.geometry;
    const blockIndex = Math.floor(this.#freeClusterIndex / refcountBlockEntries);
    const offset = this.table.blockOffset(blockIndex);
    const isKnown = offset !== 0 && this.table.isSound(blockIndex);
    const slot = isKnown ? this.blockCache.acquireCached(offset) : -1;
    if (slot < 0) return -1;
    const block = this.blockCache.view(slot);
    let index = remainder(this.#freeClusterIndex, refcountBlockEntries);
    let run = 0;
    while (run < count && index < refcountBlockEntries) {
      run = this.codec.get(block, index++) === 0 ? run + 1 : 0;
    }
    const first = blockIndex * refcountBlockEntries + index - count;
    if (run === count && this.unlinked?.hasAny(first, first + count) === true) run = -1;
    if (run === count) {
      this.#markRefcounts(slot, index - count, index);
      for (let taken = index - count; taken < index; taken++) this.codec.set(block, taken, 1);
    }
    this.blockCache.release(slot);
    // A run that may go on in the next block, or has to wait, is left to the general search, from
    // where this one began.
    if (run < count) return -1;
    this.#freeClusterIndex = first + count;
    return first;
  }

  /** Refcounts `first` to `end − 1` of an acquired block change. */
  #markRefcounts(slot: number, first: number, end: number): void {
    const bytes = this.#bytesPerRefcount;
    this.blockCache.markDirty(slot, Math.floor(first * bytes), Math.ceil(end * bytes));
  }

  async #allocateAnywhere(count: number): Promise<HostOffset> {
    const { clusterSize } = this.geometry;
    for (;;) {
      const first = await this.findFree(count);
      if (await this.update(first * clusterSize, count * clusterSize, 1, 'keep')) return first * clusterSize;
    }
  }
}
