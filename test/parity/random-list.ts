/**
 * Seeded random cases for the comparison with a real QEMU: an image as `qemu-img` and `qemu-io` made it, a cache
 * mode, and a list of guest requests.
 */

import { Random } from '../../src/core/random.ts';
import type { CacheMode } from '../../src/format/cache-mode.ts';
import type { RefcountMode } from '../../src/format/image-options.ts';
import { SECTOR_SIZE, type Request } from '../../src/workload/request.ts';

export interface ParityCase {
  readonly seed: number;
  readonly clusterSize: number;
  readonly refcounts: RefcountMode;
  readonly cache: CacheMode;
  readonly virtualSize: number;
  readonly backing: { readonly format: 'raw' | 'qcow2'; readonly size: number } | undefined;
  /** Written by QEMU before the run; empty for a fresh image. */
  readonly prefill: readonly Request[];
  /** Written by QEMU into the backing file. */
  readonly backingFill: readonly Request[];
  readonly requests: readonly Request[];
}

const CLUSTER_SIZES = [512, 1024, 4096, 65_536, 65_536, 2_097_152] as const;
const CACHES: readonly CacheMode[] = ['writethrough', 'writeback', 'directsync', 'none', 'unsafe'];

export function parityCase(seed: number): ParityCase {
  const random = new Random(seed);
  const pick = <T>(items: readonly T[]): T => items[random.below(items.length)] as T;
  const clusterSize = pick(CLUSTER_SIZES);
  // Sizes that end in mid-cluster belong to the hard cases.
  const virtualSize = pick([20, 100, 400]) * clusterSize + pick([0, 0, SECTOR_SIZE, clusterSize / 2]);
  const format = pick([undefined, undefined, 'raw', 'qcow2'] as const);
  const size = pick([virtualSize, sectors(virtualSize / 2), virtualSize + 65_536]);
  const lengths = [1, 8, 8, clusterSize / SECTOR_SIZE, (4 * clusterSize) / SECTOR_SIZE];
  const range = (limit: number): { offset: number; length: number } => {
    const offset = random.below(limit / SECTOR_SIZE) * SECTOR_SIZE;
    const length = (1 + random.below(pick(lengths))) * SECTOR_SIZE;
    return { offset, length: Math.min(length, limit - offset) };
  };
  const write = (limit: number, fua = false): Request => ({
    op: 'write',
    ...range(limit),
    fua,
    unmap: false,
    timeNs: 0,
  });
  const anyRequest = (): Request => {
    const kind = random.below(100);
    if (kind < 75) return write(virtualSize);
    if (kind < 80) return write(virtualSize, true);
    if (kind < 90) return { ...write(virtualSize), op: 'read' };
    return { op: 'flush', offset: 0, length: 0, fua: false, unmap: false, timeNs: 0 };
  };
  const list = (count: number, make: () => Request): Request[] => Array.from({ length: count }, make);
  return {
    seed,
    clusterSize,
    refcounts: pick(['eager', 'lazy'] as const),
    // Every mode comes equally often, whatever the seeds.
    cache: CACHES[seed % CACHES.length] as CacheMode,
    virtualSize,
    backing: format === undefined ? undefined : { format, size },
    prefill: random.chance(0.5) ? list(10, () => write(virtualSize)) : [],
    backingFill: format === undefined ? [] : list(6, () => write(size)),
    requests: list(30 + random.below(40), anyRequest),
  };
}

function sectors(bytes: number): number {
  return Math.max(1, Math.floor(bytes / SECTOR_SIZE)) * SECTOR_SIZE;
}
