/**
 * Broken tables, class by class, held against a live qemu-img: what a check reports of them, what either repair mends,
 * and which bytes it leaves. Where QEMU's repair gives up, loses what it need not lose, or makes the file as long as a
 * broken pointer says, ours does better: each such difference has its name in docs/qemu-rules.md.
 */

import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Qcow2BenchError } from '../../../src/core/error.ts';
import { MemoryStorage } from '../../../src/device/memory-storage.ts';
import type { CheckReport, RepairScope } from '../../../src/format/check-report.ts';
import { FIELD } from '../../../src/format/qcow2/header.ts';
import { checkImageFile } from '../../../src/image/check-image.ts';
import { CHECK, QemuDirectory } from '../qemu-directory.ts';
import { reasonToSkip } from '../system-tools.ts';
import { broken, BROKEN_TABLES, type BrokenTable } from './broken-tables.ts';

const IMAGE = 'disk';
/** The lowest byte of the incompatible features: bit 0 is dirty, bit 1 corrupt. */
const INCOMPATIBLE_BYTE = 79;
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

/** Named as in the output of `qemu-img check --output json`, which leaves out counts that are 0. */
const COUNTS = {
  'check-errors': 'checkErrors',
  corruptions: 'corruptions',
  leaks: 'leaks',
  'corruptions-fixed': 'corruptionsFixed',
  'leaks-fixed': 'leaksFixed',
  'image-end-offset': 'imageEndOffset',
  'total-clusters': 'totalClusters',
  'allocated-clusters': 'allocatedClusters',
  'fragmented-clusters': 'fragmentedClusters',
  'compressed-clusters': 'compressedClusters',
} as const satisfies Record<string, keyof CheckReport>;
type Counts = Readonly<Record<keyof typeof COUNTS, number>>;

interface Outcome {
  readonly status: number | null;
  /** Missing where the check was broken off. */
  readonly counts: Counts | undefined;
  /** The file as it is left. */
  readonly after: Uint8Array;
}

describe.skipIf(noQemu !== undefined)(`broken tables${noQemu === undefined ? '' : ` (${noQemu})`}`, () => {
  const qemu = new QemuDirectory();
  const good = new Map<Shape, Uint8Array>();
  beforeAll(() => {
    for (const shape of SHAPES) good.set(shape, makeGood(qemu, shape));
  });
  afterAll(() => {
    qemu.remove();
  });

  /** What QEMU makes of the image; without `bytes`, of what it left. */
  function theirs(bytes: Uint8Array | undefined, repair?: RepairScope): Outcome {
    if (bytes !== undefined) qemu.put(IMAGE, bytes);
    const words = repair === undefined ? [] : ['-r', repair];
    const { status, output } = qemu.check('qcow2', IMAGE, '--output=json', ...words);
    const json = /^\{\n[^]*?^\}/m.exec(output)?.[0];
    const counts = json === undefined ? undefined : countsOfJson(json);
    return { status, counts, after: qemu.get(IMAGE) };
  }

  /** Of a mode, both sides; what they agree in is expected here, what is left of it is for the caller. */
  async function both(
    before: Uint8Array<ArrayBuffer>,
    repair: RepairScope | undefined,
  ): Promise<{ readonly their: Outcome; readonly our: Outcome }> {
    return { their: theirs(before, repair), our: await ours(before, repair) };
  }

  async function expectCheck(before: Uint8Array<ArrayBuffer>): Promise<void> {
    const { their, our } = await both(before, undefined);
    expect(our.status).toBe(their.status);
    if (their.counts !== undefined) expect(our.counts).toEqual(their.counts);
    expect(Buffer.compare(our.after, before), 'a check writes nothing').toBe(0);
  }

  async function expectLeaks(one: BrokenTable, before: Uint8Array<ArrayBuffer>): Promise<void> {
    const { their, our } = await both(before, 'leaks');
    expect(our.status).toBe(their.status);
    if (their.status === CHECK.failed) {
      expect(Buffer.compare(our.after, before), 'what cannot be repaired stays as it is').toBe(0);
    } else if (one.better !== true) {
      expect(our.counts).toEqual(their.counts);
      expectBytes(one, before, { their, our });
    }
  }

  async function expectAll(one: BrokenTable, before: Uint8Array<ArrayBuffer>): Promise<void> {
    const { their, our } = await both(before, 'all');
    const theirEnd = theirs(undefined);
    const ourEnd = theirs(our.after);
    if (our.status === CHECK.failed && Buffer.compare(our.after, before) === 0) {
      expect(their.status, 'what cannot be repaired stays as it is').toBe(CHECK.failed);
      return;
    }
    if (their.status === CHECK.failed || one.better === true) {
      expect(damageOf(ourEnd), 'no worse than what QEMU leaves').toBeLessThanOrEqual(damageOf(theirEnd));
      expect(our.after.byteLength).toBeLessThanOrEqual(before.byteLength + 16 * 1024 * 1024);
      return;
    }
    expect(our.status).toBe(their.status);
    expect(our.counts).toEqual(their.counts);
    expect([ourEnd.status, ourEnd.counts]).toEqual([theirEnd.status, theirEnd.counts]);
    expectBytes(one, before, { their, our });
  }

  for (const shape of SHAPES) {
    for (const one of BROKEN_TABLES.filter((each, index) => isTried(shape, each, index))) {
      it(`${shape.name}: ${one.name}`, async () => {
        const before = broken(good.get(shape) as Uint8Array, one);
        await expectCheck(before);
        if (one.slow === true) return;
        await expectLeaks(one, before);
        await expectAll(one, before);
      });
    }
  }

  function goodOf(name: string): Uint8Array {
    return good.get(SHAPES.find((shape) => shape.name === name) as Shape) as Uint8Array;
  }

  it('keeps the bytes of a disk whose L1 table is lost, where QEMU punches holes', async () => {
    const bytes = goodOf('version 3');
    const lost = broken(bytes, classNamed('the L1 table past the end'));
    const { their, our } = { their: theirs(lost, 'all'), our: await ours(lost, 'all') };
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
    qemu.put(IMAGE, lost);
    expect(qemu.check('qcow2', IMAGE, '-r', 'all').status).toBe(CHECK.clean);
    expect(qemu.size(IMAGE)).toBeGreaterThan(far);
    const our = await ours(lost, 'all');
    expect(our.status).toBe(CHECK.clean);
    expect(our.after.byteLength).toBeLessThan(2 * bytes.byteLength);
    expect(theirs(our.after).status).toBe(CHECK.clean);
  });

  it('puts new refcounts beside a table that claims the room for them, where QEMU gives up', async () => {
    const before = broken(goodOf('version 3'), classNamed('a refcount table of 8 MiB'));
    expect(theirs(before, 'all').status).toBe(CHECK.failed);
    const our = await ours(before, 'all');
    expect(our.status).toBe(CHECK.clean);
    expect(theirs(our.after).status).toBe(CHECK.clean);
  });
});

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

/** Two snapshots that share clusters with the disk and with each other, and have some of their own. */
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

async function ours(before: Uint8Array<ArrayBuffer>, repair: RepairScope | undefined): Promise<Outcome> {
  const storage = new MemoryStorage();
  storage.create(IMAGE).write(0, before, 'data');
  const outcome = async (): Promise<Omit<Outcome, 'after'>> => {
    try {
      const { report } = await checkImageFile({ storage, name: IMAGE, format: 'qcow2', repair });
      return { status: statusOf(report), counts: countsOf(report) };
    } catch (error) {
      if (!(error instanceof Qcow2BenchError)) throw error;
      return { status: CHECK.failed, counts: undefined };
    }
  };
  return { ...(await outcome()), after: storage.open(IMAGE).contents() };
}

/** The same bytes; but what only a lost table led to is still there, where QEMU has punched holes. */
function expectBytes(
  { loses }: BrokenTable,
  before: Uint8Array,
  { their, our }: { readonly their: Outcome; readonly our: Outcome },
): void {
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
function damageOf({ status, counts }: Outcome): number {
  if (counts === undefined || status === CHECK.failed) return Infinity;
  return counts.corruptions * 1_000_000 + counts.leaks;
}

function statusOf({ corruptions, leaks, checkErrors }: CheckReport): number {
  if (checkErrors > 0) return CHECK.failed;
  if (corruptions > 0) return CHECK.corrupt;
  return leaks > 0 ? CHECK.leaks : CHECK.clean;
}

function countsOf(report: CheckReport): Counts {
  return namedCounts((name) => report[COUNTS[name]]);
}

function countsOfJson(text: string): Counts {
  const json = JSON.parse(text) as Partial<Record<string, number>>;
  return namedCounts((name) => json[name] ?? 0);
}

function namedCounts(count: (name: keyof typeof COUNTS) => number): Counts {
  const names = Object.keys(COUNTS) as (keyof typeof COUNTS)[];
  return Object.fromEntries(names.map((name) => [name, count(name)])) as Counts;
}
