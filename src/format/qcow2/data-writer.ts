/**
 * Writes the data of a mapped extent and links it: fill around the guest's bytes, data, then the L2 entries
 * (rule R9, steps 4 to 6).
 *
 * Invariants:
 * - An L2 entry changes only after the cluster's data was handed to the file, and where the fill was copied,
 *   the L2 cache waits for a sync before it writes that entry.
 * - A failed write gives its clusters back; the guest's old data stays reachable.
 */

import { alignUp, isAligned } from '../../core/alignment.ts';
import { allocatePages } from '../../core/page-memory.ts';
import type { BlockDevice, Pending, WritePart } from '../../device/block-device.ts';
import { zeroWithoutWriting } from '../../device/zeroing.ts';
import type { DiskImage } from '../disk-image.ts';
import { isKnownZero } from '../known-zero.ts';
import type { Allocation, Extent, WriteMapper } from './allocation.ts';
import type { Geometry } from './geometry.ts';
import { setWrittenAt } from './extended-l2-entry.ts';
import type { HeaderStore } from './header-store.ts';
import {
  clusterTypeAt,
  compressedRangeAt,
  hostOffsetAt,
  isSetAt,
  setAllocatedAt,
  type ClusterType,
} from './l2-entry.ts';
import type { L2Tables } from './l2-tables.ts';
import type { MetadataMap } from './metadata-map.ts';
import type { Refcounts } from './refcounts.ts';

/** Head, middle and tail are read at once if the middle is at most this many bytes. */
const MERGED_READ_MIDDLE_MAX = 16_384;

export interface DataWriterOptions {
  /** The file that guest data lies in. */
  readonly device: BlockDevice;
  readonly header: HeaderStore;
  readonly geometry: Geometry;
  readonly virtualSize: () => number;
  readonly backing: DiskImage | undefined;
  readonly tables: L2Tables;
  readonly refcounts: Refcounts;
  readonly metadata: MetadataMap;
  readonly mapper: WriteMapper;
  /** Whether this opening postpones refcounts. */
  readonly lazyRefcounts: boolean;
  /** Reads guest bytes as they are before the write, for the fill; past the disk's end gives zeroes. */
  readonly readOld: (guestOffset: number, target: Uint8Array) => Promise<void>;
  readonly lock: () => undefined | Promise<void>;
  readonly unlock: () => void;
}

export class DataWriter {
  /** Writes and zero-ranges of data so far that changed the image itself, not a data file. */
  imageChanges = 0;
  readonly #options: DataWriterOptions;
  readonly #device: BlockDevice;
  readonly #hostAlignment: number;
  readonly #isImage: boolean;

  constructor(options: DataWriterOptions) {
    this.#options = options;
    this.#device = options.device;
    this.#hostAlignment = options.device.hostAlignment;
    this.#isImage = !options.header.hasDataFile;
  }

  /** Writes the fill that can be zeroed, and the guest's bytes. Takes no lock. */
  writeData(extent: Extent, bytes: Uint8Array): Pending {
    const guarded = this.#guardData(extent.hostOffset, extent.length);
    if (guarded !== undefined) return guarded;
    const { allocations } = extent;
    for (let index = 0; index < allocations.length; index++) {
      const pending = this.#zeroFillIfKnown(allocations[index] as Allocation);
      if (pending !== undefined) return this.#writeDataAfter(pending, extent, bytes, index + 1);
    }
    return this.#writeGuestBytes(extent, bytes);
  }

  /** Copies what fill is left, then links an allocation. Call with the lock held; it is not held meanwhile. */
  link(allocation: Allocation): Pending {
    if (!allocation.isFilled) return this.#linkAfterCopy(allocation);
    const pending = this.#prepareEntries(allocation);
    return pending === undefined ? this.#setEntries(allocation) : this.#setEntriesAfter(pending, allocation);
  }

  async #writeDataAfter(
    pending: Promise<void>,
    extent: Extent,
    bytes: Uint8Array,
    next: number,
  ): Promise<void> {
    await pending;
    for (const allocation of extent.allocations.slice(next)) await this.#zeroFillIfKnown(allocation);
    await this.#writeGuestBytes(extent, bytes);
  }

  /** The guest's bytes, merged with the fill of the first allocation that still needs one and encloses them. */
  #writeGuestBytes(extent: Extent, bytes: Uint8Array): Pending {
    for (const allocation of extent.allocations) {
      if (!allocation.isFilled && enclosesFill(allocation, extent)) {
        return this.#writeWithFill(allocation, bytes);
      }
    }
    if (this.#isImage) this.imageChanges++;
    return this.#device.write(extent.hostOffset, bytes, 'data');
  }

  async #linkAfterCopy(allocation: Allocation): Promise<void> {
    this.#options.unlock();
    try {
      await this.#copyFill(allocation);
    } finally {
      const pending = this.#options.lock();
      if (pending !== undefined) await pending;
    }
    await this.#prepareEntries(allocation);
    await this.#setEntries(allocation);
  }

  /** What stands before any change of an L2 entry: the copied data, and the dirty bit or the dependency on refcounts. */
  #prepareEntries({ isCopied }: Allocation): Pending {
    const { tables, refcounts, header, lazyRefcounts } = this.#options;
    if (isCopied) tables.l2Cache.dependOnSync();
    if (lazyRefcounts && !header.isDirty) return header.markDirty();
    return header.isDirty ? undefined : tables.l2Cache.setDependency(refcounts.blockCache);
  }

  async #setEntriesAfter(pending: Promise<void>, allocation: Allocation): Promise<void> {
    await pending;
    await this.#setEntries(allocation);
  }

  /** Points the entries to the allocation's clusters and ends it; what they pointed to before is freed. */
  #setEntries(allocation: Allocation): Pending {
    const slot = this.#options.tables.acquireForWriting(allocation.guestOffset);
    if (typeof slot !== 'number') return this.#setEntriesIn(slot, allocation);
    const freed = this.#changeSlice(slot, allocation);
    if (freed !== undefined) return this.#freeAndFinish(freed, allocation);
    this.#options.mapper.finish(allocation);
    return undefined;
  }

  async #setEntriesIn(loading: Promise<number>, allocation: Allocation): Promise<void> {
    const freed = this.#changeSlice(await loading, allocation);
    await this.#freeAndFinish(freed ?? [], allocation);
  }

  /** Changes the entries in a slice and releases it; answers the host ranges that they no longer use. */
  #changeSlice(slot: number, allocation: Allocation): readonly HostRange[] | undefined {
    const { tables, geometry, header } = this.#options;
    const keeps = allocation.keepsClusters || header.hasDataFile;
    const slice = tables.view(slot);
    const first = tables.indexInSlice(allocation.guestOffset);
    tables.markEntries(slot, first, allocation.clusters);
    let freed: HostRange[] | undefined;
    for (let index = 0; index < allocation.clusters; index++) {
      const word = (first + index) * geometry.entryWords;
      if (!keeps && isSetAt(slice, word)) {
        const range = hostRangeAt(slice, word, geometry);
        if (range !== undefined) (freed ??= []).push(range);
      }
      setAllocatedAt(slice, word, allocation.hostOffset + index * geometry.clusterSize);
    }
    if (geometry.entryWords === 2 && !allocation.isReservation) {
      markSubclusters(slice, first, allocation, geometry);
    }
    tables.release(slot);
    return freed;
  }

  async #freeAndFinish(freed: readonly HostRange[], allocation: Allocation): Promise<void> {
    const { refcounts, mapper } = this.#options;
    for (const { hostOffset, length } of freed) await refcounts.free(hostOffset, length, 'keep');
    mapper.finish(allocation);
  }

  /** Zeroes an allocation's fill if it is known to read as zeroes; what is not zeroed is copied later. */
  #zeroFillIfKnown(allocation: Allocation): Pending {
    if (isFillEmpty(allocation)) {
      allocation.isFilled = true;
      return undefined;
    }
    const looked = this.#lookThroughRefcounts();
    return looked === undefined
      ? this.#zeroFillIfZero(allocation)
      : this.#zeroFillAfterLook(looked, allocation);
  }

  async #zeroFillAfterLook(looked: Promise<void>, allocation: Allocation): Promise<void> {
    await looked;
    await this.#zeroFillIfZero(allocation);
  }

  #lookThroughRefcounts(): Pending {
    const { refcounts, lock, unlock } = this.#options;
    if (refcounts.isLookedThrough) return undefined;
    const locked = lock();
    const look = (): Pending => refcounts.lookThroughOnce(this.#options.header.device.size());
    let looked: Pending;
    try {
      looked = locked === undefined ? look() : locked.then(look);
    } catch (error) {
      unlock();
      throw error;
    }
    if (looked !== undefined) return looked.finally(unlock);
    unlock();
    return undefined;
  }

  #zeroFillIfZero(allocation: Allocation): Pending {
    const isZero = this.#isFillZero(allocation);
    if (typeof isZero !== 'boolean') return this.#zeroFillIf(isZero, allocation);
    return isZero ? this.#zeroFill(allocation) : undefined;
  }

  async #zeroFillIf(isZero: Promise<boolean>, allocation: Allocation): Promise<void> {
    if (await isZero) await this.#zeroFill(allocation);
  }

  /** Whether all that surrounds the guest's bytes reads as zeroes, by the tables and not by content. */
  #isFillZero(allocation: Allocation): boolean | Promise<boolean> {
    const { guestOffset, cowTailFrom, cowTailTo } = allocation;
    // What lies past the disk's end is not known to be zero.
    if (cowTailTo > cowTailFrom && guestOffset + cowTailTo > this.#options.virtualSize()) return false;
    const head = this.#isHeadZero(allocation);
    if (typeof head !== 'boolean') return this.#isTailZeroToo(head, allocation);
    return head && this.#isTailZero(allocation);
  }

  async #isTailZeroToo(head: Promise<boolean>, allocation: Allocation): Promise<boolean> {
    return (await head) && this.#isTailZero(allocation);
  }

  #isHeadZero({ guestOffset, cowHeadFrom, cowHeadTo, headType }: Allocation): boolean | Promise<boolean> {
    if (cowHeadTo === cowHeadFrom) return true;
    return this.#readsZero(headType, guestOffset + cowHeadFrom, cowHeadTo - cowHeadFrom);
  }

  #isTailZero({ guestOffset, cowTailFrom, cowTailTo, tailType }: Allocation): boolean | Promise<boolean> {
    if (cowTailTo === cowTailFrom) return true;
    return this.#readsZero(tailType, guestOffset + cowTailFrom, cowTailTo - cowTailFrom);
  }

  #readsZero(type: ClusterType, guestOffset: number, length: number): boolean | Promise<boolean> {
    switch (type) {
      case 'zero':
      case 'zero-allocated':
        return true;
      case 'unallocated': {
        const { backing } = this.#options;
        return backing === undefined || isKnownZero(backing, guestOffset, length);
      }
      case 'normal':
      case 'compressed':
        return false;
    }
  }

  #zeroFill(allocation: Allocation): Pending {
    const offset = allocation.hostOffset + allocation.cowHeadFrom;
    const length = allocation.cowTailTo - allocation.cowHeadFrom;
    const guarded = this.#guardData(offset, length);
    if (guarded !== undefined) return guarded;
    // With O_DIRECT, an unaligned end would have to be read and written anyway: the fill is copied with the data (R9).
    const hostAlignment = this.#hostAlignment;
    if (!isAligned(offset, hostAlignment) || !isAligned(length, hostAlignment)) return undefined;
    // Without zero-range these are a hole and the space reserved again.
    if (this.#isImage) this.imageChanges += this.#device.canZeroRange ? 1 : 2;
    const isZeroed = zeroWithoutWriting(this.#device, offset, length, 'cow');
    if (typeof isZeroed !== 'boolean') return this.#filledAfter(isZeroed, allocation);
    // What cannot be zeroed here is copied with the data.
    if (isZeroed) allocation.isFilled = true;
    return undefined;
  }

  async #filledAfter(isZeroed: Promise<boolean>, allocation: Allocation): Promise<void> {
    if (await isZeroed) allocation.isFilled = true;
  }

  /** Reads the fill and writes it together with the guest's bytes, as one host write. */
  async #writeWithFill(allocation: Allocation, bytes: Uint8Array): Promise<void> {
    const { head, tail } = await this.#readFill(allocation);
    // Another request may have found the image damaged meanwhile.
    this.#options.header.assertRunning();
    const parts: WritePart[] = [];
    if (head.byteLength > 0) parts.push({ purpose: 'cow', bytes: head });
    parts.push({ purpose: 'data', bytes });
    if (tail.byteLength > 0) parts.push({ purpose: 'cow', bytes: tail });
    if (this.#isImage) this.imageChanges++;
    await this.#device.writeMerged(allocation.hostOffset + allocation.cowHeadFrom, parts);
    allocation.isFilled = true;
    allocation.isCopied = true;
  }

  /** Reads the fill and writes it on its own: the guest's bytes went with another part. */
  async #copyFill(allocation: Allocation): Promise<void> {
    const { head, tail } = await this.#readFill(allocation);
    this.#options.header.assertRunning();
    const { hostOffset, cowHeadFrom, cowTailFrom } = allocation;
    if (head.byteLength > 0) await this.#device.write(hostOffset + cowHeadFrom, head, 'cow');
    if (tail.byteLength > 0) await this.#device.write(hostOffset + cowTailFrom, tail, 'cow');
    allocation.isFilled = true;
    allocation.isCopied = true;
  }

  async #readFill(allocation: Allocation): Promise<{ head: Uint8Array; tail: Uint8Array }> {
    const { guestOffset, cowHeadFrom, cowHeadTo, cowTailFrom, cowTailTo } = allocation;
    const headLength = cowHeadTo - cowHeadFrom;
    const tailLength = cowTailTo - cowTailFrom;
    const middle = cowTailFrom - cowHeadTo;
    if (headLength > 0 && tailLength > 0 && middle <= MERGED_READ_MIDDLE_MAX) {
      const whole = allocatePages(cowTailTo - cowHeadFrom);
      await this.#options.readOld(guestOffset + cowHeadFrom, whole);
      return { head: whole.subarray(0, headLength), tail: whole.subarray(cowTailFrom - cowHeadFrom) };
    }
    const buffer = allocatePages(Math.max(1, alignUp(headLength, 4096) + tailLength));
    const head = buffer.subarray(0, headLength);
    const tail = buffer.subarray(alignUp(headLength, 4096), alignUp(headLength, 4096) + tailLength);
    if (headLength > 0) await this.#options.readOld(guestOffset + cowHeadFrom, head);
    if (tailLength > 0) await this.#options.readOld(guestOffset + cowTailFrom, tail);
    return { head, tail };
  }

  #guardData(offset: number, length: number): undefined | Promise<never> {
    const { header, metadata } = this.#options;
    // A data file holds no metadata.
    const kind = header.hasDataFile ? undefined : metadata.overlap(offset, length, undefined);
    if (kind === undefined) return undefined;
    return header.stopAsCorrupt(`a write of guest data would overwrite the ${kind}`, offset);
  }
}

/** All that was written or filled is allocated from now on. */
function markSubclusters(
  slice: DataView,
  first: number,
  { clusters, cowHeadFrom, cowTailTo }: Allocation,
  { clusterSize, subclusterSize }: Geometry,
): void {
  for (let index = 0; index < clusters; index++) {
    const from = Math.max(cowHeadFrom - index * clusterSize, 0);
    const to = Math.min(cowTailTo - index * clusterSize, clusterSize);
    setWrittenAt(
      slice,
      2 * (first + index),
      Math.floor(from / subclusterSize),
      Math.ceil(to / subclusterSize),
    );
  }
}

export interface HostRange {
  readonly hostOffset: number;
  readonly length: number;
}

/** The host range that an L2 entry keeps allocated. */
export function hostRangeAt(slice: DataView, word: number, geometry: Geometry): HostRange | undefined {
  switch (clusterTypeAt(slice, word)) {
    case 'unallocated':
    case 'zero':
      return undefined;
    case 'zero-allocated':
    case 'normal': {
      const hostOffset = hostOffsetAt(slice, word);
      // Whose clusters a damaged entry means nobody knows: they are left to a check.
      return isAligned(hostOffset, geometry.clusterSize)
        ? { hostOffset, length: geometry.clusterSize }
        : undefined;
    }
    case 'compressed':
      return compressedRangeAt(slice, word, geometry.clusterBits);
  }
}

function isFillEmpty(allocation: Allocation): boolean {
  return allocation.cowHeadFrom === allocation.cowHeadTo && allocation.cowTailFrom === allocation.cowTailTo;
}

/** Whether the guest's bytes begin right after the allocation's head fill and end right before its tail. */
function enclosesFill(allocation: Allocation, extent: Extent): boolean {
  return (
    allocation.hostOffset + allocation.cowHeadTo === extent.hostOffset &&
    allocation.hostOffset + allocation.cowTailFrom === extent.hostOffset + extent.length
  );
}
