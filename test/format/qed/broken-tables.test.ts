/**
 * QED images whose tables are broken, class by class, held against a live qemu-img: what a check
 * reports of them, and what a repair leaves. Named differences are in docs/qemu-rules.md: QEMU's
 * repair takes the mark of an unclean close away first, also if it cannot repair what is wrong.
 */

import { beforeAll, describe, expect, it } from 'vitest';
import { Qcow2BenchError } from '../../../src/core/error.ts';
import { MemoryStorage } from '../../../src/device/memory-storage.ts';
import { checkImageFile } from '../../../src/image/check-image.ts';
import { CHECK, QemuDirectory } from '../qemu-directory.ts';
import { checkedAs, qemuChecks, type Checked } from '../qcow2/qemu-checks.ts';
import { reasonToSkip } from '../system-tools.ts';

type Bytes = Uint8Array<ArrayBuffer>;

const noQemu = reasonToSkip('qemu-img', 'qemu-io');
/** Fields of the header. */
const AT = { clusterSize: 4, tableClusters: 8, features: 16, l1Offset: 40 } as const;
const NEED_CHECK = 2;
const KIB = 1024;

/** Where things are in a good image, in bytes. */
interface Places {
  readonly clusterSize: number;
  readonly tableSize: number;
  readonly l1: number;
  readonly l2: number;
  readonly data: number;
  readonly end: number;
}

interface BrokenTable {
  readonly name: string;
  readonly field?: (at: Places) => number;
  readonly value?: (at: Places) => number | bigint;
  /** The file ends there. */
  readonly cutTo?: (at: Places) => number;
}

const OFFSETS: Readonly<Record<string, (at: Places) => number | bigint>> = {
  '0': () => 0,
  'past the end': ({ end, clusterSize }) => end + 4 * clusterSize,
  'right at the end': ({ end }) => end,
  'in the last cluster': ({ end, clusterSize }) => end - clusterSize,
  'a TiB past the end': () => 1n << 40n,
  'at 2^63': () => 1n << 63n,
  'at the last cluster that is': ({ clusterSize }) => 2n ** 64n - BigInt(clusterSize),
  unaligned: ({ data }) => data + 8,
  'on the header': () => 1,
  'on the first-level table': ({ l1 }) => l1,
  'within the first-level table': ({ l1, clusterSize }) => l1 + clusterSize,
  'on a second-level table': ({ l2 }) => l2,
  'on data': ({ data }) => data,
};

const POINTERS: Readonly<Record<string, (at: Places) => number>> = {
  'the first-level table': () => AT.l1Offset,
  'a second-level table': ({ l1 }) => l1,
  'a second-level table that there was not': ({ l1 }) => l1 + 40,
  'a cluster': ({ l2 }) => l2,
  'a cluster that there was not': ({ l2 }) => l2 + 800,
};

const CUTS: Readonly<Record<string, (at: Places) => number>> = {
  'at its first-level table': ({ l1 }) => l1,
  'within its first-level table': ({ l1 }) => l1 + 100,
  'a byte before the end of its first-level table': ({ l1, tableSize }) => l1 + tableSize - 1,
  'at a second-level table': ({ l2 }) => l2,
  'within a second-level table': ({ l2 }) => l2 + 100,
  'behind a second-level table': ({ l2, tableSize }) => l2 + tableSize,
  'within data': ({ data }) => data + 1,
  'to 5,000 bytes': () => 5000,
  'to 64 bytes': () => 64,
  'to 63 bytes': () => 63,
  'a byte before its end': ({ end }) => end - 1,
  'a sector before its end': ({ end }) => end - 512,
  'a cluster before its end': ({ end, clusterSize }) => end - clusterSize,
};

const BROKEN_TABLES: readonly BrokenTable[] = [
  ...Object.entries(POINTERS).flatMap(([what, field]) =>
    Object.entries(OFFSETS).map(([where, value]) => ({ name: `${what} ${where}`, field, value })),
  ),
  ...Object.entries(CUTS).map(([where, cutTo]) => ({ name: `the file cut ${where}`, cutTo })),
];

describe.skipIf(noQemu !== undefined)(
  `broken tables of QED${noQemu === undefined ? '' : ` (${noQemu})`}`,
  () => {
    const qemu = new QemuDirectory();
    const good = new Map<number, Bytes>();
    beforeAll(() => {
      for (const scale of [1, 16]) good.set(scale, makeGood(qemu, scale));
    });

    for (const [index, one] of BROKEN_TABLES.entries()) {
      // Large clusters and small, marked as not closed and not, in turns.
      const scale = index % 2 === 0 ? 1 : 16;
      const isMarked = Math.floor(index / 2) % 2 === 0;
      it(`${one.name}, clusters of ${String(4 * scale)} KiB${isMarked ? ', not closed' : ''}`, async () => {
        const before = broken(good.get(scale) as Bytes, one, isMarked);
        const check = await ours(before);
        const repair = await ours(before, 'all');
        qemu.put('check', before);
        qemu.put('repair', before);
        qemu.put('repaired', repair.after);
        const [theirCheck, theirRepair, left] = await qemuChecks(qemu.path, [
          { name: 'check', format: 'qed' },
          { name: 'repair', format: 'qed', repair: 'all' },
          { name: 'repaired', format: 'qed' },
        ]);
        expect(check.after).toEqual(before);
        expect(withoutCounts(check.checked, theirCheck)).toEqual(theirCheck);
        expect(withoutCounts(repair.checked, theirRepair)).toEqual(theirRepair);
        if (theirRepair?.counts === undefined) {
          expect(repair.after).toEqual(before);
          return;
        }
        expect(left?.status).toBe(theirRepair.status);
        // The mark that QEMU takes away without having repaired all stays.
        const expected = qemu.get('repair');
        const isGood = theirRepair.status === CHECK.clean || theirRepair.status === CHECK.leaks;
        if (!isGood && isMarked) expected[AT.features] = (expected[AT.features] as number) | NEED_CHECK;
        expect(Buffer.compare(repair.after, expected)).toBe(0);
      });
    }
  },
);

/** QEMU gives no counts of a check that it breaks off. */
function withoutCounts({ status, counts }: Checked, their: Checked | undefined): Checked {
  return { status, counts: their?.counts === undefined ? undefined : counts };
}

function makeGood(qemu: QemuDirectory, scale: number): Bytes {
  const options = `cluster_size=${String(4 * scale * KIB)},table_size=2`;
  const at = (unit: number): string => `${String(unit * scale)}k`;
  qemu.img('create', '-q', '-f', 'qed', '-o', options, 'good', `${String(256 * scale)}M`);
  // Two second-level tables.
  const writes = [
    `write -P 1 0 ${at(12)}`,
    `write -P 2 ${at(90)} ${at(5)}`,
    `write -P 3 ${at(130_000)} ${at(9)}`,
  ];
  qemu.io('qed', 'good', ...writes);
  return qemu.get('good');
}

function broken(bytes: Bytes, { field, value, cutTo }: BrokenTable, isMarked: boolean): Bytes {
  const at = placesOf(bytes);
  const copy = bytes.slice(0, cutTo?.(at));
  const view = new DataView(copy.buffer);
  if (isMarked) view.setUint32(AT.features, NEED_CHECK, true);
  if (field !== undefined && value !== undefined) view.setBigUint64(field(at), BigInt(value(at)), true);
  return copy;
}

function placesOf(bytes: Bytes): Places {
  const view = new DataView(bytes.buffer);
  const clusterSize = view.getUint32(AT.clusterSize, true);
  const at64 = (at: number): number => Number(view.getBigUint64(at, true));
  const l1 = at64(AT.l1Offset);
  const l2 = at64(l1);
  const tableSize = view.getUint32(AT.tableClusters, true) * clusterSize;
  const end = Math.ceil(bytes.byteLength / clusterSize) * clusterSize;
  return { clusterSize, tableSize, l1, l2, data: at64(l2), end };
}

async function ours(
  before: Bytes,
  repair?: 'all',
): Promise<{ readonly checked: Checked; readonly after: Bytes }> {
  const storage = new MemoryStorage();
  storage.create('disk').write(0, before, 'data');
  const checked = async (): Promise<Checked> => {
    try {
      return checkedAs((await checkImageFile({ storage, name: 'disk', format: 'qed', repair })).report);
    } catch (error) {
      if (!(error instanceof Qcow2BenchError)) throw error;
      return { status: CHECK.failed, counts: undefined };
    }
  };
  return { checked: await checked(), after: storage.open('disk').contents() };
}
