/**
 * Writes the data of a mapped extent and links it: fill around the guest's bytes, data, then the L2
 * entries (rule R9, steps 4 to 6).
 *
 * Invariants:
 * - An L2 entry changes only after the cluster's data was handed to the file, and where the fill
 *   was copied, the L2 cache waits for a sync before it writes that entry.
 * - A failed write gives its clusters back; the guest's old data stays reachable.
 */

import { alignUp, isAligned } from '../../../core/alignment.ts';
import type { GuestOffset, HostOffset } from '../../../core/offsets.ts';
import { allocatePages } from '../../../core/page-memory.ts';
import { after, type MaybePromise, type Pending } from '../../../core/pending.ts';
import type { BlockDevice, WritePart } from '../../../device/block-device.ts';
import { zeroWithoutWriting } from '../../../device/zeroing.ts';
import { isKnownZero } from '../../known-zero.ts';
import type { Allocation, Extent, WriteMapper } from './write-mapper.ts';
import type { Geometry } from '../on-disk/geometry.ts';
import { setWrittenAt } from '../on-disk/extended-l2-entry.ts';
import type { ImageCore } from '../metadata/image-core.ts';
import {
  clusterTypeAt,
  compressedRangeAt,
  hostOffsetAt,
  isSetAt,
  setAllocatedAt,
  type ClusterType,
} from '../on-disk/l2-entry.ts';
import type { Reader } from './reader.ts';

/** Head, middle and tail are read at once if the middle is at most this many bytes. */
const MERGED_READ_MIDDLE_MAX = 16_384;

export class DataWriter {
  /** Writes and zero-ranges of data so far that changed the image itself, not a data file. */
  imageChanges = 0;
  readonly #core: ImageCore;
  readonly #mapper: WriteMapper;
  readonly #reader: Reader;
  readonly #device: BlockDevice;
  readonly #hostAlignment: number;
  readonly #isImage: boolean;
  readonly #ordersData: boolean;

  constructor(core: ImageCore, mapper: WriteMapper, reader: Reader) {
    this.#core = core;
    this.#mapper = mapper;
    this.#reader = reader;
    this.#device = core.guestFile;
    this.#hostAlignment = core.guestFile.hostAlignment;
    this.#isImage = core.dataFile === undefined;
    this.#ordersData = core.policy.syncsDataBeforeL2;
  }

  /** Writes the fill that can be zeroed, and the guest's bytes. Takes no lock. */
  writeData(extent: Extent, bytes: Uint8Array): Pending {
    const guarded = this.#guardData(extent.hostOffset, extent.length);
    return guarded ?? this.#writeFilled(extent, bytes, 0);
  }

  /**
   * Copies what fill is left, then links an allocation. Call with the lock held; it is not held
   * meanwhile.
   */
  link(allocation: Allocation): Pending {
    if (!allocation.isFilled) return this.#copyAndLink(allocation);
    return this.#linkFilled(allocation);
  }

  /** Zeroes the fill of the allocations from `first` on, then writes the guest's bytes. */
  #writeFilled(extent: Extent, bytes: Uint8Array, first: number): Pending {
    const { allocations } = extent;
    for (let index = first; index < allocations.length; index++) {
      const pending = this.#zeroFillIfKnown(allocations[index] as Allocation);
      if (pending !== undefined) {
        return after(pending, this.#writeFilled.bind(this, extent, bytes, index + 1));
      }
    }
    return this.#writeGuestBytes(extent, bytes);
  }

  /**
   * The guest's bytes, merged with the fill of the first allocation that still needs one and
   * encloses them.
   */
  #writeGuestBytes(extent: Extent, bytes: Uint8Array): Pending {
    for (const allocation of extent.allocations) {
      if (!allocation.isFilled && enclosesFill(allocation, extent)) {
        return this.#writeWithFill(allocation, bytes);
      }
    }
    if (this.#isImage) this.imageChanges++;
    return this.#device.write(extent.hostOffset, bytes, 'data');
  }

  async #copyAndLink(allocation: Allocation): Promise<void> {
    await this.#core.lock.pause(() => this.#copyFill(allocation));
    await this.#linkFilled(allocation);
  }

  #linkFilled(allocation: Allocation): Pending {
    const pending = this.#prepareEntries(allocation);
    return pending === undefined
      ? this.#setEntries(allocation)
      : after(pending, this.#setEntries.bind(this, allocation));
  }

  /**
   * What comes before any change of an L2 entry: the copied data, and the dirty bit or the
   * dependency on refcounts.
   */
  #prepareEntries({ isCopied }: Allocation): Pending {
    const { tables, refcounts, header, lazyRefcounts } = this.#core;
    if (isCopied) tables.l2Cache.dependOnSync('l2-after-cow');
    if (this.#ordersData) this.#orderData();
    if (lazyRefcounts && !header.isDirty) return header.markDirty();
    return header.isDirty ? undefined : tables.l2Cache.setDependency(refcounts.blockCache);
  }

  /** The data that are linked now become durable before their entries. */
  #orderData(): void {
    const { tables, dataFile } = this.#core;
    if (dataFile === undefined) tables.l2Cache.dependOnSync('l2-after-data');
    else tables.l2Cache.dependOnFile(dataFile);
  }

  /**
   * Points the entries to the allocation's clusters and ends it; what they pointed to before is
   * freed.
   */
  #setEntries(allocation: Allocation): Pending {
    const slot = this.#core.tables.acquireForWriting(allocation.guestOffset);
    if (typeof slot !== 'number') return after(slot, this.#setEntriesIn.bind(this, allocation));
    return this.#setEntriesIn(allocation, slot);
  }

  #setEntriesIn(allocation: Allocation, slot: number): Pending {
    const freed = this.#changeSlice(slot, allocation);
    if (freed !== undefined) return this.#freeAndFinish(freed, allocation);
    this.#mapper.finish(allocation);
    return undefined;
  }

  /**
   * Changes the entries in a slice and releases it; answers the host ranges that they no longer
   * use.
   */
  #changeSlice(slot: number, allocation: Allocation): readonly HostRange[] | undefined {
    const { tables, geometry, header } = this.#core;
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
    const { refcounts } = this.#core;
    for (const { hostOffset, length } of freed) await refcounts.free(hostOffset, length, 'keep');
    this.#mapper.finish(allocation);
  }

  /**
   * Zeroes an allocation's fill if it is known to read as zeroes; what is not zeroed is copied
   * later.
   */
  #zeroFillIfKnown(allocation: Allocation): Pending {
    if (isFillEmpty(allocation)) {
      allocation.isFilled = true;
      return undefined;
    }
    const scanned = this.#scanRefcounts();
    return scanned === undefined
      ? this.#zeroFillIfZero(allocation)
      : after(scanned, this.#zeroFillIfZero.bind(this, allocation));
  }

  #scanRefcounts(): Pending {
    const { refcounts, header, lock } = this.#core;
    if (refcounts.isScanned) return undefined;
    return lock.hold(() => refcounts.scanOnce(header.device));
  }

  #zeroFillIfZero(allocation: Allocation): Pending {
    const isZero = this.#isFillZero(allocation);
    if (typeof isZero !== 'boolean') {
      return after(isZero, this.#zeroFillIf.bind(this, allocation));
    }
    return this.#zeroFillIf(allocation, isZero);
  }

  #zeroFillIf(allocation: Allocation, isZero: boolean): Pending {
    return isZero ? this.#zeroFill(allocation) : undefined;
  }

  /**
   * Whether all that surrounds the guest's bytes reads as zeroes, by the tables and not by content.
   */
  #isFillZero(allocation: Allocation): MaybePromise<boolean> {
    const { guestOffset, cowTailFrom, cowTailTo } = allocation;
    // What is past the disk's end is not known to be zero.
    if (cowTailTo > cowTailFrom && guestOffset + cowTailTo > this.#core.virtualSize) return false;
    const head = this.#isHeadZero(allocation);
    if (typeof head !== 'boolean') return after(head, this.#isTailZeroToo.bind(this, allocation));
    return this.#isTailZeroToo(allocation, head);
  }

  #isTailZeroToo(allocation: Allocation, isHeadZero: boolean): MaybePromise<boolean> {
    return isHeadZero && this.#isTailZero(allocation);
  }

  #isHeadZero({ guestOffset, cowHeadFrom, cowHeadTo, headType }: Allocation): MaybePromise<boolean> {
    if (cowHeadTo === cowHeadFrom) return true;
    return this.#readsZero(headType, guestOffset + cowHeadFrom, cowHeadTo - cowHeadFrom);
  }

  #isTailZero({ guestOffset, cowTailFrom, cowTailTo, tailType }: Allocation): MaybePromise<boolean> {
    if (cowTailTo === cowTailFrom) return true;
    return this.#readsZero(tailType, guestOffset + cowTailFrom, cowTailTo - cowTailFrom);
  }

  #readsZero(type: ClusterType, guestOffset: GuestOffset, length: number): MaybePromise<boolean> {
    switch (type) {
      case 'zero':
      case 'zero-allocated':
        return true;
      case 'unallocated': {
        const { backing } = this.#core;
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
    // With O_DIRECT, an unaligned end would have to be read and written anyway: the fill is copied
    // with the data (R9).
    const hostAlignment = this.#hostAlignment;
    if (!isAligned(offset, hostAlignment) || !isAligned(length, hostAlignment)) return undefined;
    // Without zero-range these are a hole and the space reserved again.
    if (this.#isImage) this.imageChanges += this.#device.canZeroRange ? 1 : 2;
    const isZeroed = zeroWithoutWriting(this.#device, offset, length, 'cow');
    // What cannot be zeroed here is copied with the data.
    if (typeof isZeroed !== 'boolean') {
      return after(isZeroed, setFilled.bind(undefined, allocation));
    }
    setFilled(allocation, isZeroed);
    return undefined;
  }

  /** Reads the fill and writes it together with the guest's bytes, as one host write. */
  async #writeWithFill(allocation: Allocation, bytes: Uint8Array): Promise<void> {
    const { head, tail } = await this.#readFill(allocation);
    // Another request may have found the image damaged meanwhile.
    this.#core.header.assertRunning();
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
    this.#core.header.assertRunning();
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
      await this.#reader.read(guestOffset + cowHeadFrom, whole, 'cow');
      return { head: whole.subarray(0, headLength), tail: whole.subarray(cowTailFrom - cowHeadFrom) };
    }
    const buffer = allocatePages(Math.max(1, alignUp(headLength, 4096) + tailLength));
    const head = buffer.subarray(0, headLength);
    const tail = buffer.subarray(alignUp(headLength, 4096), alignUp(headLength, 4096) + tailLength);
    if (headLength > 0) await this.#reader.read(guestOffset + cowHeadFrom, head, 'cow');
    if (tailLength > 0) await this.#reader.read(guestOffset + cowTailFrom, tail, 'cow');
    return { head, tail };
  }

  #guardData(offset: HostOffset, length: number): undefined | Promise<never> {
    const { header, metadata } = this.#core;
    // A data file holds no metadata.
    const kind = header.hasDataFile ? undefined : metadata.overlap(offset, length, undefined);
    if (kind === undefined) return undefined;
    return header.markCorruptAt(`a write of guest data would overwrite the ${kind}`, offset);
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
  readonly hostOffset: HostOffset;
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
      // A damaged entry's owner is unknown: its clusters are left to a check.
      return isAligned(hostOffset, geometry.clusterSize)
        ? { hostOffset, length: geometry.clusterSize }
        : undefined;
    }
    case 'compressed':
      return compressedRangeAt(slice, word, geometry.clusterBits);
  }
}

function setFilled(allocation: Allocation, isFilled: boolean): void {
  allocation.isFilled = isFilled;
}

function isFillEmpty(allocation: Allocation): boolean {
  return allocation.cowHeadFrom === allocation.cowHeadTo && allocation.cowTailFrom === allocation.cowTailTo;
}

/**
 * Whether the guest's bytes begin right after the allocation's head fill and end right before its
 * tail.
 */
function enclosesFill(allocation: Allocation, extent: Extent): boolean {
  return (
    allocation.hostOffset + allocation.cowHeadTo === extent.hostOffset &&
    allocation.hostOffset + allocation.cowTailFrom === extent.hostOffset + extent.length
  );
}
