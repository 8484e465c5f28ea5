/**
 * Giving the disk of an image another size, as `qemu-img resize` does.
 *
 * Invariants:
 * - What a backing file holds behind the old end never shows in a disk that gets larger.
 * - A disk gets smaller only if that was asked for: what lies behind the new end is lost.
 */

import { Qcow2BenchError } from '../core/error.ts';
import { formatSize } from '../core/size.ts';
import type { BackingPolicy, ImageFiles } from '../format/backing-chain.ts';
import type { Format } from '../format/disk-image.ts';
import { Qcow2Image } from '../format/qcow2/qcow2-image.ts';
import { openImage } from '../format/registry.ts';

const SECTOR_SIZE = 512;

export interface ResizeImageOptions {
  /** As `files` understands it. */
  readonly name: string;
  readonly format: Format;
  /** Opens the image for writing and its backing files for reading; should elide syncs. */
  readonly files: ImageFiles;
  readonly backing?: BackingPolicy | undefined;
  /** Bytes; a multiple of 512. */
  readonly virtualSize: number;
  /** Allow a smaller disk. Default false. */
  readonly shrink?: boolean | undefined;
}

/**
 * Resizes the disk and closes the image cleanly.
 *
 * @throws Qcow2BenchError `bad-size`, `resize-unsupported` for QED and raw, `shrink-not-allowed`,
 * `qcow2-resize-needs-v3`, `qcow2-l1-too-large`, or what opening the image throws.
 */
export async function resizeImage(options: ResizeImageOptions): Promise<void> {
  const { name, format, files, backing, virtualSize } = options;
  if (!Number.isSafeInteger(virtualSize) || virtualSize < 0 || virtualSize % SECTOR_SIZE !== 0) {
    const rule = `it must be a multiple of ${String(SECTOR_SIZE)}`;
    throw new Qcow2BenchError('bad-size', `${String(virtualSize)} bytes is no size of a disk: ${rule}`);
  }
  const image = await openImage({ format, name, files, readOnly: false, backing });
  if (!(image instanceof Qcow2Image)) {
    await image.abandon();
    throw new Qcow2BenchError('resize-unsupported', `${format} images are not resized here; qcow2 is`, {
      path: name,
    });
  }
  try {
    if (virtualSize < image.virtualSize && options.shrink !== true) {
      throw new Qcow2BenchError(
        'shrink-not-allowed',
        `the disk has ${formatSize(image.virtualSize)}: with ${formatSize(virtualSize)} all that lies behind would be lost, and that was not asked for`,
        { path: name },
      );
    }
    await image.resize(virtualSize);
  } catch (error) {
    // What was changed until then is whole. The first error is the one to tell.
    await image.close().catch(() => undefined);
    throw error;
  }
  await image.close();
}
