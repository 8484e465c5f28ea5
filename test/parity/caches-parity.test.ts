/** Small metadata caches and huge disks: what is evicted, and when, is QEMU's. */

import { describe, expect, it } from 'vitest';

import { Random } from '../../src/core/random.ts';
import { SECTOR_SIZE, type Request } from '../../src/workload/request.ts';
import { reasonToSkip } from '../format/system-tools.ts';
import { ask, QemuCases, type QemuCase } from './qemu-cases.ts';

const KIB = 1024;
const MIB = 1024 * KIB;
const GIB = 1024 * MIB;
const TIB = 1024 * GIB;

interface Spread {
  readonly seed: number;
  /** Bytes of the disk. */
  readonly virtualSize: number;
  /** Requests go near one of so many places, evenly spread over the disk. */
  readonly places: number;
  readonly length: number;
  readonly count: number;
}

/**
 * Writes, reads, discards and zero-writes at places so far apart that each has an L2 table, or a
 * slice, of its own.
 */
function spreadRequests({ seed, virtualSize, places, length, count }: Spread): Request[] {
  const random = new Random(seed);
  const distance = Math.floor(virtualSize / places / SECTOR_SIZE) * SECTOR_SIZE;
  return Array.from({ length: count }, (): Request => {
    const within = random.below(Math.max(1, (2 * length) / SECTOR_SIZE)) * SECTOR_SIZE;
    const offset = Math.min(random.below(places) * distance + within, virtualSize - length);
    const kind = random.below(100);
    if (kind < 60) return ask.write(offset, length);
    if (kind < 75) return ask.read(offset, length);
    if (kind < 82) return ask.discard(offset, length);
    if (kind < 92) return ask.zero(offset, length, random.chance(0.5));
    return ask.flush();
  });
}

const skip = reasonToSkip('qemu-img', 'qemu-io', 'strace');

describe.skipIf(skip !== undefined)('QEMU and the builtin engine evict the same tables', () => {
  const twins = new QemuCases();

  const spread = { seed: 11, count: 90, places: 12 };
  const disk = { virtualSize: 8 * GIB, options: {} };
  const requests = spreadRequests({ ...spread, ...disk, length: 64 * KIB });

  const CASES: readonly (readonly [string, QemuCase])[] = [
    ['two slices of 4 KiB', { ...disk, caches: { l2CacheSize: 0 }, requests }],
    ['two slices of 512 bytes', { ...disk, caches: { l2CacheSize: 0, l2CacheEntrySize: 512 }, requests }],
    [
      'two whole tables, writethrough',
      {
        ...disk,
        cache: 'writethrough',
        caches: { l2CacheSize: 0, l2CacheEntrySize: 64 * KIB },
        requests,
      },
    ],
    [
      'seven slices, lazy refcounts',
      {
        ...disk,
        options: { lazy_refcounts: 'on' },
        caches: { l2CacheSize: 7 * 4 * KIB },
        requests,
      },
    ],
    ['a shared cache too small for both', { ...disk, caches: { cacheSize: 300 * KIB }, requests }],
    [
      'refcount blocks of 64 refcounts, four in the cache',
      {
        virtualSize: 4 * MIB,
        options: { cluster_size: '512', refcount_bits: '64' },
        caches: { l2CacheSize: 2 * KIB },
        requests: spreadRequests({ seed: 12, virtualSize: 4 * MIB, places: 40, length: 512, count: 300 }),
      },
    ],
    [
      'refcount blocks of 64 refcounts, ten in the cache, writethrough',
      {
        virtualSize: 4 * MIB,
        options: { cluster_size: '512', refcount_bits: '64' },
        cache: 'writethrough',
        caches: { cacheSize: 7 * KIB, l2CacheSize: 2 * KIB },
        requests: spreadRequests({ seed: 13, virtualSize: 4 * MIB, places: 40, length: 512, count: 200 }),
      },
    ],
  ];

  it.each(CASES)('%s', async (_, test) => {
    expect(await twins.expectSame(test)).toBeGreaterThan(20);
  });
});

describe.skipIf(skip !== undefined)('disks of the largest sizes', () => {
  const twins = new QemuCases();

  const CASES: readonly (readonly [string, number, Readonly<Record<string, string>>])[] = [
    ['1 TiB, tables in slices of 4 KiB', TIB, {}],
    ['64 TiB', 64 * TIB, {}],
    ['2 PiB less a sector, the most for 64 KiB', 2048 * TIB - 512, {}],
    ['7 PiB with clusters of 2 MiB', 7168 * TIB, { cluster_size: '2M' }],
    ['8 GiB with clusters of 512 bytes', 8 * GIB, { cluster_size: '512' }],
  ];

  it.each(CASES)('%s', async (_, virtualSize, options) => {
    const requests = spreadRequests({ seed: 14, virtualSize, places: 7, length: 4 * KIB, count: 40 });
    requests.push(ask.write(virtualSize - 4 * KIB, 4 * KIB), ask.read(virtualSize - 512, 512));
    await twins.expectSame({ virtualSize, options, requests });
  });
});
