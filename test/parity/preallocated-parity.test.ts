/**
 * Large disks of small clusters whose tables were preallocated, with a snapshot that shares them
 * all: more refcount blocks than QEMU's cache holds, of which the scan before the first zero check
 * leaves other blocks in the cache, by what the file system stores (exception
 * `preallocation-look`). So the scan decides whether the dirty bit is set before or after a
 * refcount block is written.
 *
 * PARITY_FULL (`npm run parity:full`) adds a disk of 40 GiB.
 */

import { describe, expect, it } from 'vitest';

import { Random } from '../../src/core/random.ts';
import type { Request } from '../../src/workload/request.ts';
import { reasonToSkip } from '../format/system-tools.ts';
import { ask, QemuCases, type QemuCase } from './qemu-cases.ts';

const CLUSTER = 4096;
const MIB = 1024 * 1024;
const SECTOR = 512;
/** Of the largest disk, on a slow file system; ms. */
const MINUTES = 30 * 60_000;
const skip = reasonToSkip('qemu-img', 'qemu-io', 'strace');
const isFull = process.env['PARITY_FULL'] !== undefined;
const DISKS = [
  { name: '192 MiB', virtualSize: 192 * MIB, seeds: [1, 2, 3] },
  ...(isFull ? [{ name: '40 GiB', virtualSize: 40 * 1024 * MIB, seeds: [1] }] : []),
];

/** The first needs the scan: part of a cluster is to read as zeroes. */
function requestsOf(seed: number, size: number): readonly Request[] {
  const random = new Random(seed);
  const further = Array.from({ length: 30 }, (): Request => {
    const offset = random.below(size / CLUSTER - 20) * CLUSTER + random.below(8) * SECTOR;
    const length = (1 + random.below(12 * 8)) * SECTOR;
    switch (random.below(5)) {
      case 0:
        return ask.zero(offset, length, random.chance(0.5));
      case 1:
        return ask.discard(offset, length);
      case 2:
        return ask.read(offset, length);
      default:
        return ask.write(offset, length);
    }
  });
  return [ask.write(SECTOR, SECTOR), ...further, ask.flush()];
}

describe.skipIf(skip !== undefined)('a preallocated disk with a snapshot is served as by QEMU', () => {
  const cases = new QemuCases();

  const all = DISKS.flatMap(({ name, virtualSize, seeds }) =>
    seeds.map((seed) => ({ name, virtualSize, seed })),
  );
  it.each(all)(
    '$name, seed $seed',
    async ({ virtualSize, seed }) => {
      const test: QemuCase = {
        virtualSize,
        options: {
          cluster_size: String(CLUSTER),
          refcount_bits: '32',
          preallocation: 'metadata',
          lazy_refcounts: 'on',
        },
        cache: 'directsync',
        snapshot: true,
        requests: requestsOf(seed, virtualSize),
      };
      expect(await cases.expectSame(test)).toBeGreaterThan(200);
    },
    MINUTES,
  );
});
