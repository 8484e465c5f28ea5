/**
 * Promises that qemu-iotests make and no other test here states as such, in our own words
 * (docs/qemu-rules.md, "Promises of qemu-iotests"), each held beside a real QEMU.
 */

import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';

import { probeCapabilities } from '../../src/device/capabilities.ts';
import { FileStorage } from '../../src/device/file-storage.ts';
import type { StackOptions } from '../../src/bench/stack.ts';
import { Random } from '../../src/core/random.ts';
import type { CacheSizes } from '../../src/format/cache-sizes.ts';
import { readFileLayout } from '../../src/format/registry.ts';
import type { Request } from '../../src/workload/request.ts';
import { rejectionCodeOf } from '../format/rejection.ts';
import { reasonToSkip } from '../format/system-tools.ts';
import { ask } from './qemu-cases.ts';
import { TwinImages } from './twin-images.ts';
import { openPeerStack } from './peer-stack.ts';

const KIB = 1024;
const MIB = 1024 * KIB;
const SEED = 15;
const skip = reasonToSkip('qemu-img', 'qemu-io', 'strace');

function newTwins(options: string, size: string): TwinImages {
  const twins = new TwinImages();
  twins.run('qemu-img', 'create', '-q', '-f', 'qcow2', '-o', options, 'disk', size);
  return twins;
}

async function layoutOf(twins: TwinImages) {
  const files = new FileStorage(twins.directory, probeCapabilities(twins.directory));
  const device = files.open('disk-ours', { readOnly: true });
  try {
    return { layout: await readFileLayout(device, 'qcow2'), size: device.size() };
  } finally {
    await device.close();
  }
}

/** Offsets of the refcount blocks of our image. */
async function refcountBlocks(twins: TwinImages, clusterSize: number): Promise<readonly number[]> {
  const { layout, size } = await layoutOf(twins);
  const clusters = Array.from({ length: Math.ceil(size / clusterSize) }, (_, index) => index * clusterSize);
  return clusters.filter((at) => layout.metadataAt(at) === 'refcount-block');
}

describe.skipIf(skip !== undefined)(`015: snapshots and allocation in turns, seed ${String(SEED)}`, () => {
  it('until refcounts need many blocks: consistent after each step, and the same as in QEMU', async () => {
    const clusterSize = KIB;
    const twins = newTwins(`cluster_size=${String(clusterSize)},refcount_bits=64`, '6M');
    const random = new Random(SEED);
    const expectConsistent = (what: string): void => {
      expect(twins.run('qemu-img', 'check', twins.ours), what).toContain('No errors were found');
    };
    const names: string[] = [];
    for (let round = 0; round < 4; round++) {
      const from = round * MIB;
      // Half of it new, half of it shared with the last snapshot.
      const fresh = Array.from({ length: 16 }, (_, index) => ask.write(from + index * 32 * KIB, 16 * KIB));
      const shared = Array.from({ length: 8 }, () => ask.write(random.below(from / KIB + 1) * KIB, KIB));
      await twins.serve([...fresh, ...shared], `round ${String(round)}: written`);
      expectConsistent(`round ${String(round)}: written`);
      const name = `s${String(round)}`;
      await twins.snapshot('create', name, `round ${String(round)}: taken`);
      names.push(name);
      expectConsistent(`round ${String(round)}: taken`);
      if (round % 2 === 1) {
        const [oldest = ''] = names.splice(0, 1);
        await twins.snapshot('apply', oldest, `round ${String(round)}: applied`);
        expectConsistent(`round ${String(round)}: applied`);
        await twins.snapshot('delete', oldest, `round ${String(round)}: deleted`);
        expectConsistent(`round ${String(round)}: deleted`);
      }
    }
    expect((await refcountBlocks(twins, clusterSize)).length).toBeGreaterThan(5);
    for (const name of names) {
      await twins.snapshot('delete', name, `${name} deleted in the end`);
      expectConsistent(`${name} deleted in the end`);
    }
  });
});

describe.skipIf(skip !== undefined)(
  '115: a run of clusters that needs new refcount blocks on its way',
  () => {
    // A block of 64-bit refcounts in clusters of 4 KiB covers 512 clusters: 2 MiB of the file, as
    // an L2 table of the disk.
    const clusterSize = 4 * KIB;
    const coverage = 2 * MIB;
    it.each([
      [1536, 'the run begins in one block and ends in the next'],
      [2048, 'the run is as long as what a block covers'],
    ])('%i KiB at once: %s', async (kib) => {
      const twins = newTwins(`cluster_size=${String(clusterSize)},refcount_bits=64`, '8M');
      const requests = [
        ask.write(0, MIB),
        ask.write(2 * MIB, kib * KIB),
        ask.write(4 * MIB, 2 * MIB),
        ask.flush(),
      ];
      await twins.serve(requests, 'written');
      expect(twins.run('qemu-img', 'check', twins.ours)).toContain('No errors were found');
      const blocks = await refcountBlocks(twins, clusterSize);
      expect(blocks.length).toBeGreaterThan(2);
      const bytes = readFileSync(twins.ours);
      // Each new block is in what it covers itself and holds its own refcount: no further block is
      // needed for it.
      for (const block of blocks) {
        const index = (block % coverage) / clusterSize;
        expect(bytes.readBigUInt64BE(block + index * 8), `the block at 0x${block.toString(16)}`).toBe(1n);
      }
      expect(new Set(blocks.map((block) => Math.floor(block / coverage))).size).toBe(blocks.length);
    });
  },
);

describe.skipIf(skip !== undefined)('137: an image opened again and again with other options', () => {
  const open = (twins: TwinImages, options: Pick<StackOptions, 'caches' | 'refcounts'>) =>
    openPeerStack({
      storage: new FileStorage(twins.directory, probeCapabilities(twins.directory)),
      imageName: 'disk-ours',
      format: 'qcow2',
      cache: 'writeback',
      ...options,
    });
  const isDirty = (twins: TwinImages): boolean => ((readFileSync(twins.ours)[79] ?? 0) & 1) === 1;
  const write = async (twins: TwinImages, request: Request, options: Parameters<typeof open>[1]) => {
    await using stack = await open(twins, options);
    await stack.backend.write(request.offset, new Uint8Array(request.length).fill(7), request);
    await stack.close();
  };

  it('other sizes of caches and other refcount modes each time leave one consistent image', async () => {
    const twins = newTwins('cluster_size=4k', '16M');
    twins.copy();
    const caches: readonly (CacheSizes | undefined)[] = [
      undefined,
      { l2CacheSize: 8 * KIB },
      { refcountCacheSize: 16 * KIB, l2CacheSize: 64 * KIB },
      { cacheSize: MIB },
      { l2CacheEntrySize: 512 },
    ];
    for (const [index, sizes] of caches.entries()) {
      for (const refcounts of ['lazy', 'eager'] as const) {
        await write(twins, ask.write(index * 3 * MIB, 256 * KIB), { caches: sizes, refcounts });
        expect(isDirty(twins)).toBe(false);
        expect(twins.run('qemu-img', 'check', twins.ours)).toContain('No errors were found');
      }
    }
  });

  it.each([
    [{ cacheSize: MIB, l2CacheSize: 2 * MIB }, 'l2-cache-size may not exceed cache-size'],
    [{ cacheSize: MIB, refcountCacheSize: 2 * MIB }, 'refcount-cache-size may not exceed cache-size'],
    [
      { cacheSize: MIB, refcountCacheSize: MIB / 2, l2CacheSize: MIB / 2 },
      'cache-size, l2-cache-size and refcount-cache-size may not be set at the same time',
    ],
    [{ l2CacheEntrySize: 3 * KIB }, 'power of two'],
  ])('options that contradict themselves are refused and change nothing: %j', async (caches, theirWords) => {
    const twins = newTwins('cluster_size=64k,lazy_refcounts=on', '16M');
    twins.copy();
    await write(twins, ask.write(0, 64 * KIB), {});
    const before = readFileSync(twins.ours);
    expect(await rejectionCodeOf(() => open(twins, { caches }))).toBe('bad-cache-size');
    expect(readFileSync(twins.ours).equals(before)).toBe(true);
    const names = { cacheSize: 'cache-size', l2CacheSize: 'l2-cache-size' } as const;
    const all = {
      ...names,
      refcountCacheSize: 'refcount-cache-size',
      l2CacheEntrySize: 'l2-cache-entry-size',
    };
    const list = Object.entries(caches).map(
      ([key, value]) => `${all[key as keyof typeof all]}=${String(value)}`,
    );
    const image = `driver=qcow2,file.filename=${twins.ours},${list.join(',')}`;
    expect(() => twins.run('qemu-io', '--image-opts', image, '-c', 'read 0 512')).toThrow(theirWords);
  });

  it('a crash after lazy refcounts were switched off leaves a clean image, one after they were switched on a dirty one', async () => {
    const twins = newTwins('lazy_refcounts=on', '16M');
    twins.copy();
    const crash = async (refcounts: 'eager' | 'lazy', at: number): Promise<void> => {
      await using stack = await open(twins, { refcounts });
      await stack.backend.write(at, new Uint8Array(4 * KIB).fill(9), ask.write(at, 4 * KIB));
      await stack.backend.flush();
      // Not closed: gone as a program that was killed.
    };
    await write(twins, ask.write(0, 4 * KIB), { refcounts: 'lazy' });
    await crash('eager', MIB);
    expect(isDirty(twins)).toBe(false);
    expect(twins.run('qemu-img', 'check', twins.ours)).toContain('No errors were found');
    await crash('lazy', 2 * MIB);
    expect(isDirty(twins)).toBe(true);
    // Opened for eager refcounts it is repaired first, and stays clean from then on.
    await crash('eager', 3 * MIB);
    expect(isDirty(twins)).toBe(false);
    expect(twins.run('qemu-img', 'check', twins.ours)).toContain('No errors were found');
  });
});
