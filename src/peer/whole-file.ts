/**
 * Comparing whole files that are mostly holes: a disk image of a TiB may hold a few clusters.
 *
 * Invariants:
 * - Only what the file system stores is read (SEEK_DATA); a range without this information counts
 *   as stored.
 * - Memory is two chunks, whatever the files' length.
 */

import { CHUNK_BYTES, storedChunks, turn } from '../device/file-copy.ts';
import { HostFile } from '../device/host-file.ts';

/** Whether two files have the same length and bytes. */
export async function sameBytes(left: string, right: string): Promise<boolean> {
  return (await firstDifference(left, right)) === undefined;
}

/** Where two files first differ, in bytes; `undefined` if they are the same to the end. */
export async function firstDifference(left: string, right: string): Promise<number | undefined> {
  let difference = Infinity;
  for await (const { offset, ours, theirs } of differingChunks(left, right)) {
    if (offset >= difference) continue;
    const at = ours.findIndex((byte, index) => byte !== theirs[index]);
    difference = Math.min(difference, offset + (at < 0 ? ours.byteLength : at));
  }
  return difference === Infinity ? undefined : difference;
}

/** A stretch of two files that is not the same in both; the bytes are gone with the next one. */
export interface DifferingChunk {
  readonly offset: number;
  readonly ours: Uint8Array;
  /** Of the same length; both are empty where one file ends before the other. */
  readonly theirs: Uint8Array;
}

/** Everything in which two files differ, in chunks, some of which may come twice; in no order. */
export async function* differingChunks(
  left: string,
  right: string,
): AsyncGenerator<DifferingChunk, undefined> {
  using first = new HostFile(left, { label: 'image', readOnly: true, canZeroRange: false });
  using second = new HostFile(right, { label: 'image', readOnly: true, canZeroRange: false });
  const mine = Buffer.allocUnsafe(CHUNK_BYTES);
  const other = Buffer.allocUnsafe(CHUNK_BYTES);
  if (first.size() !== second.size()) {
    yield {
      offset: Math.min(first.size(), second.size()),
      ours: new Uint8Array(0),
      theirs: new Uint8Array(0),
    };
  }
  // What one stores and the other does not is compared as well: a hole reads as zeroes.
  for (const file of [first, second]) {
    for (const { offset, length } of storedChunks(file)) {
      const ours = mine.subarray(0, length);
      const theirs = other.subarray(0, length);
      first.read(offset, ours, 'data');
      second.read(offset, theirs, 'data');
      if (!ours.equals(theirs)) yield { offset, ours, theirs };
      await turn();
    }
  }
  return undefined;
}
