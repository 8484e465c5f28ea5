/**
 * Telling the format of an image from its first bytes, for commands that look at an image, copy it or mend it.
 *
 * Invariant: only the image that the user names is told this way, never a file behind it. A guest can write any
 * bytes into a raw disk, so what serves a disk takes its format from the user.
 */

import { allocatePages } from '../core/page-memory.ts';
import type { BlockDevice } from '../device/block-device.ts';
import type { Format } from '../format/disk-image.ts';

const MAGIC: readonly { readonly format: Format; readonly bytes: readonly number[] }[] = [
  { format: 'qcow2', bytes: [0x51, 0x46, 0x49, 0xfb] },
  { format: 'qed', bytes: [0x51, 0x45, 0x44, 0x00] },
];
/** Whole sectors, which any device takes. */
const HEAD_BYTES = 4096;

/** The format that the file claims to have; `raw` if it claims none. */
export async function detectFormat(device: BlockDevice): Promise<Format> {
  const head = allocatePages(HEAD_BYTES);
  await device.read(0, head, 'header');
  const found = MAGIC.find(({ bytes }) => bytes.every((byte, index) => head[index] === byte));
  return found?.format ?? 'raw';
}
