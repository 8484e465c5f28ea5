/**
 * Whether a range of an image is known to read as zeroes *by the map*: from tables and sizes of the whole
 * backing chain, without looking at content. A hole in a raw file does not count, as in QEMU's fast check.
 */

import type { DiskImage } from './disk-image.ts';

/** @param length bytes; at least 1. The range may reach past the image's end, where it reads as zeroes. */
export async function isKnownZero(image: DiskImage, guestOffset: number, length: number): Promise<boolean> {
  if (guestOffset >= image.virtualSize) return true;
  // A range that only partly lies in the image has two kinds of zeroes; the check answers for one.
  if (guestOffset + length > image.virtualSize) return false;
  const mapping = await image.map(guestOffset, length);
  if (mapping.length < length) return false;
  switch (mapping.kind) {
    case 'zero':
      return true;
    case 'unallocated':
      return image.backing === undefined || isKnownZero(image.backing, guestOffset, length);
    case 'data':
    case 'compressed':
      return false;
  }
}
