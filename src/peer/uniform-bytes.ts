/**
 * Stretches whose bytes are all alike, detected fast: payloads of the pattern are made of them, and
 * qemu-io can check one such stretch of a read.
 */

import { SECTOR_SIZE } from '../workload/request.ts';
import type { ExpectedBytes } from './qemu-io.ts';

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

/** All of `bytes`, in stretches of one value. */
export function* uniformRuns(bytes: Uint8Array): Generator<ExpectedBytes, undefined> {
  for (let from = 0; from < bytes.byteLength;) {
    const value = bytes[from] ?? 0;
    let end = from;
    while (end < bytes.byteLength) {
      if (isSectorOf(bytes.subarray(end, end + SECTOR_SIZE), value)) end += SECTOR_SIZE;
      else if (bytes[end] === value) end++;
      else break;
    }
    end = Math.min(end, bytes.byteLength);
    yield { value, from, length: end - from };
    from = end;
  }
  return undefined;
}

export function longestUniformRun(bytes: Uint8Array): ExpectedBytes {
  let longest: ExpectedBytes = { value: 0, from: 0, length: 0 };
  for (const run of uniformRuns(bytes)) if (run.length > longest.length) longest = run;
  return longest;
}
