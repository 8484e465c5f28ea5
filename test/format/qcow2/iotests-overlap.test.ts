/**
 * What qemu-iotests 060 promises, in our own words (docs/qemu-rules.md, "Promises of
 * qemu-iotests"): in an image whose metadata lie, no write lands on metadata that are in use; the
 * image is marked as corrupt, can then only be read, and a repair makes it good again. Each promise
 * is held beside a real QEMU: the same requests fail, the same bytes are left.
 */

import { describe, expect, it } from 'vitest';
import { FIELD } from '../../../src/format/qcow2/on-disk/header.ts';
import { BesideQemu, type Ask, type Served } from '../beside-qemu.ts';
import { filled } from '../recorded-files.ts';
import { rejectionCodeOf } from '../rejection.ts';
import { tryTool } from '../system-tools.ts';
import { COPIED, ImageEditor } from './image-editor.ts';
import { newImage, openBytes } from './image-bytes.ts';

const CLUSTER = 65_536;
const VIRTUAL_SIZE = 64 * 1024 * 1024;
const UNALIGNED = 0x2a00n;
const CORRUPT_BYTE = 79;

const both = new BesideQemu('qcow2');

const write = (offset: number, length: number, value = 0x2a): Ask => ({ op: 'write', offset, length, value });
const read = (offset: number, length: number, value = 0): Ask => ({ op: 'read', offset, length, value });
const discard = (offset: number, length: number): Ask => ({ op: 'discard', offset, length });

/** An image of 64 MiB with these clusters of its disk written, each with its own number + 1. */
async function image(...clusters: readonly number[]): Promise<ImageEditor> {
  const { image: made, device } = await openBytes(await newImage({ virtualSize: VIRTUAL_SIZE }));
  for (const cluster of clusters) await made.write(cluster * CLUSTER, filled(CLUSTER, cluster + 1));
  await made.close();
  return new ImageEditor(device.contents());
}

/** A refcount block at offsets of 64 GiB; with refcounts of one bit, a block counts 32 GiB. */
const FAR_BLOCK = 0x10_0000_0000n;

/** It is marked, cannot be opened for writing any more, and is still read. */
async function expectMarked({ bytes }: Pick<Served, 'bytes'>): Promise<void> {
  expect(bytes[CORRUPT_BYTE]).toBe(2);
  expect((await both.serve(bytes, [write(0, 512)])).refused).toBe('qcow2-marked-corrupt');
  expect((await both.serve(bytes, [], { readOnly: true })).refused).toBeUndefined();
}

/**
 * The requests that are not served are these, and nothing of them lands anywhere: only the mark is
 * new.
 */
async function expectStopped(
  broken: ImageEditor,
  asks: readonly Ask[],
  codes: readonly (string | undefined)[],
) {
  const served = await both.serve(broken.bytes, asks);
  expect(served.codes).toEqual(codes);
  await expectMarked(served);
  return served;
}

describe('060: a write that would land on metadata', () => {
  it('of an L2 table that is the L1 table: refused, marked, read-only from then on', async () => {
    const broken = await image();
    broken.setU64(broken.l1, COPIED | BigInt(broken.l1));
    expect((await both.check(broken.bytes)).exitCode).toBe(2);
    const served = await expectStopped(broken, [write(0, 512)], ['qcow2-corrupt']);
    await both.serve(served.bytes, [read(0, 512)], { readOnly: true });
  });

  it('of data on a refcount block: refused and marked; a repair builds refcounts elsewhere and takes the mark away', async () => {
    const broken = (await image(0)).setU64(4 * CLUSTER, COPIED | BigInt(2 * CLUSTER));
    expect((await both.check(broken.bytes)).exitCode).toBe(2);
    const stopped = await expectStopped(broken, [write(0, 512)], ['qcow2-corrupt']);
    const { bytes } = await both.repair(stopped.bytes);
    expect(bytes[CORRUPT_BYTE]).toBe(0);
    const again = await both.serve(bytes, [write(0, 512), read(0, 512, 0x2a)]);
    expect(again.codes).toEqual([undefined, undefined]);
  });

  it('of data on an L2 table that only a snapshot has: not looked at by default, found and parted by a repair', async () => {
    const { image: made, device } = await openBytes((await image(0)).bytes);
    await made.snapshots.create({ name: 'foo', seconds: 1, nanoseconds: 0 });
    await made.write(0, filled(512, 2));
    await made.close();
    const broken = new ImageEditor(device.contents());
    const inactive = 4 * CLUSTER;
    broken.setU64(broken.l2(), COPIED | BigInt(inactive));
    expect((await both.check(broken.bytes)).exitCode).toBe(2);
    const { bytes } = await both.repair(broken.bytes);
    const served = await both.serve(bytes, [write(0, 512, 4), read(0, 512, 4)]);
    expect(served.codes).toEqual([undefined, undefined]);
    // The snapshot still has its table, and what it shows.
    const applied = await openBytes(served.bytes);
    await applied.image.snapshots.apply('foo');
    await applied.image.close();
    await both.serve(applied.device.contents(), [read(0, CLUSTER, 1)], { readOnly: true });
    expect((await both.check(applied.device.contents())).exitCode).toBe(0);
  });

  it('of a cluster that is allocated where the header is, which is called free', async () => {
    const broken = (await image(0)).setRefcount(0, 0);
    await expectStopped(broken, [write(CLUSTER, CLUSTER)], ['qcow2-corrupt']);
  });

  it('of a refcount block, since there is none at all', async () => {
    const broken = await image();
    broken.setU64(broken.refcountTable, 0);
    const stopped = await expectStopped(broken, [write(0, CLUSTER)], ['qcow2-corrupt']);
    const { report } = await both.repair(stopped.bytes);
    expect(report?.corruptionsFixed).toBe(3);
  });

  it('of a refcount block, where the tables for the data are there', async () => {
    const broken = await image(0);
    broken.setU64(broken.refcountTable, 0);
    const stopped = await expectStopped(broken, [write(0, 2 * CLUSTER)], ['qcow2-corrupt']);
    const { report, bytes } = await both.repair(stopped.bytes);
    expect(report?.corruptionsFixed).toBe(5);
    await both.serve(bytes, [read(0, CLUSTER, 1), write(CLUSTER, CLUSTER)]);
  });

  it('of a table of refcounts that has no clusters: not opened for writing, and repaired', async () => {
    const broken = (await image()).setU32(FIELD.refcountTableClusters, 0);
    expect((await both.serve(broken.bytes, [write(0, CLUSTER)])).refused).toBe('qcow2-no-refcount-table');
    await both.repair(broken.bytes);
  });

  it('of a table of refcounts that is on the header: not opened for writing', async () => {
    const broken = (await image()).setU64(FIELD.refcountTableOffset, 0);
    expect(await rejectionCodeOf(() => openBytes(broken.bytes))).toBe('qcow2-table-on-header');
    // QEMU opens it, and stops at the first write.
    both.onlyQemu(broken.bytes, (qemu) => {
      expect(() => qemu.io('qcow2', 'disk', 'write 0 64k')).toThrow('Marking image as corrupt');
    });
  });

  it.each([
    ['an L2 table', [], write(0, CLUSTER)],
    ['compressed data', [1], { op: 'write-compressed', offset: 0, length: CLUSTER, value: 3 } as const],
  ])('of %s at offset 0, since all refcounts are 0', async (_what, clusters, ask) => {
    const broken = await image(...clusters);
    broken.bytes.fill(0, broken.refcountBlock(), broken.refcountBlock() + CLUSTER);
    const stopped = await expectStopped(broken, [ask], ['qcow2-corrupt']);
    await both.repair(stopped.bytes);
  });
});

describe('060: an offset that is not a multiple of the cluster', () => {
  it('of an L2 table: the read fails and marks the image', async () => {
    const broken = await image(0);
    broken.setU64(broken.l1, COPIED | BigInt(broken.l2()) | UNALIGNED);
    const asks = [read(0, CLUSTER), read(0, CLUSTER)];
    await expectStopped(broken, asks, ['qcow2-unaligned-l2-table', 'qcow2-corrupt']);
  });

  it('of data: the read fails and marks the image', async () => {
    const broken = await image(0);
    broken.setU64(broken.l2(), COPIED | BigInt(broken.data()) | UNALIGNED);
    await expectStopped(broken, [read(0, CLUSTER)], ['qcow2-unaligned-cluster']);
  });

  it('of data, opened read-only: every read fails, and nothing is marked', async () => {
    const broken = await image(0);
    broken.setU64(broken.l2(), COPIED | BigInt(broken.data()) | UNALIGNED);
    const asks = [read(0, CLUSTER), read(0, CLUSTER)];
    const { codes, bytes } = await both.serve(broken.bytes, asks, { readOnly: true });
    expect(codes).toEqual(['qcow2-unaligned-cluster', 'qcow2-unaligned-cluster']);
    expect(bytes.equals(broken.bytes)).toBe(true);
  });

  it('of a zero cluster with a place: the write fails and marks the image; a repair keeps the zeroes without the place', async () => {
    const broken = await image(0);
    broken.setU64(broken.l2(), COPIED | UNALIGNED | 1n);
    const stopped = await expectStopped(broken, [write(0, CLUSTER)], ['qcow2-corrupt']);
    const { bytes } = await both.repair(stopped.bytes);
    await both.serve(bytes, [read(0, CLUSTER, 0), write(0, CLUSTER), read(0, CLUSTER, 0x2a)]);
  });

  it('of a refcount block: the write fails and marks the image', async () => {
    const broken = await image();
    broken.flip(broken.refcountTable, UNALIGNED);
    await expectStopped(broken, [write(0, CLUSTER)], ['qcow2-unaligned-refcount-block']);
  });

  it('of data that are discarded: the cluster leaks, and the image goes on', async () => {
    const broken = await image(0);
    broken.setU64(broken.l2(), COPIED | BigInt(broken.data()) | UNALIGNED);
    const { codes, bytes } = await both.serve(broken.bytes, [discard(0, CLUSTER)]);
    expect(codes).toEqual([undefined]);
    expect(bytes[CORRUPT_BYTE]).toBe(0);
  });

  it('of data that are discarded, and of other data that are read after that: only the read marks the image', async () => {
    const broken = await image(0, 1);
    for (const n of [0, 1]) {
      broken.setU64(broken.l2() + 8 * n, COPIED | BigInt(broken.data(n)) | UNALIGNED);
    }
    await expectStopped(
      broken,
      [discard(0, CLUSTER), read(CLUSTER, CLUSTER)],
      [undefined, 'qcow2-unaligned-cluster'],
    );
  });

  it('of a refcount block, under a discard: what it frees leaks, the image is marked and stopped', async () => {
    const broken = (await image(0, 1)).setU64(CLUSTER, UNALIGNED);
    await expectStopped(
      broken,
      [discard(0, CLUSTER), discard(CLUSTER, CLUSTER)],
      [undefined, 'qcow2-corrupt'],
    );
  });
});

describe('060: two requests at once', () => {
  it('an overwrite of metadata that stops the image while another write copies: neither lands, none hangs', async () => {
    const below = (await image(0)).bytes;
    const created = await newImage({
      virtualSize: 1024 ** 3,
      backingFile: { name: 'base', format: 'qcow2' },
    });
    const { image: made, device: madeDevice } = await openBytes(created, {
      openBacking: async () => (await openBytes(below)).image,
    });
    await made.write(0, filled(CLUSTER, 1));
    await made.write(1024 ** 3 / 2, filled(CLUSTER, 1));
    await made.close();
    // The first cluster is given up; it and the second L2 table, which is behind it, are called
    // free.
    const broken = new ImageEditor(madeDevice.contents());
    const [first, table] = [broken.data(), broken.l2(1)];
    expect(table).toBe(first + CLUSTER);
    broken.setU64(broken.l2(), 0).setRefcount(first, 0).setRefcount(table, 0);

    const held = Promise.withResolvers<undefined>();
    const {
      image: opened,
      device,
      log,
    } = await openBytes(broken.bytes, {
      openBacking: async () => {
        const { image: backing } = await openBytes(below, { readOnly: true });
        backing.read = (_offset, target) => held.promise.then(() => void target.fill(0));
        return backing;
      },
    });
    const copying = rejectionCodeOf(() => opened.write(0, filled(1024, 2)));
    expect(await rejectionCodeOf(() => opened.write(CLUSTER, filled(CLUSTER, 3)))).toBe('qcow2-corrupt');
    const stopped = device.contents();
    held.resolve(undefined);
    expect(await copying).toBe('qcow2-corrupt');
    await opened.close();
    expect(Buffer.compare(device.contents(), stopped)).toBe(0);
    expect(log.entries.filter(({ op }) => op === 'write')).toHaveLength(1);
    expect(stopped[CORRUPT_BYTE]).toBe(2);
    both.onlyQemu(broken.bytes, (qemu) => {
      qemu.put('base', below);
      const steps = 'break cow_read 0\naio_write 0k 1k\nwait_break 0\nwrite 64k 64k\nresume 0\n';
      const input = `open -o driver=qcow2,file.driver=blkdebug,file.image.driver=file,file.image.filename=disk\n${steps}`;
      const { stdout } = tryTool('qemu-io', [], qemu.path, input);
      expect(stdout).toContain('write failed: Input/output error');
      expect(stdout).toContain('aio_write failed: No medium found');
      expect(Buffer.compare(qemu.get('disk'), stopped)).toBe(0);
    });
  });
});

describe('060: a disk that is made smaller drops refcount blocks', () => {
  const make = async (): Promise<ImageEditor> => {
    return new ImageEditor(await newImage({ virtualSize: VIRTUAL_SIZE, shape: { refcountBits: 1 } }));
  };

  it('one that no other describes stops the image; after a repair the disk gets smaller', async () => {
    const broken = await make();
    broken.setU64(broken.refcountTable + 8, FAR_BLOCK);
    const { refused, bytes } = await both.shrink(broken.bytes, VIRTUAL_SIZE / 2);
    expect(refused).toBe('qcow2-corrupt');
    await expectMarked({ bytes });
    expect(new ImageEditor(bytes).u64(FIELD.virtualSize)).toBe(BigInt(VIRTUAL_SIZE));
    // The table no longer has it: there was nothing in it.
    const repaired = await both.repair(bytes);
    expect((await both.shrink(repaired.bytes, VIRTUAL_SIZE / 2)).refused).toBeUndefined();
  });

  it('one that only a block describes which is not aligned stops the image', async () => {
    const broken = await make();
    broken.setU64(broken.refcountTable + 8, FAR_BLOCK).setU64(broken.refcountTable + 16, 0x200);
    const { refused, bytes } = await both.shrink(broken.bytes, VIRTUAL_SIZE / 2);
    expect(refused).toBe('qcow2-unaligned-refcount-block');
    await expectMarked({ bytes });
  });

  it('one that is where no file can have anything: refused, and the disk keeps its size', async () => {
    const broken = await image();
    broken.setU64(broken.refcountTable + 8, 0x00ff_ffff_0000_0000n);
    const { image: opened, device } = await openBytes(broken.bytes);
    expect(await rejectionCodeOf(() => opened.resize(VIRTUAL_SIZE / 2))).toBe('qcow2-offset-too-large');
    await opened.close();
    const left = new ImageEditor(device.contents());
    expect(left.u64(FIELD.virtualSize)).toBe(BigInt(VIRTUAL_SIZE));
    expect(left.bytes[CORRUPT_BYTE]).toBe(0);
    const repaired = await both.repair(left.bytes);
    expect((await both.shrink(repaired.bytes, VIRTUAL_SIZE / 2)).refused).toBeUndefined();
  });
});

it('060: a dirty image whose refcount block is nowhere is repaired when it is opened for writing', async () => {
  const broken = (await image(0)).setU64(FIELD.incompatible, 1);
  broken.setU64(broken.refcountTable, 0xffff_2a00);
  const { image: opened, device } = await openBytes(broken.bytes);
  await opened.write(CLUSTER, filled(CLUSTER, 2));
  await opened.close();
  expect((await both.check(device.contents())).exitCode).toBe(0);
  await both.serve(device.contents(), [read(0, CLUSTER, 1), read(CLUSTER, CLUSTER, 2)]);
});
