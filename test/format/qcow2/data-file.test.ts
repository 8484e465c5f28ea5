/**
 * External data files: made as by qemu-img, opened only where that is allowed, and raw ones in step
 * with the disk.
 */

import { readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { openStack } from '../../../src/bench/stack.ts';
import { Random } from '../../../src/core/random.ts';
import { probeCapabilities } from '../../../src/device/capabilities.ts';
import { FileStorage } from '../../../src/device/file-storage.ts';
import type { HostLogRecord } from '../../../src/device/host-log.ts';
import { MemoryStorage } from '../../../src/device/memory-storage.ts';
import { PREALLOCATIONS, type ImageShape } from '../../../src/format/image-shape.ts';
import { Qcow2Image } from '../../../src/format/qcow2/qcow2-image.ts';
import { createImage, openImage } from '../../../src/format/registry.ts';
import { createImageFile } from '../../../src/image/create-image.ts';
import { hostImage } from '../../../src/image/host-image.ts';
import { imageExtents } from '../../../src/image/image-extents.ts';
import { readImageInfo } from '../../../src/image/image-info.ts';
import { openChain } from '../../../src/image/open-chain.ts';
import { QemuDirectory } from '../qemu-directory.ts';
import { rejectionCodeOf } from '../rejection.ts';
import { reasonToSkip } from '../system-tools.ts';

const KIB = 1024;
const MIB = 1024 * KIB;
const CLUSTER = 64 * KIB;
const skip = reasonToSkip('qemu-img', 'qemu-io');

/** An image `disk` with its data file in memory. */
async function inMemory(shape: ImageShape = { dataFile: 'plain' }, stored = 'disk.data') {
  const storage = new MemoryStorage();
  const dataFile = { name: stored, device: storage.create('disk.data') };
  await createImage({
    format: 'qcow2',
    device: storage.create('disk'),
    virtualSize: 4 * MIB + 512,
    shape,
    dataFile,
  });
  return storage;
}

function contents(storage: MemoryStorage, name: string): Uint8Array {
  const device = storage.open(name);
  const bytes = new Uint8Array(device.size());
  device.read(0, bytes, 'data');
  return bytes;
}

describe.skipIf(skip !== undefined)('beside qemu-img, an image with a data file', () => {
  const qemu = new QemuDirectory();

  it.each(
    (['plain', 'raw'] as const).flatMap((dataFile) =>
      PREALLOCATIONS.flatMap((preallocation) =>
        [0, 200 * KIB, 3 * MIB].map((virtualSize) => ({ dataFile, preallocation, virtualSize })),
      ),
    ),
  )('is made with the same bytes in both files: %o', async ({ dataFile, preallocation, virtualSize }) => {
    const raw = dataFile === 'raw' ? 'on' : 'off';
    const settings = `data_file=the.data,data_file_raw=${raw},preallocation=${preallocation}`;
    qemu.img('create', '-q', '-f', 'qcow2', '-o', settings, 'theirs', String(virtualSize));
    const theirs = [qemu.get('theirs'), qemu.get('the.data')];
    const theirBlocks = statSync(join(qemu.path, 'the.data')).blocks;
    await createImageFile({
      ...hostImage(join(qemu.path, 'ours')),
      format: 'qcow2',
      virtualSize,
      shape: { dataFile, preallocation },
      dataFile: { ...hostImage(join(qemu.path, 'the.data')), stored: 'the.data' },
      overwrite: true,
    });
    expect(Buffer.compare(qemu.get('ours'), theirs[0] ?? new Uint8Array(0))).toBe(0);
    expect(Buffer.compare(qemu.get('the.data'), theirs[1] ?? new Uint8Array(0))).toBe(0);
    const ourBlocks = statSync(join(qemu.path, 'the.data')).blocks;
    expect(Math.abs(ourBlocks - theirBlocks)).toBeLessThanOrEqual(16);
  });

  it.each(['plain', 'raw'] as const)('has the same map, a %s one', async (dataFile) => {
    const settings = `data_file=map.data,data_file_raw=${dataFile === 'raw' ? 'on' : 'off'}`;
    qemu.img('create', '-q', '-f', 'qcow2', '-o', settings, 'map', '1M');
    qemu.io(
      'qcow2',
      'map',
      'write -P 1 0 512k',
      'discard 64k 64k',
      'write -z 192k 64k',
      'write -z -u 320k 64k',
    );
    const theirs = JSON.parse(qemu.img('map', '--output=json', '-f', 'qcow2', 'map')) as readonly object[];
    const { image, names } = await openChain({ path: join(qemu.path, 'map') });
    const ours: unknown[] = [];
    for await (const { hostOffset, ...extent } of imageExtents(image)) {
      ours.push({ ...extent, ...(hostOffset === undefined ? {} : { offset: hostOffset }) });
    }
    await image.abandon();
    // Before QEMU 8.2 compression is not reported.
    expect(ours).toEqual(theirs.map((extent) => ({ compressed: false, ...extent })));
    expect(names).toEqual([join(qemu.path, 'map.data')]);
  });
});

describe('a raw data file', () => {
  it('holds what the disk holds, whatever is written, zeroed and discarded', async () => {
    const storage = await inMemory({ dataFile: 'raw' });
    const stack = await openStack({ storage, imageName: 'disk', format: 'qcow2', cache: 'writeback' });
    const { backend } = stack;
    const random = new Random(5);
    const disk = new Uint8Array(backend.image.virtualSize);
    for (let index = 1; index < 80; index++) {
      const offset = random.below(disk.byteLength / 512) * 512;
      const length = Math.min((1 + random.below(300)) * 512, disk.byteLength - offset);
      const kind = random.below(4);
      if (kind === 0) {
        await backend.writeZeroes(offset, length, { fua: false, unmap: random.chance(0.5) });
        disk.fill(0, offset, offset + length);
      } else if (kind === 1) {
        await backend.discard(offset, length);
        const end = offset + length === disk.byteLength ? disk.byteLength : offset + length;
        const last = end === disk.byteLength ? end : end - (end % CLUSTER);
        const first = Math.ceil(offset / CLUSTER) * CLUSTER;
        if (last > first) disk.fill(0, first, last);
      } else {
        const bytes = new Uint8Array(length).fill(index);
        await backend.write(offset, bytes, { fua: false });
        disk.set(bytes, offset);
      }
    }
    const read = new Uint8Array(disk.byteLength);
    await backend.image.read(0, read);
    expect(Buffer.compare(read, disk)).toBe(0);
    await stack.close();
    expect(Buffer.compare(contents(storage, 'disk.data').subarray(0, disk.byteLength), disk)).toBe(0);
  });
});

describe('an external data file', () => {
  const open = (storage: MemoryStorage, options: { readonly dataFile?: string } = {}) =>
    openImage({ format: 'qcow2', name: 'disk', files: storage, readOnly: false, ...options });

  it('gets the data and nothing else, is synced before the image, and costs no refcounts', async () => {
    const storage = await inMemory();
    const log: HostLogRecord[] = [];
    const stack = await openStack({
      storage,
      imageName: 'disk',
      format: 'qcow2',
      cache: 'writethrough',
      hostLog: (record) => log.push(record),
    });
    await stack.backend.write(0, new Uint8Array(4096).fill(1), { fua: false });
    log.length = 0;
    await stack.backend.write(CLUSTER, new Uint8Array(4096).fill(1), { fua: false });
    await stack.backend.write(CLUSTER, new Uint8Array(4096).fill(2), { fua: false });
    const text = log.map((record) =>
      record.op === 'sync'
        ? `sync ${record.file} ${record.cause}`
        : `${record.op} ${record.file} ${record.purpose}`,
    );
    expect(text).toEqual([
      'zero-range data cow',
      'write data data',
      'write image l2-table',
      'sync data data-file',
      'sync image writethrough',
      'write data data',
      'sync data data-file',
    ]);
    await stack.close();
  });

  it.each([
    ['/etc/passwd', 'data-not-allowed'],
    ['../elsewhere', 'data-not-allowed'],
    ['json:{"driver":"null-co"}', 'data-protocol'],
    ['nbd://host/disk', 'data-protocol'],
    ['disk', 'data-file-is-image'],
    ['./disk', 'data-file-is-image'],
    ['missing', 'file-missing'],
  ])('named %s is not opened: %s', async (stored, code) => {
    const storage = await inMemory({ dataFile: 'plain' }, stored);
    expect(await rejectionCodeOf(() => open(storage))).toBe(code);
    // The caller may choose another file.
    const image = await open(storage, { dataFile: 'disk.data' });
    await image.write(512, new Uint8Array(512).fill(9));
    await image.close();
    expect(contents(storage, 'disk.data')[512]).toBe(9);
  });

  it('leaves no room for snapshots and compressed clusters', async () => {
    const image = await open(await inMemory());
    if (!(image instanceof Qcow2Image)) throw new Error('not a qcow2 image');
    const snapshot = { name: 'a', seconds: 0, nanoseconds: 0 };
    expect(await rejectionCodeOf(() => image.snapshots.create(snapshot))).toBe('snapshot-data-file');
    const write = (): Promise<void> => image.writeCompressed(0, new Uint8Array(CLUSTER));
    expect(await rejectionCodeOf(write)).toBe('qcow2-compressed-data-file');
    await image.close();
  });

  it('is not opened to look at an image, or to check it', async () => {
    const storage = await inMemory({ dataFile: 'raw' });
    storage.remove('disk.data');
    expect(await readImageInfo({ storage, name: 'disk' })).toMatchObject({
      dataFile: { name: 'disk.data', isRaw: true },
    });
  });

  it('is served from a directory too, by the name in the image', async () => {
    const qemu = new QemuDirectory();
    const storage = new FileStorage(qemu.path, probeCapabilities(qemu.path));
    const device = storage.create('disk');
    const data = storage.create('sub.data', { label: 'data' });
    const shape = { dataFile: 'plain' } as const;
    await createImage({
      format: 'qcow2',
      device,
      virtualSize: MIB,
      shape,
      dataFile: { name: 'sub.data', device: data },
    });
    device.close();
    data.close();
    const image = await openImage({ format: 'qcow2', name: 'disk', files: storage, readOnly: false });
    await image.write(0, new Uint8Array(512).fill(7));
    await image.close();
    expect(readFileSync(join(qemu.path, 'sub.data'))[511]).toBe(7);
  });
});
