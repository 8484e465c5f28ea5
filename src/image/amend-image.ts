/**
 * Changing what an image's header allows, as `qemu-img amend` does: lazy refcounts, the version.
 *
 * Invariant: what is refused changes nothing, but for the repair of an image that was not closed
 * cleanly, as with any opening.
 */

import { Qcow2BenchError } from '../core/error.ts';
import type { BackingPolicy, ImageFiles } from '../format/backing-chain.ts';
import type { Format, ImageAmendment } from '../format/disk-image.ts';
import { formatList, FORMAT_FACTS, formatsWith } from '../format/formats.ts';
import type { CompatLevel, RefcountMode } from '../format/image-shape.ts';
import { changeImage } from './change-image.ts';

export interface AmendImageOptions {
  /** As `files` understands it. */
  readonly name: string;
  readonly format: Format;
  /** Opens the image for writing and its backing files for reading; should elide syncs. */
  readonly files: ImageFiles;
  readonly backing?: BackingPolicy | undefined;
  readonly change: ImageAmendment;
}

/** What can be amended, as an image has it. */
export interface AmendableState {
  readonly compat: CompatLevel | undefined;
  readonly refcounts: RefcountMode | undefined;
}

/**
 * Amends the image and closes it cleanly.
 *
 * @throws Qcow2BenchError `amend-unsupported`, `amend-needs-v3`, `qcow2-lazy-needs-v3`, or what
 *   opening the image throws.
 */
export async function amendImage(
  options: AmendImageOptions,
): Promise<{ readonly before: AmendableState; readonly after: AmendableState }> {
  const { name, format, files, backing, change } = options;
  if (FORMAT_FACTS[format].refcountModes.length === 0) {
    const having = formatList(formatsWith(({ refcountModes }) => refcountModes.length > 0));
    const message = `${format} has neither versions nor lazy refcounts: only ${having} images can be amended`;
    throw new Qcow2BenchError('amend-unsupported', message, { path: name });
  }
  return changeImage({ format, name, files, backing }, async (image) => {
    const state = (): AmendableState => ({ compat: image.shape?.compat, refcounts: image.refcountMode });
    const before = state();
    await image.amend?.(change);
    return { before, after: state() };
  });
}
