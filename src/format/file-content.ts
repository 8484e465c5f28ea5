/**
 * What a file is by its first and last bytes: an image of a format known here, one of another
 * program, or raw.
 *
 * Invariant: `raw` is what is left. A guest can write any bytes to a raw disk, so what is found
 * never overrules a format that was named: it says why a file does not have that format.
 */

import { alignDown } from '../core/alignment.ts';
import { Qcow2BenchError } from '../core/error.ts';
import { allocatePages } from '../core/page-memory.ts';
import type { BlockDevice } from '../device/block-device.ts';
import type { Format } from './disk-image.ts';
import {
  FOREIGN_HEAD_BYTES,
  FOREIGN_TAIL_BYTES,
  foreignFormat,
  type ForeignFormat,
} from './foreign-formats.ts';

const MAGIC: readonly { readonly format: Format; readonly bytes: readonly number[] }[] = [
  { format: 'qcow2', bytes: [0x51, 0x46, 0x49, 0xfb] },
  { format: 'qed', bytes: [0x51, 0x45, 0x44, 0x00] },
];
/** Read at a time, at multiples of it: whole sectors, which any device takes. */
const PROBED_BYTES = 4096;
const NOTHING = new Uint8Array(0);

/** What the bytes of a file claim. */
export async function contentOf(device: BlockDevice): Promise<Format | ForeignFormat> {
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

/**
 * The error of opening a file as a format that was named: where the magic is another, it says which
 * format the file has.
 *
 * @param purpose `backing-read` for a file behind an image, whose format comes from that image
 */
export async function withContent(
  error: unknown,
  file: {
    readonly device: BlockDevice;
    readonly format: 'qcow2' | 'qed';
    readonly purpose: 'data' | 'backing-read';
  },
): Promise<unknown> {
  const { device, format, purpose } = file;
  if (!(error instanceof Qcow2BenchError) || error.code !== `${format}-bad-magic`) return error;
  const { path, offset } = error;
  // Of a file behind this one, it was named there.
  if (path !== device.path) return error;
  const found = await contentOf(device);
  if (typeof found !== 'string') {
    const message = `the file is ${found.name}, not ${NAME[format]}: ${found.remedy}`;
    return new Qcow2BenchError(error.code, message, { path, offset });
  }
  const wayOut =
    purpose === 'backing-read'
      ? `the overlay names the format ${format}: correct that with 'qemu-img rebase -u -F ${found}', or give --backing-format ${found} if it names none`
      : `name its format (--format ${found}; convert: --from ${found})`;
  const what =
    found === 'raw'
      ? `the file has no magic of ${NAME[format]} or another known format: if its bytes are the disk, use raw`
      : `the file is ${NAME[found]}, not ${NAME[format]}`;
  return new Qcow2BenchError(error.code, `${what}; ${wayOut}`, { path, offset });
}

const NAME: Readonly<Record<Format, string>> = { raw: 'raw', qcow2: 'qcow2', qed: 'QED' };

/** Bytes of the file; zeroes past its end. */
async function readAt(device: BlockDevice, offset: number, length: number): Promise<Uint8Array> {
  const bytes = allocatePages(length);
  await device.read(offset, bytes, 'header');
  return bytes;
}
