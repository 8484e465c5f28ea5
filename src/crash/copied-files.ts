/** Files of an image, copied into memory: a recording changes nothing on the host. */

import { Qcow2BenchError } from '../core/error.ts';
import { formatSize } from '../core/size.ts';
import type { BlockDevice } from '../device/block-device.ts';
import { makePage, PAGE_BYTES, pageNumber, type PageFiles } from './pages.ts';

/** Of data in one file; holes cost nothing. */
const DATA_MAX = 1024 * 1024 * 1024;

/**
 * Copies a file, without closing it.
 *
 * @param file its index among the files of the image
 * @throws Qcow2BenchError `image-too-large`
 */
export async function copyPages(device: BlockDevice, to: PageFiles, file: number): Promise<void> {
  const size = device.size();
  to.sizes[file] = size;
  let copied = 0;
  for (let at = 0; at < size;) {
    const { isData, length } = device.extentAt(at);
    const end = Math.min(size, at + length);
    for (let page = at - (at % PAGE_BYTES); isData && page < end; page += PAGE_BYTES) {
      copied += PAGE_BYTES;
      if (copied > DATA_MAX) refuse(device);
      const bytes = new Uint8Array(PAGE_BYTES);
      await device.read(page, bytes, 'data');
      to.put(pageNumber(file, page), makePage(bytes));
    }
    at += length;
  }
}

/**
 * The bytes of a file, without closing it.
 *
 * @throws Qcow2BenchError `image-too-large`
 */
export async function copyWhole(device: BlockDevice): Promise<Uint8Array> {
  if (device.size() > DATA_MAX) refuse(device);
  const bytes = new Uint8Array(device.size());
  if (bytes.byteLength > 0) await device.read(0, bytes, 'data');
  return bytes;
}

function refuse({ path }: BlockDevice): never {
  throw new Qcow2BenchError(
    'image-too-large',
    `it has more than ${formatSize(DATA_MAX)} of data: crash states are made in memory; use a smaller disk`,
    { path },
  );
}
