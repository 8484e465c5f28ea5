import { describe, expect, it } from 'vitest';
import { MemoryDevice } from '../../../src/device/memory-device.ts';
import { BlockBackend } from '../../../src/format/block-backend.ts';
import type { CacheMode } from '../../../src/format/cache-mode.ts';
import type { QemuProfileName } from '../../../src/format/qemu-profile.ts';
import { RawImage } from '../../../src/format/raw/raw-image.ts';
import { openImage } from '../../../src/format/registry.ts';
import { filled, RecordedFiles, tally } from '../recorded-files.ts';
import { rejectionCodeOf } from '../rejection.ts';

const GIB = 1024 ** 3;

async function openRecorded(
  cacheMode: CacheMode,
  like?: QemuProfileName,
): Promise<{ files: RecordedFiles; backend: BlockBackend }> {
  const files = new RecordedFiles();
  await files.create('disk.raw', { format: 'raw', virtualSize: GIB });
  const image = await openImage({ format: 'raw', name: 'disk.raw', files, readOnly: false });
  return { files, backend: new BlockBackend({ image, cacheMode, like }) };
}

describe('raw: golden figures', () => {
  it.each([
    ['writethrough', 'qemu-7.2', 1000],
    ['directsync', 'qemu-7.2', 1000],
    // That of the close is no longer elided.
    ['writethrough', 'qemu-10.0', 1001],
    ['directsync', 'qemu-10.0', 1001],
    ['writeback', 'qemu-10.0', 1],
    ['none', 'qemu-10.0', 1],
  ] as const)(
    'a run of 1,000 writes in %s like %s costs 1,000 writes and %i syncs',
    async (cacheMode, like, syncs) => {
      const { files, backend } = await openRecorded(cacheMode, like);
      const bytes = filled(4096, 1);
      for (let n = 0; n < 1000; n++) await backend.write(n * 65_536, bytes, { fua: false });
      await backend.image.close();
      expect(tally(files.takeChanges())).toEqual({ writes: 1000, syncs, bytes: 4_096_000 });
    },
  );

  it('one write in writethrough is one write and one sync, and answers at once', async () => {
    const { files, backend } = await openRecorded('writethrough');
    expect(backend.write(8192, filled(4096, 1), { fua: false })).toBeUndefined();
    expect(files.takeChanges()).toEqual(['W data 8192 4096', 'F writethrough']);
    expect(backend.image.allocatingWrites).toBe(0);
  });
});

describe('raw: zeroes and discards', () => {
  it('zeroes keep their space, unless the guest lets it go', async () => {
    const { files, backend } = await openRecorded('writeback');
    await backend.writeZeroes(65_536, 4096, { fua: false, unmap: false });
    await backend.writeZeroes(65_536, 4096, { fua: false, unmap: true });
    await backend.discard(131_072, 4096);
    expect(files.takeChanges()).toEqual(['Z data 65536 4096', 'P data 65536 4096', 'P data 131072 4096']);
  });

  it('without zero-range, zeroes are written and a discard does nothing', async () => {
    const device = new MemoryDevice({ canZeroRange: false });
    device.write(0, filled(65_536, 9), 'data');
    const image = new RawImage({ device, readOnly: false, readPurpose: 'data' });
    await image.writeZeroes(512, 1024, { unmap: true });
    await image.discard(4096, 4096);
    const after = device.contents();
    expect(after.subarray(512, 1536)).toEqual(filled(1024, 0));
    expect(after.subarray(1536)).toEqual(filled(64_000, 9));
  });
});

describe('raw: sizes and maps', () => {
  it('a file that ends within a sector is a disk of whole sectors whose rest is zero', async () => {
    const files = new RecordedFiles();
    files.put('odd.raw', filled(1000, 7));
    const image = await openImage({ format: 'raw', name: 'odd.raw', files, readOnly: true });
    expect(image.virtualSize).toBe(1024);
    const target = filled(1024, 1);
    await image.read(0, target);
    expect(target).toEqual(new Uint8Array([...filled(1000, 7), ...filled(24, 0)]));
    await image.close();
  });

  it('all inside the file is data at the same offset; past its end nothing is allocated', async () => {
    const image = new RawImage({
      device: new MemoryDevice(),
      readOnly: false,
      readPurpose: 'data',
    });
    await image.write(0, filled(8192, 1));
    expect(await image.map(4096, 65_536)).toEqual({ kind: 'data', length: 4096, hostOffset: 4096 });
    expect(await image.map(8192, 512)).toEqual({ kind: 'unallocated', length: 512, hostOffset: undefined });
  });

  it('creating forgets what the file held', async () => {
    const files = new RecordedFiles();
    files.put('disk.raw', filled(4096, 7));
    await files.create('disk.raw', { format: 'raw', virtualSize: 8192 });
    expect(files.contents('disk.raw')).toEqual(filled(8192, 0));
  });

  it('a backing file is refused: there is no header to name it in', async () => {
    const create = new RecordedFiles().create('disk.raw', {
      format: 'raw',
      virtualSize: 512,
      backingFile: { name: 'base.raw', format: 'raw' },
    });
    expect(await rejectionCodeOf(() => create)).toBe('raw-no-backing');
  });

  it('a read-only image is closed without a sync', async () => {
    const files = new RecordedFiles();
    files.put('disk.raw', filled(512, 7));
    const image = await openImage({ format: 'raw', name: 'disk.raw', files, readOnly: true });
    await image.close();
    expect(files.takeChanges()).toEqual([]);
  });
});
