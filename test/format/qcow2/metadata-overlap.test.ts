import { describe, expect, it } from 'vitest';
import { MetadataMap } from '../../../src/format/qcow2/metadata/metadata-map.ts';
import { QemuDirectory } from '../qemu-directory.ts';
import { filled } from '../recorded-files.ts';
import { rejectionCodeOf } from '../rejection.ts';
import { reasonToSkip } from '../system-tools.ts';
import { newImage, openBytes, patched, withBitmaps } from './image-bytes.ts';

const CLUSTER = 65_536;
/** A fresh image of 64 KiB clusters after its first write. */
const PLACE = {
  'refcount-table': CLUSTER,
  'refcount-block': 2 * CLUSTER,
  'l1-table': 3 * CLUSTER,
  'l2-table': 4 * CLUSTER,
} as const;
const COPIED = 1n << 63n;
const FEATURES_LOW_BYTE = 79;
const noQemu = reasonToSkip('qemu-img');

/** Two written clusters: L2 table at cluster 4, data at 5 and 6. */
async function written(): Promise<Uint8Array<ArrayBuffer>> {
  const { image, device } = await openBytes(await newImage({ virtualSize: 1024 ** 3 }));
  await image.write(0, filled(2 * CLUSTER, 1));
  await image.close();
  return device.contents();
}

function l2Entry(index: number, hostOffset: number): { at: number; u64: bigint } {
  return { at: PLACE['l2-table'] + index * 8, u64: COPIED | BigInt(hostOffset) };
}

function withRefcount(bytes: Uint8Array, cluster: number, refcount: number): Uint8Array<ArrayBuffer> {
  const copy = new Uint8Array(bytes);
  new DataView(copy.buffer).setUint16(PLACE['refcount-block'] + cluster * 2, refcount);
  return copy;
}

describe('a write that would hit metadata', () => {
  const qemu = new QemuDirectory();

  for (const [kind, place] of Object.entries(PLACE)) {
    it(`of kind ${kind} does not happen, stops the image and marks it corrupt`, async () => {
      const bytes = patched(await written(), l2Entry(1, place));
      const { image, device } = await openBytes(bytes);
      const before = device.contents().subarray(place, place + CLUSTER);
      expect(await rejectionCodeOf(() => image.write(CLUSTER, filled(512, 9)))).toBe('qcow2-corrupt');
      expect(device.contents().subarray(place, place + CLUSTER)).toEqual(before);
      expect(device.contents()[FEATURES_LOW_BYTE]).toBe(2);

      // Nothing goes on with a stopped image, and closing it writes nothing.
      expect(await rejectionCodeOf(() => image.write(0, filled(512, 9)))).toBe('qcow2-corrupt');
      expect(await rejectionCodeOf(() => image.read(0, new Uint8Array(512)))).toBe('qcow2-corrupt');
      expect(await rejectionCodeOf(() => image.discard(0, CLUSTER))).toBe('qcow2-corrupt');
      expect(await rejectionCodeOf(() => image.flush('guest-flush'))).toBe('qcow2-corrupt');
      const stopped = device.contents();
      await image.close();
      expect(Buffer.compare(device.contents(), stopped)).toBe(0);

      expect(await rejectionCodeOf(() => openBytes(stopped))).toBe('qcow2-marked-corrupt');
      const readOnly = await openBytes(stopped, { readOnly: true });
      const target = new Uint8Array(512);
      await readOnly.image.read(0, target);
      expect(target).toEqual(filled(512, 1));
      await readOnly.image.close();
      if (noQemu !== undefined) return;
      qemu.put('disk', stopped);
      expect(qemu.img('info', '-f', 'qcow2', 'disk')).toMatch(/corrupt: true/);
    });
  }

  it('of kind bitmap does not happen either: not to the directory', async () => {
    const { bytes, directory } = await withBitmaps(await written(), ['b']);
    const { image, device } = await openBytes(patched(bytes, l2Entry(1, directory)));
    const before = device.contents().subarray(directory, directory + CLUSTER);
    expect(await rejectionCodeOf(() => image.write(CLUSTER, filled(512, 9)))).toBe('qcow2-corrupt');
    const stopped = device.contents();
    expect(stopped.subarray(directory, directory + CLUSTER)).toEqual(before);
    // The bitmaps are not stored: they stay in use.
    await image.close();
    expect(Buffer.compare(device.contents(), stopped)).toBe(0);
    if (noQemu !== undefined) return;
    qemu.put('disk', patched(bytes, l2Entry(1, directory)));
    expect(() => qemu.io('qcow2', 'disk', 'write 64k 512')).toThrow('overlaps with bitmap directory');
  });

  it('is not made by an allocation, though the refcount of the bitmap directory is wrongly 0', async () => {
    const { bytes, directory } = await withBitmaps(await written(), ['b']);
    const { image, device } = await openBytes(withRefcount(bytes, directory / CLUSTER, 0));
    const before = device.contents().subarray(directory, directory + CLUSTER);
    expect(await rejectionCodeOf(() => image.write(40 * CLUSTER, filled(CLUSTER, 9)))).toBe('qcow2-corrupt');
    expect(device.contents().subarray(directory, directory + CLUSTER)).toEqual(before);
    await image.close();
  });

  for (const [kind, place] of Object.entries(PLACE)) {
    it(`is not made by an allocation, though the refcount of the ${kind} is wrongly 0`, async () => {
      const { image, device } = await openBytes(withRefcount(await written(), place / CLUSTER, 0));
      const before = device.contents();
      const code = await rejectionCodeOf(async () => {
        await image.write(40 * CLUSTER, filled(CLUSTER, 9));
        await image.flush('guest-flush');
      });
      expect(code).toBe('qcow2-corrupt');
      expect(device.contents().subarray(place, place + CLUSTER)).toEqual(
        before.subarray(place, place + CLUSTER),
      );
      await image.close();
    });
  }

  it('is not made where the header cluster is wrongly free: data, L2 tables', async () => {
    for (const guestOffset of [40 * CLUSTER, 1024 ** 3 - CLUSTER]) {
      const { image, device } = await openBytes(withRefcount(await written(), 0, 0));
      const header = device.contents().subarray(0, 72);
      expect(await rejectionCodeOf(() => image.write(guestOffset, filled(CLUSTER, 9)))).toBe('qcow2-corrupt');
      expect(device.contents().subarray(0, 72)).toEqual(header);
      await image.close();
    }
  });

  it('stops an image of version 2 too, which has no bit to mark', async () => {
    const bytes = patched(await written(), l2Entry(1, PLACE['l1-table']), { at: 4, u32: 2 });
    const { image, device } = await openBytes(bytes);
    const before = device.contents().subarray(CLUSTER);
    expect(await rejectionCodeOf(() => image.write(CLUSTER, filled(512, 9)))).toBe('qcow2-corrupt');
    await image.close();
    // Its header is written, with nothing new in it: only what the version knows.
    expect(Buffer.compare(device.contents().subarray(CLUSTER), before)).toBe(0);
  });

  it('is found by a check, which can repair the image and lets it be written again', async () => {
    const bytes = patched(await written(), { at: 72, u64: 2n });
    const { image } = await openBytes(bytes, { forCheck: true });
    const report = await image.check('all');
    expect(report.corruptions).toBe(0);
    expect(image.header.isCorrupt).toBe(false);
    await image.close();
  });
});

it('a table at an offset that no file has is in no cluster, and ends no walk late', () => {
  const map = new MetadataMap(512);
  map.add(2 ** 63, 512, 'refcount-block');
  expect(map.overlap(2 ** 63, 512, undefined)).toBeUndefined();
  map.remove(2 ** 63, 512, 'refcount-block');
});
