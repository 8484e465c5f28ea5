/** The checksum of everything that the format checks: CRC-32 as in zlib. */

import { crc32 } from 'node:zlib';

/** @param before the checksum of what comes before `bytes`, to go on with */
export function checksum(bytes: Uint8Array, before = 0): number {
  return crc32(bytes, before);
}
