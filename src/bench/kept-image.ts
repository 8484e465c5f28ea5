/**
 * What is checked of an image that a user names to be run on: a record must not say one thing of an image that
 * is another, and no image may be written to as if it had a format that it has not.
 */

import { Qcow2BenchError } from '../core/error.ts';
import { formatSize } from '../core/size.ts';
import { allocatePages } from '../core/page-memory.ts';
import type { DiskImage, Format } from '../format/disk-image.ts';
import { SHAPE_RULES, type ImageShape } from '../format/image-shape.ts';
import type { CellPlan, KeptImage } from './engine.ts';

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

/**
 * Refuses an opened image that is not what its cell says; one that was made for the cell always is.
 *
 * @throws Qcow2BenchError `image-misfit`.
 */
export function checkKeptImage(image: DiskImage, { cell, source, keptImage }: CellPlan): void {
  const misfit = (rule: string): Qcow2BenchError =>
    new Qcow2BenchError('image-misfit', rule, { path: keptImage?.name });
  if (image.virtualSize < source.virtualSize) {
    throw misfit(
      `the disk has ${formatSize(image.virtualSize)}, but ${source.name} needs ${formatSize(source.virtualSize)}: use a larger image`,
    );
  }
  if (cell.clusterSize !== null && image.clusterSize !== cell.clusterSize) {
    throw misfit(
      `the image has clusters of ${formatSize(image.clusterSize)}, not of ${formatSize(cell.clusterSize)}: set --cluster-size to match`,
    );
  }
  for (const [key, has] of Object.entries(image.shape ?? {})) {
    const property = key as keyof ImageShape;
    const wanted = cell.shape?.[property] ?? SHAPE_RULES[property].default;
    if (has === wanted) continue;
    throw misfit(`the image has ${property} ${String(has)}, not ${String(wanted)}: set the option to match`);
  }
  if (image.backing?.format !== cell.backing) {
    const has = image.backing === undefined ? 'no backing file' : `a ${image.backing.format} backing file`;
    const wanted = cell.backing === undefined ? 'none' : `a ${cell.backing} one`;
    throw misfit(`the image has ${has}, but ${source.name} runs over ${wanted}: use another image`);
  }
}
