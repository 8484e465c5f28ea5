/**
 * How large an image file would get, before it is made: for a disk of a size, or for what an image
 * and the files behind it hold, as `qemu-img measure` answers it.
 *
 * Invariant: nothing but tables is read, and nothing is written.
 */

import { alignDown, alignUp } from '../core/alignment.ts';
import { Qcow2BenchError } from '../core/error.ts';
import type { DiskImage, Format } from '../format/disk-image.ts';
import { FORMAT_FACTS, formatList, formatsWith } from '../format/formats.ts';
import type { ImageShape } from '../format/image-shape.ts';
import { tableExtents } from './image-extents.ts';
import { snapshotsOf } from './image-snapshots.ts';
import { openChain, type OpenChainOptions } from './open-chain.ts';

export interface MeasuredTarget {
  readonly format: Format;
  /** Bytes; ignored by raw. */
  readonly clusterSize: number;
  /** With `preallocation` `falloc` or `full` the whole disk is required. */
  readonly shape?: ImageShape | undefined;
}

/** Bytes of an image file, without internal snapshots and bitmaps. */
export interface MeasuredSize {
  /** For the data that there is, if all tables were allocated. */
  readonly required: number;
  /** For a disk that was written everywhere. */
  readonly fullyAllocated: number;
}

/**
 * @param source the size of an empty disk in bytes, or an open image
 * @throws Qcow2BenchError `measure-unsupported`; `bad-size` if the format cannot hold the disk; what
 *   the format refuses of the target; of reading the source's tables.
 */
export async function measureImage(
  source: number | DiskImage,
  { format, clusterSize, shape = {} }: MeasuredTarget,
): Promise<MeasuredSize> {
  const { fullFileSize, unmappable, impossible, clusterSizes } = FORMAT_FACTS[format];
  const having = formatList(formatsWith((facts) => facts.fullFileSize !== undefined));
  if (fullFileSize === undefined) {
    throw new Qcow2BenchError(
      'measure-unsupported',
      `the size of a ${format} file is not known in advance: only ${having} can be measured`,
    );
  }
  const broken = impossible?.({ clusterSize: clusterSizes && clusterSize, shape });
  if (broken !== undefined) throw new Qcow2BenchError(broken.code, broken.message);
  const virtualSize = typeof source === 'number' ? source : source.virtualSize;
  const disk = { virtualSize, clusterSize, shape };
  const reason = unmappable?.(disk);
  if (reason !== undefined) throw new Qcow2BenchError('bad-size', reason);
  const fullyAllocated = fullFileSize(disk);
  const isSparse = clusterSizes !== undefined && (shape.dataFile ?? 'none') === 'none';
  const { preallocation = 'off' } = shape;
  if (!isSparse || preallocation === 'falloc' || preallocation === 'full') {
    return { required: fullyAllocated, fullyAllocated };
  }
  const data = typeof source === 'number' ? 0 : await dataBytes(source, clusterSize);
  return { required: fullyAllocated - alignUp(virtualSize, clusterSize) + data, fullyAllocated };
}

/** The same of an image file, with the files behind it; throws also what opening them throws. */
export async function measureFile(
  source: OpenChainOptions & { readonly snapshot?: string | undefined },
  target: MeasuredTarget,
): Promise<MeasuredSize> {
  const { image } = await openChain(source);
  try {
    if (source.snapshot !== undefined) await snapshotsOf(image, source.path).show(source.snapshot);
    return await measureImage(image, target);
  } finally {
    await image.abandon();
  }
}

/** Bytes of the clusters that hold anything but zeroes that the tables know of. */
async function dataBytes(image: DiskImage, clusterSize: number): Promise<number> {
  let bytes = 0;
  let counted = 0;
  for await (const { start, length, zero } of tableExtents(image)) {
    if (zero) continue;
    const from = Math.max(counted, alignDown(start, clusterSize));
    counted = Math.max(counted, alignUp(start + length, clusterSize));
    bytes += counted - from;
  }
  return bytes;
}
