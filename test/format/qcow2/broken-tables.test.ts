/**
 * Broken tables, class by class, held against a live qemu-img: what a check reports of them, what
 * either repair repairs, and which bytes it leaves. What a check calls clean can be opened, also
 * after a repair. Where QEMU's repair gives up, loses what it need not lose, or makes the file as
 * long as a broken pointer says, ours does better: each such difference has its name in
 * docs/qemu-rules.md.
 */

import { beforeAll, describe, expect, it } from 'vitest';
import { Qcow2BenchError } from '../../../src/core/error.ts';
import { Random } from '../../../src/core/random.ts';
import { MemoryStorage } from '../../../src/device/memory-storage.ts';
import type { RepairScope } from '../../../src/format/check-report.ts';
import { FIELD } from '../../../src/format/qcow2/on-disk/header.ts';
import { checkImageFile } from '../../../src/image/check-image.ts';
import { someOf } from '../../amount.ts';
import { CHECK, QemuDirectory } from '../qemu-directory.ts';
import { reasonToSkip } from '../system-tools.ts';
import { broken, BROKEN_TABLES, combined, type BrokenTable } from './broken-tables.ts';
import { openBytes } from './image-bytes.ts';
import { checkedAs, qemuChecks, type Checked } from './qemu-checks.ts';

const IMAGE = 'disk';
/** The lowest byte of the incompatible features: bit 0 is dirty, bit 1 corrupt. */
const INCOMPATIBLE_BYTE = 79;
/** Two classes at once, drawn at random. */
const PAIRS = 60;
const PAIRS_SEED = 1;
/**
 * Where entries lead past the end of the file, and a repair gives the file its length again
 * (`lost-tail`).
 */
const LOST_TAIL: ReadonlySet<string> = new Set([
  'marked dirty: the file cut at the snapshot table',
  'marked dirty: an incomplete snapshot, and an L2 entry past the end',
  'marked corrupt: an incomplete snapshot, and an L2 entry past the end, and the snapshot table right at the end',
]);
const noQemu = reasonToSkip('qemu-img', 'qemu-io');

interface Shape {
  readonly name: string;
  readonly options: string;
  /** KiB for each unit of the guest's writes. */
  readonly scale: number;
  readonly marks?: 'dirty' | 'corrupt';
  /** One class of so many is tried. Default: all. */
  readonly every?: number;
}

const SHAPES: readonly Shape[] = [
  { name: 'version 3', options: 'compat=1.1,cluster_size=4096', scale: 4 },
  { name: 'version 2', options: 'compat=0.10,cluster_size=512', scale: 1, every: 2 },
  {
    name: 'clusters of 64 KiB',
    options: 'compat=1.1,cluster_size=65536,refcount_bits=8',
    scale: 16,
    every: 2,
  },
  { name: 'marked dirty', options: 'compat=1.1,cluster_size=4096', scale: 4, marks: 'dirty', every: 4 },
  { name: 'marked corrupt', options: 'compat=1.1,cluster_size=4096', scale: 4, marks: 'corrupt', every: 6 },
];

type Bytes = Uint8Array<ArrayBuffer>;

interface Outcome extends Checked {
  /** The file as it is left. */
  readonly after: Bytes;
}

interface OurOutcome extends Outcome {
  /** Tables that the end of the file cuts off: QEMU does not count them (`table-cut-off`). */
  readonly cutOff: number;
}

interface Both {
  readonly their: Outcome;
  readonly our: OurOutcome;
}

describe.skipIf(noQemu !== undefined)(`broken tables${noQemu === undefined ? '' : ` (${noQemu})`}`, () => {
  const qemu = new QemuDirectory();
  const good = new Map<Shape, Bytes>();
  beforeAll(() => {
    for (const shape of SHAPES) good.set(shape, makeGood(qemu, shape));
  });

  /** What QEMU makes of the image, scope by scope, and of what its repair and ours left. */
  async function theirs(before: Bytes, ourAfter: Bytes) {
    for (const name of ['none', 'leaks', 'all']) qemu.put(name, before);
    qemu.put('ours', ourAfter);
    const answers = await qemuChecks(qemu.path, [
      { name: 'none' },
      { name: 'leaks', repair: 'leaks' },
      { name: 'all', repair: 'all' },
      { name: 'all' },
      { name: 'ours' },
    ]);
    const [none, leaks, all, afterTheirs, afterOurs] = answers as [
      Checked,
      Checked,
      Checked,
      Checked,
      Checked,
    ];
    return {
      none,
      leaks: { ...leaks, after: qemu.get('leaks') },
      all: { ...all, after: qemu.get('all') },
      afterTheirs,
      afterOurs,
    };
  }

  function expectLeaks(one: BrokenTable, before: Bytes, { their, our }: Both): void {
    if (our.cutOff === 0) expect(our.status).toBe(their.status);
    if (their.status === CHECK.failed) {
      expect(Buffer.compare(our.after, before), 'what cannot be repaired stays as it is').toBe(0);
    } else if (one.better !== true) {
      expectCheck(our, their);
      expectBytes(one, before, { their, our });
    }
  }

  function expectAll(
    one: BrokenTable,
    before: Bytes,
    cutOff: number,
    { their, our, afterTheirs, afterOurs }: Both & Readonly<Record<'afterTheirs' | 'afterOurs', Checked>>,
  ): void {
    if (our.status === CHECK.failed && Buffer.compare(our.after, before) === 0) {
      expect(their.status, 'what cannot be repaired stays as it is').toBe(CHECK.failed);
    } else if (their.status === CHECK.failed || one.better === true || one.removes === true || cutOff > 0) {
      expect(damageOf(afterOurs), 'no worse than QEMU').toBeLessThanOrEqual(damageOf(afterTheirs));
      // The longest L1 table, if the file is made long enough for it.
      const tables = (cutOff > 0 ? 32 : 0) * 1024 * 1024;
      expect(our.after.byteLength).toBeLessThanOrEqual(before.byteLength + tables + 16 * 1024 * 1024);
    } else {
      expect(our.status).toBe(their.status);
      expect(our.counts).toEqual(their.counts);
      expect(afterOurs).toEqual(afterTheirs);
      expectBytes(one, before, { their, our });
    }
  }

  /**
   * QEMU leaves entries that lead nowhere; ours lead to zeroes, in a file that is longer for it.
   */
  function expectLostTail(
    before: Bytes,
    { their, our, afterTheirs, afterOurs }: Both & Readonly<Record<'afterTheirs' | 'afterOurs', Checked>>,
  ): void {
    expect([their.status, afterTheirs.status]).toEqual([CHECK.corrupt, CHECK.corrupt]);
    expect([our.status, afterOurs.status]).toEqual([CHECK.clean, CHECK.clean]);
    expect(our.after.byteLength).toBeGreaterThan(before.byteLength);
  }

  async function expectSame(shape: Shape, one: BrokenTable): Promise<void> {
    const before = broken(good.get(shape) as Bytes, one);
    const check = await ours(before, undefined);
    expect(Buffer.compare(check.after, before), 'a check writes nothing').toBe(0);
    await expectOpens(check);
    if (one.slow === true) {
      qemu.put('none', before);
      expectCheck(check, (await qemuChecks(qemu.path, [{ name: 'none' }]))[0] as Checked);
      return;
    }
    const [leaks, all] = [await ours(before, 'leaks'), await ours(before, 'all')];
    await expectOpens(all);
    const their = await theirs(before, all.after);
    expectCheck(check, their.none);
    expectLeaks(one, before, { their: their.leaks, our: leaks });
    const both = { ...their, their: their.all, our: all };
    if (LOST_TAIL.has(nameOf(shape, one))) expectLostTail(before, both);
    else expectAll(one, before, check.cutOff, both);
  }

  for (const shape of SHAPES) {
    const tried = BROKEN_TABLES.filter((each, index) => isTried(shape, each, index));
    for (const one of someOf(tried, 20)) {
      it(nameOf(shape, one), () => expectSame(shape, one));
    }
  }

  const random = new Random(PAIRS_SEED);
  const quick = BROKEN_TABLES.filter(({ slow }) => slow !== true);
  const anyOf = <T>(items: readonly T[]): T => items[random.below(items.length)] as T;
  for (let pair = 0; pair < PAIRS; pair++) {
    const shape = anyOf(SHAPES);
    const one = combined(anyOf(quick), anyOf(quick));
    it(nameOf(shape, one), () => expectSame(shape, one));
  }

  function goodOf(name: string): Bytes {
    return good.get(SHAPES.find((shape) => shape.name === name) as Shape) as Bytes;
  }

  it('keeps the bytes of a disk whose L1 table is lost, where QEMU punches holes', async () => {
    const bytes = goodOf('version 3');
    const lost = broken(bytes, classNamed('the L1 table past the end'));
    const our = await ours(lost, 'all');
    const { all: their } = await theirs(lost, our.after);
    expect([our.status, our.counts]).toEqual([their.status, their.counts]);
    // Only the disk has what was written last; the snapshots were taken before.
    const written = clustersOf(bytes, 7);
    expect(written.length).toBeGreaterThan(0);
    expect(clustersOf(their.after, 7)).toEqual([]);
    expect(clustersOf(our.after, 7)).toEqual(written);
  });

  it('makes no file as long as a broken pointer to the snapshot table says, where QEMU does', async () => {
    const bytes = goodOf('version 3');
    const far = 2 ** 34;
    const lost = broken(bytes, {
      name: 'a snapshot table far past the end',
      patches: () => [{ at: FIELD.snapshotsOffset, u64: BigInt(far) }],
    });
    const our = await ours(lost, 'all');
    expect(our.status).toBe(CHECK.clean);
    expect(our.after.byteLength).toBeLessThan(2 * bytes.byteLength);
    qemu.put('theirs', lost);
    qemu.put('ours', our.after);
    const checks = await qemuChecks(qemu.path, [{ name: 'theirs', repair: 'all' }, { name: 'ours' }]);
    expect(checks.map(({ status }) => status)).toEqual([CHECK.clean, CHECK.clean]);
    expect(qemu.size('theirs')).toBeGreaterThan(far);
  });

  it('puts new refcounts beside a table that claims the room for them, where QEMU gives up', async () => {
    const before = broken(goodOf('version 3'), classNamed('a refcount table of 8 MiB'));
    const our = await ours(before, 'all');
    expect(our.status).toBe(CHECK.clean);
    const { all, afterOurs } = await theirs(before, our.after);
    expect([all.status, afterOurs.status]).toEqual([CHECK.failed, CHECK.clean]);
  });
});

function nameOf(shape: Shape, one: BrokenTable): string {
  return `${shape.name}: ${one.name}`;
}

function classNamed(name: string): BrokenTable {
  return BROKEN_TABLES.find((one) => one.name === name) as BrokenTable;
}

/** Where clusters of 4 KiB lie that are full of one byte. */
function clustersOf(bytes: Uint8Array, byte: number): readonly number[] {
  const clusters = Array.from({ length: Math.ceil(bytes.byteLength / 4096) }, (_, index) => index);
  return clusters.filter((index) =>
    bytes.subarray(index * 4096, (index + 1) * 4096).every((each) => each === byte),
  );
}

function isTried({ every, marks }: Shape, { slow }: BrokenTable, index: number): boolean {
  return index % (every ?? 1) === 0 && (slow !== true || marks === undefined);
}

/**
 * Two snapshots that share clusters with the disk and with each other, and have some of their own.
 */
function makeGood(qemu: QemuDirectory, { options, scale, marks }: Shape): Uint8Array<ArrayBuffer> {
  const at = (unit: number): string => `${String(unit * scale)}k`;
  qemu.img('create', '-q', '-f', 'qcow2', '-o', options, IMAGE, `${String(2 * scale)}M`);
  qemu.io('qcow2', IMAGE, `write -P 1 0 ${at(12)}`, `write -P 2 ${at(700)} ${at(9)}`);
  qemu.img('snapshot', '-c', 'a', IMAGE);
  qemu.io('qcow2', IMAGE, `write -P 5 0 ${at(2)}`, `write -P 6 ${at(1500)} ${at(3)}`);
  qemu.img('snapshot', '-c', 'bb', IMAGE);
  qemu.io('qcow2', IMAGE, `write -P 7 ${at(5)} ${at(2)}`);
  const bytes = qemu.get(IMAGE);
  if (marks !== undefined) bytes[INCOMPATIBLE_BYTE] = marks === 'dirty' ? 1 : 2;
  return bytes;
}

/** What is called clean can be opened. */
async function expectOpens({ status, after }: Outcome): Promise<void> {
  if (status !== CHECK.clean) return;
  const { image } = await openBytes(after, { readOnly: true });
  await image.abandon();
}

async function ours(before: Bytes, repair: RepairScope | undefined): Promise<OurOutcome> {
  const storage = new MemoryStorage();
  storage.create(IMAGE).write(0, before, 'data');
  let cutOff = 0;
  const onDetail = (kind: string, text: string): void => {
    if (kind === 'corruption' && text.includes(', but the file ends at ')) cutOff++;
  };
  const checked = async (): Promise<Checked> => {
    try {
      const options = { storage, name: IMAGE, format: 'qcow2', repair, onDetail } as const;
      return checkedAs((await checkImageFile(options)).report);
    } catch (error) {
      if (!(error instanceof Qcow2BenchError)) throw error;
      return { status: CHECK.failed, counts: undefined };
    }
  };
  const outcome = await checked();
  return { ...outcome, cutOff, after: storage.open(IMAGE).contents() };
}

/**
 * QEMU gives no counts of a check that it breaks off, and has a corruption less for each table that
 * is cut off.
 */
function expectCheck({ status, counts, cutOff }: OurOutcome, their: Checked): void {
  if (cutOff > 0 && their.status !== CHECK.failed) expect(status).toBe(CHECK.corrupt);
  else expect(status).toBe(their.status);
  if (their.counts === undefined) return;
  const corruptions = (counts?.corruptions ?? 0) - cutOff;
  expect({ ...counts, corruptions }).toEqual(their.counts);
}

/**
 * The same bytes; but what only a lost table led to is still there, where QEMU has punched holes.
 */
function expectBytes({ loses }: BrokenTable, before: Uint8Array, { their, our }: Both): void {
  expect(our.after.byteLength).toBe(their.after.byteLength);
  for (let at = 0; at < our.after.byteLength; at++) {
    if (our.after[at] === their.after[at]) continue;
    // QEMU's close calls a dirty image clean, whatever is left.
    if (at === INCOMPATIBLE_BYTE && before[at] === 1 && our.after[at] === 1) continue;
    const isKept = loses === true && their.after[at] === 0 && our.after[at] === before[at];
    if (!isKept) {
      expect.fail(`byte ${String(at)} is ${String(our.after[at])}, not ${String(their.after[at])}`);
    }
  }
}

/** Corruptions weigh more than leaks; a check that is broken off more than both. */
function damageOf({ status, counts }: Checked): number {
  if (counts === undefined || status === CHECK.failed) return Infinity;
  return counts.corruptions * 1_000_000 + counts.leaks;
}
