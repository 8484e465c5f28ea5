/**
 * Reading and writing integers in on-disk structures.
 *
 * 64-bit fields are read as two 32-bit halves: a `BigInt` per table entry costs 7 to 20 times as
 * much. A value that does not fit a JavaScript number (2^53 or more) is never rounded: the reader
 * either answers `undefined`, for the caller to name the field in its error, or hands out the
 * halves.
 */

import { remainder } from './alignment.ts';

const TWO_32 = 0x1_0000_0000;
/** The high half of the largest safe integer, 2^53 − 1. */
const SAFE_HIGH = 0x1f_ffff;

/** Big-endian u64, or `undefined` if it exceeds 2^53 − 1. */
export function readU64be(view: DataView, offset: number): number | undefined {
  const high = view.getUint32(offset);
  if (high > SAFE_HIGH) return undefined;
  return high * TWO_32 + view.getUint32(offset + 4);
}

/** Little-endian u64, or `undefined` if it exceeds 2^53 − 1. */
export function readU64le(view: DataView, offset: number): number | undefined {
  const high = view.getUint32(offset + 4, true);
  if (high > SAFE_HIGH) return undefined;
  return high * TWO_32 + view.getUint32(offset, true);
}

/** Writes `value` (an integer from 0 to 2^53 − 1) as a big-endian u64. */
export function writeU64be(view: DataView, offset: number, value: number): void {
  view.setUint32(offset, Math.floor(value / TWO_32));
  view.setUint32(offset + 4, remainder(value, TWO_32));
}

/** Writes `value` (an integer from 0 to 2^53 − 1) as a little-endian u64. */
export function writeU64le(view: DataView, offset: number, value: number): void {
  view.setUint32(offset, remainder(value, TWO_32), true);
  view.setUint32(offset + 4, Math.floor(value / TWO_32), true);
}

/** Words of eight bytes that are compared with zeroes at once. */
const EMPTY_WORDS = 512;
const EMPTY = new Uint8Array(8 * EMPTY_WORDS);
/** Words that are looked at one by one first: a comparison of memory costs more than a few of them. */
const FEW_WORDS = 64;

/**
 * The first word of eight bytes from `first` on that is not all zeroes, `end` if there is none: of a
 * sparse table the most is passed over here.
 */
export function emptyWordsEnd(table: DataView, first: number, end: number): number {
  const halves = new Int32Array(table.buffer, table.byteOffset, table.byteLength / 4);
  const few = emptyHalvesEnd(halves, 2 * first, 2 * Math.min(end, first + FEW_WORDS)) / 2;
  if (few < first + FEW_WORDS) return few;
  let at = few;
  while (at + EMPTY_WORDS <= end) {
    const words = new Uint8Array(table.buffer, table.byteOffset + 8 * at, EMPTY.byteLength);
    if (Buffer.compare(words, EMPTY) !== 0) break;
    at += EMPTY_WORDS;
  }
  return emptyHalvesEnd(halves, 2 * at, 2 * end) / 2;
}

function emptyHalvesEnd(halves: Int32Array, first: number, end: number): number {
  let at = first;
  const isEmpty = (from: number): boolean => ((halves[from] as number) | (halves[from + 1] as number)) === 0;
  while (at + 8 <= end && isEmpty(at) && isEmpty(at + 2) && isEmpty(at + 4) && isEmpty(at + 6)) at += 8;
  while (at < end && isEmpty(at)) at += 2;
  return at;
}

/** A view over exactly the bytes of `bytes`. */
export function viewOf(bytes: Uint8Array): DataView<ArrayBuffer> {
  return new DataView(bytes.buffer as ArrayBuffer, bytes.byteOffset, bytes.byteLength);
}
