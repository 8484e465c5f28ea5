/** Persistent dirty bitmaps of an image: added, removed, cleared, as `qemu-img bitmap` does. */

import { Qcow2BenchError } from '../core/error.ts';
import type { BackingPolicy, ImageFiles } from '../format/backing-chain.ts';
import type { BitmapChange, Format } from '../format/disk-image.ts';
import { changeImage } from './change-image.ts';

export interface ChangeBitmapOptions {
  /** As `files` understands it. */
  readonly name: string;
  readonly format: Format;
  /** Opens the image for writing and its backing files for reading; should elide syncs. */
  readonly files: ImageFiles;
  readonly backing?: BackingPolicy | undefined;
  readonly change: BitmapChange;
}

/**
 * @throws Qcow2BenchError `bitmaps-unsupported`, `bitmap-…` naming the rule, or what opening the
 *   image throws.
 */
export async function changeBitmap({ change, ...options }: ChangeBitmapOptions): Promise<void> {
  const { name: path, format } = options;
  await changeImage(options, async (image) => {
    if (image.changeBitmap === undefined) {
      throw new Qcow2BenchError('bitmaps-unsupported', `${format} images have no dirty bitmaps`, { path });
    }
    await image.changeBitmap(change);
  });
}
