/**
 * What qemu-iotests 108, 138 and 214 promise, in our own words (docs/qemu-rules.md, "Promises of
 * qemu-iotests"): a check counts what refers beyond the file without the memory for it, and a
 * repair gives back refcount structures that are lost without taking a cluster that is in use. Each
 * promise is held beside a real QEMU, final bytes and all.
 */

import { describe, expect, it } from 'vitest';
import { FIELD } from '../../../src/format/qcow2/on-disk/header.ts';
import { BesideQemu, type Ask } from '../beside-qemu.ts';
import { filled } from '../recorded-files.ts';
import { COPIED, ImageEditor } from './image-editor.ts';
import { newImage, openBytes } from './image-bytes.ts';

const CLUSTER = 65_536;
const VIRTUAL_SIZE = 64 * 1024 * 1024;
const CLEAN = 0;
const CORRUPT = 2;

const both = new BesideQemu('qcow2');

const read = (offset: number, length: number, value: number): Ask => ({ op: 'read', offset, length, value });

/** A new image with one range of its disk written. */
async function image(
  options: Parameters<typeof newImage>[0],
  written?: { readonly length: number; readonly value: number },
): Promise<ImageEditor> {
  const { image: made, device } = await openBytes(await newImage(options));
  if (written !== undefined) await made.write(0, filled(written.length, written.value));
  await made.close();
  return new ImageEditor(device.contents());
}

async function expectReads(bytes: Uint8Array, ...reads: readonly Ask[]): Promise<void> {
  expect((await both.serve(bytes, reads, { readOnly: true })).codes.filter(Boolean)).toEqual([]);
}

describe('108: refcount structures that cannot be repaired where they are', () => {
  it('no refcount table at all, by its offset and its size: one is built, and the data are there', async () => {
    const broken = await image({ virtualSize: VIRTUAL_SIZE }, { length: CLUSTER, value: 42 });
    broken.setU64(FIELD.refcountTableOffset, 0).setU32(FIELD.refcountTableClusters, 0);
    const { bytes } = await both.repair(broken.bytes);
    await expectReads(bytes, read(0, CLUSTER, 42));
  });

  it('a cluster in use without a refcount, where the next block is due: the block does not take its place', async () => {
    // The first block counts the 256 clusters that are there; what comes behind them has none.
    const broken = await image(
      { virtualSize: VIRTUAL_SIZE, clusterSize: 512 },
      { length: 0x1b200, value: 1 },
    );
    expect(broken.bytes.byteLength).toBe(256 * 512);
    const index = 0x1b200 / 512;
    broken.setU64(broken.l2(Math.floor(index / 64)) + 8 * (index % 64), COPIED | BigInt(256 * 512));
    broken.lengthen(1).bytes.fill(42, 256 * 512);
    await expectReads(broken.bytes, read(0x1b200, 512, 42));
    expect((await both.check(broken.bytes)).exitCode).toBe(CORRUPT);
    const { bytes } = await both.repair(broken.bytes);
    await expectReads(bytes, read(0, 0x1b200, 1), read(0x1b200, 512, 42));
  });

  it('a refcount block past the end of the file whose place is counted: the file is made as long', async () => {
    const broken = await image({ virtualSize: VIRTUAL_SIZE });
    broken.setU64(broken.refcountTable + 8, 16 * CLUSTER).setRefcount(16 * CLUSTER, 1);
    const { report, bytes } = await both.repair(broken.bytes);
    expect(report?.corruptionsFixed).toBe(1);
    expect(bytes.byteLength).toBe(17 * CLUSTER);
  });

  it.each([
    ['whose place is not counted either', 16n * BigInt(CLUSTER)],
    ['that would end past 2^63', 0x7fff_ffff_ffff_0000n],
    ['that would end past 2^64', 0xffff_ffff_ffff_0000n],
  ])('a refcount block past the end of the file, %s: rebuilt', async (_what, offset) => {
    const broken = await image({ virtualSize: VIRTUAL_SIZE });
    broken.setU64(broken.refcountTable + 8, offset);
    expect((await both.check(broken.bytes)).exitCode).toBe(CORRUPT);
    await both.repair(broken.bytes);
  });

  it('all refcounts are lost in a file full of data: new ones go to free clusters within, where there are some', async () => {
    const { image: made, device } = await openBytes(
      await newImage({ virtualSize: VIRTUAL_SIZE, clusterSize: 4096 }),
    );
    await made.write(0, filled(400 * 4096, 5));
    await made.discard(100 * 4096, 20 * 4096);
    await made.close();
    const broken = new ImageEditor(device.contents());
    broken.bytes.fill(0, broken.refcountBlock(), broken.refcountBlock() + 4096);
    const { bytes } = await both.repair(broken.bytes);
    expect(bytes.byteLength).toBe(broken.bytes.byteLength);
    await expectReads(
      bytes,
      read(0, 100 * 4096, 5),
      read(100 * 4096, 20 * 4096, 0),
      read(120 * 4096, 4096, 5),
    );
  });
});

describe('138: what a check counts', () => {
  it.each([
    ['32 PiB: 2^46 clusters of 512 bytes', 0x0080_0000_0000_0000n],
    ['2 TiB: 2^32 clusters of 512 bytes', 1n << 41n],
  ])(
    'a cluster at %s is reported, and not counted: no memory is taken for all before it',
    async (_what, offset) => {
      const broken = await image({ virtualSize: 512, clusterSize: 512 }, { length: 512, value: 1 });
      broken.setU64(broken.l2(), offset);
      const before = process.memoryUsage().arrayBuffers;
      const { exitCode, report } = await both.check(broken.bytes);
      expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(16 * 1024 * 1024);
      expect(exitCode).toBe(CORRUPT);
      expect(report).toMatchObject({ checkErrors: 0, imageEndOffset: broken.bytes.byteLength });
    },
  );

  it('after a repair the counts say what was repaired: one leak, one corruption', async () => {
    const broken = await image({ virtualSize: CLUSTER }, { length: CLUSTER, value: 1 });
    broken.setRefcount(0, 2).flip(broken.l1, COPIED);
    const { report } = await both.repair(broken.bytes);
    expect(report).toMatchObject({ leaksFixed: 1, corruptionsFixed: 1, leaks: 0, corruptions: 0 });
  });
});

describe('214: compressed clusters whose entry says the wrong length', () => {
  const SIZE = 2 * 1024 * 1024;
  /** Of an entry's sectors, with clusters of 2 MiB: bits 49 to 61. */
  const SECTORS = 0x1fffn << 49n;
  const ONE_SECTOR = 1n << 49n;

  async function packed(): Promise<ImageEditor> {
    const { image: made, device } = await openBytes(
      await newImage({ virtualSize: 4 * SIZE, clusterSize: SIZE }),
    );
    await made.writeCompressed(0, filled(SIZE, 0x11));
    await made.writeCompressed(SIZE, filled(SIZE, 0x11));
    await made.close();
    return new ImageEditor(device.contents());
  }

  it('too short: it cannot be read, the others can; no check sees it', async () => {
    const broken = await packed();
    broken.setU64(broken.l2(), broken.u64(broken.l2()) - ONE_SECTOR);
    const reads = [read(0, SIZE, 0x11), read(SIZE, SIZE, 0x11)];
    const { codes } = await both.serve(broken.bytes, reads, { readOnly: true });
    expect(codes).toEqual(['qcow2-bad-compressed-cluster', undefined]);
    expect((await both.check(broken.bytes)).exitCode).toBe(CLEAN);
  });

  it('too long, past the end of the file: it reads, for what follows the data is not looked at', async () => {
    const broken = await packed();
    for (const at of [broken.l2(), broken.l2() + 8]) broken.setU64(at, broken.u64(at) | SECTORS);
    await expectReads(broken.bytes, read(0, 2 * SIZE, 0x11));
    expect((await both.check(broken.bytes)).exitCode).toBe(CORRUPT);
  });

  it('too long, over data of others: refcounts are raised by a repair, and nothing is lost', async () => {
    const { image: made, device } = await openBytes((await packed()).bytes);
    await made.write(2 * SIZE, filled(2 * SIZE, 0x22));
    await made.close();
    const broken = new ImageEditor(device.contents());
    for (const at of [broken.l2(), broken.l2() + 8]) broken.setU64(at, broken.u64(at) | SECTORS);
    const all = [read(0, 2 * SIZE, 0x11), read(2 * SIZE, 2 * SIZE, 0x22)];
    await expectReads(broken.bytes, ...all);
    expect((await both.check(broken.bytes)).exitCode).toBe(CORRUPT);
    const { bytes } = await both.repair(broken.bytes);
    await expectReads(bytes, ...all);
  });
});
