/**
 * The answer to BLOCK_STATUS in the context `base:allocation`: what of a range is a hole, and what
 * reads as zeroes.
 *
 * Invariants: an answer comes from the tables of the backing chain and from holes of its files, as
 * in qemu-nbd, never from content; it has at least one extent and at most as many as the limit; no
 * two neighbours have the same flags; no extent of an answer for one goes past the range.
 */

import { alignDown, alignUp } from '../core/alignment.ts';
import type { DiskImage } from '../format/disk-image.ts';
import { SECTOR_SIZE } from '../workload/request.ts';
import type { Extent } from './message-codec.ts';
import { ALLOCATION_FLAG, NBD_LIMITS } from './protocol.ts';

const DATA = 0;
const HOLE = ALLOCATION_FLAG.hole | ALLOCATION_FLAG.zero;

/**
 * @param range bytes within the image, not empty. @throws Qcow2BenchError of the image's tables.
 */
export async function allocationStatus(
  image: DiskImage,
  { offset, length }: { readonly offset: number; readonly length: number },
  { onlyOne }: { readonly onlyOne: boolean },
): Promise<readonly Extent[]> {
  const extents: { length: number; flags: number }[] = [];
  const end = offset + length;
  let at = offset;
  while (at < end) {
    // Tables are asked in whole sectors; what is outside the range is cut off again.
    const start = alignDown(at, SECTOR_SIZE);
    const found = await statusAt(image, start, alignUp(end, SECTOR_SIZE) - start);
    const foundEnd = Math.min(end, start + found.length);
    const last = extents.at(-1);
    if (last?.flags === found.flags) {
      last.length += foundEnd - at;
    } else {
      if (extents.length === (onlyOne ? 1 : NBD_LIMITS.extents)) break;
      extents.push({ length: foundEnd - at, flags: found.flags });
    }
    at = foundEnd;
  }
  return extents;
}

/**
 * The chain's status of the bytes from `offset` on, and its minimum length; past an image's end is
 * a hole.
 */
async function statusAt(image: DiskImage, offset: number, length: number): Promise<Extent> {
  const inside = Math.min(length, image.virtualSize - offset);
  if (inside <= 0) return { length, flags: HOLE };
  const mapping = await image.map(offset, inside, { seeHoles: true });
  switch (mapping.kind) {
    case 'zero':
      return { length: mapping.length, flags: HOLE };
    case 'unallocated':
      return image.backing === undefined
        ? { length: mapping.length, flags: HOLE }
        : statusAt(image.backing, offset, mapping.length);
    case 'hole':
      return { length: mapping.length, flags: ALLOCATION_FLAG.zero };
    case 'data':
    case 'compressed':
      return { length: mapping.length, flags: DATA };
  }
}
