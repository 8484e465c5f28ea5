/**
 * One table at the end of the file, which is cut off before, within or behind it: what every
 * command answers, and qemu-img beside it where it is installed. What a check calls clean is opened
 * by all commands; what they refuse, a check reports; and a repair that ends well leaves an image
 * that all of them open. Where QEMU answers otherwise, the cell says so: `table-cut-off` in
 * docs/qemu-rules.md.
 */

import { statSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import { describe, expect, test } from 'vitest';

import { Qcow2BenchError } from '../../src/core/error.ts';
import type { RepairScope } from '../../src/format/check-report.ts';
import { checkImageFile } from '../../src/image/check-image.ts';
import { createImageFile } from '../../src/image/create-image.ts';
import { hostImage, WRITABLE_HOST_FILES } from '../../src/image/host-image.ts';
import { imageExtents } from '../../src/image/image-extents.ts';
import { readImageInfo } from '../../src/image/image-info.ts';
import { changeSnapshots, listSnapshots } from '../../src/image/image-snapshots.ts';
import { openChain } from '../../src/image/open-chain.ts';
import { resizeImage } from '../../src/image/resize-image.ts';
import { checkedAs } from '../format/qcow2/qemu-checks.ts';
import { reasonToSkip, runTool, tryTool } from '../format/system-tools.ts';
import { testDirectory } from '../test-directory.ts';
import { CUTS, cutImage, DISK, TABLES, type Cut, type Table } from './cut-tables.ts';

const noQemu = reasonToSkip('qemu-img');
if (noQemu !== undefined) process.stderr.write(`cut tables are not shown to QEMU: ${noQemu}\n`);

/** An exit code, or the code of the error. */
type Answer = number | string;

interface Command {
  readonly ours: (path: string) => Promise<unknown>;
  /** Words of qemu-img. */
  readonly theirs: readonly string[];
}

const check = async (path: string, repair?: RepairScope): Promise<number> =>
  checkedAs((await checkImageFile({ ...hostImage(path), repair })).report).status;

const OPENERS = {
  info: { ours: (path) => readImageInfo(hostImage(path)), theirs: ['info', 'disk'] },
  map: {
    ours: async (path) => {
      const { image } = await openChain({ path });
      for await (const { length } of imageExtents(image)) expect(length).toBeGreaterThan(0);
      await image.abandon();
    },
    theirs: ['map', 'disk'],
  },
  convert: {
    ours: async (path) => {
      const { image } = await openChain({ path });
      for (const offset of [0, DISK / 2]) await image.read(offset, new Uint8Array(65_536));
      await image.abandon();
    },
    theirs: ['convert', '-O', 'raw', 'disk', 'raw'],
  },
  list: { ours: (path) => listSnapshots(path), theirs: ['snapshot', '-l', 'disk'] },
  resize: {
    ours: (name) =>
      resizeImage({ name, format: 'qcow2', files: WRITABLE_HOST_FILES, size: { to: 2 * DISK } }),
    theirs: ['resize', '-q', 'disk', String(2 * DISK)],
  },
  create: {
    ours: (path) => {
      const snapshot = { name: 'new', seconds: 0, nanoseconds: 0 };
      return changeSnapshots({ path, change: { action: 'create', snapshot } });
    },
    theirs: ['snapshot', '-c', 'new', 'disk'],
  },
} as const satisfies Record<string, Command>;
type Opener = keyof typeof OPENERS;
const OPENER_NAMES = Object.keys(OPENERS) as readonly Opener[];

interface Expected {
  readonly check: Answer;
  /** Of qemu-img, where it is another. */
  readonly theirCheck?: Answer;
  readonly repair: Answer;
  readonly theirRepair?: Answer;
  /** The code with which our commands refuse it; default: all open it. */
  readonly refused?: string;
  /** Our commands that answer otherwise. */
  readonly but?: Readonly<Partial<Record<Opener, Answer>>>;
  /** The same, when the image was repaired. */
  readonly butRepaired?: Readonly<Partial<Record<Opener, Answer>>>;
  /** Commands of QEMU that fail. */
  readonly theyRefuse?: readonly Opener[];
}

const CLEAN: Expected = { check: 0, repair: 0 };
const WRITERS = ['resize', 'create'] as const;
const L1_CUT: Expected = { check: 2, theirCheck: 3, repair: 0, refused: 'image-cut-off' };
const REFCOUNTS_CUT: Expected = { check: 2, theirCheck: 0, repair: 0, refused: 'image-cut-off' };
const REFCOUNTS_LOST: Expected = {
  check: 2,
  repair: 0,
  refused: 'qcow2-table-past-end',
  theyRefuse: WRITERS,
};
const SNAPSHOTS_CUT: Expected = { check: 2, repair: 0, refused: 'qcow2-bad-snapshot-table' };
const SNAPSHOT_BROKEN: Expected = { check: 2, theirCheck: 3, repair: 0 };
const BLOCK_LOST: Expected = {
  check: 2,
  repair: 0,
  but: { resize: 'qcow2-corrupt', create: 'qcow2-corrupt' },
  theyRefuse: WRITERS,
};
const DIRECTORY_CUT: Expected = {
  check: 'qcow2-bad-bitmaps',
  theirCheck: 1,
  repair: 'qcow2-bad-bitmaps',
  theirRepair: 1,
  refused: 'qcow2-bad-bitmaps',
  // Nothing reads bitmaps there.
  but: { map: 0, convert: 0, list: 0 },
  theyRefuse: OPENER_NAMES,
};
/**
 * To QEMU the bitmap has no bit set, and resize takes it along; here it is in use, and a repair
 * keeps it so.
 */
const BITMAP_IN_USE = { resize: 'resize-with-bitmap-in-use' };
const BITMAP_LOST: Expected = { check: 0, repair: 0, but: BITMAP_IN_USE, butRepaired: BITMAP_IN_USE };
const LOST_FOR_GOOD: Expected = { check: 2, repair: 2 };

/** In the order of `CUTS`. */
const EXPECTED: Readonly<Record<Table, readonly Expected[]>> = {
  'L1 table': [
    CLEAN,
    L1_CUT,
    L1_CUT,
    { ...L1_CUT, refused: 'qcow2-table-past-end' },
    { ...LOST_FOR_GOOD, refused: 'qcow2-table-past-end' },
  ],
  'refcount table': [CLEAN, REFCOUNTS_CUT, REFCOUNTS_CUT, REFCOUNTS_LOST, REFCOUNTS_LOST],
  'snapshot table': [CLEAN, SNAPSHOTS_CUT, SNAPSHOTS_CUT, SNAPSHOTS_CUT, SNAPSHOTS_CUT],
  'bitmap directory': [CLEAN, DIRECTORY_CUT, DIRECTORY_CUT, DIRECTORY_CUT, DIRECTORY_CUT],
  'bitmap table': [CLEAN, CLEAN, CLEAN, BITMAP_LOST, { ...LOST_FOR_GOOD, but: BITMAP_IN_USE }],
  'L2 table': [CLEAN, CLEAN, CLEAN, LOST_FOR_GOOD, LOST_FOR_GOOD],
  'refcount block': [CLEAN, CLEAN, CLEAN, BLOCK_LOST, BLOCK_LOST],
  'L1 table of a snapshot': [
    CLEAN,
    SNAPSHOT_BROKEN,
    SNAPSHOT_BROKEN,
    SNAPSHOT_BROKEN,
    { check: 2, repair: 0, theirRepair: 2 },
  ],
};

const CUT_NAMES = Object.keys(CUTS) as readonly Cut[];
const CELLS = TABLES.flatMap((table) =>
  CUT_NAMES.map((cut, index) => ({ table, cut, expected: EXPECTED[table][index] as Expected })),
);

async function answerOf(work: () => Promise<unknown>): Promise<Answer> {
  try {
    const answer = await work();
    return typeof answer === 'number' ? answer : 0;
  } catch (error) {
    if (!(error instanceof Qcow2BenchError)) throw error;
    return error.code;
  }
}

describe.for(CELLS)('the file $cut: $table', ({ table, cut, expected }) => {
  test('our commands', async () => {
    const path = join(testDirectory(), 'disk');
    const bytes = await cutImage(table, cut);
    const { refused = 0, but } = expected;
    const fresh = async (work: () => Promise<unknown>): Promise<Answer> => {
      writeFileSync(path, bytes);
      return answerOf(work);
    };
    for (const name of OPENER_NAMES) {
      expect(await fresh(() => OPENERS[name].ours(path)), name).toBe(but?.[name] ?? refused);
    }
    expect(await fresh(() => check(path)), 'check').toBe(expected.check);
    expect(await fresh(() => check(path, 'all')), 'repair').toBe(expected.repair);
    if (expected.repair !== 0) return;
    expect(await answerOf(() => check(path)), 'a second check').toBe(0);
    for (const name of OPENER_NAMES) {
      const repaired = await answerOf(() => OPENERS[name].ours(path));
      expect(repaired, `${name} after the repair`).toBe(expected.butRepaired?.[name] ?? 0);
    }
    if (noQemu === undefined) runTool('qemu-img', ['check', path]);
  });

  test.skipIf(noQemu !== undefined)('qemu-img', async () => {
    const folder = testDirectory();
    const bytes = await cutImage(table, cut);
    const run = (...words: readonly string[]): number | null => {
      writeFileSync(join(folder, 'disk'), bytes);
      return tryTool('qemu-img', words, folder).status;
    };
    const { theyRefuse = [], theirCheck = expected.check, theirRepair = expected.repair } = expected;
    for (const name of OPENER_NAMES) {
      expect(run(...OPENERS[name].theirs), name).toBe(theyRefuse.includes(name) ? 1 : 0);
    }
    expect(run('check', 'disk'), 'check').toBe(theirCheck);
    expect(run('check', '-r', 'all', 'disk'), 'repair').toBe(theirRepair);
  });
});

test.each(['a', 'abcdef', 'abcdefg', 'abcdefgh'])(
  'a new snapshot is the end of the file: the padding of its entry is not missing (%s)',
  async (name) => {
    const path = join(testDirectory(), 'disk');
    await createImageFile({ ...hostImage(path), format: 'qcow2', virtualSize: DISK });
    const snapshot = { name, seconds: 0, nanoseconds: 0 };
    await changeSnapshots({ path, change: { action: 'create', snapshot } });
    expect(await check(path)).toBe(0);
    truncateSync(path, statSync(path).size - 8);
    expect(await check(path)).toBe(2);
  },
);
