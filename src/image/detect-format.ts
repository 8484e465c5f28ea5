/**
 * Detecting the format of an image from its content, for commands that inspect, copy or repair an image.
 *
 * Invariants:
 * - Only the image that the user names is probed, never a file behind it. A guest can write any bytes to a raw disk, so
 *   what serves a disk takes its format from the user.
 * - `raw` is what is left: a file that is plainly an image of another program, compressed or an archive is refused.
 */

import { alignDown } from '../core/alignment.ts';
import { Qcow2BenchError } from '../core/error.ts';
import { allocatePages } from '../core/page-memory.ts';
import type { BlockDevice } from '../device/block-device.ts';
import type { Format } from '../format/disk-image.ts';
import {
  FOREIGN_HEAD_BYTES,
  FOREIGN_TAIL_BYTES,
  foreignFormat,
  type ForeignFormat,
} from './foreign-formats.ts';
import type { ImagePlace } from './host-image.ts';

const MAGIC: readonly { readonly format: Format; readonly bytes: readonly number[] }[] = [
  { format: 'qcow2', bytes: [0x51, 0x46, 0x49, 0xfb] },
  { format: 'qed', bytes: [0x51, 0x45, 0x44, 0x00] },
];
/** Read at a time, at multiples of it: whole sectors, which any device takes. */
const PROBED_BYTES = 4096;

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
    `the file is ${found.name}, not a raw, qcow2 or QED image: ${found.remedy}; or name the format raw to treat the file's bytes as the disk (--format raw; convert: --from raw)`,
    { path: found.path },
  );
}

/**
 * The format of an image, or the format of another program that the file has. The file is not locked: how it is
 * depends on its format.
 */
export async function contentOfPlace({
  storage,
  name,
}: ImagePlace): Promise<Format | (ForeignFormat & { readonly path: string })> {
  const device = storage.open(name, { readOnly: true });
  try {
    const found = await probe(device);
    return typeof found === 'string' ? found : { ...found, path: device.path };
  } finally {
    await device.close();
  }
}

async function probe(device: BlockDevice): Promise<Format | ForeignFormat> {
  const head = await readAt(device, 0, PROBED_BYTES);
  const foreign = foreignFormat(head.subarray(0, FOREIGN_HEAD_BYTES), NOTHING);
  if (foreign !== undefined) return foreign;
  const found = MAGIC.find(({ bytes }) => bytes.every((byte, index) => head[index] === byte));
  if (found !== undefined) return found.format;
  const tailAt = device.size() - FOREIGN_TAIL_BYTES;
  if (tailAt < 0) return 'raw';
  const start = alignDown(tailAt, PROBED_BYTES);
  const end = await readAt(device, start, 2 * PROBED_BYTES);
  const tail = end.subarray(tailAt - start, tailAt - start + FOREIGN_TAIL_BYTES);
  return foreignFormat(NOTHING, tail) ?? 'raw';
}

const NOTHING = new Uint8Array(0);

/** Bytes of the file; zeroes past its end. */
async function readAt(device: BlockDevice, offset: number, length: number): Promise<Uint8Array> {
  const bytes = allocatePages(length);
  await device.read(offset, bytes, 'header');
  return bytes;
}
