/**
 * Refusing to make the disk of a damaged image smaller. The file is then cut behind the last
 * cluster that its refcounts count: what is in use and not counted would be lost.
 */

import { Qcow2BenchError } from '../../core/error.ts';
import { countOf } from '../../core/number-text.ts';
import type { DiskImage } from '../disk-image.ts';
import type { LoneFile } from '../format-facts.ts';
import { openQcow2 } from './open.ts';

/**
 * Checks an image before its disk gets smaller; nothing is written. A snapshot that cannot be used
 * is no reason to refuse: the disk does not need it. An image that was not closed cleanly is
 * repaired when it is opened for the change.
 *
 * @param getsSmaller whether the change makes the disk of the open image smaller
 * @throws Qcow2BenchError `shrink-of-damaged-image`, or what opening the image throws.
 */
export async function refuseDamagedQcow2(
  { device, options }: LoneFile,
  getsSmaller: (image: DiskImage) => boolean,
): Promise<void> {
  const image = await openQcow2(options);
  try {
    if (!getsSmaller(image) || image.header.isDirty) return;
    const { corruptions, checkErrors } = await image.check(undefined, { keepsSnapshots: true });
    const errors = corruptions + checkErrors;
    if (errors === 0) return;
    throw new Qcow2BenchError(
      'shrink-of-damaged-image',
      `the image is damaged (${countOf(errors, 'error')}), and shrinking it could lose data: run check --repair all first`,
      { path: device.path },
    );
  } finally {
    await image.abandon();
  }
}
