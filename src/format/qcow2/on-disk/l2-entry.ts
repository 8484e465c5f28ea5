/**
 * The codec of L2 entries (qcow2 specification, "Cluster mapping").
 *
 *   63      62          61 ────── 56   55 ─────────── 9   8 ─── 1   0
 *   copied  compressed  reserved       host offset        reserved  zero
 *
 *   A compressed entry has bit 62 set; bits 0 to 61 are host offset and sector count, never copied.
 *
 * Entries are read as two 32-bit halves, flags masked before the halves are joined.
 *
 * `word` is the index of the entry's first 8 bytes in its table or slice. An extended entry has a
 * second word, of its subclusters (extended-l2-entry.ts), and no zero flag in the first.
 */

import { remainder } from '../../../core/alignment.ts';
import type { HostOffset } from '../../../core/offsets.ts';
import { HIGH, LOW, TWO_32 } from './layout.ts';

/**
 * The state of a cluster in its L2 entry. `zero-allocated` reads as zeroes but keeps a host
 * cluster.
 */
export type ClusterType = 'unallocated' | 'zero' | 'zero-allocated' | 'normal' | 'compressed';

export function clusterTypeAt(slice: DataView, word: number): ClusterType {
  const high = slice.getUint32(word * 8);
  const low = slice.getUint32(word * 8 + 4);
  if ((high & HIGH.compressed) !== 0) return 'compressed';
  const hasOffset = (high & HIGH.offset) !== 0 || (low & LOW.offset) !== 0;
  if ((low & LOW.zero) !== 0) return hasOffset ? 'zero-allocated' : 'zero';
  // Offset 0 is valid only in an external data file; only such entries mark it copied.
  return hasOffset || (high & HIGH.copied) !== 0 ? 'normal' : 'unallocated';
}

/** Host offset in bytes; 0 if the entry has none. */
export function hostOffsetAt(slice: DataView, word: number): HostOffset {
  const high = slice.getUint32(word * 8) & HIGH.offset;
  const low = (slice.getUint32(word * 8 + 4) & LOW.offset) >>> 0;
  return high * TWO_32 + low;
}

/** Whether the entry's host cluster has a refcount of exactly one and may be written in place. */
export function isCopiedAt(slice: DataView, word: number): boolean {
  return slice.getUint32(word * 8) >= HIGH.copied;
}

/** Whether a write to this cluster must allocate: it has no host cluster, or a shared one. */
export function needsAllocationAt(slice: DataView, word: number): boolean {
  const high = slice.getUint32(word * 8);
  if (high < HIGH.copied || (high & HIGH.compressed) !== 0) return true;
  if ((high & HIGH.offset) !== 0) return false;
  const low = slice.getUint32(word * 8 + 4);
  return (low & LOW.offset) === 0 && (low & LOW.zero) !== 0;
}

/** Whether the entry is not all zero bits. */
export function isSetAt(slice: DataView, word: number): boolean {
  return slice.getUint32(word * 8) !== 0 || slice.getUint32(word * 8 + 4) !== 0;
}

/** Points the entry to a host cluster of refcount one. */
export function setAllocatedAt(slice: DataView, word: number, hostOffset: HostOffset): void {
  slice.setUint32(word * 8, (Math.floor(hostOffset / TWO_32) | HIGH.copied) >>> 0);
  slice.setUint32(word * 8 + 4, remainder(hostOffset, TWO_32));
}

/** Makes the entry read as zeroes, with no host cluster. */
export function setZeroAt(slice: DataView, word: number): void {
  slice.setUint32(word * 8, 0);
  slice.setUint32(word * 8 + 4, LOW.zero);
}

/** Sets the zero flag and keeps the rest of the entry. */
export function addZeroFlagAt(slice: DataView, word: number): void {
  slice.setUint32(word * 8 + 4, (slice.getUint32(word * 8 + 4) | LOW.zero) >>> 0);
}

export function clearAt(slice: DataView, word: number): void {
  slice.setUint32(word * 8, 0);
  slice.setUint32(word * 8 + 4, 0);
}

/** Sets or clears the copied flag and keeps the rest of the entry. */
export function setCopiedFlagAt(slice: DataView, word: number, copied: boolean): void {
  const high = slice.getUint32(word * 8);
  slice.setUint32(word * 8, copied ? (high | HIGH.copied) >>> 0 : high & ~HIGH.copied);
}

/** Where a compressed cluster's bytes lie: a range that need not be aligned to anything. */
export interface CompressedRange {
  readonly hostOffset: HostOffset;
  /** Bytes; as read from an entry, up to the end of its last 512-byte sector. */
  readonly length: number;
}

/**
 * Points the entry to `length` compressed bytes at `hostOffset`, which need not be aligned to
 * anything.
 */
export function setCompressedAt(
  slice: DataView,
  word: number,
  { hostOffset, length }: CompressedRange,
  clusterBits: number,
): void {
  const sectors = Math.floor((hostOffset + length - 1) / 512) - Math.floor(hostOffset / 512);
  const entry = (1n << 62n) | (BigInt(sectors) << compressedOffsetBits(clusterBits)) | BigInt(hostOffset);
  slice.setBigUint64(word * 8, entry);
}

/** Bits of the host offset in a compressed cluster descriptor. */
export function compressedOffsetBits(clusterBits: number): bigint {
  return BigInt(62 - (clusterBits - 8));
}

/**
 * Decodes a compressed cluster descriptor: with x = 62 − (clusterBits − 8), bits 0 to x − 1 are the
 * host offset and bits x to 61 the number of additional 512-byte sectors.
 */
export function compressedRangeAt(slice: DataView, word: number, clusterBits: number): CompressedRange {
  const entry = slice.getBigUint64(word * 8);
  const offsetBits = compressedOffsetBits(clusterBits);
  const offset = entry & ((1n << offsetBits) - 1n);
  const sectors = (entry & 0x3fff_ffff_ffff_ffffn) >> offsetBits;
  return {
    hostOffset: Number(offset),
    length: (Number(sectors) + 1) * 512 - Number(offset & 511n),
  };
}
