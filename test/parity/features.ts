/**
 * The features that QEMU and this project are held against each other over: one axis each, with the
 * values that a list can have. A covering array over them gives the lists; an axis or a value that
 * is added here is covered from then on.
 *
 * Invariant: `allowed…` refuse only what qemu-img refuses, what would take too long, and the named
 * exceptions of docs/qemu-rules.md.
 */

import { CACHE_MODE_RULES, CACHE_MODES } from '../../src/format/cache-mode.ts';
import { DISCARD_MODES, REFCOUNT_MODES } from '../../src/format/image-options.ts';
import {
  COMPAT_LEVELS,
  COMPRESSION_TYPES,
  DATA_FILES,
  PREALLOCATIONS,
  REFCOUNT_BITS,
  type Preallocation,
} from '../../src/format/image-shape.ts';
import { coveringArray, type Row } from './covering-array.ts';

const KIB = 1024;
const MIB = 1024 * KIB;

/**
 * What the requests of a list are mostly; `compressed`: clusters that are written compressed, among
 * others.
 */
const MIXES = ['writes', 'durable', 'zeroes', 'large'] as const;
const QCOW2_MIXES = [...MIXES, 'compressed'] as const;
export type Mix = (typeof QCOW2_MIXES)[number];

/**
 * What the image holds when the run begins: nothing, what was written and closed, what a crash
 * left, what was written between and after internal snapshots, compressed clusters among others, or
 * what was written before and after a persistent bitmap was added.
 */
const QCOW2_STARTS = ['fresh', 'filled', 'crashed', 'snapshots', 'compressed', 'bitmap'] as const;
const STARTS = ['fresh', 'filled', 'crashed'] as const;
/**
 * `fresh` is a file as qemu-img makes it, with its first block; `sparse`, one that begins with a hole,
 * in which O_DIRECT finds no alignment. A raw file has no state that a crash could leave.
 */
const RAW_STARTS = ['fresh', 'sparse', 'filled'] as const;

/**
 * How large the disk is: a few clusters; some, with the end in mid-cluster; more than two L2
 * tables; more than the L2 cache covers by default, so that large clusters are cached in slices.
 */
const DISKS = ['few-clusters', 'mid-cluster', 'tables', 'huge'] as const;
export type DiskKind = (typeof DISKS)[number];

/** The files below the image, from the top down; `sparse-raw`: a raw file that begins with a hole. */
const CHAINS = ['none', 'raw', 'sparse-raw', 'qcow2', 'qed', 'three-deep'] as const;
export type Chain = (typeof CHAINS)[number];

/** The backing file's size against the disk's. */
const BACKING_SIZES = ['shorter', 'equal', 'longer'] as const;
export type BackingSize = (typeof BACKING_SIZES)[number];

const COMMON = { cache: CACHE_MODES, mix: MIXES, discard: DISCARD_MODES } as const;

/**
 * The metadata caches: QEMU's defaults; the least that it makes of them; a few of the smallest
 * slices; both out of one budget.
 */
const CACHE_SIZES = ['default', 'least', 'small-slices', 'shared'] as const;

/** `discard-no-unref`; versions of QEMU that do not have it serve the list without it. */
const NO_UNREF = ['off', 'on'] as const;

export const QCOW2_AXES = {
  ...COMMON,
  mix: QCOW2_MIXES,
  clusterSize: [512, KIB, 4 * KIB, 16 * KIB, 64 * KIB, 2 * MIB],
  refcounts: REFCOUNT_MODES,
  chain: CHAINS,
  backingSize: BACKING_SIZES,
  disk: DISKS,
  start: QCOW2_STARTS,
  compat: COMPAT_LEVELS,
  refcountBits: REFCOUNT_BITS,
  cacheSizes: CACHE_SIZES,
  compressionType: COMPRESSION_TYPES,
  extendedL2: ['off', 'on'],
  preallocation: PREALLOCATIONS,
  dataFile: DATA_FILES,
  noUnref: NO_UNREF,
} as const;
export type Qcow2Features = Row<typeof QCOW2_AXES>;

export const QED_AXES = {
  ...COMMON,
  clusterSize: [4 * KIB, 64 * KIB, MIB],
  chain: ['none', 'raw', 'sparse-raw', 'three-deep'],
  backingSize: BACKING_SIZES,
  disk: ['few-clusters', 'mid-cluster', 'tables'],
  start: STARTS,
} as const;
export type QedFeatures = Row<typeof QED_AXES>;

export const RAW_AXES = {
  ...COMMON,
  disk: ['few-clusters', 'mid-cluster', 'huge'],
  start: RAW_STARTS,
} as const;
export type RawFeatures = Row<typeof RAW_AXES>;

export type Features =
  | ({ readonly format: 'qcow2' } & Qcow2Features)
  | ({ readonly format: 'qed' } & QedFeatures)
  | ({ readonly format: 'raw' } & RawFeatures);

/**
 * So many lists of each format, at least: the first rows cover all pairs, the rest cover them
 * again.
 */
export interface ListCounts {
  readonly qcow2: number;
  readonly qed: number;
  readonly raw: number;
}

/** The rows of all three formats; `seed` decides which. */
export function featureRows(seed: number, counts: ListCounts): readonly Features[] {
  return [
    ...[
      ...coveringArray(QCOW2_AXES, { seed, rows: counts.qcow2, allowed: allowedQcow2 }),
      ...FURTHER_ROWS,
    ].map((row) => ({ format: 'qcow2', ...row }) as const),
    ...coveringArray(QED_AXES, { seed, rows: counts.qed, allowed: allowedQed }).map(
      (row) => ({ format: 'qed', ...row }) as const,
    ),
    ...coveringArray(RAW_AXES, { seed, rows: counts.raw, allowed: allowedRaw }).map(
      (row) => ({ format: 'raw', ...row }) as const,
    ),
  ];
}

function allowedQcow2(row: Partial<Qcow2Features>): boolean {
  if (row.compat === '0.10') {
    // Version 2 has neither lazy refcounts, nor refcounts of other than 16 bits, nor another
    // compression.
    if (row.refcounts === 'lazy' || (row.refcountBits ?? 16) !== 16) return false;
    if (row.compressionType === 'zstd' || row.extendedL2 === 'on') return false;
    if (row.start === 'bitmap' || row.noUnref === 'on' || hasDataFile(row)) return false;
  }
  if (row.extendedL2 === 'on' && !mayHaveSubclusters(row)) return false;
  if (row.preallocation !== undefined && row.preallocation !== 'off' && !preallocates(row)) return false;
  if (hasDataFile(row) && !takesDataFile(row)) return false;
  // Clusters that two snapshots share need a refcount of 3, and compressed ones share their host
  // cluster.
  if (row.start === 'snapshots' && (row.refcountBits ?? 16) < 2) return false;
  // QEMU punches holes into the clusters of a snapshot: exception `no-unref-of-shared`.
  if (row.noUnref === 'on' && row.start === 'snapshots' && row.discard === 'unmap') return false;
  return backingSizeFits(row);
}

/**
 * Over a backing file only with subclusters, which can be left to it; nothing is left to compress;
 * not what would fill the disk, or the tests' patience.
 */
function preallocates(row: Partial<Qcow2Features>): boolean {
  const { extendedL2 = 'on', start, mix } = row;
  if (isBacked(row) && (extendedL2 === 'off' || !mayHaveSubclusters(row))) return false;
  if (start === 'compressed' || mix === 'compressed') return false;
  return row.preallocation === undefined || isAffordable(row, row.preallocation);
}

function mayHaveSubclusters({ compat = '1.1', clusterSize = 16 * KIB }: Partial<Qcow2Features>): boolean {
  // A subcluster is a sector at least.
  return compat === '1.1' && clusterSize >= 16 * KIB;
}

/** Also where the chain is not chosen yet, but what it will have is: the search sees that early. */
function isBacked({ chain = 'none', backingSize = 'equal' }: Partial<Qcow2Features>): boolean {
  return chain !== 'none' || backingSize !== 'equal';
}

function isAffordable(row: Partial<Qcow2Features>, preallocation: Preallocation): boolean {
  const least = row.extendedL2 === 'on' || isBacked(row) ? 16 * KIB : 512;
  const { disk = 'few-clusters', clusterSize = least } = row;
  return clusterSize <= (PREALLOCATED_CLUSTERS[disk][preallocation] ?? 0);
}

/** The largest clusters with which a disk is preallocated, in bytes. */
const PREALLOCATED_CLUSTERS: Readonly<Record<DiskKind, Readonly<Partial<Record<Preallocation, number>>>>> = {
  'few-clusters': { metadata: 2 * MIB, falloc: 2 * MIB, full: 64 * KIB },
  'mid-cluster': { metadata: 2 * MIB, falloc: 2 * MIB, full: 64 * KIB },
  tables: { metadata: 16 * KIB, falloc: 16 * KIB, full: 4 * KIB },
  huge: {},
};

function hasDataFile({ dataFile = 'none' }: Partial<Qcow2Features>): boolean {
  return dataFile !== 'none';
}

/**
 * Neither snapshots nor compressed clusters have their place in a data file. A raw one is all there
 * is, and comes with preallocated tables.
 */
function takesDataFile(row: Partial<Qcow2Features>): boolean {
  const { start, mix, dataFile } = row;
  if (start === 'snapshots' || start === 'compressed' || mix === 'compressed') return false;
  return dataFile !== 'raw' || (!isBacked(row) && isAffordable(row, 'metadata'));
}

/**
 * What pairs alone do not bring together: many small refcount blocks, few of them cached, and
 * clusters freed or shared. Whether a block more or less in the cache shows depends on where the
 * requests of a list fall, so there are several.
 */
const FURTHER_ROWS: readonly Qcow2Features[] = (
  [
    ['zeroes', 'filled'],
    ['zeroes', 'snapshots'],
    ['writes', 'snapshots'],
    ['durable', 'snapshots'],
    ['large', 'snapshots'],
  ] as const
).map(([mix, start]) => ({
  cache: 'writeback',
  mix,
  discard: 'unmap',
  clusterSize: 512,
  refcounts: 'eager',
  chain: 'none',
  backingSize: 'equal',
  disk: 'tables',
  start,
  compat: '1.1',
  refcountBits: 64,
  cacheSizes: 'least',
  compressionType: 'zlib',
  extendedL2: 'off',
  preallocation: 'off',
  dataFile: 'none',
  noUnref: 'off',
}));

function allowedQed(row: Partial<QedFeatures>): boolean {
  return backingSizeFits(row);
}

function allowedRaw(row: Partial<RawFeatures>): boolean {
  // Refused for writing: the alignment is taken to be 4 KiB, of which the size is no multiple.
  if (row.start !== 'sparse' || row.disk !== 'mid-cluster') return true;
  return row.cache === undefined || !CACHE_MODE_RULES[row.cache].direct;
}

/** Without a backing file its size says nothing: one value means all. */
function backingSizeFits(row: { readonly chain?: Chain; readonly backingSize?: BackingSize }): boolean {
  return row.chain !== 'none' || row.backingSize === undefined || row.backingSize === 'equal';
}
