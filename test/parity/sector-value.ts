/** Sectors whose bytes are all alike, told fast: most of what the lists write is made of them. */

import { SECTOR_SIZE } from '../../src/workload/request.ts';

const FILLED = Array.from({ length: 256 }, (_, value) => Buffer.alloc(SECTOR_SIZE, value));

/** What all bytes of a sector are; `undefined` if they differ. */
export function sectorValue(sector: Uint8Array): number | undefined {
  const [value = 0] = sector;
  return isSectorOf(sector, value) ? value : undefined;
}

export function isSectorOf(sector: Uint8Array, value: number): boolean {
  const filled = FILLED[value] as Buffer;
  const { byteLength } = sector;
  // The last sector of a file may be short.
  return (byteLength === SECTOR_SIZE ? filled : filled.subarray(0, byteLength)).equals(sector);
}
