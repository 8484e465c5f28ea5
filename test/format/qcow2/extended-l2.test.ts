/** Extended L2 entries: clusters of 32 subclusters. */

import { describe, expect, it } from 'vitest';

import { Random } from '../../../src/core/random.ts';
import type { CacheMode } from '../../../src/format/cache-mode.ts';
import { SECTOR_SIZE, type Request } from '../../../src/workload/request.ts';
import { FIELD } from '../../../src/format/qcow2/on-disk/header.ts';
import { rejectionCodeOf } from '../rejection.ts';
import { reasonToSkip } from '../system-tools.ts';
import { ask, QemuCases, type QemuCase } from '../../parity/qemu-cases.ts';
import { damageOf, newImage, NO_DAMAGE, openBytes, patched } from './image-bytes.ts';

const KIB = 1024;
const MIB = 1024 * KIB;
const skip = reasonToSkip('qemu-img', 'qemu-io', 'strace');

interface MixOptions {
  readonly virtualSize: number;
  readonly clusterSize: number;
  readonly count: number;
}

/** All kinds of request, aligned to sectors, to subclusters or to clusters. */
function mixed(seed: number, { virtualSize, clusterSize, count }: MixOptions): Request[] {
  const random = new Random(seed);
  const units = [SECTOR_SIZE, clusterSize / 32, clusterSize / 32, clusterSize / 4, clusterSize];
  return Array.from({ length: count }, (): Request => {
    const unit = units[random.below(units.length)] ?? SECTOR_SIZE;
    const offset = random.below(Math.ceil(virtualSize / unit)) * unit;
    const most = random.chance(0.8) ? 4 : Math.max(4, clusterSize / unit);
    const length = Math.min((1 + random.below(most)) * unit, virtualSize - offset);
    const kind = random.below(100);
    if (kind < 55) return ask.write(offset, length);
    if (kind < 62) return ask.discard(offset, length);
    if (kind < 82) return ask.zero(offset, length, random.chance(0.5));
    return kind < 94 ? ask.read(offset, length) : ask.flush();
  });
}

describe.skipIf(skip !== undefined)('extended L2 entries against QEMU', () => {
  const twins = new QemuCases();

  const CACHES: readonly CacheMode[] = ['writethrough', 'writeback', 'none'];
  const CASES = [16 * KIB, 64 * KIB, 128 * KIB, 2 * MIB].flatMap((clusterSize) =>
    ['off', 'on'].map((lazy, index) => ({ clusterSize, lazy, cache: CACHES[index] as CacheMode })),
  );

  it.each(CASES)('all kinds of request: %j', async ({ clusterSize, lazy, cache }) => {
    const options = { extended_l2: 'on', cluster_size: String(clusterSize), lazy_refcounts: lazy };
    const virtualSize = 12 * clusterSize + 5 * SECTOR_SIZE;
    const requests = mixed(clusterSize + (lazy === 'on' ? 1 : 0), { virtualSize, clusterSize, count: 90 });
    await twins.expectSame({ virtualSize, options, cache, requests });
  });

  it.each(['raw', 'qcow2'] as const)('over a %s backing file', async (format) => {
    const clusterSize = 64 * KIB;
    const options = { extended_l2: 'on' };
    const virtualSize = 20 * clusterSize;
    const backing: QemuCase['backing'] = {
      format,
      size: 15 * clusterSize + 3 * SECTOR_SIZE,
      fill: mixed(7, { virtualSize: 15 * clusterSize, clusterSize, count: 12 }).filter(
        ({ op }) => op === 'write',
      ),
    };
    for (const [seed, cache] of CACHES.entries()) {
      const requests = mixed(seed, { virtualSize, clusterSize, count: 90 });
      const prefill = seed === 1 ? mixed(99, { virtualSize, clusterSize, count: 20 }) : [];
      await twins.expectSame({ virtualSize, options, backing, cache, prefill, requests });
    }
  });
});

describe.skipIf(skip !== undefined)('clusters with subclusters that a snapshot shares', () => {
  const twins = new QemuCases();

  it.each([1, 2, 3])('are copied from the first to the last allocated subcluster (seed %i)', async (seed) => {
    const clusterSize = 64 * KIB;
    const sub = clusterSize / 32;
    const virtualSize = 12 * clusterSize;
    // Clusters whose middle is allocated, whose ends are, and that are zero in part.
    const prefill = [
      ask.write(8 * sub, 4 * sub),
      ask.write(clusterSize + 2 * sub, sub),
      ask.write(clusterSize + 29 * sub, sub),
      ask.write(2 * clusterSize, clusterSize),
      ask.zero(2 * clusterSize, 6 * sub),
      ask.write(4 * clusterSize + 512, 512),
    ];
    const requests = [
      ask.write(10 * sub + 512, 512),
      ask.write(2 * clusterSize + 20 * sub, sub),
      ask.write(clusterSize + 10 * sub, 512),
      ask.write(4 * clusterSize + 20 * sub, 3 * sub),
      ...mixed(seed, { virtualSize, clusterSize, count: 40 }),
    ];
    const options = { extended_l2: 'on', lazy_refcounts: seed === 2 ? 'on' : 'off' };
    await twins.expectSame({ virtualSize, options, prefill, snapshot: true, requests });
  });
});

/** The maps of the subclusters of one cluster, as `allocated/zero`, low subclusters last. */
function mapsOf(bytes: Uint8Array, cluster: number): string {
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  const l1Offset = Number(view.getBigUint64(FIELD.l1Offset));
  const l2Offset = Number(view.getBigUint64(l1Offset) & 0x00ff_ffff_ffff_fe00n);
  if (l2Offset === 0) return 'none';
  const at = l2Offset + cluster * 16;
  const hex = (value: number): string => value.toString(16).padStart(8, '0');
  return `${hex(view.getUint32(at + 12))}/${hex(view.getUint32(at + 8))}`;
}

function hostOffsetOf(bytes: Uint8Array, cluster: number): bigint {
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  const l1Offset = Number(view.getBigUint64(FIELD.l1Offset));
  const l2Offset = Number(view.getBigUint64(l1Offset) & 0x00ff_ffff_ffff_fe00n);
  return view.getBigUint64(l2Offset + cluster * 16);
}

describe('a cluster of 32 subclusters', () => {
  const SUB = 2 * KIB;
  const shape = { extendedL2: true } as const;
  const open = async () => openBytes(await newImage({ virtualSize: MIB, shape }));

  it('allocates the subclusters that are written, and no other', async () => {
    const { image, device } = await open();
    await image.write(0, new Uint8Array(1).fill(1));
    await image.write(3 * SUB, new Uint8Array(2 * SUB).fill(1));
    await image.write(31 * SUB, new Uint8Array(SUB).fill(1));
    await image.flush('guest-flush');
    expect(mapsOf(device.contents(), 0)).toBe('80000019/00000000');
    expect(await damageOf(image)).toEqual(NO_DAMAGE);
    await image.close();
  });

  it('zeroes parts by their bits and keeps the cluster; a write takes them back', async () => {
    const { image, device } = await open();
    await image.write(0, new Uint8Array(64 * KIB).fill(1));
    await image.flush('guest-flush');
    const place = hostOffsetOf(device.contents(), 0);
    await image.writeZeroes(SUB, 2 * SUB, { unmap: true });
    await image.flush('guest-flush');
    expect(mapsOf(device.contents(), 0)).toBe('fffffff9/00000006');
    await image.write(2 * SUB, new Uint8Array(512).fill(2));
    await image.flush('guest-flush');
    expect(mapsOf(device.contents(), 0)).toBe('fffffffd/00000002');
    expect(hostOffsetOf(device.contents(), 0)).toBe(place);
    const target = new Uint8Array(SUB);
    await image.read(2 * SUB, target);
    expect([target[0], target[511], target[512], target[SUB - 1]]).toEqual([2, 2, 0, 0]);
    await image.close();
  });

  it('zeroes a whole cluster by all bits, with or without its place', async () => {
    const { image, device } = await open();
    await image.write(0, new Uint8Array(128 * KIB).fill(1));
    await image.writeZeroes(0, 64 * KIB, { unmap: false });
    await image.writeZeroes(64 * KIB, 64 * KIB, { unmap: true });
    await image.flush('guest-flush');
    const bytes = device.contents();
    expect([mapsOf(bytes, 0), mapsOf(bytes, 1)]).toEqual(['00000000/ffffffff', '00000000/ffffffff']);
    expect(hostOffsetOf(bytes, 0)).not.toBe(0n);
    expect(hostOffsetOf(bytes, 1)).toBe(0n);
    expect(await damageOf(image)).toEqual(NO_DAMAGE);
    await image.close();
  });

  it('reads on only where the next cluster follows in the file', async () => {
    const { image } = await open();
    await image.write(64 * KIB, new Uint8Array(64 * KIB).fill(2));
    await image.write(0, new Uint8Array(64 * KIB).fill(1));
    await image.write(128 * KIB, new Uint8Array(64 * KIB).fill(3));
    const target = new Uint8Array(192 * KIB);
    await image.read(0, target);
    expect([0, 1, 2].map((cluster) => target[cluster * 64 * KIB])).toEqual([1, 2, 3]);
    expect(await image.map(0, 192 * KIB)).toMatchObject({ kind: 'data', length: 64 * KIB });
    await image.close();
  });

  it('discards whole clusters only', async () => {
    const { image, device } = await open();
    await image.write(0, new Uint8Array(128 * KIB).fill(1));
    await image.discard(SUB, 64 * KIB);
    await image.flush('guest-flush');
    expect(mapsOf(device.contents(), 0)).toBe('ffffffff/00000000');
    await image.discard(SUB, 127 * KIB);
    await image.flush('guest-flush');
    const bytes = device.contents();
    expect([mapsOf(bytes, 0), mapsOf(bytes, 1)]).toEqual(['ffffffff/00000000', '00000000/ffffffff']);
    expect(hostOffsetOf(bytes, 1)).toBe(0n);
    await image.close();
  });

  it('has no parts while it is compressed: zeroes for some of it are written out', async () => {
    const { image, device } = await open();
    await image.writeCompressed(0, new Uint8Array(64 * KIB).fill(1));
    await image.writeZeroes(4 * SUB, SUB, { unmap: false });
    await image.flush('guest-flush');
    expect(mapsOf(device.contents(), 0)).toBe('ffffffff/00000000');
    const target = new Uint8Array(64 * KIB);
    await image.read(0, target);
    expect(target.findIndex((byte) => byte === 0)).toBe(4 * SUB);
    expect(target.lastIndexOf(0)).toBe(5 * SUB - 1);
    expect(await damageOf(image)).toEqual(NO_DAMAGE);
    await image.close();
  });

  it.each([
    ['both allocated and zero', 0x1n, 0x1n],
    ['allocated in no cluster', 0x1n, 0x0n],
  ])('that is damaged, %s, is neither read nor written', async (what, allocated, zero) => {
    const { image, device } = await open();
    await image.write(0, new Uint8Array(64 * KIB).fill(1));
    await image.close();
    const bytes = device.contents();
    const view = new DataView(bytes.buffer);
    const l2 = Number(view.getBigUint64(Number(view.getBigUint64(FIELD.l1Offset))) & 0x00ff_ffff_ffff_fe00n);
    view.setBigUint64(l2 + 8, (zero << 32n) | allocated);
    if (what.endsWith('no cluster')) view.setBigUint64(l2, 0n);
    const damaged = await openBytes(bytes);
    expect(await rejectionCodeOf(() => damaged.image.read(0, new Uint8Array(512)))).toBe(
      'qcow2-bad-subclusters',
    );
    expect((await damageOf(damaged.image)).corruptions).toBeGreaterThan(0);
    expect(await rejectionCodeOf(() => damaged.image.write(0, new Uint8Array(512)))).toBe('qcow2-corrupt');
  });

  it('is refused where a subcluster would be less than a sector', async () => {
    const small = { virtualSize: MIB, clusterSize: 8 * KIB, shape };
    expect(await rejectionCodeOf(() => newImage(small))).toBe('qcow2-cluster-too-small');
    const bytes = patched(await newImage({ virtualSize: MIB, clusterSize: 8 * KIB }), { at: 72, u64: 0x10n });
    expect(await rejectionCodeOf(() => openBytes(bytes))).toBe('qcow2-subclusters-too-small');
  });
});
