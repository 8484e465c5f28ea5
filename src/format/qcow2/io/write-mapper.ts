/**
 * From a guest write to host extents: which clusters are overwritten in place, which are allocated,
 * and what has to be filled around the guest's bytes (rules R8 and R9).
 *
 * Invariants:
 * - An extent is contiguous in the host file, whatever number of clusters and L2 slices it spans.
 * - Clusters taken for an extent are referenced in the refcount cache but not yet in any L2 table,
 *   until the allocation is linked or aborted.
 * - The caller holds the metadata lock while mapping, and not while data is written.
 */

import { alignDown, alignUp, isAligned, remainder } from '../../../core/alignment.ts';
import type { GuestOffset, HostOffset } from '../../../core/offsets.ts';
import { after, andFinally, type MaybePromise } from '../../../core/pending.ts';
import type { Geometry } from '../on-disk/geometry.ts';
import type { ImageCore } from '../metadata/image-core.ts';
import { clusterTypeAt, hostOffsetAt, needsAllocationAt, type ClusterType } from '../on-disk/l2-entry.ts';
import type { L2Tables } from '../metadata/l2-tables.ts';
import type { Refcounts } from '../metadata/refcounts.ts';
import { subclusterFill, type SubclusterFill, type WrittenPart } from './subcluster-fill.ts';

/** Clusters whose L2 entries change once their data is written. All of them are in one L2 slice. */
export interface Allocation {
  /** Guest offset of the first cluster. */
  readonly guestOffset: GuestOffset;
  /** Host offset of the first cluster. */
  readonly hostOffset: HostOffset;
  readonly clusters: number;
  /** The clusters were allocated before (they read as zeroes) and only change their entry. */
  readonly keepsClusters: boolean;
  /**
   * Bytes before the guest's in the first cluster, as offsets from `guestOffset`; empty if equal.
   */
  readonly cowHeadFrom: number;
  readonly cowHeadTo: number;
  /** Bytes after the guest's in the last cluster. */
  readonly cowTailFrom: number;
  readonly cowTailTo: number;
  /** What the first and the last cluster were before. */
  readonly headType: ClusterType;
  readonly tailType: ClusterType;
  /** Clusters are only reserved: where they have subclusters, none becomes allocated. */
  isReservation: boolean;
  /** The fill is done: the range was zeroed, or its bytes were merged into the data write. */
  isFilled: boolean;
  /** Bytes were copied for the fill: the L2 entries have to wait until they are durable. */
  isCopied: boolean;
  /** Requests that wait for this allocation to be linked; made by the first of them. */
  waiters: (() => void)[] | undefined;
}

/** A contiguous host range that one part of a guest write goes to. */
export interface Extent {
  readonly hostOffset: HostOffset;
  readonly length: number;
  /** The last part first, as QEMU links them. Empty if all is overwritten in place. */
  readonly allocations: readonly Allocation[];
}

/** What a mapping has gathered so far. */
interface Progress {
  /** Where the extent begins in the host file; -1 before its first part. */
  hostOffset: HostOffset;
  length: number;
  allocations: readonly Allocation[];
}

const NONE: readonly Allocation[] = [];

/** A part of a request that one slice maps: `clusters` entries alike from `first` on. */
interface Part {
  readonly slice: DataView;
  readonly first: number;
  readonly guestOffset: GuestOffset;
  readonly length: number;
  readonly clusters: number;
}

export class WriteMapper {
  readonly #core: ImageCore;
  readonly #geometry: Geometry;
  readonly #tables: L2Tables;
  readonly #refcounts: Refcounts;
  /**
   * Guest data is at its guest offset in a file of its own: nothing is looked for, and nothing
   * counted.
   */
  readonly #hasDataFile: boolean;
  /**
   * The one that began last at the end. A list: it is as long as the queue is deep, and mostly
   * empty.
   */
  #inFlight: Allocation[] = [];

  constructor(core: ImageCore) {
    this.#core = core;
    this.#geometry = core.geometry;
    this.#tables = core.tables;
    this.#refcounts = core.refcounts;
    this.#hasDataFile = core.dataFile !== undefined;
  }

  /** Maps as much of a guest write as goes to one contiguous host range; allocates where needed. */
  map(guestOffset: GuestOffset, length: number): MaybePromise<Extent> {
    const progress: Progress = { hostOffset: -1, length: 0, allocations: NONE };
    if (this.#inFlight.length > 0) return this.#mapParts(progress, guestOffset, length);
    // The usual request: nothing else is in flight, and one slice in the cache says it all.
    const goesOn = this.#mapPart(progress, guestOffset, length);
    if (typeof goesOn !== 'boolean') {
      return after(goesOn, this.#mapRest.bind(this, progress, guestOffset, length));
    }
    return this.#mapRest(progress, guestOffset, length, goesOn);
  }

  #mapRest(
    progress: Progress,
    guestOffset: GuestOffset,
    length: number,
    goesOn: boolean,
  ): MaybePromise<Extent> {
    return goesOn && progress.length < length ? this.#mapParts(progress, guestOffset, length) : progress;
  }

  async #mapParts(progress: Progress, guestOffset: GuestOffset, length: number): Promise<Extent> {
    try {
      while (progress.length < length) {
        const at = guestOffset + progress.length;
        const free =
          this.#inFlight.length === 0
            ? length - progress.length
            : this.#clearOfInFlight(at, length - progress.length);
        if (typeof free === 'object') {
          // Waiting would make the parts gathered so far stale; they go first.
          if (progress.length > 0) break;
          await this.#core.lock.pause(
            () => new Promise<void>((resolve) => (free.waiters ??= []).push(resolve)),
          );
          continue;
        }
        if (!(await this.#mapPart(progress, at, free))) break;
      }
    } catch (error) {
      for (const allocation of progress.allocations) await this.abortAllocation(allocation);
      throw error;
    }
    return progress;
  }

  /** Ends an allocation after its entries were linked, or after it failed. */
  finish(allocation: Allocation): void {
    if (this.#inFlight[this.#inFlight.length - 1] === allocation) this.#inFlight.pop();
    else this.#inFlight = this.#inFlight.filter((other) => other !== allocation);
    if (allocation.waiters !== undefined) for (const wake of allocation.waiters) wake();
  }

  /** Frees the clusters of an allocation whose data could not be written. */
  async abortAllocation(allocation: Allocation): Promise<void> {
    this.finish(allocation);
    if (allocation.keepsClusters || this.#hasDataFile) return;
    await this.#refcounts.free(
      allocation.hostOffset,
      allocation.clusters * this.#geometry.clusterSize,
      'keep',
    );
  }

  /** Extends the extent by what one L2 slice says; false if it cannot be extended further. */
  #mapPart(progress: Progress, guestOffset: GuestOffset, length: number): MaybePromise<boolean> {
    const slot = this.#tables.acquireForWriting(guestOffset);
    if (typeof slot !== 'number') {
      return after(slot, this.#mapAcquired.bind(this, progress, guestOffset, length));
    }
    return this.#mapAcquired(progress, guestOffset, length, slot);
  }

  /** Releases the slot when it is done. */
  #mapAcquired(
    progress: Progress,
    guestOffset: GuestOffset,
    length: number,
    slot: number,
  ): MaybePromise<boolean> {
    let goesOn: MaybePromise<boolean>;
    try {
      goesOn = this.#mapInSlice(slot, progress, guestOffset, length);
    } catch (error) {
      this.#tables.release(slot);
      throw error;
    }
    if (typeof goesOn !== 'boolean') {
      return andFinally(goesOn, this.#tables.release.bind(this.#tables, slot));
    }
    this.#tables.release(slot);
    return goesOn;
  }

  #mapInSlice(
    slot: number,
    progress: Progress,
    guestOffset: GuestOffset,
    length: number,
  ): MaybePromise<boolean> {
    const { clusterSize } = this.#geometry;
    const offsetInCluster = remainder(guestOffset, clusterSize);
    const slice = this.#tables.view(slot);
    const first = this.#tables.indexInSlice(guestOffset);
    const wanted = Math.min(
      Math.ceil((offsetInCluster + length) / clusterSize),
      this.#tables.sliceEntries - first,
    );
    const clusters = countAlike(slice, first, wanted, this.#geometry);
    const part: Part = { slice, first, guestOffset, length, clusters };
    const next = progress.hostOffset < 0 ? -1 : progress.hostOffset + progress.length;
    const word = first * this.#geometry.entryWords;
    if (!needsAllocationAt(slice, word)) {
      const hostOffset = hostOffsetAt(slice, word);
      if (!isAligned(hostOffset, clusterSize) || !Number.isSafeInteger(hostOffset)) {
        return this.#core.header.markCorruptAt(
          'an L2 entry points to a data cluster that is not aligned or above 2^53 − 1',
          hostOffset,
        );
      }
      if (this.#hasDataFile && hostOffset !== guestOffset - offsetInCluster) {
        return this.#core.header.markCorruptAt(
          'an L2 entry points to a data file offset that is not its guest offset',
          hostOffset,
        );
      }
      if (next >= 0 && hostOffset !== next) return false;
      return this.#take(progress, part, hostOffset);
    }
    if (this.#hasDataFile) return this.#take(progress, part, guestOffset - offsetInCluster);
    if (next >= 0) return this.#allocateNext(progress, part, next);
    const hostOffset = this.#refcounts.allocate(clusters);
    return typeof hostOffset === 'number'
      ? this.#takeNew(progress, part, hostOffset)
      : after(hostOffset, this.#takeNew.bind(this, progress, part));
  }

  #takeNew(progress: Progress, part: Part, hostOffset: HostOffset): MaybePromise<boolean> {
    if (hostOffset !== 0) return this.#take(progress, part, hostOffset);
    return this.#core.header.markCorruptAt(
      'the header cluster has refcount 0 and would be allocated for data',
      0,
    );
  }

  /** New clusters right behind the extent, as far as they are free. */
  async #allocateNext(progress: Progress, part: Part, hostOffset: HostOffset): Promise<boolean> {
    const clusters = await this.#refcounts.allocateAt(hostOffset, part.clusters);
    return clusters > 0 ? this.#take(progress, { ...part, clusters }, hostOffset) : false;
  }

  /** Adds a part whose first cluster is at `hostOffset` to the extent. */
  #take(
    progress: Progress,
    { slice, first, guestOffset, length, clusters }: Part,
    hostOffset: HostOffset,
  ): MaybePromise<boolean> {
    const { clusterSize, entryWords } = this.#geometry;
    const offsetInCluster = remainder(guestOffset, clusterSize);
    const inPlace = !needsAllocationAt(slice, first * entryWords);
    const part = Math.min(length, clusters * clusterSize - offsetInCluster);
    const used = Math.ceil((offsetInCluster + part) / clusterSize);
    if (entryWords === 2) {
      const written: WrittenPart = {
        slice,
        first,
        clusters: used,
        from: offsetInCluster,
        to: offsetInCluster + part,
        inPlace,
      };
      const fill = subclusterFill(written, this.#geometry);
      if (fill === 'invalid') {
        return this.#core.header.markCorruptAt(
          'an L2 entry has a subcluster that is both allocated and zero',
          hostOffset,
        );
      }
      if (fill !== undefined) {
        const place = { guestOffset: guestOffset - offsetInCluster, hostOffset };
        this.#beginFilled(progress, written, place, fill);
      }
    } else if (!inPlace || !allNormal(slice, first, used)) {
      const headType = clusterTypeAt(slice, first);
      const tailType = clusterTypeAt(slice, first + used - 1);
      this.#begin(progress, {
        guestOffset: guestOffset - offsetInCluster,
        hostOffset,
        clusters: used,
        keepsClusters: inPlace,
        cowHeadFrom: inPlace && headType === 'normal' ? offsetInCluster : 0,
        cowHeadTo: offsetInCluster,
        cowTailFrom: offsetInCluster + part,
        cowTailTo:
          inPlace && tailType === 'normal'
            ? offsetInCluster + part
            : alignUp(offsetInCluster + part, clusterSize),
        headType,
        tailType,
        isReservation: false,
        isFilled: false,
        isCopied: false,
        waiters: undefined,
      });
    }
    if (progress.hostOffset < 0) progress.hostOffset = hostOffset + offsetInCluster;
    progress.length += part;
    return true;
  }

  /** As `#begin`, where a cluster has subclusters. */
  #beginFilled(
    progress: Progress,
    { clusters, inPlace, from, to }: WrittenPart,
    place: { readonly guestOffset: GuestOffset; readonly hostOffset: HostOffset },
    fill: SubclusterFill,
  ): void {
    this.#begin(progress, {
      ...place,
      ...fill,
      clusters,
      keepsClusters: inPlace,
      cowHeadTo: from,
      cowTailFrom: to,
      isReservation: false,
      isFilled: false,
      isCopied: false,
      waiters: undefined,
    });
  }

  #begin(progress: Progress, allocation: Allocation): void {
    const { allocations } = progress;
    // Nearly every extent has one: a list of that length, which never grows.
    progress.allocations = allocations.length === 0 ? [allocation] : [allocation, ...allocations];
    this.#inFlight.push(allocation);
  }

  /**
   * How many bytes from `guestOffset` no allocation in flight touches, or the allocation to wait
   * for if there are none.
   */
  #clearOfInFlight(guestOffset: GuestOffset, length: number): number | Allocation {
    const { clusterSize } = this.#geometry;
    let clear = length;
    // The one that began last is looked at first.
    for (let index = this.#inFlight.length - 1; index >= 0; index--) {
      const allocation = this.#inFlight[index] as Allocation;
      const { guestOffset: base, cowHeadFrom, cowTailTo, keepsClusters } = allocation;
      const start = base + alignDown(cowHeadFrom, clusterSize);
      const end = base + alignUp(cowTailTo, clusterSize);
      if (guestOffset + clear <= start || guestOffset >= end) continue;
      // Other bytes of clusters that are allocated already are no conflict.
      if (keepsClusters && (guestOffset + clear <= base + cowHeadFrom || guestOffset >= base + cowTailTo)) {
        continue;
      }
      if (guestOffset >= start) return allocation;
      clear = start - guestOffset;
    }
    return clear;
  }
}

/**
 * How many entries from `first` on are like it: in place and contiguous in the host, or all to be
 * allocated.
 */
function countAlike(
  slice: DataView,
  first: number,
  limit: number,
  { clusterSize, entryWords }: Geometry,
): number {
  const allocate = needsAllocationAt(slice, first * entryWords);
  const host = hostOffsetAt(slice, first * entryWords);
  let count = 1;
  while (
    count < limit &&
    needsAllocationAt(slice, (first + count) * entryWords) === allocate &&
    (allocate || hostOffsetAt(slice, (first + count) * entryWords) === host + count * clusterSize)
  ) {
    count++;
  }
  return count;
}

/** Of entries that are not extended. */
function allNormal(slice: DataView, first: number, count: number): boolean {
  for (let index = first; index < first + count; index++) {
    if (clusterTypeAt(slice, index) !== 'normal') return false;
  }
  return true;
}
