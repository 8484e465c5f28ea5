/**
 * Where a file has space that was reserved and never written. SEEK_DATA calls that a hole, but to
 * write there costs less, and programs that look at a file's blocks see it.
 */

import { loadFallocate } from './fallocate.ts';
import { mappedExtents } from './fiemap.ts';

/** Bytes of a file. */
export interface ReservedExtent {
  readonly offset: number;
  readonly length: number;
}

/** The reservations of an open file that are before `size`, in order. */
export function* reservedExtents(fd: number, size: number): Generator<ReservedExtent, undefined> {
  for (const { offset, length, isUnwritten } of mappedExtents(fd, size)) {
    if (isUnwritten) yield { offset, length: Math.min(offset + length, size) - offset };
  }
  return undefined;
}

/** Reserves the same in another file, as far as that is possible here. */
export function reserveExtents(fd: number, extents: Iterable<ReservedExtent>): void {
  const binding = loadFallocate();
  if (!binding.ok) return;
  for (const { offset, length } of extents) binding.fallocate.reserve(fd, offset, length);
}
