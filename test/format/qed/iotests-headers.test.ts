/**
 * What qemu-iotests 116 promises, in our own words (docs/qemu-rules.md, "Promises of
 * qemu-iotests"): a QED image whose header is invalid is refused; and beyond it, tables that cannot
 * be are an error, never a wild read. Held beside a real QEMU.
 */

import { describe, expect, it } from 'vitest';
import { BesideQemu, type Ask } from '../beside-qemu.ts';
import { filled, RecordedFiles } from '../recorded-files.ts';
import { openImage } from '../../../src/format/registry.ts';

const CLUSTER = 65_536;
const VIRTUAL_SIZE = 128 * 1024 * 1024;
const L1 = CLUSTER;
const U32_MAX = 0xffff_ffff;
const U64_MAX = 2n ** 64n - 1n;

const both = new BesideQemu('qed');

const read = (offset: number, length: number, value = 0): Ask => ({ op: 'read', offset, length, value });

/** An image of 128 MiB, closed cleanly, with its first clusters written. */
async function image(clusters = 0): Promise<Buffer> {
  const files = new RecordedFiles();
  await files.create('disk', { format: 'qed', virtualSize: VIRTUAL_SIZE });
  const made = await openImage({ format: 'qed', name: 'disk', files, readOnly: false });
  if (clusters > 0) await made.write(0, filled(clusters * CLUSTER, 7));
  await made.close();
  return Buffer.from(files.contents('disk'));
}

async function expectRefused(broken: Buffer, code: string): Promise<void> {
  const { refused, bytes, bytesRead } = await both.serve(broken, [read(0, 512)]);
  expect(refused).toBe(code);
  expect(bytesRead).toBeLessThanOrEqual(CLUSTER);
  expect(bytes.equals(broken)).toBe(true);
}

describe('116: a QED image with an invalid header is refused', () => {
  it('cut off behind the fields of its header', async () => {
    await expectRefused((await image()).subarray(0, 512), 'qed-bad-l1-offset');
  });

  it('with another magic', async () => {
    const broken = await image();
    broken.write('QEDX', 0, 'latin1');
    await expectRefused(broken, 'qed-bad-magic');
  });

  it.each([
    ['clusters', 4, 'qed-bad-cluster-size'],
    ['tables', 8, 'qed-bad-table-size'],
    ['a header', 12, 'qed-bad-header-size'],
  ])('with %s of 2^32 − 1 (field at %i)', async (_what, at, code) => {
    const broken = await image();
    broken.writeUInt32LE(U32_MAX, at);
    await expectRefused(broken, code);
  });

  it.each([
    ['a first-level table at 2^64 − 1', 40, U64_MAX, 'qed-bad-l1-offset'],
    ['a first-level table that is not aligned', 40, BigInt(L1 + 512), 'qed-bad-l1-offset'],
    ['a first-level table past the end of the file', 40, 1n << 40n, 'qed-bad-l1-offset'],
    ['a disk of 2^64 − 1 bytes', 48, U64_MAX, 'qed-bad-image-size'],
  ])('with %s', async (_what, at, value, code) => {
    const broken = await image();
    broken.writeBigUInt64LE(value, at);
    await expectRefused(broken, code);
  });
});

describe('116: tables of a QED image that cannot be', () => {
  const NOWHERE = [
    ['past the end of the file', 1n << 40n],
    ['not aligned', 5n * BigInt(CLUSTER) + 512n],
    ['within the header', 512n],
    ['at 2^64 − 8', U64_MAX - 7n],
  ] as const;

  it.each(NOWHERE)(
    'a second-level table %s: neither read nor written, and repaired away',
    async (_what, value) => {
      const broken = await image(2);
      broken.writeBigUInt64LE(value, L1);
      const asks: readonly Ask[] = [read(0, 512, 7), { op: 'write', offset: 0, length: 512, value: 1 }];
      const served = await both.serve(broken, asks);
      expect(served.codes).toEqual(['qed-bad-table-offset', 'qed-bad-table-offset']);
      expect((await both.check(broken)).exitCode).toBe(2);
      // What the table and its data took is lost to QED: it leaks.
      const repaired = await both.check(broken, 'all');
      expect(repaired).toMatchObject({ exitCode: 3, report: { corruptions: 0, corruptionsFixed: 1 } });
      expect((await both.serve(repaired.bytes, [read(0, 512, 0)])).codes).toEqual([undefined]);
    },
  );

  it.each(NOWHERE)('data %s: neither read nor written, and repaired away', async (_what, value) => {
    const broken = await image(2);
    const table = Number(broken.readBigUInt64LE(L1));
    broken.writeBigUInt64LE(value, table + 8);
    const asks: readonly Ask[] = [read(0, CLUSTER, 7), read(CLUSTER, 512, 7)];
    const served = await both.serve(broken, asks, { readOnly: true });
    expect(served.codes).toEqual([undefined, 'qed-bad-cluster-offset']);
    expect((await both.check(broken)).exitCode).toBe(2);
    const repaired = await both.check(broken, 'all');
    expect(repaired).toMatchObject({ exitCode: 3, report: { corruptions: 0, corruptionsFixed: 1 } });
    expect(
      (await both.serve(repaired.bytes, [read(0, CLUSTER, 7), read(CLUSTER, CLUSTER, 0)])).codes,
    ).toEqual([undefined, undefined]);
  });

  it('data in the second cluster of a header that has two', async () => {
    const one = await image(2);
    const broken = Buffer.concat([one.subarray(0, CLUSTER), Buffer.alloc(CLUSTER), one.subarray(CLUSTER)]);
    broken.writeUInt32LE(2, 12);
    const move = (at: number): number => {
      const target = Number(broken.readBigUInt64LE(at)) + CLUSTER;
      broken.writeBigUInt64LE(BigInt(target), at);
      return target;
    };
    const table = move(move(40));
    for (const entry of [0, 8]) move(table + entry);
    expect((await both.serve(broken, [read(0, 2 * CLUSTER, 7)])).codes).toEqual([undefined]);
    expect((await both.check(broken)).exitCode).toBe(0);
    broken.writeBigUInt64LE(BigInt(CLUSTER), table + 8);
    const served = await both.serve(broken, [read(0, CLUSTER, 7), read(CLUSTER, 512, 7)]);
    expect(served.codes).toEqual([undefined, 'qed-bad-cluster-offset']);
    expect((await both.check(broken)).exitCode).toBe(2);
  });
});
