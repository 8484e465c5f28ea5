/**
 * Compressed clusters against a real QEMU: the same host operations in the same order, the same
 * bytes in the end.
 */

import { describe, expect, it } from 'vitest';
import { Random } from '../../src/core/random.ts';
import type { CacheMode } from '../../src/format/cache-mode.ts';
import { reasonToSkip, runTool } from '../format/system-tools.ts';
import { testDirectory } from '../test-directory.ts';
import { expectParity, serveWithBoth, type Fill, type ParityRun, type Step } from './step-parity.ts';

const skip = reasonToSkip('qemu-img', 'qemu-io', 'strace');
const SECTOR = 512;
const CACHES: readonly CacheMode[] = ['writeback', 'writethrough', 'none', 'directsync', 'unsafe'];

const directory = testDirectory();

/**
 * A disk that is filled in part with compressed clusters, in an order of chance, and then written,
 * discarded and zeroed everywhere. Nothing is compressed after something was freed: there QEMU
 * damages data.
 */
function randomRun(seed: number): ParityRun {
  const random = new Random(seed);
  const pick = <T>(items: readonly T[]): T => items[random.below(items.length)] as T;
  const clusterSize = pick([512, 4096, 65_536, 65_536, 2_097_152]);
  const clusters = clusterSize > 100_000 ? 10 : 40;
  const size = clusters * clusterSize + pick([0, 0, SECTOR, clusterSize / 2]);
  const fills: readonly Fill[] = [0, 17, 'text', 'text', 'text', 'noise'];
  const steps: Step[] = [];
  const free = Array.from({ length: Math.ceil(size / clusterSize) }, (_, index) => index);
  const compressed = Math.floor(free.length * 0.7);
  for (let count = 0; count < compressed; count++) {
    const [cluster] = free.splice(random.below(free.length), 1);
    const offset = (cluster ?? 0) * clusterSize;
    const length = Math.min(clusterSize, size - offset);
    steps.push({ op: 'write-compressed', offset, length, fill: pick(fills) });
    if (random.chance(0.15)) steps.push({ op: 'flush' });
    if (random.chance(0.15)) steps.push({ op: 'read', offset, length });
  }
  const range = (): { offset: number; length: number } => {
    const offset = random.below(size / SECTOR) * SECTOR;
    const length = (1 + random.below((2 * clusterSize) / SECTOR)) * SECTOR;
    return { offset, length: Math.min(length, size - offset) };
  };
  for (let count = 0; count < 25; count++) {
    const op = pick(['write', 'write', 'write', 'read', 'discard', 'write-zeroes', 'flush'] as const);
    const isWhole = random.chance(0.3);
    const { offset, length } = range();
    const first = offset - (offset % clusterSize);
    steps.push({
      op,
      ...(isWhole ? { offset: first, length: Math.min(clusterSize, size - first) } : { offset, length }),
      fill: 1 + random.below(255),
      fua: op === 'write' && random.chance(0.1),
      unmap: random.chance(0.5),
    });
  }
  return {
    size,
    create: {
      cluster_size: String(clusterSize),
      compression_type: seed % 2 === 0 ? 'zlib' : 'zstd',
      lazy_refcounts: random.chance(0.5) ? 'on' : 'off',
      extended_l2: clusterSize >= 16_384 && random.chance(0.4) ? 'on' : 'off',
      // Narrow refcounts end the sharing of a cluster early.
      refcount_bits: pick(['1', '2', '16', '16', '64']),
    },
    cache: CACHES[seed % CACHES.length] as CacheMode,
    steps,
  };
}

describe.skipIf(skip !== undefined)('compressed clusters are written and overwritten as by QEMU', () => {
  it.each(Array.from({ length: 10 }, (_, index) => index + 1))('seed %i', async (seed) => {
    const run = randomRun(seed);
    await expectParity(directory, run, JSON.stringify({ seed, ...run, steps: run.steps.length }));
  });

  it('a cluster of free bytes that was taken for other data is not packed into, where QEMU damages that data', async () => {
    const create = { cluster_size: '65536' };
    const steps: readonly Step[] = [
      { op: 'write-compressed', offset: 0, length: 65_536, fill: 1 },
      { op: 'discard', offset: 0, length: 65_536 },
      { op: 'flush' },
      { op: 'write', offset: 131_072, length: 65_536, fill: 7 },
      { op: 'write-compressed', offset: 65_536, length: 65_536, fill: 3 },
    ];
    const { theirs, ours } = await serveWithBoth(directory, {
      size: 1024 ** 2,
      create,
      cache: 'none',
      steps,
    });
    const kept = 'read -P 7 131072 65536';
    const read = (path: string): string => runTool('qemu-io', ['-r', '-f', 'qcow2', '-c', kept, path]);
    // The day on which QEMU keeps the data, this exception is over.
    expect(() => read(theirs)).toThrow('Pattern verification failed');
    expect(read(ours)).not.toContain('failed');
    expect(runTool('qemu-img', ['check', '-f', 'qcow2', ours])).toContain('No errors');
  });
});
