/**
 * Writing what an overlay holds into its backing file, as `qemu-img commit` does.
 *
 * Invariants:
 * - The backing file is written only where the rules of the chain allow it to be opened.
 * - The overlay is emptied, if that is asked for, only when the backing file is durable. Until then
 *   the overlay reads as before, whatever happens: its clusters hide what is written below.
 */

import { setImmediate as turn } from 'node:timers/promises';

import { Qcow2BenchError } from '../core/error.ts';
import { allocatePages } from '../core/page-memory.ts';
import { backingPlace, unopenedFile, type BackingPolicy } from '../format/backing-chain.ts';
import type { DiskImage, Format } from '../format/disk-image.ts';
import type { BackingReference } from '../format/image-options.ts';
import { openImage } from '../format/registry.ts';
import { changeImage } from './change-image.ts';
import { WRITABLE_HOST_FILES } from './host-image.ts';

/** Bytes that are copied at a time. */
const CHUNK_BYTES = 512 * 1024;

export interface CommitImageOptions {
  /** A path of the host: the overlay. */
  readonly path: string;
  readonly format: Format;
  readonly policy?: BackingPolicy | undefined;
  /** Empty the overlay afterwards, which reads the same. Default false. */
  readonly empty?: boolean | undefined;
  /** Called regularly with how much of the disk is done. */
  readonly onProgress?: ((doneBytes: number, totalBytes: number) => void) | undefined;
  readonly signal?: AbortSignal | undefined;
}

export interface CommittedImage {
  /** The backing file, as it was opened. */
  readonly backing: string;
  /** Bytes that were written to it: data and zeroes. */
  readonly copiedBytes: number;
}

/**
 * Commits an overlay.
 *
 * @throws Qcow2BenchError `commit-without-backing`, `commit-empty-unsupported`,
 *   `commit-base-too-small`, what opening the image or the backing file throws; the signal's reason.
 */
export async function commitImage(options: CommitImageOptions): Promise<CommittedImage> {
  const { path, format, policy = {}, empty = false } = options;
  let base: { readonly image: DiskImage; readonly name: string } | undefined;
  return changeImage(
    {
      name: path,
      format,
      files: WRITABLE_HOST_FILES,
      backing: policy,
      openBacking: async (reference) => {
        base = await openBase(path, reference, policy);
        return base.image;
      },
    },
    async (image) => {
      if (base === undefined) {
        throw new Qcow2BenchError('commit-without-backing', 'the image has no backing file to write to', {
          path,
        });
      }
      if (empty && image.makeEmpty === undefined) {
        throw new Qcow2BenchError('commit-empty-unsupported', `a ${format} image cannot be emptied`, {
          path,
        });
      }
      await makeRoom(base.image, image.virtualSize, base.name);
      const copiedBytes = await copyDown(image, base.image, options);
      await base.image.flush('guest-flush');
      if (empty) await image.makeEmpty?.();
      return { backing: base.name, copiedBytes };
    },
  );
}

/** Opens the backing file for writing, with what is behind it. */
async function openBase(
  overlay: string,
  reference: BackingReference,
  policy: BackingPolicy,
): Promise<{ readonly image: DiskImage; readonly name: string }> {
  const files = WRITABLE_HOST_FILES;
  const { name, format } = backingPlace({ files, policy, name: overlay }, [overlay], reference);
  try {
    return { name, image: await openImage({ files, name, format, readOnly: false, backing: policy }) };
  } catch (error) {
    throw unopenedFile(error, { name, role: 'backing', overlay });
  }
}

async function makeRoom(base: DiskImage, virtualSize: number, path: string): Promise<void> {
  if (base.virtualSize >= virtualSize) return;
  if (base.resize === undefined) {
    const message = `the backing file's disk is smaller than the overlay's, and ${base.format} cannot grow: resize it first`;
    throw new Qcow2BenchError('commit-base-too-small', message, { path });
  }
  await base.resize(virtualSize);
}

async function copyDown(
  image: DiskImage,
  base: DiskImage,
  { onProgress, signal }: CommitImageOptions,
): Promise<number> {
  const { virtualSize } = image;
  const buffer = allocatePages(CHUNK_BYTES);
  let copied = 0;
  for (let at = 0; at < virtualSize;) {
    signal?.throwIfAborted();
    onProgress?.(at, virtualSize);
    const { kind, length } = await image.map(at, Math.min(CHUNK_BYTES, virtualSize - at));
    if (kind === 'zero') {
      await base.writeZeroes(at, length, { unmap: true });
    } else if (kind !== 'unallocated') {
      const chunk = buffer.subarray(0, length);
      await image.read(at, chunk);
      await base.write(at, chunk);
    }
    if (kind !== 'unallocated') {
      copied += length;
      // Signals and the terminal get their turn.
      await turn();
    }
    at += length;
  }
  onProgress?.(virtualSize, virtualSize);
  return copied;
}
