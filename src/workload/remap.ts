/**
 * A trace of one device on an image of another size.
 *
 * Invariants: every request keeps its op, length, flags and time, and is within the image; offsets
 * stay multiples of what they were multiples of (up to 1 MiB), so that remapping does not make
 * aligned requests unaligned.
 */

import { Qcow2BenchError } from '../core/error.ts';
import type { Request } from './request.ts';

export const REMAPS = ['wrap', 'scale', 'grow'] as const;
/**
 * `wrap`: offsets modulo the image's size; `scale`: offsets in proportion; `grow`: as they are, in
 * an image that is as large as the trace needs.
 */
export type Remap = (typeof REMAPS)[number];

const ALIGNMENT_MAX = 1024 * 1024;

export interface RemapSizes {
  /** Bytes of the device that the trace addresses. */
  readonly recorded: number;
  /** Bytes of the image. */
  readonly image: number;
}

/** Bytes of the image that a trace is replayed on. */
export function imageSize(remap: Remap, { recorded, image }: RemapSizes): number {
  return remap === 'grow' ? Math.max(recorded, image) : image;
}

/** @throws Qcow2BenchError `remap-too-long` of a request that is longer than the image. */
export async function* remapped(
  batches: AsyncIterable<readonly Request[]>,
  remap: 'wrap' | 'scale',
  sizes: RemapSizes,
): AsyncGenerator<readonly Request[], undefined> {
  for await (const batch of batches) {
    yield batch.map((request) => (request.op === 'flush' ? request : moved(request, remap, sizes)));
  }
  return undefined;
}

function moved(request: Request, remap: 'wrap' | 'scale', { recorded, image }: RemapSizes): Request {
  const { offset, length } = request;
  if (length > image) {
    throw new Qcow2BenchError(
      'remap-too-long',
      `a request of ${String(length)} bytes does not fit an image of ${String(image)}: use a larger --size`,
    );
  }
  const target = remap === 'wrap' ? offset % image : offset * (image / recorded);
  const alignment = alignmentOf(offset, length);
  // What would cross the end is before it.
  const latest = image - length;
  const aligned = Math.min(target, latest);
  return { ...request, offset: aligned - (aligned % alignment) };
}

/** The largest power of two that both are multiples of. */
function alignmentOf(offset: number, length: number): number {
  let alignment = ALIGNMENT_MAX;
  while (offset % alignment !== 0 || length % alignment !== 0) alignment /= 2;
  return alignment;
}
