/**
 * What the parts of a merged write say together: its length, and the purpose it is counted under.
 */

import type { WritePart } from './block-device.ts';
import type { Purpose } from './purpose.ts';

/**
 * The most buffers one merged write may have; every system takes at least 16 (POSIX
 * `_XOPEN_IOV_MAX`).
 */
export const MERGED_PARTS_MAX = 16;

/** Bytes of all parts. */
export function mergedLength(parts: readonly WritePart[]): number {
  let length = 0;
  for (const part of parts) length += part.bytes.byteLength;
  return length;
}

/**
 * The purpose under which the one operation is counted: that of the first part which is not
 * copy-on-write fill, because the fill is there for its sake; `cow` if there is nothing else.
 */
export function mergedPurpose(parts: readonly WritePart[]): Purpose {
  for (const part of parts) if (part.purpose !== 'cow') return part.purpose;
  return 'cow';
}

/** The bytes of all parts, one after another, in memory of their own. */
export function joinedParts(parts: readonly WritePart[]): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(mergedLength(parts));
  gatherParts(parts, bytes);
  return bytes;
}

/** Lays the parts one after another into `target`. */
export function gatherParts(parts: readonly WritePart[], target: Uint8Array): void {
  let at = 0;
  for (const { bytes } of parts) {
    target.set(bytes, at);
    at += bytes.byteLength;
  }
}
