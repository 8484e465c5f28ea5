/**
 * The images that are measured, and the pattern: 4 KiB at stride 64 KiB, so that every write
 * allocates.
 */

import type { Format } from '../../src/format/disk-image.ts';
import type { RefcountMode } from '../../src/format/image-options.ts';
import { Random } from '../../src/core/random.ts';
import type { Request } from '../../src/workload/request.ts';

export interface Variant {
  readonly name: string;
  readonly format: Format;
  readonly refcounts: RefcountMode | undefined;
}

export const VARIANTS: readonly Variant[] = [
  { name: 'raw', format: 'raw', refcounts: undefined },
  { name: 'qcow2 eager', format: 'qcow2', refcounts: 'eager' },
  { name: 'qcow2 lazy', format: 'qcow2', refcounts: 'lazy' },
  { name: 'QED', format: 'qed', refcounts: undefined },
];
/** Not in QEMU: it is not compared with it. */
export const BTREE: Variant = { name: 'B-tree', format: 'btree', refcounts: undefined };
export const WRITE_BYTES = 4096;
export const STRIDE_BYTES = 65_536;

/** `count` writes in batches; the disk's end begins it again. */
export function strideWrites(
  count: number,
  diskBytes = count * STRIDE_BYTES,
): Generator<readonly Request[], undefined> {
  return writesAt(count, (index) => (index * STRIDE_BYTES) % diskBytes);
}

/** `count` writes, each at a multiple of `alignment` drawn by a seeded generator. */
export function randomWrites(
  count: number,
  diskBytes: number,
  alignment = STRIDE_BYTES,
): Generator<readonly Request[], undefined> {
  const random = new Random(1);
  return writesAt(count, () => random.below(diskBytes / alignment) * alignment);
}

function* writesAt(
  count: number,
  offsetOf: (index: number) => number,
): Generator<readonly Request[], undefined> {
  for (let done = 0; done < count;) {
    const size = Math.min(4096, count - done);
    const first = done;
    const batch = new Array<Request>(size);
    // `Array.from` would cost more than the device.
    for (let index = 0; index < size; index++) {
      const offset = offsetOf(first + index);
      batch[index] = { op: 'write', offset, length: WRITE_BYTES, fua: false, unmap: false, timeNs: 0 };
    }
    yield batch;
    done += size;
  }
  return undefined;
}
