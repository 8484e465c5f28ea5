/**
 * Images with an external data file against a real QEMU: the same operations on both files, the
 * same bytes in both.
 */

import { describe, it } from 'vitest';
import { Random } from '../../src/core/random.ts';
import type { CacheMode } from '../../src/format/cache-mode.ts';
import type { Request } from '../../src/workload/request.ts';
import { reasonToSkip } from '../format/system-tools.ts';
import { QemuCases, type QemuCase } from './qemu-cases.ts';

const skip = reasonToSkip('qemu-img', 'qemu-io', 'strace');
const SECTOR = 512;
const CACHES: readonly CacheMode[] = ['writeback', 'writethrough', 'none', 'directsync', 'unsafe'];

function randomCase(seed: number): QemuCase {
  const random = new Random(seed);
  const pick = <T>(items: readonly T[]): T => items[random.below(items.length)] as T;
  const clusterSize = pick([512, 4096, 65_536, 65_536, 2_097_152]);
  const cache = CACHES[seed % CACHES.length] as CacheMode;
  // Where the disk cuts a cluster off, qemu-img makes a raw data file that begins with a hole. The
  // alignment of O_DIRECT is unknown there, and QEMU then takes the largest, 4096.
  const isDirect = cache === 'none' || cache === 'directsync';
  const rest = isDirect ? 0 : pick([0, 0, SECTOR, clusterSize / 2]);
  const size = (clusterSize > 100_000 ? 8 : 60) * clusterSize + rest;
  const requests = Array.from({ length: 45 }, (): Request => {
    const op = pick(['write', 'write', 'write', 'read', 'discard', 'write-zeroes', 'flush'] as const);
    const isWhole = random.chance(0.3);
    const anywhere = random.chance(0.3) ? 0 : random.below(size / SECTOR) * SECTOR;
    const offset = isWhole ? anywhere - (anywhere % clusterSize) : anywhere;
    const length = isWhole ? clusterSize : (1 + random.below((2 * clusterSize) / SECTOR)) * SECTOR;
    return {
      op,
      offset,
      length: Math.min(length, size - offset),
      fua: op === 'write' && random.chance(0.1),
      unmap: random.chance(0.5),
      timeNs: 0,
    };
  });
  return {
    virtualSize: size,
    options: {
      cluster_size: String(clusterSize),
      lazy_refcounts: random.chance(0.5) ? 'on' : 'off',
      preallocation: pick(['off', 'off', 'metadata']),
      extended_l2: clusterSize >= 16_384 && random.chance(0.4) ? 'on' : 'off',
    },
    dataFile: seed % 2 === 0 ? 'plain' : 'raw',
    cache,
    requests,
  };
}

describe.skipIf(skip !== undefined)('an image with a data file is served as by QEMU', () => {
  const cases = new QemuCases();
  it.each(Array.from({ length: 20 }, (_, index) => index + 1))('seed %i', async (seed) => {
    await cases.expectSame(randomCase(seed));
  });
});
