/**
 * Putting an image over another backing file, or none, as `qemu-img rebase` does: its disk stays
 * what it is.
 *
 * Invariants:
 * - What the old files hold and the new ones do not is copied into the image, and is durable before
 *   the header names the new file.
 * - A rebase that fails or is stopped leaves the image over its old backing file; what was copied
 *   until then stays, and reads the same.
 */

import { dirname, resolve } from 'node:path';
import { setImmediate as turn } from 'node:timers/promises';

import { SECTOR_SIZE } from '../core/alignment.ts';
import { Qcow2BenchError } from '../core/error.ts';
import { allocatePages } from '../core/page-memory.ts';
import { followLinks } from '../device/file-storage.ts';
import type { BackingPolicy } from '../format/backing-chain.ts';
import type { DiskImage, Format } from '../format/disk-image.ts';
import { openEmptyBacking } from '../format/lone-file.ts';
import { impossibleImage } from '../format/registry.ts';
import { changeImage } from './change-image.ts';
import { WRITABLE_HOST_FILES } from './host-image.ts';
import { openChain } from './open-chain.ts';

/** Bytes that are compared at a time. */
const CHUNK_BYTES = 2 * 1024 * 1024;

export interface RebaseImageOptions {
  /** A path of the host. */
  readonly path: string;
  readonly format: Format;
  /** For the files behind the image, the old and the new. */
  readonly policy?: BackingPolicy | undefined;
  /**
   * The new backing file, by its name as it is stored: an absolute path, or relative to the image's
   * directory; `undefined`: none.
   */
  readonly backing: { readonly name: string; readonly format: Format } | undefined;
  /**
   * Only name the new file: the caller knows that it reads as the old one. The old one is not
   * opened. Default false.
   */
  readonly unsafe?: boolean | undefined;
  /** Called regularly with how much of the disk is done. */
  readonly onProgress?: ((doneBytes: number, totalBytes: number) => void) | undefined;
  readonly signal?: AbortSignal | undefined;
}

export interface RebasedImage {
  /** Bytes that were copied into the image. */
  readonly copiedBytes: number;
}

/**
 * Rebases an image.
 *
 * @throws Qcow2BenchError `rebase-unsupported`, `backing-loop`, what the format refuses of an overlay,
 *   what opening the image or a chain throws; the signal's reason.
 */
export async function rebaseImage(options: RebaseImageOptions): Promise<RebasedImage> {
  const { path, format, backing, policy, unsafe = false } = options;
  const base = backing && (await openNewBase(path, backing, policy));
  try {
    return await changeImage(
      {
        name: path,
        format,
        files: WRITABLE_HOST_FILES,
        backing: policy,
        openBacking: unsafe ? openEmptyBacking : undefined,
      },
      async (image) => {
        if (image.changeBacking === undefined) {
          const message = `the backing file of a ${format} image cannot be changed here`;
          throw new Qcow2BenchError('rebase-unsupported', message, { path });
        }
        const broken = impossibleImage({
          format,
          clusterSize: image.clusterSize,
          refcounts: image.refcountMode,
          shape: image.shape,
          backingFile: backing,
        });
        if (broken !== undefined) throw new Qcow2BenchError(broken.code, broken.message, { path });
        const copiedBytes = unsafe ? 0 : await copyDifferences(image, base, options);
        await image.changeBacking(backing);
        return { copiedBytes };
      },
    );
  } finally {
    await base?.abandon();
  }
}

async function openNewBase(
  path: string,
  { name, format }: { readonly name: string; readonly format: Format },
  policy: BackingPolicy | undefined,
): Promise<DiskImage> {
  const place = resolve(dirname(path), name);
  const { image, images } = await openChain({ path: place, format, backing: policy });
  const own = followLinks(resolve(path));
  if (!images.some((each) => followLinks(resolve(each)) === own)) return image;
  await image.abandon();
  throw new Qcow2BenchError(
    'backing-loop',
    `'${name}' is the image, or is over it: the chain would be a loop`,
    {
      path,
    },
  );
}

/** Copies what the image reads from its old files and would not read from the new ones. */
async function copyDifferences(
  image: DiskImage,
  base: DiskImage | undefined,
  { onProgress, signal }: RebaseImageOptions,
): Promise<number> {
  const { virtualSize } = image;
  const before = allocatePages(CHUNK_BYTES);
  const after = allocatePages(CHUNK_BYTES);
  let copied = 0;
  for (let at = 0; at < virtualSize;) {
    signal?.throwIfAborted();
    onProgress?.(at, virtualSize);
    const mapping = await image.map(at, Math.min(CHUNK_BYTES, virtualSize - at));
    let { length } = mapping;
    if (mapping.kind === 'unallocated') {
      // As QEMU cuts them: what is read is within both files or past the end of one.
      const oldSize = image.backing?.virtualSize ?? 0;
      for (const end of [oldSize, base?.virtualSize ?? 0]) if (at < end) length = Math.min(length, end - at);
      const old = before.subarray(0, length);
      await image.read(at, old);
      const found = after.subarray(0, length);
      await readBase(base, at, found);
      for (const [from, to] of differences(old, found)) {
        if (at >= oldSize) await image.writeZeroes(at + from, to - from, { unmap: false });
        else await image.write(at + from, old.subarray(from, to));
        copied += to - from;
      }
      // Signals and the terminal get their turn.
      await turn();
    }
    at += length;
  }
  onProgress?.(virtualSize, virtualSize);
  return copied;
}

/** Past the end of the disk there are zeroes. */
async function readBase(base: DiskImage | undefined, at: number, target: Uint8Array): Promise<void> {
  if (base === undefined || at >= base.virtualSize) target.fill(0);
  else await base.read(at, target);
}

/** Runs of sectors that differ, as offsets from and to. */
function* differences(a: Uint8Array, b: Uint8Array): Generator<readonly [number, number]> {
  let from = -1;
  for (let at = 0; at < a.byteLength; at += SECTOR_SIZE) {
    const end = at + SECTOR_SIZE;
    const isSame = Buffer.compare(a.subarray(at, end), b.subarray(at, end)) === 0;
    if (!isSame && from < 0) from = at;
    if (isSame && from >= 0) {
      yield [from, at];
      from = -1;
    }
  }
  if (from >= 0) yield [from, a.byteLength];
}
