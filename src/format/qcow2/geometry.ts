/**
 * What follows from cluster size, refcount width and virtual size: how guest and host offsets split into
 * indices, and how large QEMU makes the caches (rule R7).
 */

import { alignUp, ceilDiv } from '../../core/alignment.ts';
import { ENTRY_SIZE } from './layout.ts';

export interface Geometry {
  readonly clusterBits: number;
  /** Bytes. */
  readonly clusterSize: number;
  /** Entries of an L2 table. */
  readonly l2Entries: number;
  /** Guest bytes that one L2 table maps. */
  readonly l2Coverage: number;
  /** log2 of the refcount's width in bits. */
  readonly refcountOrder: number;
  /** Refcounts in one block. */
  readonly refcountBlockEntries: number;
  /** The largest refcount that fits. */
  readonly refcountMax: number;
}

export interface CacheGeometry {
  /** Entries of an L2 slice, the unit in which L2 tables are cached, read and written. */
  readonly l2SliceEntries: number;
  /** Bytes of an L2 slice. */
  readonly l2SliceSize: number;
  readonly l2Slots: number;
  readonly refcountSlots: number;
}

const DEFAULT_L2_CACHE_MAX = 32 * 1024 * 1024;
const MIN_L2_SLOTS = 2;
const MIN_REFCOUNT_SLOTS = 4;
const SMALL_L2_SLICE = 4096;

export function makeGeometry(clusterBits: number, refcountOrder: number): Geometry {
  const clusterSize = 2 ** clusterBits;
  const refcountBits = 2 ** refcountOrder;
  const l2Entries = clusterSize / ENTRY_SIZE;
  return {
    clusterBits,
    clusterSize,
    l2Entries,
    l2Coverage: l2Entries * clusterSize,
    refcountOrder,
    refcountBlockEntries: (clusterSize * 8) / refcountBits,
    refcountMax: refcountBits === 64 ? Number.MAX_SAFE_INTEGER : 2 ** refcountBits - 1,
  };
}

/** Entries that an L1 table needs for a disk of `virtualSize` bytes. */
export function l1EntriesFor(geometry: Geometry, virtualSize: number): number {
  return ceilDiv(virtualSize, geometry.l2Coverage);
}

/** QEMU's default caches for a disk of `virtualSize` bytes. */
export function defaultCaches(geometry: Geometry, virtualSize: number): CacheGeometry {
  const { clusterSize } = geometry;
  const wholeDisk = alignUp(ceilDiv(virtualSize, clusterSize) * ENTRY_SIZE, clusterSize);
  const l2CacheSize = Math.min(wholeDisk, DEFAULT_L2_CACHE_MAX);
  const l2SliceSize = l2CacheSize < wholeDisk ? Math.min(clusterSize, SMALL_L2_SLICE) : clusterSize;
  return {
    l2SliceEntries: l2SliceSize / ENTRY_SIZE,
    l2SliceSize,
    l2Slots: Math.max(MIN_L2_SLOTS, Math.floor(l2CacheSize / l2SliceSize)),
    refcountSlots: MIN_REFCOUNT_SLOTS,
  };
}
