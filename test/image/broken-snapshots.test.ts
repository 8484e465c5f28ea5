/**
 * One snapshot whose L1 table cannot be where its entry says: a table of damages and commands. The
 * disk and the other snapshots stay usable, with the answers of QEMU where it is installed. Where
 * ours differ, the cell is an exception: `broken-snapshot` in docs/qemu-rules.md.
 */

import { copyFileSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import { describe, expect, test } from 'vitest';

import { openImage } from '../../src/format/registry.ts';
import type { RepairScope } from '../../src/format/check-report.ts';
import { checkImageFile } from '../../src/image/check-image.ts';
import { hostImage, WRITABLE_HOST_FILES } from '../../src/image/host-image.ts';
import { imageExtents } from '../../src/image/image-extents.ts';
import { readImageInfo } from '../../src/image/image-info.ts';
import { changeSnapshots, listSnapshots } from '../../src/image/image-snapshots.ts';
import { openChain } from '../../src/image/open-chain.ts';
import { resizeImage } from '../../src/image/resize-image.ts';
import { someOf } from '../amount.ts';
import { ImageEditor } from '../format/qcow2/image-editor.ts';
import { newImage, openBytes, patched, type Patch } from '../format/qcow2/image-bytes.ts';
import { checkedAs } from '../format/qcow2/qemu-checks.ts';
import { filled } from '../format/recorded-files.ts';
import { rejectionCodeOf } from '../format/rejection.ts';
import { type SystemTool, reasonToSkip, runTool, tryTool } from '../format/system-tools.ts';
import { testDirectory } from '../test-directory.ts';

const CLUSTER = 65_536;
const MIB = 1024 ** 2;
const DISK = 8 * MIB;
const noQemu = reasonToSkip('qemu-img', 'qemu-io');
if (noQemu !== undefined) process.stderr.write(`broken snapshots are not shown to QEMU: ${noQemu}\n`);

/** Snapshots a, b and c, each with clusters of its own and shared ones. */
const good: Promise<Uint8Array> = (async () => {
  const { image, device } = await openBytes(await newImage({ virtualSize: DISK }));
  const take = (name: string) => image.snapshots.create({ name, seconds: 0, nanoseconds: 0 });
  await image.write(0, filled(3 * CLUSTER, 1));
  await take('a');
  await image.write(CLUSTER, filled(CLUSTER, 2));
  await take('b');
  await image.write(2 * CLUSTER, filled(CLUSTER, 3));
  await image.write(MIB, filled(2 * CLUSTER, 5));
  await take('c');
  await image.write(0, filled(CLUSTER, 4));
  await image.close();
  return device.contents();
})();

interface Place {
  readonly l1: number;
  /** Of the file, in whole clusters. */
  readonly end: number;
}

interface Damage {
  readonly name: string;
  /** Of the entry of b; byte 0 is the offset of its L1 table, byte 8 the count of its entries. */
  readonly patch: (place: Place) => Patch;
  /** Commands that answer other than in QEMU. */
  readonly exceptions?: Readonly<Partial<Record<CommandName, 'works' | 'refused'>>>;
}

const REMOVED = { 'repair all': 'works' } as const;
/** QEMU goes back to a disk of zeroes. */
const NOT_APPLIED = { ...REMOVED, 'apply b': 'refused' } as const;
const DAMAGES: readonly Damage[] = [
  { name: 'a TiB past the end', patch: () => ({ at: 0, u64: 1n << 40n }), exceptions: NOT_APPLIED },
  {
    name: 'right at the end',
    patch: ({ end }) => ({ at: 0, u64: BigInt(end) }),
    exceptions: { 'apply b': 'refused' },
  },
  {
    name: 'a cluster past the end',
    patch: ({ end }) => ({ at: 0, u64: BigInt(end + CLUSTER) }),
    exceptions: NOT_APPLIED,
  },
  { name: 'at 2^56', patch: () => ({ at: 0, u64: 1n << 56n }), exceptions: NOT_APPLIED },
  { name: 'at 2^63', patch: () => ({ at: 0, u64: 1n << 63n }), exceptions: REMOVED },
  { name: 'unaligned', patch: ({ l1 }) => ({ at: 0, u64: BigInt(l1 + 512) }), exceptions: REMOVED },
  { name: 'on the header', patch: () => ({ at: 0, u64: 0n }), exceptions: REMOVED },
  { name: 'of 2^32 − 1 entries', patch: () => ({ at: 8, u32: 0xffff_ffff }), exceptions: REMOVED },
  // QEMU drops references that it takes from whatever is behind the table, and marks the image as
  // corrupt.
  {
    name: 'of 32 MiB, cut by the end',
    patch: () => ({ at: 8, u32: 4_194_304 }),
    // It claims clusters that the disk uses: a smaller disk is refused (`shrink-of-damage`).
    exceptions: { ...REMOVED, 'delete b': 'works', shrink: 'refused' },
  },
];

interface Command {
  readonly ours: (path: string) => Promise<unknown>;
  /** Words of qemu-img or qemu-io, with `disk` for the image. */
  readonly theirs: readonly [SystemTool, ...string[]];
}

const snapshot = (action: 'apply' | 'delete', which: string): Command => ({
  ours: (path) => changeSnapshots({ path, change: { action, which } }),
  theirs: ['qemu-img', 'snapshot', action === 'apply' ? '-a' : '-d', which, 'disk'],
});
const resize = (to: number, shrink: boolean): Command => ({
  ours: (name) => resizeImage({ name, format: 'qcow2', files: WRITABLE_HOST_FILES, size: { to }, shrink }),
  theirs: ['qemu-img', 'resize', ...(shrink ? ['--shrink'] : []), 'disk', String(to)],
});
const write = (offset: number, length: number): Command => ({
  ours: async (name) => {
    const image = await openImage({ format: 'qcow2', name, files: WRITABLE_HOST_FILES, readOnly: false });
    try {
      await image.write(offset, filled(length, 9));
    } finally {
      await image.close();
    }
  },
  theirs: ['qemu-io', '-f', 'qcow2', '-c', `write -P 9 ${String(offset)} ${String(length)}`, 'disk'],
});
const check = (repair?: RepairScope): Command => ({
  ours: async (path) => {
    const { report } = await checkImageFile({
      ...hostImage(path),
      repair,
    });
    const { status } = checkedAs(report);
    if (status !== 0) throw new Error(`the check ends with ${String(status)}`);
  },
  theirs: ['qemu-img', 'check', ...(repair === undefined ? [] : ['-r', repair]), 'disk'],
});

const COMMANDS = {
  convert: { ours: guestBytes, theirs: ['qemu-img', 'convert', '-O', 'raw', 'disk', 'raw'] },
  info: { ours: (path) => readImageInfo(hostImage(path)), theirs: ['qemu-img', 'info', 'disk'] },
  map: { ours: extentsOf, theirs: ['qemu-img', 'map', 'disk'] },
  list: { ours: (path) => listSnapshots(path), theirs: ['qemu-img', 'snapshot', '-l', 'disk'] },
  'delete a': snapshot('delete', 'a'),
  'delete b': snapshot('delete', 'b'),
  'delete c': snapshot('delete', 'c'),
  'apply a': snapshot('apply', 'a'),
  'apply b': snapshot('apply', 'b'),
  create: {
    ours: (path) =>
      changeSnapshots({
        path,
        change: { action: 'create', snapshot: { name: 'd', seconds: 0, nanoseconds: 0 } },
      }),
    theirs: ['qemu-img', 'snapshot', '-c', 'd', 'disk'],
  },
  'write in place': write(0, 4096),
  'write new clusters': write(3 * MIB, MIB),
  grow: resize(2048 * MIB, false),
  shrink: resize(2 * MIB, true),
  check: check(),
  'repair leaks': check('leaks'),
  'repair all': check('all'),
} as const satisfies Record<string, Command>;
type CommandName = keyof typeof COMMANDS;

async function extentsOf(path: string): Promise<void> {
  const { image } = await openChain({ path });
  for await (const extent of imageExtents(image)) expect(extent.length).toBeGreaterThan(0);
  await image.abandon();
}

/** What the guest reads of the first 8 MiB. */
async function guestBytes(path: string): Promise<Buffer> {
  const { image } = await openChain({ path });
  const bytes = Buffer.alloc(Math.min(DISK, image.virtualSize));
  await image.read(0, bytes);
  await image.abandon();
  return bytes;
}

async function damaged({ patch }: Damage): Promise<Uint8Array> {
  const bytes = await good;
  const editor = new ImageEditor(bytes);
  // Behind a: 40 bytes, 24 of extra data, an id and a name of one byte, rounded up to 8.
  const entry = editor.snapshotTable + 72;
  const end = Math.ceil(bytes.byteLength / CLUSTER) * CLUSTER;
  const padded = Buffer.alloc(end);
  padded.set(bytes);
  const one = patch({ l1: Number(editor.u64(entry)), end });
  return patched(padded, { ...one, at: entry + one.at });
}

async function ended(work: () => Promise<unknown>): Promise<'works' | 'refused'> {
  try {
    await work();
    return 'works';
  } catch {
    return 'refused';
  }
}

const NAMES = Object.keys(COMMANDS) as readonly CommandName[];

describe.for(DAMAGES)('a snapshot with its L1 table $name', (damage) => {
  test.for(someOf(NAMES, 7))('%s', async (name) => {
    const folder = testDirectory();
    const [ours, theirs] = [join(folder, 'ours'), join(folder, 'disk')];
    writeFileSync(ours, await damaged(damage));
    copyFileSync(ours, theirs);
    const command: Command = COMMANDS[name];
    const before = await guestBytes(ours);
    expect(before.subarray(0, CLUSTER)).toEqual(Buffer.alloc(CLUSTER, 4));
    const exception = damage.exceptions?.[name];
    const answer = await ended(() => command.ours(ours));
    if (exception !== undefined) expect(answer).toBe(exception);
    else if (noQemu !== undefined) return;
    if (noQemu === undefined) {
      const [program, ...words] = command.theirs;
      const done = tryTool(program, words, folder);
      if (exception === undefined) {
        expect(answer, `${done.stdout}${done.stderr}`).toBe(done.status === 0 ? 'works' : 'refused');
        expect((await guestBytes(ours)).equals(await guestBytes(theirs)), 'the same disk').toBe(true);
      } else {
        expect(done.status === 0, 'still an exception').toBe(exception === 'refused');
      }
      if (name === 'convert') expect(readFileSync(join(folder, 'raw')).equals(before)).toBe(true);
    }
  });

  test('is removed by a repair, which leaves the disk and the other snapshots', async () => {
    const path = join(testDirectory(), 'disk');
    writeFileSync(path, await damaged(damage));
    const before = await guestBytes(path);
    const told: string[] = [];
    const repair = { repair: 'all', onDetail: (_: unknown, text: string) => told.push(text) } as const;
    const { report } = await checkImageFile({ ...hostImage(path), ...repair });
    expect(checkedAs(report).status, told.join('\n')).toBe(0);
    expect(told.join('\n')).toContain('snapshot 2 (b) has');
    expect((await listSnapshots(path)).map(({ name }) => name)).toEqual(['a', 'c']);
    expect((await guestBytes(path)).equals(before)).toBe(true);
    for (const [which, byte] of [
      ['a', 1],
      ['c', 3],
    ] as const) {
      await changeSnapshots({ path, change: { action: 'apply', which } });
      expect((await guestBytes(path)).readUInt8(2 * CLUSTER)).toBe(byte);
    }
    expect(checkedAs((await checkImageFile(hostImage(path))).report).status).toBe(0);
    if (noQemu === undefined) runTool('qemu-img', ['check', path]);
  });
});

const DIRTY_AT = 79;

/** Where QEMU refuses it: it marks the image as corrupt, or cannot read so far. */
const THEY_REFUSE = ['at 2^63', 'unaligned'];
/** Refused by both: each claims clusters that the disk uses. */
const REFUSED = ['of 2^32 − 1 entries', 'of 32 MiB, cut by the end'];

test.for(DAMAGES.filter(({ name }) => !REFUSED.includes(name)))(
  'a dirty image with a snapshot that has its L1 table $name is opened',
  async (damage) => {
    const folder = testDirectory();
    const path = join(folder, 'ours');
    const editor = new ImageEditor(await damaged(damage));
    // As a crash with lazy refcounts leaves it: a cluster that was written last is not counted.
    editor.setRefcount(editor.data(), 0);
    const { bytes } = editor;
    bytes.writeUInt8(bytes.readUInt8(DIRTY_AT) | 1, DIRTY_AT);
    writeFileSync(path, bytes);
    writeFileSync(join(folder, 'disk'), bytes);
    await COMMANDS['write in place'].ours(path);
    expect(readFileSync(path).readUInt8(DIRTY_AT)).toBe(0);
    expect((await listSnapshots(path)).map(({ name }) => name)).toEqual(['a', 'b', 'c']);
    const disk = await guestBytes(path);
    expect([disk.readUInt8(0), disk.readUInt8(4096), disk.readUInt8(2 * CLUSTER)]).toEqual([9, 4, 3]);
    expect(await ended(() => COMMANDS.check.ours(path))).toBe('refused');
    expect(checkedAs((await checkImageFile({ ...hostImage(path), repair: 'all' })).report).status).toBe(0);
    expect((await guestBytes(path)).equals(disk)).toBe(true);
    if (noQemu !== undefined) return;
    const [program, ...words] = COMMANDS['write in place'].theirs;
    const theirs = tryTool(program, words, folder);
    expect(theirs.status, theirs.stderr).toBe(THEY_REFUSE.includes(damage.name) ? 1 : 0);
  },
);

test('a broken snapshot that is named for applying is refused with what to do', async () => {
  const path = join(testDirectory(), 'disk');
  for (const damage of DAMAGES) {
    writeFileSync(path, await damaged(damage));
    const before = readFileSync(path);
    const code = await rejectionCodeOf(() =>
      changeSnapshots({ path, change: { action: 'apply', which: 'b' } }),
    );
    expect(code, damage.name).toBe('snapshot-broken');
    expect(readFileSync(path).equals(before), 'nothing is written').toBe(true);
  }
});
