/**
 * Copying and comparing whole files that are mostly holes: a disk image of a TiB may hold a few clusters.
 *
 * Invariants:
 * - Only what the file system stores is read (SEEK_DATA); a stretch that it cannot tell about counts as stored.
 * - What is reserved and not written stays so in a copy: QEMU counts a file's blocks.
 * - Memory is two chunks, whatever the files' length.
 */

import type { BlockDevice } from '../device/block-device.ts';
import { HostFile } from '../device/host-file.ts';
import { reservedExtents, reserveExtents } from '../device/reserved-extents.ts';

const CHUNK_BYTES = 1024 * 1024;

/**
 * Makes `to` the same bytes as `from`, with holes and reservations where `from` has them: QEMU looks at them, and probes
 * the alignment for O_DIRECT on the first block. `to` must not exist.
 */
export async function copySparse(from: string, to: string): Promise<void> {
  using source = new HostFile(from, { label: 'image', readOnly: true, canZeroRange: false });
  using target = new HostFile(to, { label: 'image', create: 'new', canZeroRange: false });
  target.truncate(source.size(), 'data');
  reserveExtents(target.fd, reservedExtents(source.fd, source.size()));
  const chunk = Buffer.allocUnsafe(CHUNK_BYTES);
  for (const { offset, length } of storedChunks(source)) {
    const bytes = chunk.subarray(0, length);
    source.read(offset, bytes, 'data');
    target.write(offset, bytes, 'data');
    await turn();
  }
}

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

/** What a file stores, in pieces of at most a chunk, from its start to its end. */
function* storedChunks(
  file: Pick<BlockDevice, 'size' | 'extentAt'>,
): Generator<{ readonly offset: number; readonly length: number }, undefined> {
  const size = file.size();
  for (let at = 0; at < size;) {
    const extent = file.extentAt(at);
    const end = at + extent.length;
    if (extent.isData) {
      for (let offset = at; offset < end; offset += CHUNK_BYTES) {
        yield { offset, length: Math.min(CHUNK_BYTES, end - offset) };
      }
    }
    at = end;
  }
  return undefined;
}

/** System calls here are synchronous: signals and the terminal get their turn between two of them. */
function turn(): Promise<void> {
  return new Promise((resolve) => {
    setImmediate(resolve);
  });
}
