/** What every command does that changes an image in place: open it for writing, change, close. */

import type { DiskImage } from '../format/disk-image.ts';
import { openImage, type OpenImageOptions } from '../format/registry.ts';

/**
 * Opens an image for writing, with the files behind it for reading; one that was not closed cleanly
 * is repaired. A change that fails is closed as well: what was changed until then is whole, and the
 * caches hold the rest of it.
 *
 * @param options its files should elide syncs
 * @throws of opening, of `work`, of closing; the first error
 */
export async function changeImage<T>(
  options: Omit<OpenImageOptions, 'readOnly'>,
  work: (image: DiskImage) => Promise<T>,
): Promise<T> {
  const image = await openImage({ ...options, readOnly: false });
  let answer: T;
  try {
    answer = await work(image);
  } catch (error) {
    await image.close().catch(() => undefined);
    throw error;
  }
  await image.close();
  return answer;
}
