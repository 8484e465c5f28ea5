import { beforeEach, describe, expect, test } from 'vitest';

import { hostError, systemError } from '../../src/device/host-error.ts';
import { MemoryStorage } from '../../src/device/memory-storage.ts';
import type { Format } from '../../src/format/disk-image.ts';
import { openImage } from '../../src/format/registry.ts';
import { checkImageFile } from '../../src/image/check-image.ts';
import { createImageFile } from '../../src/image/create-image.ts';
import { readImageInfo } from '../../src/image/image-info.ts';
import { rejectionCodeOf } from '../format/rejection.ts';

const MIB = 1024 * 1024;
let storage = new MemoryStorage();
beforeEach(() => {
  storage = new MemoryStorage();
});

function bytesOf(name: string): Uint8Array {
  return Uint8Array.from(storage.open(name).contents());
}

async function makeAndWrite(format: Format): Promise<void> {
  await createImageFile({ storage, name: 'disk', format, virtualSize: 64 * MIB });
  const image = await openImage({ format, name: 'disk', files: storage, readOnly: false });
  await image.write(0, new Uint8Array(65_536).fill(7));
  await image.close();
}

describe('an image that is created', () => {
  test.for(['raw', 'qcow2', 'qed'] as const)('%s: has the requested properties', async (format) => {
    await createImageFile({ storage, name: 'disk', format, virtualSize: 64 * MIB });
    expect(await readImageInfo({ storage, name: 'disk' })).toMatchObject({
      format,
      virtualSize: 64 * MIB,
      path: 'memory:disk',
    });
  });

  test('qcow2: cluster size and refcount mode are those asked for', async () => {
    const options = { format: 'qcow2', virtualSize: MIB, clusterSize: 4096, refcounts: 'lazy' } as const;
    await createImageFile({ storage, name: 'disk', ...options });
    const info = await readImageInfo({ storage, name: 'disk' });
    expect(info).toMatchObject({ clusterSize: 4096, refcounts: 'lazy', isDirty: false, snapshots: [] });
  });

  test('what is refused leaves neither a new file nor a changed one', async () => {
    const make = (options: { format: Format; virtualSize?: number; clusterSize?: number }) =>
      rejectionCodeOf(() => createImageFile({ storage, name: 'disk', overwrite: true, ...options }));
    expect(await make({ format: 'qcow2' })).toBe('size-missing');
    expect(await make({ format: 'qcow2', virtualSize: 1000 })).toBe('bad-size');
    expect(await make({ format: 'raw', virtualSize: MIB, clusterSize: 4096 })).toBe('option-of-other-format');
    expect(storage.exists('disk')).toBe(false);
    await makeAndWrite('qcow2');
    const before = bytesOf('disk');
    expect(await make({ format: 'qcow2', virtualSize: MIB, clusterSize: 3000 })).toBe('bad-cluster-size');
    expect(bytesOf('disk')).toEqual(before);
  });

  test('a place that takes no file is an error about the file that was asked for', async () => {
    const full = Object.assign(new MemoryStorage(), {
      temporaryName: () => '.x.tmp',
      create: (name: string) => {
        throw hostError('host-open-failed', { path: `/d/${name}` }, systemError('EDQUOT', 'open'));
      },
    });
    const create = createImageFile({ storage: full, name: 'disk', format: 'raw', virtualSize: MIB });
    await expect(create).rejects.toMatchObject({ path: '/d/disk', code: 'host-open-failed' });
  });

  test('a full disk leaves no half of an image', async () => {
    const full = new MemoryStorage();
    const create = full.create.bind(full);
    full.create = (name, options) => {
      const device = create(name, options);
      device.write = () => {
        throw new Error('ENOSPC');
      };
      return device;
    };
    const options = { storage: full, name: 'disk', format: 'qcow2', virtualSize: MIB } as const;
    await expect(createImageFile(options)).rejects.toThrow('ENOSPC');
    expect(full.exists('disk')).toBe(false);
  });

  test('the size of an overlay is that of its backing file, whose own backing file may be anywhere', async () => {
    await createImageFile({ storage, name: 'base', format: 'raw', virtualSize: 3 * MIB });
    const backing = { name: 'base', path: 'base', format: 'raw', files: storage } as const;
    const made = await createImageFile({ storage, name: 'disk', format: 'qed', backing });
    expect(made.virtualSize).toBe(3 * MIB);
    expect(await readImageInfo({ storage, name: 'disk' })).toMatchObject({
      backing: { name: 'base', format: 'raw' },
    });
  });
});

describe('looking at an image', () => {
  test('opens no other file: a backing file that is gone is no obstacle to info and check', async () => {
    await createImageFile({ storage, name: 'base', format: 'raw', virtualSize: MIB });
    const backing = { name: 'base', path: 'base', format: 'raw', files: storage } as const;
    await createImageFile({ storage, name: 'disk', format: 'qcow2', backing });
    storage.remove('base');
    expect(await readImageInfo({ storage, name: 'disk' })).toMatchObject({ virtualSize: MIB });
    expect((await checkImageFile({ storage, name: 'disk' })).report).toMatchObject({
      corruptions: 0,
      leaks: 0,
    });
  });

  test.for(['qcow2', 'qed'] as const)('%s: neither info nor check changes a byte', async (format) => {
    await makeAndWrite(format);
    const before = bytesOf('disk');
    await readImageInfo({ storage, name: 'disk' });
    await checkImageFile({ storage, name: 'disk' });
    expect(bytesOf('disk')).toEqual(before);
  });

  test('a raw image has nothing to check', async () => {
    await makeAndWrite('raw');
    expect(await rejectionCodeOf(() => checkImageFile({ storage, name: 'disk' }))).toBe('check-unsupported');
  });
});

describe('checking QED', () => {
  /** Of an image that has its first cluster written: data at 0x50000, its table at 0x60000. */
  const TABLE = 0x60000;
  const DATA = 0x50000;

  function patch(at: number, bytes: readonly number[]): void {
    storage.open('disk').write(at, Uint8Array.from(bytes), 'l2-table');
  }

  test('two entries that claim one cluster are a corruption that no repair touches', async () => {
    await makeAndWrite('qed');
    patch(TABLE + 8, [0, 0, DATA / 0x10000]);
    const before = bytesOf('disk');
    const { report } = await checkImageFile({ storage, name: 'disk', repair: 'all' });
    expect(report).toMatchObject({ corruptions: 1, corruptionsFixed: 0, leaks: 0 });
    expect(report.messages.join()).toContain('0x50000');
    expect(bytesOf('disk')).toEqual(before);
  });

  test('an entry that leads nowhere is cleared by a repair, and the mark of an unclean close with it', async () => {
    await makeAndWrite('qed');
    patch(TABLE + 8, [0, 0, 0, 0, 0x10]);
    patch(16, [2]);
    expect(await readImageInfo({ storage, name: 'disk' })).toMatchObject({ isDirty: true });
    expect((await checkImageFile({ storage, name: 'disk' })).report).toMatchObject({ corruptions: 1 });
    const { report } = await checkImageFile({ storage, name: 'disk', repair: 'all' });
    expect(report).toMatchObject({ corruptions: 0, corruptionsFixed: 1, allocatedClusters: 1 });
    expect(await readImageInfo({ storage, name: 'disk' })).toMatchObject({ isDirty: false });
    const again = await checkImageFile({ storage, name: 'disk' });
    expect(again.report).toMatchObject({ corruptions: 0, leaks: 0 });
  });

  test('a repair that leaves corruption keeps the mark of an unclean close', async () => {
    await makeAndWrite('qed');
    patch(TABLE + 8, [0, 0, DATA / 0x10000]);
    patch(16, [2]);
    await checkImageFile({ storage, name: 'disk', repair: 'all' });
    expect(await readImageInfo({ storage, name: 'disk' })).toMatchObject({ isDirty: true });
  });
});
