/** Version 2 of the format (compat 0.10): no zero flag, no lazy refcounts, 16-bit refcounts. */

import { describe, expect, it } from 'vitest';

import type { BlockDevice } from '../../../src/device/block-device.ts';
import { HostLog } from '../../../src/device/host-log.ts';
import type { DiskImage } from '../../../src/format/disk-image.ts';
import { Random } from '../../../src/core/random.ts';
import { SECTOR_SIZE, type Request } from '../../../src/workload/request.ts';
import { rejectionCodeOf } from '../rejection.ts';
import { reasonToSkip } from '../system-tools.ts';
import { ask, QemuCases, type QemuCase } from '../../parity/qemu-cases.ts';
import { newImage, openBytes } from './image-bytes.ts';

const KIB = 1024;
const MIB = 1024 * KIB;
const V2 = { compat: '0.10' };

describe('an image of version 2', () => {
  it('has no room for lazy refcounts', async () => {
    const bytes = await newImage({ virtualSize: MIB, shape: { compat: '0.10' } });
    expect(await rejectionCodeOf(() => openBytes(bytes, { refcounts: 'lazy' }))).toBe('qcow2-lazy-needs-v3');
  });

  it('reads zeroes where zeroes were written, without a zero flag', async () => {
    const { image, device } = await openBytes(
      await newImage({ virtualSize: MIB, shape: { compat: '0.10' } }),
    );
    await image.write(0, new Uint8Array(128 * KIB).fill(1));
    await image.writeZeroes(0, 64 * KIB, { unmap: false });
    const target = new Uint8Array(128 * KIB);
    await image.read(0, target);
    expect(target.subarray(0, 64 * KIB).every((byte) => byte === 0)).toBe(true);
    expect(target.subarray(64 * KIB).every((byte) => byte === 1)).toBe(true);
    await image.close();
    expect(new DataView(device.contents().buffer).getUint32(4)).toBe(2);
  });
});

describe('zeroes for part of a cluster over a backing file, which version 2 can only write', () => {
  it('ask the tables first, as in QEMU: which L2 slices are cached afterwards depends on it', async () => {
    const below = await openBytes(await newImage({ virtualSize: MIB }));
    await below.image.write(0, new Uint8Array(MIB).fill(7));
    const backingFile = { name: 'below', format: 'qcow2' } as const;
    const openBacking = (): Promise<DiskImage> => Promise.resolve(below.image);
    const made = await openBytes(
      await newImage({ virtualSize: MIB, backingFile, shape: { compat: '0.10' } }),
      { openBacking },
    );
    await made.image.write(0, new Uint8Array(64 * KIB).fill(1));
    // From now on an allocation copies the L2 table, which needs a new place before the old one has
    // to be read.
    await made.image.snapshots.create({ name: 'one', seconds: 0, nanoseconds: 0 });
    await made.image.flush('guest-flush');

    const operations: string[] = [];
    const wrap = (device: BlockDevice): BlockDevice =>
      new HostLog(device, {
        phases: { phase: 'run' },
        sink: (record) => operations.push(record.op === 'sync' ? 'sync' : `${record.op} ${record.purpose}`),
      });
    const { image } = await openBytes(made.device.contents(), { openBacking, wrap });
    operations.length = 0;
    await image.writeZeroes(128 * KIB + 4 * KIB, 4 * KIB, { unmap: false });
    const changes = operations.findIndex((text) => !text.startsWith('read'));
    expect(operations.slice(0, changes)).toContain('read l2-table');
    await image.close();
  });
});

const skip = reasonToSkip('qemu-img', 'qemu-io', 'strace');

describe.skipIf(skip !== undefined)('version 2 against QEMU', () => {
  const twins = new QemuCases();

  it.each([512, 64 * KIB, 2 * MIB])('all kinds of request, clusters of %i bytes', async (clusterSize) => {
    const options = { ...V2, cluster_size: String(clusterSize) };
    const virtualSize = 40 * clusterSize + 512;
    const requests = mixed(clusterSize, { virtualSize, clusterSize, count: 80 });
    await twins.expectSame({ virtualSize, options, requests });
    await twins.expectSame({ virtualSize, options, requests, cache: 'writethrough' });
  });

  it.each(['raw', 'qcow2'] as const)('over a %s backing file', async (format) => {
    const virtualSize = 2 * MIB;
    const backing: QemuCase['backing'] = {
      format,
      size: MIB + 512,
      fill: [ask.write(0, 100 * KIB), ask.write(300 * KIB, 64 * KIB)],
    };
    const requests = mixed(3, { virtualSize, clusterSize: 64 * KIB, count: 80 });
    await twins.expectSame({ virtualSize, options: V2, backing, requests });
  });

  it('zeroes of more than 16 MiB go in writes of 16 MiB', async () => {
    const requests = [ask.write(MIB, 64 * KIB), ask.zero(0, 40 * MIB), ask.zero(512, 20 * MIB, true)];
    await twins.expectSame({ virtualSize: 48 * MIB, options: V2, requests });
  });
});

function mixed(
  seed: number,
  { virtualSize, clusterSize, count }: { virtualSize: number; clusterSize: number; count: number },
): Request[] {
  const random = new Random(seed);
  return Array.from({ length: count }, (): Request => {
    const offset = random.below(virtualSize / SECTOR_SIZE) * SECTOR_SIZE;
    const most = random.chance(0.5) ? 8 : Math.max(8, (3 * clusterSize) / SECTOR_SIZE);
    const length = Math.min((1 + random.below(most)) * SECTOR_SIZE, virtualSize - offset);
    const kind = random.below(100);
    if (kind < 45) return ask.write(offset, length);
    if (kind < 60) return ask.discard(offset, length);
    if (kind < 90) return ask.zero(offset, length, random.chance(0.5));
    return kind < 95 ? ask.read(offset, length) : ask.flush();
  });
}
