/**
 * Copying and comparing whole files that are mostly holes: a disk image of a GiB may hold a few clusters.
 *
 * Invariant: memory is two chunks, whatever the files' length.
 */

import { open, type FileHandle } from 'node:fs/promises';

const CHUNK_BYTES = 1024 * 1024;
const ZEROES = Buffer.alloc(CHUNK_BYTES);

/** Makes `to` the same bytes as `from`; stretches of zeroes become holes. `to` must not exist. */
export async function copySparse(from: string, to: string): Promise<void> {
  await using source = await open(from, 'r');
  await using target = await open(to, 'wx');
  const { size, blocks } = await source.stat();
  await target.truncate(size);
  // One hole.
  if (blocks === 0) return;
  const chunk = Buffer.allocUnsafe(CHUNK_BYTES);
  for (let at = 0; at < size; at += CHUNK_BYTES) {
    const bytes = await readAt(source, chunk, at);
    if (!bytes.equals(ZEROES.subarray(0, bytes.byteLength))) {
      await target.write(bytes, 0, bytes.byteLength, at);
    }
  }
}

/** Whether two files have the same length and bytes. */
export async function sameBytes(left: string, right: string): Promise<boolean> {
  await using first = await open(left, 'r');
  await using second = await open(right, 'r');
  const { size } = await first.stat();
  if ((await second.stat()).size !== size) return false;
  const ours = Buffer.allocUnsafe(CHUNK_BYTES);
  const theirs = Buffer.allocUnsafe(CHUNK_BYTES);
  for (let at = 0; at < size; at += CHUNK_BYTES) {
    if (!(await readAt(first, ours, at)).equals(await readAt(second, theirs, at))) return false;
  }
  return true;
}

/** The bytes at `offset`, as many as `chunk` holds or the file still has. */
async function readAt(file: FileHandle, chunk: Buffer, offset: number): Promise<Buffer> {
  let length = 0;
  while (length < chunk.byteLength) {
    const { bytesRead } = await file.read(chunk, length, chunk.byteLength - length, offset + length);
    if (bytesRead === 0) break;
    length += bytesRead;
  }
  return chunk.subarray(0, length);
}
