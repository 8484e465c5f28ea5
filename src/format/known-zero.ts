/**
 * Whether a range of an image is known to read as zeroes *by the map*: from tables and sizes of the
 * whole backing chain, without looking at content.
 *
 * QEMU asks this in two ways, and so do we. Before it fills around a write it asks fast: one kind
 * of zeroes for the whole range, and a hole in a raw file does not count. Before it turns a
 * zero-write of part of a cluster into one of the whole, it may ask long: piece by piece, and holes
 * count.
 */

import type { GuestOffset } from '../core/offsets.ts';
import type { DiskImage } from './disk-image.ts';

/**
 * The fast way.
 *
 * @param length bytes; at least 1. The range may reach past the image's end, where it reads as
 *   zeroes.
 */
export async function isKnownZero(
  image: DiskImage,
  guestOffset: GuestOffset,
  length: number,
): Promise<boolean> {
  if (guestOffset >= image.virtualSize) return true;
  // A range that only partly is in the image has two kinds of zeroes; the check answers for one.
  if (guestOffset + length > image.virtualSize) return false;
  const mapping = await image.map(guestOffset, length);
  if (mapping.length < length) return false;
  switch (mapping.kind) {
    case 'zero':
      return true;
    case 'unallocated':
      return image.backing === undefined || isKnownZero(image.backing, guestOffset, length);
    case 'data':
    case 'hole':
    case 'compressed':
      return false;
  }
}

/** The long way. The range may reach past the image's end. */
export async function isZeroInPieces(
  image: DiskImage,
  guestOffset: GuestOffset,
  length: number,
): Promise<boolean> {
  for (let done = 0; done < length;) {
    const zeroes = await zeroesAt(image, guestOffset + done, length - done);
    if (zeroes === 0) return false;
    done += zeroes;
  }
  return true;
}

/** How many bytes from `guestOffset` on are zeroes of one kind; 0 if the first is none. */
async function zeroesAt(image: DiskImage, guestOffset: GuestOffset, length: number): Promise<number> {
  if (guestOffset >= image.virtualSize) return length;
  const inside = Math.min(length, image.virtualSize - guestOffset);
  const mapping = await image.map(guestOffset, inside, { seeHoles: true });
  switch (mapping.kind) {
    case 'zero':
    case 'hole':
      return mapping.length;
    case 'unallocated':
      return image.backing === undefined
        ? mapping.length
        : zeroesAt(image.backing, guestOffset, mapping.length);
    case 'data':
    case 'compressed':
      return 0;
  }
}
