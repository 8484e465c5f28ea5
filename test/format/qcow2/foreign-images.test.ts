/**
 * Images that QEMU made, in every shape this engine opens: written here, read and checked there.
 */

import { beforeEach, describe, expect, it } from 'vitest';
import { openImage } from '../../../src/format/registry.ts';
import { BlockBackend } from '../../../src/format/block-backend.ts';
import { Random } from '../../../src/core/random.ts';
import { MemoryStorage } from '../../../src/device/memory-storage.ts';
import { Qcow2Image } from '../../../src/format/qcow2/qcow2-image.ts';
import { GuestModel, payload, SECTOR, type DiskShape } from '../guest-model.ts';
import { CHECK, QemuDirectory } from '../qemu-directory.ts';
import { filled } from '../recorded-files.ts';
import { rejectionCodeOf } from '../rejection.ts';
import { reasonToSkip } from '../system-tools.ts';
import { damageOf, NO_DAMAGE, openBytes } from './image-bytes.ts';

const skip = reasonToSkip('qemu-img', 'qemu-io');
const IMAGE = 'disk';

describe.skipIf(skip !== undefined)('an image that QEMU made', () => {
  let qemu: QemuDirectory;
  beforeEach(() => {
    qemu = new QemuDirectory();
  });

  const widths = [1, 2, 4, 8, 16, 32, 64].map((bits) => `refcount_bits=${String(bits)}`);
  const kinds = [
    ...widths.flatMap((width) => [512, 65_536].map((size) => `${width},cluster_size=${String(size)}`)),
    ...[512, 4096, 65_536].map((size) => `compat=0.10,cluster_size=${String(size)}`),
    'compat=1.1,lazy_refcounts=on,cluster_size=1024',
    'preallocation=metadata,cluster_size=4096',
  ];
  for (const settings of kinds) {
    it(`is written and discarded in, and stays clean: ${settings}`, async () => {
      const clusterSize = Number(/cluster_size=(\d+)/.exec(settings)?.[1] ?? 65_536);
      const isVersion2 = settings.includes('compat=0.10');
      const virtualSize = 40 * Math.max(clusterSize, 8192) + SECTOR;
      qemu.img('create', '-q', '-f', 'qcow2', '-o', settings, IMAGE, String(virtualSize));
      qemu.io('qcow2', IMAGE, 'write -P 7 0 64k');

      const shape: DiskShape = {
        format: 'qcow2',
        clusterSize,
        virtualSize,
        regions: [{ start: 0, length: virtualSize }],
      };
      const model = new GuestModel(shape);
      model.view(0, 65_536).fill(7);
      const { image, device } = await openBytes(qemu.get(IMAGE));
      expect(image.header.values.version).toBe(isVersion2 ? 2 : 3);
      const random = new Random(clusterSize);
      const backend = new BlockBackend({ image, cacheMode: 'writeback' });
      for (let index = 0; index < 60; index++) {
        const length = SECTOR * (1 + random.below((3 * clusterSize) / SECTOR));
        const offset = SECTOR * random.below((virtualSize - length) / SECTOR + 1);
        if (index % 5 === 3) {
          const request = { op: 'discard', offset, length } as const;
          await backend.discard(offset, length);
          model.apply(request, index);
        } else if (index % 5 === 4) {
          await backend.writeZeroes(offset, length, { fua: false, unmap: index % 2 === 0 });
          model.view(offset, length).fill(0);
        } else {
          await backend.write(offset, payload(index, offset, length), { fua: index % 7 === 0 });
          model.apply({ op: 'write', offset, length, fua: false }, index);
        }
      }
      await image.close();
      qemu.put(IMAGE, device.contents());
      qemu.expectCheck('qcow2', IMAGE, CHECK.clean);
      qemu.expectContents('qcow2', IMAGE, model);
      const again = await openBytes(device.contents());
      expect(await damageOf(again.image)).toEqual(NO_DAMAGE);
      await again.image.close();
    });
  }

  it('of version 2 does not discard what would let its backing file show through', async () => {
    qemu.put('base', filled(1024 * 1024, 5));
    const backing = ['-b', 'base', '-F', 'raw'];
    qemu.img('create', '-q', '-f', 'qcow2', '-o', 'compat=0.10', ...backing, IMAGE);
    const storage = new MemoryStorage();
    for (const name of [IMAGE, 'base']) storage.create(name).write(0, qemu.get(name), 'data');
    const image = await openImage({ format: 'qcow2', name: IMAGE, files: storage, readOnly: false });
    await image.write(0, filled(65_536, 9));
    await image.discard(0, 65_536);
    const target = new Uint8Array(65_536);
    await image.read(0, target);
    expect(target).toEqual(filled(65_536, 9));
    await image.close();
  });

  it('of version 2 cannot have lazy refcounts', async () => {
    qemu.img('create', '-q', '-f', 'qcow2', '-o', 'compat=0.10', IMAGE, '1M');
    expect(await rejectionCodeOf(() => openBytes(qemu.get(IMAGE), { refcounts: 'lazy' }))).toBe(
      'qcow2-lazy-needs-v3',
    );
  });

  it('with an internal snapshot keeps what the snapshot holds', async () => {
    qemu.img('create', '-q', '-f', 'qcow2', '-o', 'cluster_size=4096', IMAGE, '6M');
    qemu.io('qcow2', IMAGE, 'write -P 1 0 5M');
    qemu.img('snapshot', '-c', 'before', IMAGE);
    const { image, device } = await openBytes(qemu.get(IMAGE));
    expect(await damageOf(image)).toEqual(NO_DAMAGE);
    await image.write(0, filled(3 * 4096 + 512, 2));
    await image.write(3 * 1024 * 1024 + 512, filled(512, 3));
    await image.writeZeroes(1024 * 1024, 8192, { unmap: true });
    await image.discard(2 * 1024 * 1024, 8192);
    await image.close();

    qemu.put(IMAGE, device.contents());
    qemu.expectCheck('qcow2', IMAGE, CHECK.clean);
    const region = { start: 0, length: 6 * 1024 * 1024 };
    const shape: DiskShape = {
      format: 'qcow2',
      clusterSize: 4096,
      virtualSize: region.length,
      regions: [region],
    };
    const now = new GuestModel(shape);
    now.view(0, 5 * 1024 * 1024).fill(1);
    now.view(0, 3 * 4096 + 512).fill(2);
    now.view(3 * 1024 * 1024 + 512, 512).fill(3);
    now.view(1024 * 1024, 8192).fill(0);
    now.view(2 * 1024 * 1024, 8192).fill(0);
    qemu.expectContents('qcow2', IMAGE, now);

    qemu.img('snapshot', '-a', 'before', IMAGE);
    const before = new GuestModel(shape);
    before.view(0, 5 * 1024 * 1024).fill(1);
    qemu.expectContents('qcow2', IMAGE, before);
  });

  it('with compressed clusters is read right, and its clusters can be written over', async () => {
    const size = 1024 * 1024 + 1536;
    const shape: DiskShape = {
      format: 'qcow2',
      clusterSize: 65_536,
      virtualSize: size,
      regions: [{ start: 0, length: size }],
    };
    const model = new GuestModel(shape);
    const random = new Random(3);
    const bytes = model.view(0, size);
    for (let at = 0; at < size; at += 97) bytes.fill(random.below(256), at, at + 97);
    qemu.put('plain', bytes);
    qemu.img('convert', '-c', '-f', 'raw', '-O', 'qcow2', 'plain', IMAGE);

    const { image, device } = await openBytes(qemu.get(IMAGE));
    if (!(image instanceof Qcow2Image)) throw new Error('not a qcow2 image');
    const target = new Uint8Array(size);
    await image.read(0, target);
    expect(Buffer.compare(target, bytes)).toBe(0);
    expect((await image.map(65_536, 65_536)).kind).toBe('compressed');
    for (const offset of [512, 3 * 65_536, 5 * 65_536 + 1024]) {
      await image.write(offset, filled(65_536, 0xee));
      bytes.fill(0xee, offset, offset + 65_536);
    }
    await image.close();
    qemu.put(IMAGE, device.contents());
    qemu.expectCheck('qcow2', IMAGE, CHECK.clean);
    qemu.expectContents('qcow2', IMAGE, model);
  });
});
