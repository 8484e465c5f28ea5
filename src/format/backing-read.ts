/**
 * Reading from a backing image that may be shorter than its overlay: what is past its end is zero.
 */

import type { GuestOffset } from '../core/offsets.ts';
import type { Pending } from '../core/pending.ts';
import type { DiskImage } from './disk-image.ts';

/**
 * Fills `target` with what the backing image holds from `guestOffset` on; without one, or past its
 * end, with zeroes.
 *
 * @param guestOffset bytes, a multiple of 512, as is the length of `target`.
 */
export function readFromBacking(
  backing: DiskImage | undefined,
  guestOffset: GuestOffset,
  target: Uint8Array,
): Pending {
  const available = backing === undefined ? 0 : backing.virtualSize - guestOffset;
  if (backing === undefined || available <= 0) {
    target.fill(0);
    return undefined;
  }
  if (available >= target.byteLength) return backing.read(guestOffset, target);
  target.fill(0, available);
  return backing.read(guestOffset, target.subarray(0, available));
}
