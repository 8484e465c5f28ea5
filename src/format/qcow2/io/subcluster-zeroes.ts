/**
 * What discards and zero-writes make of extended L2 entries: whole clusters get an empty entry with
 * all zero bits, parts of one only their zero bits, with the host cluster kept.
 */

import {
  ALL_SUBCLUSTERS,
  allocatedMapAt,
  setMapsAt,
  subclusterRange,
  zeroMapAt,
} from '../on-disk/extended-l2-entry.ts';
import { clearAt, clusterTypeAt, isCopiedAt } from '../on-disk/l2-entry.ts';

/**
 * What became of an entry; the host clusters of one that is `freed` are given back, one that is
 * `emptied` keeps its host cluster, whose bytes are given back.
 */
export type EntryChange = 'kept' | 'changed' | 'freed' | 'emptied';

/** Drops a cluster; it reads as zeroes afterwards, never as the backing file. */
export function discardExtended(
  slice: DataView,
  word: number,
  { hasBacking, keepsPlace }: { readonly hasBacking: boolean; readonly keepsPlace: boolean },
): EntryChange {
  const type = clusterTypeAt(slice, word);
  const isAllocated = type !== 'unallocated';
  if (!hasBacking && !isAllocated) return 'kept';
  if (!isAllocated && isAllZero(slice, word)) return 'kept';
  if (keepsPlace && type === 'normal') return emptyExtended(slice, word);
  clearAt(slice, word);
  setMapsAt(slice, word, { allocated: 0, zero: ALL_SUBCLUSTERS });
  return 'freed';
}

/** Makes a whole cluster read as zeroes; with `unmap` its host cluster is given back. */
export function zeroExtended(
  slice: DataView,
  word: number,
  { unmap, keepsPlace }: { readonly unmap: boolean; readonly keepsPlace: boolean },
): EntryChange {
  const type = clusterTypeAt(slice, word);
  if (unmap && keepsPlace && type === 'normal') return emptyExtended(slice, word);
  const frees = type === 'compressed' || (unmap && type !== 'unallocated');
  if (!frees && isAllZero(slice, word)) return 'kept';
  if (frees) clearAt(slice, word);
  setMapsAt(slice, word, { allocated: 0, zero: ALL_SUBCLUSTERS });
  return frees ? 'freed' : 'changed';
}

/** As `emptyAt` of the discards. */
function emptyExtended(slice: DataView, word: number): EntryChange {
  if (isAllZero(slice, word)) return 'kept';
  setMapsAt(slice, word, { allocated: 0, zero: ALL_SUBCLUSTERS });
  return isCopiedAt(slice, word) ? 'emptied' : 'changed';
}

/** Drops a cluster that the disk loses. */
export function cutOffExtended(slice: DataView, word: number): EntryChange {
  const isAllocated = clusterTypeAt(slice, word) !== 'unallocated';
  if (!isAllocated && allocatedMapAt(slice, word) === 0 && zeroMapAt(slice, word) === 0) return 'kept';
  clearAt(slice, word);
  setMapsAt(slice, word, { allocated: 0, zero: 0 });
  return 'freed';
}

/**
 * Makes the subclusters `from` to `to` − 1 read as zeroes; a compressed cluster has none, and is
 * `refused`.
 */
export function zeroSubclusters(
  slice: DataView,
  word: number,
  from: number,
  to: number,
): 'kept' | 'changed' | 'refused' {
  if (clusterTypeAt(slice, word) === 'compressed') return 'refused';
  const range = subclusterRange(from, to);
  const before = { allocated: allocatedMapAt(slice, word), zero: zeroMapAt(slice, word) };
  const after = { allocated: (before.allocated & ~range) >>> 0, zero: (before.zero | range) >>> 0 };
  if (after.allocated === before.allocated && after.zero === before.zero) return 'kept';
  setMapsAt(slice, word, after);
  return 'changed';
}

function isAllZero(slice: DataView, word: number): boolean {
  return zeroMapAt(slice, word) === ALL_SUBCLUSTERS && allocatedMapAt(slice, word) === 0;
}
