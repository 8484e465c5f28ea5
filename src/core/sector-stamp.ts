/**
 * Guest data that name their place: each sector has its own number and the number of the write, so
 * that old data, data of another place and foreign data are distinguished wherever they turn up.
 */

import { SECTOR_SIZE } from './alignment.ts';

/**
 * A stamp fills its sector: sector number low, high, write number, magic, and so on. 32 bits each.
 */
const STAMP_WORDS = 4;
export const SECTOR_WORDS = SECTOR_SIZE / 4;
const STAMP_MAGIC = 0x7162_7631;
const TWO_32 = 0x1_0000_0000;

export interface Stamp {
  /** Number of the guest sector. */
  readonly sector: number;
  /** Number of the write, below 2^32. */
  readonly write: number;
}

/** `bytes` as the words that stamps are made of; they start at a multiple of four. */
export function wordsOf(bytes: Uint8Array): Uint32Array {
  return new Uint32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 4);
}

/** Fills whole sectors, from the one that `stamp` names on. */
export function stampSectors(bytes: Uint8Array, { sector, write }: Stamp): void {
  const words = wordsOf(bytes);
  for (let from = 0, at = sector; from < words.length; at++) {
    const high = Math.floor(at / TWO_32);
    for (const end = from + SECTOR_WORDS; from < end; from += STAMP_WORDS) {
      words[from] = at;
      words[from + 1] = high;
      words[from + 2] = write;
      words[from + 3] = STAMP_MAGIC;
    }
  }
}

/** Whether the sector in `words` from `from` on is the whole of this stamp. */
export function isStamped(words: Uint32Array, from: number, { sector, write }: Stamp): boolean {
  const low = sector >>> 0;
  const high = Math.floor(sector / TWO_32);
  for (let at = from; at < from + SECTOR_WORDS; at += STAMP_WORDS) {
    if (words[at] !== low || words[at + 1] !== high) return false;
    if (words[at + 2] !== write || words[at + 3] !== STAMP_MAGIC) return false;
  }
  return true;
}

/** The stamp that fills the sector, if one does. */
export function stampOf(words: Uint32Array, from: number): Stamp | undefined {
  const [low = 0, high = 0, write = 0] = words.subarray(from, from + 3);
  const stamp = { sector: high * TWO_32 + low, write };
  return isStamped(words, from, stamp) ? stamp : undefined;
}
