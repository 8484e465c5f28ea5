/**
 * The codec of extended L2 entries (qcow2 specification, "Extended L2 Entries"): a cluster of 32
 * subclusters, each allocated, zero, or neither.
 *
 *   first word   as in l2-entry.ts, but without a zero flag
 *   second word  63 ──────────────────── 32   31 ───────────────────── 0
 *                subcluster reads as zeroes   subcluster is allocated
 *
 * Invariants of a good entry: no subcluster is both; none is allocated where there is no host
 * cluster; both maps of a compressed cluster are empty.
 *
 * As everywhere, `word` is the index of the entry's first 8 bytes in its table or slice.
 */

import { clusterTypeAt } from './l2-entry.ts';
import { SUBCLUSTERS } from './layout.ts';

/**
 * What an extended entry says of a subcluster. `unallocated-kept` is in a host cluster that other
 * subclusters use; `invalid` breaks a rule of the format.
 */
export type SubclusterType =
  'unallocated' | 'unallocated-kept' | 'zero' | 'zero-allocated' | 'normal' | 'compressed' | 'invalid';

/** A map with every subcluster in it. */
export const ALL_SUBCLUSTERS = 0xffff_ffff;

/** Bit n: subcluster n is allocated. */
export function allocatedMapAt(slice: DataView, word: number): number {
  return slice.getUint32(word * 8 + 12);
}

/** Bit n: subcluster n reads as zeroes. */
export function zeroMapAt(slice: DataView, word: number): number {
  return slice.getUint32(word * 8 + 8);
}

export interface SubclusterMaps {
  readonly allocated: number;
  readonly zero: number;
}

export function setMapsAt(slice: DataView, word: number, { allocated, zero }: SubclusterMaps): void {
  slice.setUint32(word * 8 + 8, zero >>> 0);
  slice.setUint32(word * 8 + 12, allocated >>> 0);
}

/** The subclusters `from` to `to` − 1 as a map. */
export function subclusterRange(from: number, to: number): number {
  const below = (count: number): number => (count === SUBCLUSTERS ? ALL_SUBCLUSTERS : 2 ** count - 1);
  return (below(to) & ~below(from)) >>> 0;
}

/** Marks the subclusters `from` to `to` − 1 as allocated. */
export function setWrittenAt(slice: DataView, word: number, from: number, to: number): void {
  const written = subclusterRange(from, to);
  const allocated = allocatedMapAt(slice, word) | written;
  setMapsAt(slice, word, { allocated, zero: zeroMapAt(slice, word) & ~written });
}

export function subclusterTypeAt(slice: DataView, word: number, subcluster: number): SubclusterType {
  const allocated = allocatedMapAt(slice, word);
  const zero = zeroMapAt(slice, word);
  const isAllocated = ((allocated >>> subcluster) & 1) === 1;
  const isZero = ((zero >>> subcluster) & 1) === 1;
  switch (clusterTypeAt(slice, word)) {
    case 'compressed':
      return 'compressed';
    case 'normal':
    case 'zero-allocated':
      if ((allocated & zero) !== 0) return 'invalid';
      if (isZero) return 'zero-allocated';
      return isAllocated ? 'normal' : 'unallocated-kept';
    case 'unallocated':
    case 'zero':
      if (allocated !== 0) return 'invalid';
      return isZero ? 'zero' : 'unallocated';
  }
}

/** How many subclusters from `first` on, up to `end`, are of its type. */
export function countAlikeAt(slice: DataView, word: number, first: number, end: number): number {
  const type = subclusterTypeAt(slice, word, first);
  if (type === 'compressed') return end - first;
  let next = first + 1;
  while (next < end && subclusterTypeAt(slice, word, next) === type) next++;
  return next - first;
}
