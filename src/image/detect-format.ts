/**
 * Detecting the format of an image from its content, for commands that inspect, copy or repair an
 * image.
 *
 * Invariants:
 * - Only the image that the user names is probed, never a file behind it. A guest can write any
 *   bytes to a raw disk, so what serves a disk takes its format from the user.
 * - `raw` is what is left: a file that is plainly an image of another program, compressed or an
 *   archive is refused.
 */

import { Qcow2BenchError } from '../core/error.ts';
import { PLAIN_FORMAT, type Format } from '../core/format-name.ts';
import { titleList } from '../format/formats.ts';
import { contentOf } from '../format/file-content.ts';
import type { ForeignFormat } from '../format/foreign-formats.ts';
import type { ImagePlace } from './host-image.ts';

/**
 * The format of an image; `raw` if nothing else is found.
 *
 * @throws Qcow2BenchError `foreign-format` if the file has a format of another program
 */
export async function formatOfPlace(place: ImagePlace): Promise<Format> {
  const found = await contentOfPlace(place);
  if (typeof found === 'string') return found;
  throw new Qcow2BenchError(
    'foreign-format',
    `the file is ${found.name}, not a ${titleList()} image: ${found.remedy}; or use the format ${PLAIN_FORMAT} to treat the file's bytes as the disk (--format ${PLAIN_FORMAT}; convert: --from ${PLAIN_FORMAT})`,
    { path: found.path },
  );
}

/**
 * The format of an image, or the format of another program that the file has. The file is not
 * locked: how it is depends on its format.
 */
export async function contentOfPlace({
  storage,
  name,
}: ImagePlace): Promise<Format | (ForeignFormat & { readonly path: string })> {
  const device = storage.open(name, { readOnly: true });
  try {
    const found = await contentOf(device);
    return typeof found === 'string' ? found : { ...found, path: device.path };
  } finally {
    await device.close();
  }
}

/**
 * Refuses to serve a file as a format if another one that is known here claims it: a raw guest
 * would overwrite its metadata.
 *
 * @throws Qcow2BenchError `image-other-format`
 */
export async function refuseOtherFormat(place: ImagePlace, format: Format): Promise<void> {
  const found = await contentOfPlace(place);
  if (typeof found !== 'string' || found === PLAIN_FORMAT || found === format) return;
  throw new Qcow2BenchError(
    'image-other-format',
    `the file is a ${found} image, not ${format}: give its format, or another file`,
    { path: place.name },
  );
}
