/**
 * What qemu-iotests 080 and 287 promise, in our own words (docs/qemu-rules.md, "Promises of
 * qemu-iotests"): headers that claim what cannot be are refused before anything is taken for what
 * they claim; header and feature bit agree on the type of compression. Each promise is held beside
 * a real QEMU.
 */

import { describe, expect, it } from 'vitest';
import { Random } from '../../../src/core/random.ts';
import { FIELD } from '../../../src/format/qcow2/on-disk/header.ts';
import { BesideQemu, type Ask } from '../beside-qemu.ts';
import { filled } from '../recorded-files.ts';
import { rejectionCodeOf } from '../rejection.ts';
import { ImageEditor } from './image-editor.ts';
import { newImage, openBytes } from './image-bytes.ts';

const CLUSTER = 65_536;
const VIRTUAL_SIZE = 64 * 1024 * 1024;
const EXTENSIONS = 112;
/** Neither aligned nor within any file. */
const ODD = 0x1234_5678_90ab_cdefn;
const LAST_CLUSTER = 0xffff_ffff_ffff_0000n;
const U32_MAX = 0xffff_ffff;
const I32_MAX = 0x7fff_ffff;
const ZSTD_BIT = 8n;

const both = new BesideQemu('qcow2');

const read = (offset: number, length: number, value = 0): Ask => ({ op: 'read', offset, length, value });

async function image(): Promise<ImageEditor> {
  return new ImageEditor(await newImage({ virtualSize: VIRTUAL_SIZE }));
}

/**
 * Refused for this reason when opened; no more was read than a header is long, and nothing was
 * written.
 */
async function expectRefused(broken: ImageEditor, code: string): Promise<void> {
  const { refused, bytes, bytesRead } = await both.serve(broken.bytes, [read(0, 512)]);
  expect(refused).toBe(code);
  expect(bytesRead).toBeLessThanOrEqual(2 * CLUSTER);
  expect(bytes.equals(broken.bytes)).toBe(true);
}

type Break = (broken: ImageEditor) => ImageEditor;

const REFUSED: readonly (readonly [what: string, code: string, broken: Break])[] = [
  ...[U32_MAX, I32_MAX].map(
    (length) =>
      [
        `a header of ${String(length)} bytes`,
        'qcow2-bad-header-length',
        (broken: ImageEditor) => broken.setU32(FIELD.headerLength, length),
      ] as const,
  ),
  [
    'an unknown extension of 2 GiB',
    'qcow2-extension-too-long',
    (broken) => broken.setU32(EXTENSIONS, 0x1234_5678).setU32(EXTENSIONS + 4, I32_MAX),
  ],
  [
    'such an extension, and a backing file named at 2^64 − 1',
    'qcow2-extension-too-long',
    (broken) =>
      broken
        .setU64(FIELD.backingOffset, 2n ** 64n - 1n)
        .setU32(EXTENSIONS, 0x1234_5678)
        .setU32(EXTENSIONS + 4, I32_MAX),
  ],
  [
    'such an extension, and a backing file named in its midst',
    'qcow2-extension-too-long',
    (broken) =>
      broken
        .setU64(FIELD.backingOffset, EXTENSIONS + 4)
        .setU32(EXTENSIONS, 0x1234_5678)
        .setU32(EXTENSIONS + 4, I32_MAX),
  ],
  [
    'LUKS keys in an image that is not encrypted',
    'qcow2-bad-extension',
    (broken) => broken.setU32(EXTENSIONS, 0x0537_be77).setU32(EXTENSIONS + 4, 16),
  ],
  [
    'a format of the backing file of 16 bytes',
    'qcow2-bad-extension',
    (broken) => broken.setU32(EXTENSIONS, 0xe279_2aca).setU32(EXTENSIONS + 4, 16),
  ],
  ...[U32_MAX, 0x2_0001].map(
    (clusters) =>
      [
        `a refcount table of ${String(clusters)} clusters`,
        'qcow2-refcount-table-too-large',
        (broken: ImageEditor) => broken.setU32(FIELD.refcountTableClusters, clusters),
      ] as const,
  ),
  [
    'a refcount table that is not aligned',
    'qcow2-offset-too-large',
    (broken) => broken.setU64(FIELD.refcountTableOffset, ODD),
  ],
  [
    'a refcount table that would end past 2^64',
    'qcow2-offset-too-large',
    (broken) =>
      broken.setU64(FIELD.refcountTableOffset, LAST_CLUSTER).setU32(FIELD.refcountTableClusters, 0x7f),
  ],
  ...[U32_MAX, I32_MAX].map(
    (count) =>
      [
        `${String(count)} snapshots`,
        'qcow2-too-many-snapshots',
        (broken: ImageEditor) => broken.setU32(FIELD.snapshotCount, count),
      ] as const,
  ),
  [
    'a snapshot table that would end past 2^64',
    'qcow2-offset-too-large',
    (broken) => broken.setU64(FIELD.snapshotsOffset, LAST_CLUSTER).setU32(FIELD.snapshotCount, 0xffff),
  ],
  [
    'a snapshot table of no snapshots that is not aligned',
    'qcow2-offset-too-large',
    (broken) => broken.setU64(FIELD.snapshotsOffset, ODD),
  ],
  ...[U32_MAX, I32_MAX].map(
    (entries) =>
      [
        `an L1 table of ${String(entries)} entries`,
        'qcow2-l1-too-large',
        (broken: ImageEditor) => broken.setU32(FIELD.l1Entries, entries),
      ] as const,
  ),
  [
    'an L1 table that would end past 2^63',
    'qcow2-offset-too-large',
    (broken) => broken.setU64(FIELD.l1Offset, 0x7fff_ffff_ffff_0000n).setU32(FIELD.l1Entries, 0xffff),
  ],
  [
    'an L1 table that is not aligned',
    'qcow2-offset-too-large',
    (broken) => broken.setU64(FIELD.l1Offset, ODD).setU32(FIELD.l1Entries, 1),
  ],
  [
    'a name of the backing file of 4 GiB',
    'qcow2-backing-name-too-long',
    (broken) => broken.setU64(FIELD.backingOffset, 0x1000).setU32(FIELD.backingLength, U32_MAX),
  ],
];

describe('080: a header that claims what cannot be is refused', () => {
  it.each(REFUSED)('%s: %s', async (_what, code, spoil) => {
    await expectRefused(spoil(await image()), code);
  });

  it('an L1 table of no entries, though there is a disk and a snapshot of it', async () => {
    const { image: made, device } = await openBytes((await image()).bytes);
    await made.snapshots.create({ name: 'foo', seconds: 1, nanoseconds: 0 });
    await made.close();
    await expectRefused(new ImageEditor(device.contents()).setU32(FIELD.l1Entries, 0), 'qcow2-l1-too-small');
  });

  it('65,536 snapshots are all there can be: no further one is taken', async () => {
    const full = (await image()).setU64(FIELD.snapshotsOffset, 0x10_0000);
    // The table: entries of 40 bytes, all zeroes. QEMU says the same after seconds in which it
    // reads them one by one.
    full.setU32(FIELD.snapshotCount, 65_536).lengthen(64);
    const { image: opened } = await openBytes(full.bytes);
    const taken = () => opened.snapshots.create({ name: 'test', seconds: 1, nanoseconds: 0 });
    expect(await rejectionCodeOf(taken)).toBe('too-many-snapshots');
    await opened.abandon();
  });

  it.each([
    ['behind any file, whose cluster no refcount can be kept of', 0xbfff_ffff_ffff_0000n],
    ['far behind this file', 0x8000_00ff_ffff_0000n],
  ])('a cluster of data %s: no snapshot is taken of it', async (_what, entry) => {
    const { image: made, device } = await openBytes((await image()).bytes);
    await made.write(0, filled(512, 1));
    await made.close();
    const broken = new ImageEditor(device.contents());
    broken.setU64(broken.l2(), entry);
    const { image: opened } = await openBytes(broken.bytes);
    const taken = () => opened.snapshots.create({ name: 'test', seconds: 1, nanoseconds: 0 });
    expect(await rejectionCodeOf(taken)).toBeDefined();
    expect(opened.snapshots.list).toEqual([]);
    await opened.abandon();
    both.onlyQemu(broken.bytes, (qemu) => {
      expect(() => qemu.img('snapshot', '-c', 'test', 'disk')).toThrow('Could not create snapshot');
    });
  });
});

describe('080: a snapshot whose L1 table cannot be', () => {
  it.each([
    ['is not aligned', (broken: ImageEditor) => broken.setU64(broken.snapshotTable, 0x40_0200)],
    ['has 2^28 entries', (broken: ImageEditor) => broken.setU32(broken.snapshotTable + 8, 2 ** 28)],
  ])('for it %s: it is neither applied nor dropped, and a check reports it', async (_what, spoil) => {
    const { image: made, device } = await openBytes((await image()).bytes);
    await made.write(0, filled(512, 1));
    await made.snapshots.create({ name: 'test', seconds: 1, nanoseconds: 0 });
    await made.close();
    const broken = spoil(new ImageEditor(device.contents()));
    // The image opens for writing, here as in QEMU; what is asked of the snapshot is refused.
    const { image: opened, device: file } = await openBytes(broken.bytes);
    expect(await rejectionCodeOf(() => opened.snapshots.apply('test'))).toBe('snapshot-broken');
    expect(await rejectionCodeOf(() => opened.snapshots.delete('test'))).toBe('snapshot-broken');
    await opened.close();
    expect(Buffer.compare(file.contents(), broken.bytes)).toBe(0);
    both.onlyQemu(broken.bytes, (qemu) => {
      for (const option of ['-a', '-d']) {
        expect(() => qemu.img('snapshot', option, 'test', 'disk')).toThrow(/qemu-img: .*snapshot/i);
        expect(Buffer.compare(qemu.get('disk'), broken.bytes)).toBe(0);
      }
    });
    expect((await both.check(broken.bytes)).exitCode).not.toBe(0);
  });
});

describe('287: the type of compression', () => {
  const zstd = async (): Promise<ImageEditor> =>
    new ImageEditor(await newImage({ virtualSize: VIRTUAL_SIZE, shape: { compressionType: 'zstd' } }));
  const compressed = (offset: number, length: number, value: number): Ask => ({
    op: 'write-compressed',
    offset,
    length,
    value,
  });

  it('zlib is 0 and sets no feature bit, zstd is 1 and sets its own', async () => {
    for (const [made, type, bits] of [
      [await image(), 0, 0n],
      [await zstd(), 1, ZSTD_BIT],
    ] as const) {
      expect(made.bytes[FIELD.compressionType]).toBe(type);
      expect(made.u64(FIELD.incompatible)).toBe(bits);
      expect((await both.serve(made.bytes, [read(0, 512)])).refused).toBeUndefined();
    }
  });

  it('zlib with the feature bit, and zstd without it, are refused', async () => {
    await expectRefused((await image()).setU64(FIELD.incompatible, ZSTD_BIT), 'qcow2-bad-compression-type');
    await expectRefused((await zstd()).setU64(FIELD.incompatible, 0), 'qcow2-bad-compression-type');
  });

  it('what zstd packed is read alone, across the borders of clusters, and side by side', async () => {
    const one = [
      compressed(CLUSTER, CLUSTER, 0xac),
      read(CLUSTER, CLUSTER, 0xac),
      // The last sector before it, the last of it, and the first behind it.
      read(CLUSTER - 512, 512, 0),
      read(2 * CLUSTER - 512, 512, 0xac),
      read(2 * CLUSTER, 512, 0),
    ];
    expect((await both.serve((await zstd()).bytes, one)).codes.filter(Boolean)).toEqual([]);
    const three = [0xab, 0xac, 0xad].flatMap((value, n) => [compressed(n * CLUSTER, CLUSTER, value)]);
    const reads = [0xab, 0xac, 0xad].map((value, n) => read(n * CLUSTER, CLUSTER, value));
    const served = await both.serve((await zstd()).bytes, [...three, ...reads]);
    expect(served.codes.filter(Boolean)).toEqual([]);
    const { report } = await both.check(served.bytes);
    expect(report?.compressedClusters).toBe(3);
  });

  it('what does not get smaller is stored as it is, and reads back', async () => {
    const random = new Random(287);
    const noise = Uint8Array.from({ length: CLUSTER }, () => random.below(256));
    const { image: made, device } = await openBytes((await zstd()).bytes);
    await made.writeCompressed(0, noise);
    await made.writeCompressed(CLUSTER, filled(CLUSTER, 0xfa));
    await made.close();
    const { report } = await both.check(device.contents());
    expect(report).toMatchObject({ allocatedClusters: 2, compressedClusters: 1 });
    const { image: again } = await openBytes(device.contents(), { readOnly: true });
    const target = new Uint8Array(CLUSTER);
    await again.read(0, target);
    expect(Buffer.compare(target, noise)).toBe(0);
    await again.close();
    both.onlyQemu(device.contents(), (qemu) => {
      qemu.put('noise', noise);
      qemu.img('convert', '-f', 'qcow2', '-O', 'raw', 'disk', 'disk.raw');
      expect(Buffer.compare(qemu.get('disk.raw').subarray(0, CLUSTER), noise)).toBe(0);
    });
  });
});
