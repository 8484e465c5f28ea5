/** No image is written to in a format that it does not have. */

import { Qcow2BenchError } from '../core/error.ts';
import { allocatePages } from '../core/page-memory.ts';
import type { Format } from '../format/disk-image.ts';
import type { KeptImage } from './engine.ts';

/** The first bytes of a file of each format that has some. */
const MAGIC: Readonly<Partial<Record<Format, readonly number[]>>> = {
  qcow2: [0x51, 0x46, 0x49, 0xfb],
  qed: [0x51, 0x45, 0x44, 0x00],
};
const HEAD_BYTES = 512;

/**
 * Refuses a file that another format claims. A raw run on a qcow2 image would otherwise overwrite it.
 *
 * @throws Qcow2BenchError `image-other-format`.
 */
export async function refuseForeignFormat(kept: KeptImage, format: Format): Promise<void> {
  const device = kept.storage.open(kept.name, { readOnly: true });
  try {
    const head = allocatePages(HEAD_BYTES);
    await device.read(0, head, 'header');
    for (const [claimed, magic] of Object.entries(MAGIC)) {
      if (claimed === format || !magic.every((byte, index) => head[index] === byte)) continue;
      throw new Qcow2BenchError(
        'image-other-format',
        `the file is a ${claimed} image and was to be run as ${format}: name its format, or another file`,
        { path: device.path },
      );
    }
  } finally {
    await device.close();
  }
}
