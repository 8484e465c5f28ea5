/**
 * Bitmap directories and tables that are damaged or made to harm: an image with one is refused
 * before anything is written, and without taking memory for what it claims. QEMU does not open it
 * either, but for what is past the end of the file, which it reads as zeroes: "nothing changed".
 * Here such a bitmap is marked as in use, and not trusted. A check counts it, as QEMU's does, and
 * refuses the rest, as a repair does, which would free what the bitmaps hold.
 */

import { describe, expect, it } from 'vitest';
import { MemoryDevice } from '../../../src/device/memory-device.ts';
import { WriteLog } from '../../../src/device/write-log.ts';
import {
  BITMAP_FLAG,
  bitmapsExtension,
  readBitmapDirectory,
} from '../../../src/format/qcow2/bitmaps/bitmap-directory.ts';
import { openQcow2 } from '../../../src/format/qcow2/open.ts';
import { CHECK, QemuDirectory } from '../qemu-directory.ts';
import { rejectionOf } from '../rejection.ts';
import { ioWords, reasonToSkip, tryTool } from '../system-tools.ts';
import { newImage, openBytes, patched, withBitmaps, type Patch } from './image-bytes.ts';

const CLUSTER = 65_536;
const U32_MAX = 0xffff_ffff;
const U64_MAX = 2n ** 64n - 1n;
const noQemu = reasonToSkip('qemu-io', 'qemu-img');

const sound = (async () => withBitmaps(await newImage({ virtualSize: 64 * 1024 ** 2 }), ['one', 'two']))();
const { extension, directory, tables } = await sound;
const [table = 0] = tables;
/** Offsets of fields of the first entry. */
const ENTRY = {
  tableOffset: directory,
  tableEntries: directory + 8,
  flags: directory + 12,
  typeGranularityName: directory + 16,
  extraLength: directory + 20,
  name: directory + 24,
};
const FIELD = { length: extension - 4, count: extension, size: extension + 8, offset: extension + 16 };

function typeGranularityName(type: number, granularityBits: number, nameLength: number): Patch {
  return { at: ENTRY.typeGranularityName, u32: ((type << 24) | (granularityBits << 16) | nameLength) >>> 0 };
}

const AUTOCLEAR_FIELD = 88;

const past = BigInt(1024 * CLUSTER);
const CASES: readonly (readonly [what: string, words: string, patch: Patch])[] = [
  ['an extension of 17 bytes', 'has 17 bytes, not 24', { at: FIELD.length, u32: 17 }],
  ...[0, 65_536, U32_MAX].map(
    (count) =>
      [`${String(count)} bitmaps`, 'it must be 1 to 65535', { at: FIELD.count, u32: count }] as const,
  ),
  ['a reserved field in use', 'is not zero', { at: extension + 4, u32: 0x68 }],
  ['a count that is too low', 'has 2 entries, not the 1', { at: FIELD.count, u32: 1 }],
  ['a count that is too high', 'has 2 entries, not the 3', { at: FIELD.count, u32: 3 }],
  ['a directory of no bytes', 'at most 64 MiB', { at: FIELD.size, u64: 0n }],
  ['a directory above 64 MiB', 'at most 64 MiB', { at: FIELD.size, u64: 2n ** 26n + 1n }],
  ['a directory of 2^64 − 1 bytes', 'above 2^53', { at: FIELD.size, u64: U64_MAX }],
  ['a directory past the end', 'outside the file', { at: FIELD.size, u64: 2n ** 26n }],
  ['a directory cut in its fields', 'cut by the end', { at: FIELD.size, u64: 48n }],
  ['a directory cut in a name', 'within the directory', { at: FIELD.size, u64: 24n }],
  ...[0n, 1n, 512n, past, 2n ** 53n - 65_536n].map(
    (offset) =>
      [`a directory at ${String(offset)}`, 'not cluster aligned', { at: FIELD.offset, u64: offset }] as const,
  ),
  ['a directory above 2^53', 'is above', { at: FIELD.offset, u64: U64_MAX & ~0xffffn }],
  ...[0, 1024, 0xffff].map(
    (length) =>
      [`a name of ${String(length)} bytes`, 'must be 1 to 1023', typeGranularityName(1, 16, length)] as const,
  ),
  ...[8, 32, 255].map(
    (bits) =>
      [`granularity bits ${String(bits)}`, 'must be 2^9 to 2^31', typeGranularityName(1, bits, 3)] as const,
  ),
  ...[0, 2].map(
    (type) => [`type ${String(type)}`, 'unknown type', typeGranularityName(type, 16, 3)] as const,
  ),
  ...[4, 2 ** 31].map(
    (flags) => [`flags ${String(flags)}`, 'unknown flags', { at: ENTRY.flags, u32: flags }] as const,
  ),
  ...[8, U32_MAX].map(
    (length) =>
      [`extra data of ${String(length)} bytes`, 'has', { at: ENTRY.extraLength, u32: length }] as const,
  ),
  ['a name that is there already', "two bitmaps are named 'two'", { at: ENTRY.name, u32: 0x74_77_6f_00 }],
  ...[0n, 512n].map(
    (offset) =>
      [
        `a table at ${String(offset)}`,
        'not cluster aligned',
        { at: ENTRY.tableOffset, u64: offset },
      ] as const,
  ),
  ['a table past the end', '', { at: ENTRY.tableOffset, u64: past }],
  ['a table above 2^63', 'has an impossible offset', { at: ENTRY.tableOffset, u64: U64_MAX & ~0xffffn }],
  ...[0, 2, U32_MAX].map(
    (entries) =>
      [
        `a table of ${String(entries)} entries`,
        'does not fit the disk',
        { at: ENTRY.tableEntries, u32: entries },
      ] as const,
  ),
  ['a cluster that is not aligned', 'not aligned', { at: table, u64: 512n }],
  ['a cluster past the end', '', { at: table, u64: past }],
  ['reserved low bits of a cluster', 'reserved bits', { at: table, u64: 2n }],
  ['reserved high bits of a cluster', 'reserved bits', { at: table, u64: 1n << 56n }],
  ['a stored cluster of all ones', 'reserved bits', { at: table, u64: BigInt(table) | 1n }],
];

const PAST_END = ['a table past the end', 'a cluster past the end'];

describe('a hostile bitmap directory', () => {
  const qemu = new QemuDirectory();

  it('is not what the cases begin with', async () => {
    const { bytes } = await sound;
    const { image } = await openBytes(bytes);
    await image.write(0, new Uint8Array(512));
    await image.close();
    if (noQemu !== undefined) return;
    qemu.put('disk', bytes);
    qemu.io('qcow2', 'disk', 'write 0 512');
    qemu.expectCheck('qcow2', 'disk', 0);
  });

  it.each(CASES.filter(([what]) => !PAST_END.includes(what)))(
    'with %s is refused',
    async (_, words, patch) => {
      const bytes = patched((await sound).bytes, patch);
      const device = new MemoryDevice({ path: 'disk.qcow2' });
      device.write(0, bytes, 'data');
      const log = new WriteLog(device);
      const openBacking = (): Promise<never> => Promise.reject(new Error('the backing file was opened'));
      const error = await rejectionOf(() =>
        openQcow2({ device: log, readOnly: false, readPurpose: 'data', openBacking }),
      );
      expect(error?.code, error?.message).toBe('qcow2-bad-bitmaps');
      expect(error?.message).toContain(words);
      expect(error?.path).toBe('disk.qcow2');
      expect(log.entries).toEqual([]);
      if (noQemu !== undefined) return;
      qemu.put('disk', bytes);
      const done = tryTool('qemu-io', ioWords(['quit'], 'disk', 'qcow2'), qemu.path);
      expect(done.status).not.toBe(0);
    },
  );

  it.each(CASES.filter(([what]) => PAST_END.includes(what)))(
    'with %s is served, and that bitmap is marked as in use',
    async (_, __, patch) => {
      const { image, device } = await openBytes(patched((await sound).bytes, patch));
      await image.write(0, new Uint8Array(512).fill(1));
      await image.close();
      const again = await openBytes(device.contents(), { readOnly: true });
      const found = bitmapsExtension(again.image.header);
      if (found === undefined) throw new Error('the bitmaps are gone');
      const { entries } = await readBitmapDirectory(again.image.header, found.extension);
      const inUse = entries.map(({ name, flags }) => [name, (flags & BITMAP_FLAG.inUse) !== 0]);
      expect([found.isConsistent, inUse]).toEqual([
        true,
        [
          ['one', true],
          ['two', false],
        ],
      ]);
      if (noQemu !== undefined) return;
      qemu.put('disk', device.contents());
      qemu.io('qcow2', 'disk', 'read -P 1 0 512');
    },
  );

  it.each(CASES)(
    'with %s, of bitmaps that another program made inconsistent, is refused only for its length',
    async (what, words, patch) => {
      const bytes = patched(patched((await sound).bytes, patch), { at: AUTOCLEAR_FIELD, u64: 0n });
      const opened = openBytes(bytes);
      if (words.startsWith('has 17 bytes')) {
        await expect(opened).rejects.toThrow(words);
      } else {
        const { image } = await opened;
        await image.abandon();
      }
      if (noQemu !== undefined) return;
      qemu.put('disk', bytes);
      const done = tryTool('qemu-io', ioWords(['quit'], 'disk', 'qcow2'), qemu.path);
      expect(done.status === 0, what).toBe(!words.startsWith('has 17 bytes'));
    },
  );

  it.each(CASES)('with %s is checked as QEMU checks it, or refused', async (what, words, patch) => {
    const bytes = patched((await sound).bytes, patch);
    const { image } = await openBytes(bytes, { readOnly: true, forCheck: true });
    if (PAST_END.includes(what)) {
      const { corruptions, leaks } = await image.check();
      const leftOfTable = what === 'a table past the end' ? 1 : 0;
      expect({ corruptions, leaks }).toEqual({ corruptions: 1, leaks: leftOfTable });
    } else {
      const error = await rejectionOf(() => image.check());
      expect(error?.code).toBe('qcow2-bad-bitmaps');
      expect(error?.message).toContain(words);
      const repaired = await openBytes(bytes, { forCheck: true });
      expect((await rejectionOf(() => repaired.image.check('all')))?.code).toBe('qcow2-bad-bitmaps');
      expect(repaired.log.entries).toEqual([]);
    }
    if (noQemu !== undefined) return;
    qemu.put('disk', bytes);
    qemu.expectCheck('qcow2', 'disk', PAST_END.includes(what) ? CHECK.corrupt : CHECK.failed);
  });
});
