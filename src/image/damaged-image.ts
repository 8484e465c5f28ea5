/**
 * Refusing to make the disk of a damaged image smaller, where a damaged one would lose more than
 * what is behind the new end.
 */

import { contentsOf, type ImageFiles } from '../format/backing-chain.ts';
import type { DiskImage, Format } from '../format/disk-image.ts';
import { withLoneFile } from '../format/registry.ts';

/**
 * Checks an image before its disk gets smaller; nothing is written.
 *
 * @param getsSmaller whether the change makes the disk of the open image smaller
 * @throws Qcow2BenchError `shrink-of-damaged-image`, or what opening the image throws.
 */
export async function refuseToShrinkDamaged(
  { name, format, files }: { readonly name: string; readonly format: Format; readonly files: ImageFiles },
  getsSmaller: (image: DiskImage) => boolean,
): Promise<void> {
  const device = files.open(name, { label: 'image', readOnly: true, contents: contentsOf(format) });
  await withLoneFile(format, { device, readOnly: true }, async (engine, file) => {
    await engine.refuseDamaged?.(file, getsSmaller);
  });
}
