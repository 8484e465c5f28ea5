/**
 * A made-up result for tests of the store, the gate and the report: whole, valid, and with the
 * figures that QEMU's write sequences give (docs/qemu-rules.md, golden figures); its times are
 * invented.
 *
 * The same seed gives the same result.
 */

import { Random } from '../../src/core/random.ts';
import {
  RESULT_SCHEMA,
  type CellRecord,
  type Counts,
  type Environment,
  type OperationCounts,
  type PhaseCounts,
  type ResultRecord,
  type Timing,
} from '../../src/result/schema.ts';
import {
  CACHE_MODES,
  type CacheMode,
  type Format,
  type Purpose,
  type RefcountMode,
  type SyncCause,
} from '../../src/result/vocabulary.ts';

export interface Load {
  readonly name: string;
  readonly writes: number;
  readonly allocating: number;
  readonly bytes: number;
  readonly flushes: number;
  readonly backing?: Format;
}

export const LOADS: readonly Load[] = [
  { name: 'stride', writes: 1000, allocating: 1000, bytes: 4096, flushes: 0 },
  { name: 'sequential-allocation', writes: 1000, allocating: 1000, bytes: 65_536, flushes: 0 },
  { name: 'random-allocation', writes: 2000, allocating: 1870, bytes: 4096, flushes: 0 },
  { name: 'subcluster-sequential', writes: 1024, allocating: 64, bytes: 4096, flushes: 0 },
  { name: 'overwrite', writes: 1000, allocating: 0, bytes: 4096, flushes: 0 },
  { name: 'database-commit', writes: 1500, allocating: 900, bytes: 8192, flushes: 1500 },
  { name: 'journaling-file-system', writes: 1800, allocating: 420, bytes: 8192, flushes: 300 },
  { name: 'boot-from-backing', writes: 600, allocating: 600, bytes: 4096, flushes: 20, backing: 'qcow2' },
  { name: 'mkfs-ext4-and-unpack', writes: 2213, allocating: 380, bytes: 36_864, flushes: 41 },
];

interface Variant {
  readonly format: Format;
  readonly refcounts: RefcountMode | null;
}

export const VARIANTS: readonly Variant[] = [
  { format: 'raw', refcounts: null },
  { format: 'qcow2', refcounts: 'eager' },
  { format: 'qcow2', refcounts: 'lazy' },
  { format: 'qed', refcounts: null },
];

const CLUSTER = 65_536;

export const ENVIRONMENT: Environment = {
  harness: '0.1.0',
  node: 'v24.21.0',
  platform: 'linux',
  arch: 'x64',
  kernel: '6.1.0-18-amd64',
  cpu: 'Example CPU @ 2.60GHz',
  cores: 2,
  memoryBytes: 8 * 1024 ** 3,
  fileSystem: { directory: '/var/tmp/bench', type: 'ext4', mountOptions: ['rw', 'relatime'] },
  qemu: '7.2.22',
  seed: 1,
  commandLine: ['run', '--samples', '9'],
  date: '2026-01-02T03:04:05.000Z',
};

/** Nine workloads × four variants × five cache modes. */
export function syntheticResult(): ResultRecord {
  const random = new Random(7);
  const cells = LOADS.flatMap((load) =>
    CACHE_MODES.flatMap((cache) =>
      VARIANTS.map((variant) => syntheticCell(load, { ...variant, cache }, random)),
    ),
  );
  return { schema: RESULT_SCHEMA, environment: ENVIRONMENT, cells };
}

export function syntheticCell(
  load: Load,
  where: Variant & { readonly cache: CacheMode },
  random = new Random(1),
): CellRecord {
  const { format, refcounts, cache } = where;
  const counts = syntheticCounts(load, where);
  return {
    cell: {
      engine: 'builtin',
      workload: load.name,
      format,
      refcounts,
      cache,
      clusterSize: format === 'raw' ? null : CLUSTER,
      queueDepth: 1,
      device: 'file',
      ...(load.backing !== undefined && format !== 'raw' ? { backing: load.backing } : {}),
    },
    countsDevice: 'memory',
    counts,
    timedRequests: 300,
    timings: syntheticTimings(counts, cache, random),
    fallbacks: [],
    skipped: null,
  };
}

type Shares = Partial<Record<Purpose, { ops: number; bytes: number }>>;

function syntheticCounts(load: Load, where: Variant & { readonly cache: CacheMode }): Counts {
  const through = where.cache === 'writethrough' || where.cache === 'directsync';
  const { writes, allocating, flushes, bytes } = load;
  const covered = load.backing !== undefined || bytes >= CLUSTER;
  const shares: Shares = { data: { ops: writes, bytes: writes * bytes } };
  const causes: Partial<Record<SyncCause, number>> = {};
  const ends = through ? writes : flushes;
  if (ends > 0) causes[through ? 'writethrough' : 'guest-flush'] = ends;
  if (through && flushes > 0) causes['guest-flush'] = 0;
  let zeroed = 0;
  const tableWrites = through ? allocating : Math.min(allocating, Math.max(flushes, 3));
  if (where.format === 'qcow2' && allocating > 0) {
    shares['l2-table'] = { ops: tableWrites + 1, bytes: (tableWrites + 1) * CLUSTER };
    shares['l1-table'] = { ops: 1, bytes: 8 };
    causes['l2-table-growth'] = 3;
    const refcountWrites = where.refcounts === 'eager' ? tableWrites : 1;
    shares['refcount-block'] = { ops: refcountWrites + 1, bytes: (refcountWrites + 1) * CLUSTER };
    if (where.refcounts === 'eager') causes['l2-after-refcount'] = tableWrites;
    else {
      causes['dirty-bit'] = 2;
      shares.header = { ops: 2, bytes: CLUSTER + 8 };
      if (load.backing !== undefined) causes['l2-after-cow'] = tableWrites;
    }
    if (covered && bytes < CLUSTER) shares.cow = { ops: 0, bytes: allocating * (CLUSTER - bytes) };
    else if (!covered) zeroed = allocating;
  }
  if (where.format === 'qed' && allocating > 0) {
    shares['l2-table'] = { ops: allocating, bytes: allocating * 512 + 262_144 };
    shares['l1-table'] = { ops: 1, bytes: 512 };
    if (bytes < CLUSTER) shares.cow = { ops: allocating, bytes: allocating * (CLUSTER - bytes) };
    causes['l2-table-growth'] = 1;
    if (load.backing !== undefined) causes['l2-after-cow'] = allocating;
    else causes['dirty-bit'] = 2;
  }
  if (causes['guest-flush'] === 0) delete causes['guest-flush'];
  const never = where.cache === 'unsafe';
  const closeCauses: Partial<Record<SyncCause, number>> = through || never ? {} : { close: 1 };
  return {
    guest: {
      reads: 0,
      writes,
      flushes,
      discards: 0,
      writeZeroes: 0,
      writeBytes: writes * bytes,
      allocatingWrites: allocating,
    },
    open: phase({ reads: { header: { ops: 1, bytes: 512 } } }),
    run: phase({
      writes: shares,
      zeroRanges: zeroed > 0 ? { cow: { ops: zeroed, bytes: zeroed * CLUSTER } } : {},
      causes: never ? {} : causes,
      elided: through ? flushes : 0,
    }),
    close: phase({ causes: closeCauses }),
  };
}

/** A phase's counts with totals that are the sums of their parts. */
export function phase(parts: {
  readonly writes?: Shares;
  readonly zeroRanges?: Shares;
  readonly reads?: Shares;
  readonly causes?: Partial<Record<SyncCause, number>>;
  readonly elided?: number;
}): PhaseCounts {
  const byCause = parts.causes ?? {};
  const ops = Object.values(byCause).reduce((sum, value) => sum + value, 0);
  return {
    writes: operations(parts.writes ?? {}),
    zeroRanges: operations(parts.zeroRanges ?? {}),
    punchHoles: operations({}),
    truncates: operations({}),
    reads: operations(parts.reads ?? {}),
    syncs: { ops, elided: parts.elided ?? 0, byCause },
  };
}

function operations(byPurpose: Shares): OperationCounts {
  const shares = Object.values(byPurpose);
  return {
    ops: shares.reduce((sum, share) => sum + share.ops, 0),
    bytes: shares.reduce((sum, share) => sum + share.bytes, 0),
    byPurpose,
  };
}

function syntheticTimings(counts: Counts, cache: CacheMode, random: Random): readonly Timing[] {
  const requests = counts.guest.writes + counts.guest.flushes;
  const direct = cache === 'directsync' || cache === 'none';
  const perOp = direct ? 60_000 : 6000;
  const nanoseconds =
    counts.run.syncs.ops * 410_000 + counts.run.writes.ops * perOp + counts.run.writes.bytes * 0.2;
  return Array.from({ length: 9 }, (_, round) => {
    const noise = 0.92 + random.fraction() * 0.2 + (random.chance(0.1) ? 0.5 : 0);
    return {
      round,
      requests: 300,
      elapsedNs: Math.round((nanoseconds / requests) * 300 * noise),
      openNs: Math.round(80_000 + random.fraction() * 20_000),
      closeNs: Math.round(300_000 + random.fraction() * 200_000),
      userNs: 4_000_000,
      systemNs: 7_000_000,
    };
  });
}
