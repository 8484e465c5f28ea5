/**
 * Giving the disk of an image another size, as `qemu-img resize` does.
 *
 * Invariants:
 * - What a backing file holds behind the old end never shows in a disk that gets larger.
 * - A disk gets smaller only if that was asked for: what is behind the new end is lost.
 * - An image whose check finds corruption gets no smaller disk: what its refcounts do not count
 *   would be cut off with the end of the file.
 * - What is refused changes nothing, but for the repair of an image that was not closed cleanly, as
 *   with any opening.
 */

import { SECTOR_SIZE } from '../core/alignment.ts';
import { Qcow2BenchError } from '../core/error.ts';
import { formatSize } from '../core/size.ts';
import type { BackingPolicy, ImageFiles } from '../format/backing-chain.ts';
import type { DiskImage, Format } from '../format/disk-image.ts';
import type { Preallocation } from '../format/image-shape.ts';
import { changeImage } from './change-image.ts';
import { refuseToShrinkDamaged } from './damaged-image.ts';

/**
 * The size of a disk in bytes: as it is to be, or by how much it is to grow; below 0, to shrink.
 */
export type NewSize = { readonly to: number } | { readonly by: number };

export interface ResizeImageOptions {
  /** As `files` understands it. */
  readonly name: string;
  readonly format: Format;
  /** Opens the image for writing and its backing files for reading; should elide syncs. */
  readonly files: ImageFiles;
  readonly backing?: BackingPolicy | undefined;
  readonly size: NewSize;
  /** Allow a smaller disk. Default false. */
  readonly shrink?: boolean | undefined;
  /** Space for what is new. Default `off`. */
  readonly preallocation?: Preallocation | undefined;
}

export interface ResizedImage {
  /** Bytes of the disk before. */
  readonly before: number;
  /** And now. */
  readonly virtualSize: number;
}

/**
 * Resizes the disk and closes the image cleanly.
 *
 * @throws Qcow2BenchError `bad-size`, `shrink-not-allowed`, `shrink-of-damaged-image`,
 *   `resize-preallocates-growth`, what the format refuses (`qcow2-resize-needs-v3`,
 *   `resize-with-bitmap-in-use`, `qcow2-l1-too-large`, `raw-no-metadata`, `qed-no-shrink` …), or
 *   what opening the image throws.
 */
export async function resizeImage(options: ResizeImageOptions): Promise<ResizedImage> {
  const { name, format, files, backing, preallocation = 'off' } = options;
  // Checked before anything is opened, if possible.
  if ('to' in options.size) checkSize(options.size.to, name);
  if (options.shrink === true) {
    const { size } = options;
    await refuseToShrinkDamaged({ name, format, files }, ({ virtualSize: before }) =>
      'to' in size ? size.to < before : size.by < 0,
    );
  }
  return changeImage({ format, name, files, forResize: true, backing }, async (image) => {
    const before = image.virtualSize;
    const virtualSize = newSizeOf(image, options);
    await image.resize?.(virtualSize, preallocation);
    return { before, virtualSize };
  });
}

function newSizeOf({ virtualSize: before }: DiskImage, options: ResizeImageOptions): number {
  const { name, size, shrink = false, preallocation = 'off' } = options;
  const virtualSize = 'to' in size ? size.to : before + size.by;
  checkSize(virtualSize, name);
  if (virtualSize < before && !shrink) {
    throw new Qcow2BenchError(
      'shrink-not-allowed',
      `shrinking from ${formatSize(before)} to ${formatSize(virtualSize)} loses all data beyond the new end: use --shrink to allow it`,
      { path: name },
    );
  }
  if (virtualSize < before && preallocation !== 'off') {
    throw new Qcow2BenchError(
      'resize-preallocates-growth',
      `preallocation ${preallocation} applies only when a disk grows`,
      { path: name },
    );
  }
  return virtualSize;
}

function checkSize(virtualSize: number, path: string): void {
  if (Number.isSafeInteger(virtualSize) && virtualSize > 0 && virtualSize % SECTOR_SIZE === 0) return;
  const rule = `it must be more than 0 and a multiple of ${String(SECTOR_SIZE)}`;
  throw new Qcow2BenchError('bad-size', `${String(virtualSize)} bytes is not a valid disk size: ${rule}`, {
    path,
  });
}
