/**
 * Copies of whole host files that are mostly holes: a disk image of a TiB may hold a few clusters.
 *
 * Invariants:
 * - The source is opened read-only and never changed. A copy is complete and durable, shared or
 *   not, or it is removed: the first sync of a timed pass would else pay for the copy.
 * - The file system shares the extents where it can (FICLONE). Else only what it stores is read
 *   (SEEK_DATA); a range it cannot describe counts as stored.
 * - Holes stay holes, and space that is reserved and not written stays so: QEMU looks at both.
 * - Memory is one chunk, whatever the file's length.
 */

import { constants } from 'node:fs';
import { dirname } from 'node:path';

import { Qcow2BenchError } from '../core/error.ts';
import { chmodSync, copyFileSync, rmSync, statSync, statfsSync } from '../core/host-fs.ts';
import { humanSize } from '../core/size.ts';
import type { BlockDevice } from './block-device.ts';
import { HostFile } from './host-file.ts';
import { refuseOtherThanRegular } from './host-file-open.ts';
import { reservedExtents, reserveExtents } from './reserved-extents.ts';

export const CHUNK_BYTES = 1024 * 1024;
/** Of `stat.blocks`, whatever the file system's own. */
const BLOCK_BYTES = 512;

/**
 * Copies `from` to `to`, which must not exist. Only the user may read the copy, even if others may
 * read the source.
 *
 * @param signal stops it between two chunks
 * @throws Qcow2BenchError `no-space` if the file system of `to` has less than the file takes; what
 *   opening, reading and writing the files throws; the signal's reason.
 */
export async function copyFile(from: string, to: string, signal?: AbortSignal): Promise<void> {
  refuseOtherThanRegular(from);
  const isShared = clone(from, to);
  if (!isShared) refuseWithoutSpace(from, to);
  try {
    if (!isShared) await copySparse(from, to, signal);
    // A shared copy has the mode of the source, which may be read-only.
    chmodSync(to, PRIVATE);
    using copy = new HostFile(to, { label: 'image', canZeroRange: false });
    copy.sync('close');
  } catch (error) {
    // A name that was taken is not ours to remove.
    if (!(error instanceof Qcow2BenchError && error.code === 'file-exists')) rmSync(to, { force: true });
    throw error;
  }
}

const PRIVATE = 0o600;

/** Whether the file system made a copy that shares the extents. */
function clone(from: string, to: string): boolean {
  try {
    copyFileSync(from, to, constants.COPYFILE_EXCL | constants.COPYFILE_FICLONE_FORCE);
    return true;
  } catch {
    return false;
  }
}

function refuseWithoutSpace(from: string, to: string): void {
  const needed = (statSync(from, { throwIfNoEntry: false })?.blocks ?? 0) * BLOCK_BYTES;
  const directory = dirname(to);
  const { bavail, bsize } = statfsSync(directory);
  if (needed <= bavail * bsize) return;
  throw new Qcow2BenchError(
    'no-space',
    `a copy needs ${humanSize(needed)}, but ${directory} has ${humanSize(bavail * bsize)} free: use --dir with a directory that has more space`,
    { path: from },
  );
}

/**
 * Makes `to`, which must not exist, the same bytes as `from`, with holes and reservations where
 * `from` has them.
 */
export async function copySparse(from: string, to: string, signal?: AbortSignal): Promise<void> {
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
    signal?.throwIfAborted();
  }
}

/** What a file stores, in pieces of at most a chunk, from its start to its end. */
export function* storedChunks(
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

/**
 * System calls here are synchronous: signals and the terminal get their turn between two of them.
 */
export function turn(): Promise<void> {
  return new Promise((resolve) => {
    setImmediate(resolve);
  });
}
