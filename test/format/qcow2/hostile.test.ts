/**
 * Images that are damaged or made to harm, as the engine meets them: each is refused with an error
 * that has a stable code, before anything is written and without taking memory for what it claims;
 * and damage deeper than the header is met by a guest's requests. The classes that a user may meet
 * are in `hostile-classes`, with what each command answers: those that are refused are opened for
 * writing here too. What is here is finer, or out of reach of the command line.
 */

import { describe, expect, it } from 'vitest';
import { openImage } from '../../../src/format/registry.ts';
import { GOOD, HOSTILE_CLASSES } from '../hostile-classes.ts';
import { filled, RecordedFiles } from '../recorded-files.ts';
import { rejectionCodeOf, rejectionOf } from '../rejection.ts';
import { newImage, openBytes, patched, type OpenedImage, type Patch } from './image-bytes.ts';
import { MemoryDevice } from '../../../src/device/memory-device.ts';
import { SparseBytes } from '../../../src/device/sparse-bytes.ts';
import { WriteLog } from '../../../src/device/write-log.ts';
import { createQcow2 } from '../../../src/format/qcow2/create.ts';
import { openQcow2 } from '../../../src/format/qcow2/open.ts';

const CLUSTER = 65_536;
const REFCOUNT_TABLE = CLUSTER;
const REFCOUNT_BLOCK = 2 * CLUSTER;
const L1 = 3 * CLUSTER;
const L2 = 4 * CLUSTER;
const DATA = 5 * CLUSTER;
const COPIED = 1n << 63n;
const COMPRESSED = 1n << 62n;
const EXTENSIONS = 112;
const U32_MAX = 0xffff_ffff;

/** One written cluster. */
const sound: Promise<Uint8Array<ArrayBuffer>> = (async () => {
  const { image, device } = await openBytes(await newImage({ virtualSize: 1024 ** 3 }));
  await image.write(0, filled(CLUSTER, 1));
  await image.close();
  return device.contents();
})();

/** Opens for writing and expects that to fail with this code, nothing written. */
async function expectRefused(bytes: Uint8Array, code: string): Promise<void> {
  const device = new MemoryDevice({ path: 'disk.qcow2' });
  if (bytes.byteLength > 0) device.write(0, bytes, 'data');
  const log = new WriteLog(device);
  const error = await rejectionOf(() =>
    openQcow2({
      device: log,
      readOnly: false,
      readPurpose: 'data',
      openBacking: () => Promise.reject(new Error('the backing file was opened')),
    }),
  );
  expect(error?.code, error?.message).toBe(code);
  expect(error?.path).toBe('disk.qcow2');
  expect(log.entries).toEqual([]);
}

describe('a class of hostile images', () => {
  const refused = HOSTILE_CLASSES.filter(
    ({ format, refused }) => format === 'qcow2' && refused !== undefined,
  );
  it.each(refused)('$name is refused', async ({ spoil, refused: code = '' }) => {
    await expectRefused(spoil(await GOOD.qcow2()), code);
  });
});

const headerCases: readonly (readonly [what: string, code: string, ...patches: Patch[]])[] = [
  ['another magic', 'qcow2-bad-magic', { at: 0, u32: 0x5146_49fa }],
  ['version 2^32 − 1', 'qcow2-bad-version', { at: 4, u32: U32_MAX }],
  ['cluster_bits 2^32 − 1', 'qcow2-bad-cluster-bits', { at: 20, u32: U32_MAX }],
  ['a length that is not a multiple of 8', 'qcow2-bad-header-length', { at: 100, u32: 108 }],
  ['AES encryption', 'qcow2-encrypted', { at: 32, u32: 1 }],
  ['LUKS encryption', 'qcow2-encrypted', { at: 32, u32: 2 }],
  ['an external data file that is not allowed', 'qcow2-data-file', { at: 72, u64: 4n }],
  ['extended L2 entries, whose tables map half as much', 'qcow2-l1-too-small', { at: 72, u64: 16n }],
  ['zstd without its bit', 'qcow2-bad-compression-type', { at: 104, u32: 0x0100_0000 }],
  ['a compression type without its bit', 'qcow2-bad-compression-type', { at: 104, u32: 0x0200_0000 }],
  [
    'an end marker that claims data past the header',
    'qcow2-extension-too-long',
    { at: EXTENSIONS, u32: 0 },
    { at: EXTENSIONS + 4, u32: CLUSTER },
  ],
  [
    'an extension past the header',
    'qcow2-extension-too-long',
    { at: EXTENSIONS + 4, u32: CLUSTER - EXTENSIONS },
  ],
  [
    'a backing name of no bytes past the header',
    'qcow2-bad-backing-offset',
    { at: 8, u64: BigInt(CLUSTER + 8) },
  ],
  ['an L1 table too small for the disk', 'qcow2-l1-too-small', { at: 36, u32: 1 }],
  ['a disk too large for its L1 table', 'qcow2-l1-too-small', { at: 24, u64: 2n ** 52n }],
  ['an unaligned snapshot table', 'qcow2-unaligned-offset', { at: 60, u32: 1 }, { at: 64, u64: 512n }],
  ['an unaligned snapshot table of no snapshots', 'qcow2-unaligned-offset', { at: 64, u64: 512n }],
  [
    'a snapshot table past the end',
    'qcow2-bad-snapshot-table',
    { at: 60, u32: 1 },
    { at: 64, u64: 1n << 40n },
  ],
  ['both dirty and corrupt', 'qcow2-marked-corrupt', { at: 72, u64: 3n }],
];

describe('a header with', () => {
  for (const [what, code, ...patches] of headerCases) {
    it(`${what} is refused`, async () => {
      await expectRefused(patched(await sound, ...patches), code);
    });
  }

  it('a wrong name in the feature name table is shown as a claim', async () => {
    const bytes = patched(await sound, { at: 72, u64: 1n << 40n });
    // The first entry of the table, renamed: incompatible bit 40 is "harmless\n".
    bytes.set([0, 40, ...Buffer.from('harmless\n\0')], EXTENSIONS + 8);
    const error = await rejectionOf(() => openBytes(bytes));
    expect(error?.code).toBe('qcow2-unsupported-feature');
    expect(error?.message).toContain("bit 40 (named 'harmless?')");
  });

  it('a size that ends within a sector has the disk end before it, as in QEMU', async () => {
    const { image } = await openBytes(patched(await sound, { at: 24, u64: BigInt(CLUSTER + 700) }));
    expect(image.virtualSize).toBe(CLUSTER + 512);
    await image.close();
  });

  it('extensions up to its last byte and no end marker is taken as it is', async () => {
    const bytes = (await sound).slice();
    new DataView(bytes.buffer).setUint32(EXTENSIONS, 0x1234_5678);
    new DataView(bytes.buffer).setUint32(EXTENSIONS + 4, CLUSTER - EXTENSIONS - 8);
    const { image } = await openBytes(bytes, { readOnly: true });
    await image.close();
  });
});

describe('a snapshot with', () => {
  it('L1 tables that add up to more than any disk needs is refused at once', async () => {
    const count = 60_000;
    const table = 6 * CLUSTER;
    const bytes = new Uint8Array(table + count * 40);
    bytes.set(await sound);
    const view = new DataView(bytes.buffer);
    view.setUint32(60, count);
    view.setBigUint64(64, BigInt(table));
    for (let n = 0; n < count; n++) {
      view.setBigUint64(table + n * 40, BigInt(L1));
      view.setUint32(table + n * 40 + 8, 4_000_000);
    }
    await expectRefused(bytes, 'qcow2-bad-snapshot-table');
  });
});

/** What a guest may try on an image that could be opened. */
async function useAll({ image }: OpenedImage): Promise<void> {
  await image.read(0, new Uint8Array(CLUSTER));
  await image.write(0, filled(512, 9));
  await image.write(40 * CLUSTER, filled(512, 9));
  await image.flush('guest-flush');
}

const entry = (host: number | bigint): bigint => COPIED | BigInt(host);

/** An image whose data are in another file, with one written cluster. */
async function withDataFile() {
  const device = new MemoryDevice();
  const data = new SparseBytes();
  const openDataFile = (): MemoryDevice => new MemoryDevice({ label: 'data', bytes: data });
  const shape = { dataFile: 'plain' } as const;
  const dataFile = { name: 'data', device: openDataFile() };
  await createQcow2({ device, virtualSize: 4 * CLUSTER, shape, dataFile });
  const { image, device: written } = await openBytes(device.contents(), { openDataFile });
  await image.write(0, filled(CLUSTER, 1));
  await image.close();
  return { bytes: written.contents(), openDataFile };
}

/** Damage in tables: what is at stake is whether anything lands in the wrong place. */
const tableCases: readonly (readonly [what: string, code: string, ...patches: Patch[]])[] = [
  ['an unaligned L2 table', 'qcow2-unaligned-l2-table', { at: L1, u64: entry(L2 + 512) }],
  ['an L1 entry above 2^53', 'qcow2-offset-too-large', { at: L1, u64: entry(1n << 55n) }],
  ['an L2 entry above 2^53', 'qcow2-offset-too-large', { at: L2, u64: entry(1n << 55n) }],
  ['an L1 entry to the L1 table', 'qcow2-corrupt', { at: L1, u64: entry(L1) }],
  ['an L1 entry to the refcount table', 'qcow2-corrupt', { at: L1, u64: entry(REFCOUNT_TABLE) }],
  ['an L1 entry to a refcount block', 'qcow2-corrupt', { at: L1, u64: entry(REFCOUNT_BLOCK) }],
  ['an unaligned L2 entry', 'qcow2-unaligned-cluster', { at: L2, u64: entry(DATA + 512) }],
  ['an L2 entry to the L2 table', 'qcow2-corrupt', { at: L2, u64: entry(L2) }],
  ['an L2 entry to the refcount block', 'qcow2-corrupt', { at: L2, u64: entry(REFCOUNT_BLOCK) }],
  [
    'a compressed cluster of no bytes',
    'qcow2-bad-compressed-cluster',
    { at: L2, u64: COMPRESSED | BigInt(9 * CLUSTER) },
  ],
  [
    'a compressed cluster past the end',
    'qcow2-bad-compressed-cluster',
    { at: L2, u64: COMPRESSED | (1n << 50n) },
  ],
  [
    'an unaligned refcount block',
    'qcow2-unaligned-refcount-block',
    { at: REFCOUNT_TABLE, u64: BigInt(REFCOUNT_BLOCK + 512) },
  ],
  ['a refcount block above 2^53', 'qcow2-offset-too-large', { at: REFCOUNT_TABLE, u64: 1n << 55n }],
  ['a refcount block past the end', 'qcow2-corrupt', { at: REFCOUNT_TABLE, u64: 1n << 40n }],
  [
    'a refcount block on the refcount table',
    'qcow2-corrupt',
    { at: REFCOUNT_TABLE, u64: BigInt(REFCOUNT_TABLE) },
  ],
  ['no refcount block', 'qcow2-corrupt', { at: REFCOUNT_TABLE, u64: 0n }],
  ['all refcounts 0', 'qcow2-corrupt', ...[0, 8].map((at) => ({ at: REFCOUNT_BLOCK + at, u64: 0n }))],
];

describe('tables with', () => {
  for (const [what, code, ...patches] of tableCases) {
    it(`${what} make no write land in metadata`, async () => {
      const bytes = patched(await sound, ...patches);
      let opened: OpenedImage | undefined;
      const error = await rejectionOf(async () => {
        opened = await openBytes(bytes);
        await useAll(opened);
      });
      expect(error?.code, error?.message).toBe(code);
      if (opened === undefined) return;
      const { device, image } = opened;
      await rejectionOf(() => image.close());
      const after = device.contents();
      // The header but for its feature bits, and the L1 table, are as they were.
      expect(Buffer.compare(after.subarray(0, 72), bytes.subarray(0, 72))).toBe(0);
      expect(Buffer.compare(after.subarray(L1, L1 + 16), bytes.subarray(L1, L1 + 16))).toBe(0);
    });
  }

  it('a compressed cluster that inflates without end is cut off at one cluster', async () => {
    const { deflateRawSync } = await import('node:zlib');
    const bomb = deflateRawSync(new Uint8Array(16 * 1024 * 1024));
    const bytes = new Uint8Array(DATA + CLUSTER);
    bytes.set(await sound);
    bytes.set(bomb, DATA);
    const sectors = BigInt(Math.ceil(bomb.byteLength / 512) - 1);
    const spoilt = patched(bytes, { at: L2, u64: COMPRESSED | (sectors << 54n) | BigInt(DATA) });
    const { image } = await openBytes(spoilt, { readOnly: true });
    expect((await rejectionOf(() => image.read(0, new Uint8Array(512))))?.code).toBe(
      'qcow2-bad-compressed-cluster',
    );
    await image.close();
  });

  it('a refcount at its maximum is not raised past it', async () => {
    const bytes = (await sound).slice();
    new DataView(bytes.buffer).setUint16(REFCOUNT_BLOCK + 5 * 2, 65_535);
    const { image } = await openBytes(bytes);
    const error = await rejectionOf(() => image.refcounts.update(DATA, CLUSTER, 1, 'keep'));
    expect(error?.code).toBe('qcow2-refcount-out-of-range');
    expect(await image.refcounts.get(5)).toBe(65_535);
    await image.close();
  });

  it('an L2 table on the refcount table let no repair write there', async () => {
    const { bytes, openDataFile } = await withDataFile();
    const spoilt = patched(bytes, { at: L1, u64: entry(REFCOUNT_TABLE) });
    const { image, device } = await openBytes(spoilt, { forCheck: true, openDataFile });
    expect((await image.check('all')).checkErrors).toBe(1);
    await image.abandon();
    const table = [REFCOUNT_TABLE, REFCOUNT_TABLE + CLUSTER] as const;
    expect(Buffer.compare(device.contents().subarray(...table), spoilt.subarray(...table))).toBe(0);
  });

  it('a bad refcount block that only a look through all finds stop the image, and keep no write waiting', async () => {
    const { bytes, openDataFile } = await withDataFile();
    const spoilt = patched(bytes, { at: REFCOUNT_TABLE, u64: BigInt(REFCOUNT_BLOCK + 512) });
    const { image } = await openBytes(spoilt, { openDataFile });
    const part = filled(512, 9);
    expect(await rejectionCodeOf(() => image.write(CLUSTER, part))).toBe('qcow2-unaligned-refcount-block');
    expect(await rejectionCodeOf(() => image.write(2 * CLUSTER, part))).toBe('qcow2-corrupt');
    await image.abandon();
  });

  it('a file of 2^52 bytes is looked through only as far as its refcount table goes', async () => {
    const { image, device } = await openBytes(await newImage({ virtualSize: CLUSTER, clusterSize: 512 }));
    await image.write(0, filled(512, 1));
    // With 2^35 blocks to look at, what follows would not end.
    device.truncate(2 ** 52, 'data');
    await image.writeZeroes(4096, 100, { unmap: false });
    await image.abandon();
  });

  it('four million empty L1 entries are one answer to who asks for a map', async () => {
    const virtualSize = 128 * 1024 ** 3;
    const { image } = await openBytes(await newImage({ virtualSize, clusterSize: 512 }));
    expect((await image.map(0, virtualSize)).length).toBe(virtualSize);
    await image.write(virtualSize / 2, filled(512, 1));
    expect((await image.map(100, virtualSize - 100)).length).toBe(virtualSize / 2 - 100);
    expect(await image.map(virtualSize / 2, virtualSize / 2)).toMatchObject({ kind: 'data', length: 512 });
    // To the end of what the slice maps.
    expect((await image.map(virtualSize / 2 + 512, 1024)).length).toBe(1024);
    await image.abandon();
  });

  it('two guest clusters on one host cluster are found by a check', async () => {
    const bytes = patched(await sound, { at: L2 + 8, u64: entry(DATA) });
    const { image } = await openBytes(bytes, { readOnly: true });
    expect((await image.check()).corruptions).toBe(1);
    await image.close();
  });

  it('references far past the end make a check say so, in bounded memory', async () => {
    const far = [L2 + 8, L2 + 16, L2 + 24].map((at, n) => ({
      at,
      u64: entry((1n << 50n) + BigInt(n * CLUSTER)),
    }));
    const { image } = await openBytes(patched(await sound, ...far), { readOnly: true });
    // Each is counted for where it leads, and for a copied flag without a refcount.
    expect((await image.check()).corruptions).toBe(6);
    await image.close();
  });
});

describe('a backing file that an image may not have', () => {
  it.each([
    ['/etc/passwd', 'backing-not-allowed'],
    ['../secret.raw', 'backing-not-allowed'],
    ['json:{"driver":"file","filename":"/etc/passwd"}', 'backing-protocol'],
    ['nbd:localhost:10809', 'backing-protocol'],
  ])('%s is not opened', async (name, code) => {
    const files = new RecordedFiles();
    await files.create('vm/disk', {
      format: 'qcow2',
      virtualSize: CLUSTER,
      backingFile: { name, format: 'raw' },
    });
    const open = () => openImage({ format: 'qcow2', name: 'vm/disk', files, readOnly: false });
    expect((await rejectionOf(open))?.code).toBe(code);
    expect(files.takeChanges()).toEqual([]);
  });

  it('of a format that is not known here is not opened', async () => {
    const files = new RecordedFiles();
    const backingFile = { name: 'base', format: 'raw' } as const;
    await files.create('disk', { format: 'qcow2', virtualSize: CLUSTER, backingFile });
    const bytes = files.contents('disk');
    bytes.set(Buffer.from('vhd'), EXTENSIONS + 8);
    files.put('disk', bytes);
    const open = () => openImage({ format: 'qcow2', name: 'disk', files, readOnly: false });
    expect((await rejectionOf(open))?.code).toBe('unsupported-backing-format');
  });
});
