/** Sizes of the metadata caches: QEMU's arithmetic, its refusals, and what small caches write. */

import { describe, expect, it } from 'vitest';

import { cacheGeometry } from '../../../src/format/qcow2/metadata/cache-geometry.ts';
import { CACHE_SIZE_OPTIONS, type CacheSizes } from '../../../src/format/cache-sizes.ts';
import { geometryOf, makeGeometry } from '../../../src/format/qcow2/on-disk/geometry.ts';
import { QemuDirectory } from '../qemu-directory.ts';
import { rejectionOf } from '../rejection.ts';
import { reasonToSkip } from '../system-tools.ts';

const KIB = 1024;
const MIB = 1024 * KIB;
const GIB = 1024 * MIB;
const TIB = 1024 * GIB;

function slotsOf(clusterSize: number, virtualSize: number, sizes: CacheSizes = {}) {
  const geometry = makeGeometry({ clusterBits: Math.log2(clusterSize), refcountOrder: 4 });
  const { l2SliceSize, l2Slots, refcountSlots } = cacheGeometry(geometry, virtualSize, sizes);
  return [l2SliceSize, l2Slots, refcountSlots];
}

describe('the caches of an image', () => {
  it('by default hold all L2 tables, up to 32 MiB of them, and four refcount blocks', () => {
    expect(slotsOf(64 * KIB, 1 * GIB)).toEqual([64 * KIB, 2, 4]);
    expect(slotsOf(64 * KIB, 256 * GIB)).toEqual([64 * KIB, 512, 4]);
  });

  it('hold L2 tables in slices of 4 KiB where they cannot hold them all', () => {
    expect(slotsOf(64 * KIB, 256 * GIB + 512)).toEqual([4 * KIB, 8192, 4]);
    expect(slotsOf(64 * KIB, 1 * TIB)).toEqual([4 * KIB, 8192, 4]);
    expect(slotsOf(64 * KIB, 64 * GIB, { l2CacheSize: 1 * MIB })).toEqual([4 * KIB, 256, 4]);
    expect(slotsOf(1 * KIB, 100 * GIB)).toEqual([1 * KIB, 32 * KIB, 4]);
  });

  it('are never smaller than two slices and four blocks, and never hold more L2 tables than there are', () => {
    expect(slotsOf(64 * KIB, 1 * GIB, { l2CacheSize: 0, refcountCacheSize: 0 })).toEqual([4 * KIB, 2, 4]);
    expect(slotsOf(64 * KIB, 1 * GIB, { l2CacheSize: 1 * GIB })).toEqual([64 * KIB, 2, 4]);
    expect(slotsOf(64 * KIB, 0)).toEqual([64 * KIB, 2, 4]);
  });

  it('share out cache-size: what is not given gets the rest; with neither, L2 first', () => {
    const disk = 8 * GIB; // 1 MiB of L2 tables
    expect(slotsOf(64 * KIB, disk, { cacheSize: 2 * MIB, l2CacheSize: 1 * MIB })).toEqual([64 * KIB, 16, 16]);
    // More than the disk needs is not taken: the rest is the refcount cache's.
    expect(slotsOf(64 * KIB, disk, { cacheSize: 2 * MIB, l2CacheSize: 2 * MIB })).toEqual([64 * KIB, 16, 16]);
    // Unless it is what the refcount cache leaves over.
    expect(slotsOf(64 * KIB, disk, { cacheSize: 4 * MIB, refcountCacheSize: 1 * MIB })).toEqual([
      64 * KIB,
      48,
      16,
    ]);
    expect(slotsOf(64 * KIB, disk, { cacheSize: 2 * MIB })).toEqual([64 * KIB, 16, 16]);
    expect(slotsOf(64 * KIB, disk, { cacheSize: 1 * MIB })).toEqual([4 * KIB, 192, 4]);
    expect(slotsOf(64 * KIB, disk, { cacheSize: 100 * KIB })).toEqual([4 * KIB, 2, 4]);
  });

  it('count 16 bytes for each L2 entry that is extended', () => {
    const extended = geometryOf(64 * KIB, { extendedL2: true });
    const slots = (virtualSize: number) => {
      const { l2SliceSize, l2SliceEntries, l2Slots } = cacheGeometry(extended, virtualSize);
      return [l2SliceSize, l2SliceEntries, l2Slots];
    };
    expect(slots(128 * GIB)).toEqual([64 * KIB, 4096, 512]);
    expect(slots(128 * GIB + 512)).toEqual([4 * KIB, 256, 8192]);
  });

  it('take a slice of their own size', () => {
    expect(slotsOf(64 * KIB, 1 * TIB, { l2CacheEntrySize: 64 * KIB })).toEqual([64 * KIB, 512, 4]);
    expect(slotsOf(64 * KIB, 1 * GIB, { l2CacheEntrySize: 512 })).toEqual([512, 256, 4]);
  });

  it('refuse more than could be held before any memory is taken', async () => {
    const error = await rejectionOf(() => slotsOf(64 * KIB, 1 * GIB, { refcountCacheSize: 4096 * TIB }));
    expect(error?.code).toBe('bad-cache-size');
  });
});

const skip = reasonToSkip('qemu-img', 'qemu-io');

/** On a disk of 1 GiB with clusters of 64 KiB. */
const ASKED: readonly CacheSizes[] = [
  { cacheSize: 0 },
  { l2CacheSize: 0, refcountCacheSize: 0 },
  { cacheSize: MIB, l2CacheSize: 2 * MIB },
  { cacheSize: MIB, l2CacheSize: MIB },
  { cacheSize: MIB, refcountCacheSize: MIB + 1 },
  { cacheSize: MIB, refcountCacheSize: MIB },
  { cacheSize: 4 * MIB, refcountCacheSize: 2 * MIB, l2CacheSize: 2 * MIB },
  { l2CacheSize: 2 * MIB, refcountCacheSize: 2 * MIB },
  { l2CacheEntrySize: 256 },
  { l2CacheEntrySize: 512 },
  { l2CacheEntrySize: 3 * 512 },
  { l2CacheEntrySize: 128 * KIB },
  { refcountCacheSize: 64 * TIB },
];

describe.skipIf(skip !== undefined)('QEMU', () => {
  const qemu = new QemuDirectory();

  it.each(ASKED)('takes and refuses the same sizes: %j', async (sizes) => {
    qemu.img('create', '-q', '-f', 'qcow2', 'disk.qcow2', String(GIB));
    const names: Readonly<Record<string, string>> = CACHE_SIZE_OPTIONS;
    const options = Object.entries(sizes).map(([key, bytes]) => `${names[key] ?? key}=${String(bytes)}`);
    const image = ['driver=qcow2', 'file.filename=disk.qcow2', ...options].join(',');
    const theirs = await rejects(() => qemu.img('info', '--image-opts', image));
    const ours = await rejectionOf(() => slotsOf(64 * KIB, GIB, sizes));
    expect(ours !== undefined, theirs).toBe(theirs !== undefined);
  });
});

async function rejects(work: () => unknown): Promise<string | undefined> {
  try {
    await work();
    return undefined;
  } catch (error) {
    return String(error);
  }
}
