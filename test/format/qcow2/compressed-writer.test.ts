import { describe, expect, it } from 'vitest';
import { Random } from '../../../src/core/random.ts';
import { FaultDevice } from '../../../src/device/fault.ts';
import type { ImageShape } from '../../../src/format/image-shape.ts';
import type { Qcow2Image } from '../../../src/format/qcow2/qcow2-image.ts';
import { rejectionCodeOf } from '../rejection.ts';
import { damageOf, newImage, NO_DAMAGE, openBytes, type OpenBytesOptions } from './image-bytes.ts';

const CLUSTER = 4096;
/** The last cluster is cut off by the disk's end. */
const SIZE = 40 * CLUSTER + 1024;
const LAST = 40 * CLUSTER;

async function open(options: OpenBytesOptions & ImageShape = {}) {
  const { compressionType, ...rest } = options;
  return openBytes(
    await newImage({ virtualSize: SIZE, clusterSize: CLUSTER, shape: { compressionType } }),
    rest,
  );
}

/** What a check finds once all tables are in the file. */
async function flushedDamage(image: Qcow2Image) {
  await image.flush('guest-flush');
  return damageOf(image);
}

const filled = (length: number, byte: number): Uint8Array => new Uint8Array(length).fill(byte);

describe.each(['zlib', 'zstd'] as const)('a compressed write with %s', (compressionType) => {
  it('of many clusters gives the bytes of one cluster after the other, also where some do not pack', async () => {
    const random = new Random(7);
    const disk = new Uint8Array(SIZE);
    for (let at = 0; at < SIZE; at++) {
      const kind = Math.floor(at / CLUSTER) % 3;
      disk[at] = kind === 0 ? random.below(256) : kind === 1 ? random.below(4) : at % 251;
    }
    const [together, apart] = [await open({ compressionType }), await open({ compressionType })];
    await together.image.writeCompressed(0, disk);
    for (let at = 0; at < SIZE; at += CLUSTER) {
      await apart.image.writeCompressed(at, disk.subarray(at, at + CLUSTER));
    }
    for (const { image } of [together, apart]) {
      await image.endCompressedWrites();
      await image.close();
    }
    expect(Buffer.compare(together.device.contents(), apart.device.contents())).toBe(0);
    const again = await openBytes(together.device.contents(), { readOnly: true });
    const target = new Uint8Array(SIZE);
    await again.image.read(0, target);
    expect(Buffer.compare(target, disk)).toBe(0);
    await again.image.close();
  });

  it('packs clusters into one, keeps the refcounts right, and reads back after a reopening', async () => {
    const first = await open({ compressionType });
    const { image, device } = first;
    const sizeBefore = device.size();
    for (let cluster = 0; cluster < 10; cluster++) {
      await image.writeCompressed(cluster * CLUSTER, filled(CLUSTER, cluster));
    }
    expect(image.allocatingWrites).toBe(10);
    expect(await flushedDamage(image)).toEqual(NO_DAMAGE);
    await image.endCompressedWrites();
    await image.close();
    // The rest of the L1 table, an L2 table, and one cluster of packed bytes.
    expect(device.size()).toBeLessThanOrEqual(sizeBefore + 3 * CLUSTER);
    expect(device.size() % 512).toBe(0);

    const again = await openBytes(device.contents(), { readOnly: true });
    for (let cluster = 0; cluster < 10; cluster++) {
      expect((await again.image.map(cluster * CLUSTER, CLUSTER)).kind).toBe('compressed');
      const target = new Uint8Array(CLUSTER);
      await again.image.read(cluster * CLUSTER, target);
      expect(target).toEqual(filled(CLUSTER, cluster));
    }
    const part = new Uint8Array(1024);
    await again.image.read(2 * CLUSTER - 512, part);
    expect([part[0], part[1023]]).toEqual([1, 2]);
    expect(await damageOf(again.image)).toEqual(NO_DAMAGE);
    await again.image.close();
  });
});

describe('a compressed write', () => {
  it('takes whole clusters within the disk, the last one as far as it goes', async () => {
    const { image } = await open();
    await image.writeCompressed(LAST, filled(1024, 5));
    await image.writeCompressed(LAST - 2 * CLUSTER, filled(2 * CLUSTER, 6));
    const bytes = new Uint8Array(CLUSTER + 1024);
    await image.read(LAST - CLUSTER, bytes);
    expect([bytes[0], bytes[CLUSTER - 1], bytes[CLUSTER], bytes[CLUSTER + 1023]]).toEqual([6, 6, 5, 5]);
    for (const [offset, length] of [
      [512, CLUSTER],
      [0, 512],
      [0, CLUSTER + 512],
      [LAST, 512],
      [LAST, CLUSTER],
    ] as const) {
      const code = await rejectionCodeOf(() => image.writeCompressed(offset, new Uint8Array(length)));
      expect(code).toBe('compressed-write-unaligned');
    }
    expect(await flushedDamage(image)).toEqual(NO_DAMAGE);
    await image.close();
  });

  it('never overwrites, except zeroes that have no place in the file', async () => {
    const { image } = await open();
    await image.writeCompressed(0, filled(CLUSTER, 1));
    await image.write(CLUSTER, filled(CLUSTER, 2));
    await image.write(2 * CLUSTER, filled(CLUSTER, 2));
    await image.writeZeroes(2 * CLUSTER, CLUSTER, { unmap: false });
    for (const cluster of [0, 1, 2]) {
      const code = await rejectionCodeOf(() => image.writeCompressed(cluster * CLUSTER, filled(CLUSTER, 9)));
      expect(code).toBe('qcow2-compressed-overwrite');
    }
    await image.writeZeroes(3 * CLUSTER, CLUSTER, { unmap: false });
    await image.writeCompressed(3 * CLUSTER, filled(CLUSTER, 9));
    const target = new Uint8Array(4 * CLUSTER);
    await image.read(0, target);
    expect([0, 1, 2, 3].map((cluster) => target[cluster * CLUSTER])).toEqual([1, 2, 0, 9]);
    expect(await flushedDamage(image)).toEqual(NO_DAMAGE);
    await image.close();
  });

  it('of a cluster that does not pack is a usual one', async () => {
    const { image } = await open();
    const random = new Random(1);
    const noise = filled(CLUSTER, 0).map(() => random.below(256));
    await image.writeCompressed(0, noise);
    expect((await image.map(0, CLUSTER)).kind).toBe('data');
    // So it may be overwritten.
    await image.writeCompressed(0, noise);
    expect(await flushedDamage(image)).toEqual(NO_DAMAGE);
    await image.close();
  });

  it('that fails leaves the cluster as it was, and the next one succeeds', async () => {
    let fails = false;
    const { image } = await open({
      wrap: (inner) =>
        new FaultDevice(inner, ({ op, purpose }) =>
          fails && op === 'write' && purpose === 'data' ? 'ENOSPC' : undefined,
        ),
    });
    await image.writeCompressed(0, filled(CLUSTER, 1));
    await image.writeZeroes(2 * CLUSTER, CLUSTER, { unmap: false });
    fails = true;
    for (const cluster of [1, 2]) {
      const code = await rejectionCodeOf(() => image.writeCompressed(cluster * CLUSTER, filled(CLUSTER, 2)));
      expect(code).toBe('host-write-failed');
    }
    fails = false;
    expect((await image.map(CLUSTER, CLUSTER)).kind).toBe('unallocated');
    expect((await image.map(2 * CLUSTER, CLUSTER)).kind).toBe('zero');
    expect(await flushedDamage(image)).toEqual(NO_DAMAGE);
    await image.writeCompressed(CLUSTER, filled(CLUSTER, 3));
    const target = new Uint8Array(2 * CLUSTER);
    await image.read(0, target);
    expect([target[0], target[CLUSTER]]).toEqual([1, 3]);
    await image.close();
  });

  it('does not pack into a cluster that was freed and given to somebody else', async () => {
    const { image } = await open();
    await image.writeCompressed(0, filled(CLUSTER, 1));
    await image.discard(0, CLUSTER);
    await image.write(5 * CLUSTER, filled(CLUSTER, 7));
    await image.writeCompressed(CLUSTER, filled(CLUSTER, 3));
    const target = new Uint8Array(CLUSTER);
    await image.read(5 * CLUSTER, target);
    expect(target).toEqual(filled(CLUSTER, 7));
    expect(await flushedDamage(image)).toEqual(NO_DAMAGE);
    await image.close();
  });
});
