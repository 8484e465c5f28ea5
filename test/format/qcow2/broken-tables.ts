/**
 * qcow2 images whose tables are broken where a check begins: the header's pointers to the L1,
 * refcount and snapshot tables, the entries of the latter two, and the end of the file. Each is
 * made from a good image of any shape.
 */

import { viewOf } from '../../../src/core/bytes.ts';
import { FIELD } from '../../../src/format/qcow2/on-disk/header.ts';
import { patched, type Patch } from './image-bytes.ts';

/** Of an entry of the snapshot table. */
const SNAPSHOT = {
  l1Offset: 0,
  l1Entries: 8,
  idLength: 12,
  nameLength: 14,
  extraLength: 36,
  extra: 40,
} as const;
const U32_MAX = 0xffff_ffff;
const OFFSET = 0x00ff_ffff_ffff_fe00n;
const COPIED = 1n << 63n;

/** Where things are in a good image, in bytes. */
export interface Places {
  readonly clusterSize: number;
  /** Of the file, rounded up to clusters. */
  readonly end: number;
  readonly l1: number;
  readonly l1Entries: number;
  readonly firstL2: number;
  readonly refcountTable: number;
  readonly refcountTableClusters: number;
  readonly firstBlock: number;
  /** 0 if there are no snapshots. */
  readonly snapshots: number;
  readonly snapshotCount: number;
  /** The last entry of the snapshot table: what is shortened there moves no other entry. */
  readonly lastSnapshot: number;
}

export interface BrokenTable {
  readonly name: string;
  /** What only the broken table leads to looks leaked. */
  readonly loses?: boolean;
  /**
   * QEMU's repair leaves a file of a TiB, or damages another table: ours only must not be worse.
   */
  readonly better?: boolean;
  /**
   * A repair removes a snapshot whose L1 table cannot be used, which QEMU's keeps: see
   * `broken-snapshot` in docs/qemu-rules.md.
   */
  readonly removes?: boolean;
  /** QEMU takes minutes to repair it. */
  readonly slow?: boolean;
  readonly patches?: (at: Places) => readonly Patch[];
  /** The file ends there, before anything is patched. */
  readonly cutTo?: (at: Places) => number;
}

export function placesOf(bytes: Uint8Array): Places {
  const view = viewOf(bytes);
  const at64 = (at: number): number => Number(view.getBigUint64(at));
  const target = (at: number): number => Number(view.getBigUint64(at) & OFFSET);
  const clusterSize = 2 ** view.getUint32(FIELD.clusterBits);
  const [l1, refcountTable] = [at64(FIELD.l1Offset), at64(FIELD.refcountTableOffset)];
  const snapshotCount = view.getUint32(FIELD.snapshotCount);
  const snapshots = snapshotCount === 0 ? 0 : at64(FIELD.snapshotsOffset);
  let lastSnapshot = snapshots;
  for (let index = 1; index < snapshotCount; index++) {
    const variable =
      view.getUint32(lastSnapshot + SNAPSHOT.extraLength) +
      view.getUint16(lastSnapshot + SNAPSHOT.idLength) +
      view.getUint16(lastSnapshot + SNAPSHOT.nameLength);
    lastSnapshot += Math.ceil((SNAPSHOT.extra + variable) / 8) * 8;
  }
  return {
    clusterSize,
    end: Math.ceil(bytes.byteLength / clusterSize) * clusterSize,
    l1,
    l1Entries: view.getUint32(FIELD.l1Entries),
    firstL2: target(l1),
    refcountTable,
    refcountTableClusters: view.getUint32(FIELD.refcountTableClusters),
    firstBlock: target(refcountTable),
    snapshots,
    snapshotCount,
    lastSnapshot,
  };
}

/** A copy of a good image with that damage. */
export function broken(good: Uint8Array, { cutTo, patches }: BrokenTable): Uint8Array<ArrayBuffer> {
  const places = placesOf(good);
  const cut = cutTo === undefined ? good : good.slice(0, cutTo(places));
  const kept = (patches?.(places) ?? []).filter(({ at }) => at + 8 <= cut.byteLength);
  return patched(cut, ...kept);
}

/** Both damages at once; of two cuts the shorter file. */
export function combined(one: BrokenTable, other: BrokenTable): BrokenTable {
  const cuts = [one.cutTo, other.cutTo].filter((each) => each !== undefined);
  return {
    name: `${one.name}, and ${other.name}`,
    patches: (at) => [...(one.patches?.(at) ?? []), ...(other.patches?.(at) ?? [])],
    ...(cuts.length === 0 ? {} : { cutTo: (at) => Math.min(...cuts.map((each) => each(at))) }),
    loses: true,
    better: one.better === true || other.better === true,
    removes: one.removes === true || other.removes === true,
  };
}

type Flags = Pick<BrokenTable, 'loses' | 'better' | 'removes' | 'slow'>;

/** A field of 64 bits in the header, or in the first entry of the snapshot table. */
function offset(
  name: string,
  field: (at: Places) => number,
  value: (at: Places) => number | bigint,
  flags: Flags = {},
): BrokenTable {
  return { name, patches: (at) => [{ at: field(at), u64: BigInt(value(at)) }], ...flags };
}

function count(name: string, at: number, value: (at: Places) => number, flags: Flags = {}): BrokenTable {
  return { name, patches: (places) => [{ at, u32: value(places) }], ...flags };
}

/** Fields of the last entry of the snapshot table. */
function snapshot(what: string, fields: readonly Patch[], flags: Flags = {}): BrokenTable {
  const name = `a snapshot ${what}`;
  return {
    name,
    patches: ({ lastSnapshot }) => fields.map((field) => ({ ...field, at: lastSnapshot + field.at })),
    ...flags,
  };
}

/**
 * The last snapshot's entry ends before its sizes, as in version 2, and there is further damage.
 */
function incompleteAnd(
  what: string,
  further: (at: Places) => readonly Patch[],
  flags: Flags = {},
): BrokenTable {
  return {
    name: `an incomplete snapshot, and ${what}`,
    patches: (at) => [{ at: at.lastSnapshot + SNAPSHOT.extraLength, u32: 0 }, ...further(at)],
    ...flags,
  };
}

const cut = (what: string, cutTo: (at: Places) => number, flags: Flags = {}): BrokenTable => ({
  name: `the file cut ${what}`,
  cutTo,
  ...flags,
});

const pastEnd = ({ end, clusterSize }: Places): number => end + 4 * clusterSize;
const rightAtEnd = ({ end }: Places): number => end;
const FAR = 1n << 40n;

function pointers(name: string, field: (at: Places) => number, flags: Flags, far: Flags): BrokenTable[] {
  return [
    offset(`${name} past the end`, field, pastEnd, flags),
    offset(`${name} right at the end`, field, rightAtEnd, flags),
    offset(`${name} a TiB past the end`, field, () => FAR, far),
    offset(`${name} at 2^54`, field, () => 1n << 54n, far),
    offset(`${name} at 2^63`, field, () => 1n << 63n, { removes: flags.removes === true }),
    offset(`${name} unaligned`, field, ({ end }) => end + 8, flags),
    // The header read as a table may lead past the end of the file (lost-tail).
    offset(`${name} on the header`, field, () => 0, { ...flags, better: true }),
  ];
}

function block(what: string, value: (at: Places) => number | bigint, flags: Flags = {}): BrokenTable {
  return offset(`a refcount table entry ${what}`, ({ refcountTable }) => refcountTable, value, flags);
}

const REMOVED: Flags = { loses: true, removes: true };

export const BROKEN_TABLES: readonly BrokenTable[] = [
  ...pointers('the L1 table', () => FIELD.l1Offset, { loses: true }, { loses: true }),
  ...pointers('the refcount table', () => FIELD.refcountTableOffset, {}, {}),
  ...pointers(
    'the snapshot table',
    () => FIELD.snapshotsOffset,
    { loses: true, removes: true },
    { better: true, slow: true },
  ),
  ...pointers("a snapshot's L1 table", ({ snapshots }) => snapshots, REMOVED, REMOVED),
  count('no L1 entries', FIELD.l1Entries, () => 0),
  count('an L1 entry too few', FIELD.l1Entries, ({ l1Entries }) => l1Entries - 1),
  count('an L1 table of a cluster more', FIELD.l1Entries, (at) => at.l1Entries + at.clusterSize / 8, {
    loses: true,
  }),
  {
    name: 'an L1 table of 32 MiB that begins at the end',
    patches: (at) => [
      { at: FIELD.l1Offset, u64: BigInt(rightAtEnd(at)) },
      { at: FIELD.l1Entries, u32: 4_194_304 },
    ],
    loses: true,
  },
  count('4,194,305 L1 entries', FIELD.l1Entries, () => 4_194_305),
  count('no refcount table', FIELD.refcountTableClusters, () => 0),
  count(
    'a refcount table of a cluster more',
    FIELD.refcountTableClusters,
    (at) => at.refcountTableClusters + 1,
  ),
  count(
    'a refcount table of 8 MiB',
    FIELD.refcountTableClusters,
    ({ clusterSize }) => 8_388_608 / clusterSize,
  ),
  count('a refcount table above 8 MiB', FIELD.refcountTableClusters, (at) => 8_388_608 / at.clusterSize + 1),
  count('a snapshot more than there are', FIELD.snapshotCount, ({ snapshotCount }) => snapshotCount + 1),
  count('three snapshots more than there are', FIELD.snapshotCount, ({ snapshotCount }) => snapshotCount + 3),
  count('no snapshots, though there are some', FIELD.snapshotCount, () => 0),
  count('65,537 snapshots', FIELD.snapshotCount, () => 65_537, { slow: true }),
  block('unaligned', ({ firstBlock }) => firstBlock + 512 / 64),
  block('that is not a multiple of a cluster', ({ firstBlock, clusterSize }) => firstBlock + clusterSize / 2),
  block('right at the end', rightAtEnd),
  block('past the end', pastEnd),
  block('a TiB past the end', () => FAR, { slow: true }),
  block('at 2^62', () => 1n << 62n),
  block('at 2^63', () => 1n << 63n),
  block('with reserved bits', ({ firstBlock }) => firstBlock + 1),
  block('that is zero', () => 0),
  block('on the L1 table', ({ l1 }) => l1),
  offset('a second refcount block past the end', ({ refcountTable }) => refcountTable + 8, pastEnd),
  cut('at the L1 table', ({ l1 }) => l1, { loses: true }),
  cut('four bytes into the cluster before the L1 table', ({ l1, clusterSize }) => l1 - clusterSize + 4, {
    loses: true,
  }),
  cut('within the L1 table', ({ l1 }) => l1 + 8, { loses: true }),
  cut('at the refcount table', ({ refcountTable }) => refcountTable),
  cut('within the refcount table', ({ refcountTable }) => refcountTable + 4),
  cut('at the first refcount block', ({ firstBlock }) => firstBlock),
  cut('behind the first refcount block', ({ firstBlock, clusterSize }) => firstBlock + clusterSize, {
    loses: true,
  }),
  cut('to 5,000 bytes', () => 5000, { loses: true }),
  cut('to 512 bytes', () => 512),
  cut('a byte before its end', ({ end }) => end - 1),
  cut('a cluster before its end', ({ end, clusterSize }) => end - clusterSize),
  cut('at the first L2 table', ({ firstL2 }) => firstL2, { loses: true }),
  cut('at the snapshot table', ({ snapshots }) => snapshots, { loses: true }),
  cut('within the snapshot table', ({ snapshots }) => snapshots + 20, { loses: true }),
  snapshot('with an L1 table of 0 entries', [{ at: SNAPSHOT.l1Entries, u32: 0 }]),
  {
    name: 'a snapshot with an L1 table of 32 MiB that begins at the end',
    patches: (at) => [
      { at: at.lastSnapshot, u64: BigInt(rightAtEnd(at)) },
      { at: at.lastSnapshot + SNAPSHOT.l1Entries, u32: 4_194_304 },
    ],
    ...REMOVED,
  },
  snapshot('with an L1 table above 32 MiB', [{ at: SNAPSHOT.l1Entries, u32: 4_194_305 }], REMOVED),
  snapshot('with 2^32 − 1 L1 entries', [{ at: SNAPSHOT.l1Entries, u32: U32_MAX }], REMOVED),
  snapshot('with 1,024 bytes of extra data', [{ at: SNAPSHOT.extraLength, u32: 1024 }]),
  snapshot('with 1,025 bytes of extra data', [{ at: SNAPSHOT.extraLength, u32: 1025 }], { loses: true }),
  snapshot('with 4 GiB of extra data', [{ at: SNAPSHOT.extraLength, u32: U32_MAX }], { loses: true }),
  snapshot('with 16 bytes of extra data', [{ at: SNAPSHOT.extraLength, u32: 16 }]),
  snapshot('with 8 bytes of extra data', [{ at: SNAPSHOT.extraLength, u32: 8 }]),
  snapshot('without extra data', [{ at: SNAPSHOT.extraLength, u32: 0 }]),
  snapshot('with the longest id and name', [{ at: SNAPSHOT.idLength, u32: U32_MAX }], { better: true }),
  snapshot('with a memory of 2^63 bytes', [{ at: SNAPSHOT.extra, u64: 1n << 63n }]),
  snapshot('of a disk of 2^63 bytes', [{ at: SNAPSHOT.extra + 8, u64: 1n << 63n }]),
  {
    name: 'an entry that shifts all snapshots behind it',
    patches: ({ snapshots }) => [{ at: snapshots + SNAPSHOT.extraLength, u32: 0 }],
    loses: true,
  },
  {
    name: 'an incomplete snapshot of a disk of 2^63 bytes',
    patches: ({ snapshots, snapshotCount }) => [
      { at: snapshots + SNAPSHOT.extra + 8, u64: 1n << 63n },
      { at: FIELD.snapshotCount, u32: snapshotCount + 1 },
    ],
  },
  incompleteAnd('nothing else', () => []),
  incompleteAnd('its L1 table unaligned', (at) => [{ at: at.lastSnapshot, u64: 0x1008n }], REMOVED),
  incompleteAnd('a reserved bit in an L2 entry', (at) => [{ at: at.firstL2 + at.clusterSize - 8, u64: 2n }]),
  incompleteAnd('an L2 entry past the end', ({ firstL2, clusterSize, end }) => [
    { at: firstL2 + clusterSize - 8, u64: COPIED | BigInt(end + 2 * clusterSize) },
  ]),
  incompleteAnd('a refcount too high', ({ firstBlock }) => [
    { at: firstBlock + 8, u64: 0x0303_0303_0303_0303n },
  ]),
  incompleteAnd('no refcounts', ({ refcountTable }) => [{ at: refcountTable, u64: 0n }]),
  incompleteAnd('an L1 table past the end', (at) => [{ at: FIELD.l1Offset, u64: BigInt(rightAtEnd(at)) }], {
    loses: true,
  }),
  {
    name: 'snapshot and refcount table past the end',
    patches: (at) => [
      { at: FIELD.snapshotsOffset, u64: BigInt(rightAtEnd(at)) },
      { at: FIELD.refcountTableOffset, u64: BigInt(rightAtEnd(at)) },
    ],
    loses: true,
  },
  {
    name: 'all tables past the end',
    patches: (at) => [
      { at: FIELD.snapshotsOffset, u64: BigInt(rightAtEnd(at)) },
      { at: FIELD.refcountTableOffset, u64: BigInt(rightAtEnd(at)) },
      { at: FIELD.l1Offset, u64: BigInt(rightAtEnd(at)) },
    ],
    loses: true,
  },
];
