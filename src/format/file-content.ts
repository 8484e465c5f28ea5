/**
 * What a file is by its first and last bytes: an image of a format known here, one of another
 * program, or raw.
 *
 * Invariant: `raw` is what is left. A guest can write any bytes to a raw disk, so what is found
 * never overrules a format that was named: it says why a file does not have that format.
 */

import { alignDown } from '../core/alignment.ts';
import { Qcow2BenchError } from '../core/error.ts';
import { PLAIN_FORMAT, type Format } from '../core/format-name.ts';
import { allocatePages } from '../core/page-memory.ts';
import type { BlockDevice } from '../device/block-device.ts';
import { FORMAT_FACTS, formatsWith } from './formats.ts';
import {
  FOREIGN_HEAD_BYTES,
  FOREIGN_TAIL_BYTES,
  foreignFormat,
  type ForeignFormat,
} from './foreign-formats.ts';

/** Read at a time, at multiples of it: whole sectors, which any device takes. */
const PROBED_BYTES = 4096;
const NOTHING = new Uint8Array(0);

/** What the bytes of a file claim. */
export async function contentOf(device: BlockDevice): Promise<Format | ForeignFormat> {
  const head = await readAt(device, 0, PROBED_BYTES);
  const foreign = foreignFormat(head.subarray(0, FOREIGN_HEAD_BYTES), NOTHING);
  if (foreign !== undefined) return foreign;
  const [found] = formatsWith(({ magic }) => magic?.every((byte, at) => head[at] === byte) ?? false);
  if (found !== undefined) return found;
  const tailAt = device.size() - FOREIGN_TAIL_BYTES;
  if (tailAt < 0) return PLAIN_FORMAT;
  const start = alignDown(tailAt, PROBED_BYTES);
  const end = await readAt(device, start, 2 * PROBED_BYTES);
  const tail = end.subarray(tailAt - start, tailAt - start + FOREIGN_TAIL_BYTES);
  return foreignFormat(NOTHING, tail) ?? PLAIN_FORMAT;
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
    readonly format: Format;
    readonly purpose: 'data' | 'backing-read';
  },
): Promise<unknown> {
  const { device, format, purpose } = file;
  if (!(error instanceof Qcow2BenchError) || error.code !== `${format}-bad-magic`) return error;
  const { path, offset } = error;
  // Of a file behind this one, it was named there.
  if (path !== device.path) return error;
  const found = await contentOf(device);
  const { title } = FORMAT_FACTS[format];
  if (typeof found !== 'string') {
    const message = `the file is ${found.name}, not ${title}: ${found.remedy}`;
    return new Qcow2BenchError(error.code, message, { path, offset });
  }
  const wayOut =
    purpose === 'backing-read'
      ? `the overlay names the format ${format}: correct that with rebase --unsafe --backing FILE --backing-format ${found}, or give --backing-format ${found} if it names none`
      : `name its format (--format ${found}; convert: --from ${found})`;
  const what =
    found === PLAIN_FORMAT
      ? `the file has no magic of ${title} or another known format: if its bytes are the disk, use ${PLAIN_FORMAT}`
      : `the file is ${FORMAT_FACTS[found].title}, not ${title}`;
  return new Qcow2BenchError(error.code, `${what}; ${wayOut}`, { path, offset });
}

/** Bytes of the file; zeroes past its end. */
async function readAt(device: BlockDevice, offset: number, length: number): Promise<Uint8Array> {
  const bytes = allocatePages(length);
  await device.read(offset, bytes, 'header');
  return bytes;
}
