/**
 * Writes the data of a mapped extent and links it: fill around the guest's bytes, data, then the L2 entries
 * (rule R9, steps 4 to 6).
 *
 * Invariants:
 * - An L2 entry changes only after the cluster's data was handed to the file, and where the fill was copied,
 *   the L2 cache waits for a sync before it writes that entry.
 * - A failed write gives its clusters back; the guest's old data stays reachable.
 */

import { alignUp } from '../../core/alignment.ts';
import { allocatePages } from '../../core/page-memory.ts';
import type { BlockDevice, WritePart } from '../../device/block-device.ts';
import type { DiskImage } from '../disk-image.ts';
import { isKnownZero } from '../known-zero.ts';
import type { Allocation, Extent, WriteMapper } from './allocation.ts';
import type { Geometry } from './geometry.ts';
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
  readonly #options: DataWriterOptions;
  readonly #device: BlockDevice;

  constructor(options: DataWriterOptions) {
    this.#options = options;
    this.#device = options.device;
  }

  /** Writes the fill that can be zeroed, and the guest's bytes. Takes no lock. */
  async writeData(extent: Extent, bytes: Uint8Array): Promise<void> {
    await this.#guardData(extent.hostOffset, extent.length);
    let merged: Allocation | undefined;
    for (const allocation of extent.allocations) {
      if (isFillEmpty(allocation)) {
        allocation.isFilled = true;
      } else if (this.#device.canZeroRange && (await this.#isFillZero(allocation))) {
        await this.#zeroFill(allocation);
      }
      if (merged === undefined && !allocation.isFilled && enclosesFill(allocation, extent)) {
        merged = allocation;
      }
    }
    if (merged !== undefined) {
      await this.#writeWithFill(merged, bytes);
      return;
    }
    const pending = this.#device.write(extent.hostOffset, bytes, 'data');
    if (pending !== undefined) await pending;
  }

  /** Copies what fill is left, then links an allocation. Call with the lock held; it is not held meanwhile. */
  async link(allocation: Allocation): Promise<void> {
    if (!allocation.isFilled) {
      this.#options.unlock();
      try {
        await this.#copyFill(allocation);
      } finally {
        const pending = this.#options.lock();
        if (pending !== undefined) await pending;
      }
    }
    await this.#setEntries(allocation);
    this.#options.mapper.finish(allocation);
  }

  async #setEntries(allocation: Allocation): Promise<void> {
    const { tables, refcounts, header, lazyRefcounts, geometry } = this.#options;
    if (lazyRefcounts && !header.isDirty) await header.markDirty();
    if (!header.isDirty) {
      const pending = tables.l2Cache.setDependency(refcounts.blockCache);
      if (pending !== undefined) await pending;
    }
    const acquired = tables.acquireForWriting(allocation.guestOffset);
    const slot = typeof acquired === 'number' ? acquired : await acquired;
    const slice = tables.view(slot);
    const first = tables.indexInSlice(allocation.guestOffset);
    tables.l2Cache.markDirty(slot);
    let freed: FreedRange[] | undefined;
    for (let index = 0; index < allocation.clusters; index++) {
      if (isSetAt(slice, first + index) && !allocation.keepsClusters) {
        const range = hostRangeAt(slice, first + index, geometry);
        if (range !== undefined) (freed ??= []).push(range);
      }
      setAllocatedAt(slice, first + index, allocation.hostOffset + index * geometry.clusterSize);
    }
    tables.release(slot);
    if (freed !== undefined) {
      for (const { hostOffset, length } of freed) await refcounts.free(hostOffset, length, 'keep');
    }
  }

  /** Whether all that surrounds the guest's bytes reads as zeroes, by the tables and not by content. */
  async #isFillZero(allocation: Allocation): Promise<boolean> {
    const { guestOffset, cowHeadFrom, cowHeadTo, cowTailFrom, cowTailTo, headType, tailType } = allocation;
    const { virtualSize } = this.#options;
    // What lies past the disk's end is not known to be zero.
    if (cowTailTo > cowTailFrom && guestOffset + cowTailTo > virtualSize()) return false;
    return (
      (cowHeadTo === cowHeadFrom ||
        (await this.#readsZero(headType, guestOffset + cowHeadFrom, cowHeadTo - cowHeadFrom))) &&
      (cowTailTo === cowTailFrom ||
        (await this.#readsZero(tailType, guestOffset + cowTailFrom, cowTailTo - cowTailFrom)))
    );
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

  async #zeroFill(allocation: Allocation): Promise<void> {
    const offset = allocation.hostOffset + allocation.cowHeadFrom;
    const length = allocation.cowTailTo - allocation.cowHeadFrom;
    await this.#guardData(offset, length);
    const pending = this.#device.zeroRange(offset, length, 'cow');
    if (pending !== undefined) await pending;
    allocation.isFilled = true;
  }

  /** Reads the fill and writes it together with the guest's bytes, as one host write. */
  async #writeWithFill(allocation: Allocation, bytes: Uint8Array): Promise<void> {
    const { head, tail } = await this.#readFill(allocation);
    const parts: WritePart[] = [];
    if (head.byteLength > 0) parts.push({ purpose: 'cow', bytes: head });
    parts.push({ purpose: 'data', bytes });
    if (tail.byteLength > 0) parts.push({ purpose: 'cow', bytes: tail });
    await this.#device.writeMerged(allocation.hostOffset + allocation.cowHeadFrom, parts);
    allocation.isFilled = true;
    this.#options.tables.l2Cache.dependOnSync();
  }

  /** Reads the fill and writes it on its own: the guest's bytes went with another part. */
  async #copyFill(allocation: Allocation): Promise<void> {
    const { head, tail } = await this.#readFill(allocation);
    const { hostOffset, cowHeadFrom, cowTailFrom } = allocation;
    if (head.byteLength > 0) await this.#device.write(hostOffset + cowHeadFrom, head, 'cow');
    if (tail.byteLength > 0) await this.#device.write(hostOffset + cowTailFrom, tail, 'cow');
    allocation.isFilled = true;
    this.#options.tables.l2Cache.dependOnSync();
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
    const kind = this.#options.metadata.overlap(offset, length, undefined);
    if (kind === undefined) return undefined;
    return this.#options.header.stopAsCorrupt(`a write of guest data would overwrite the ${kind}`, offset);
  }
}

interface FreedRange {
  readonly hostOffset: number;
  readonly length: number;
}

/** The host range that an L2 entry keeps allocated. */
export function hostRangeAt(slice: DataView, index: number, geometry: Geometry): FreedRange | undefined {
  switch (clusterTypeAt(slice, index)) {
    case 'unallocated':
    case 'zero':
      return undefined;
    case 'zero-allocated':
    case 'normal':
      return { hostOffset: hostOffsetAt(slice, index), length: geometry.clusterSize };
    case 'compressed':
      return compressedRangeAt(slice, index, geometry.clusterBits);
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
