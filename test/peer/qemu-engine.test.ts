/**
 * QEMU as an engine: same operations and bytes as ours, counted under the same purposes and causes.
 */

import { readdirSync } from 'node:fs';

import { beforeAll, describe, expect, test } from 'vitest';

import { BuiltinEngine } from '../../src/bench/builtin-engine.ts';
import type { CellPlan } from '../../src/bench/engine.ts';
import { planMatrix, type MatrixAxes } from '../../src/bench/matrix.ts';
import { probeCapabilities } from '../../src/device/capabilities.ts';
import { FileStorage } from '../../src/device/file-storage.ts';
import type { CacheMode } from '../../src/format/cache-mode.ts';
import { QemuEngine } from '../../src/peer/qemu-engine.ts';
import type { Counts, PhaseCounts } from '../../src/result/schema.ts';
import { findSource, type SyntheticSource } from '../../src/workload/library.ts';
import { amount, someOf } from '../amount.ts';
import { chainSource, mixedSource, smallMatrix, smallSource, type SmallSetting } from '../bench/small-run.ts';
import { reasonToSkip } from '../format/system-tools.ts';
import { peerProfile } from '../parity/peer-stack.ts';
import { testDirectory } from '../test-directory.ts';

const REQUESTS = amount({ everyday: 60, full: 200 });
const TRACE_REQUESTS = amount({ everyday: 60, full: 120 });
const ALL = someOf<CacheMode>(['writethrough', 'writeback', 'none'], 1);
/** Those that fill an image before the run take long to prepare: they get one cache mode each. */
const CASES: readonly (readonly [workload: string, caches: readonly CacheMode[]])[] = [
  ['stride', ALL],
  ['subcluster-sequential', ALL],
  ['database-commit', ALL],
  ['boot-from-backing', ['writeback']],
  ['overwrite', ['writethrough']],
];

let directory = '';
let files: FileStorage;
beforeAll(() => {
  directory = testDirectory();
  files = new FileStorage(directory, probeCapabilities(directory));
});

/**
 * What both engines can be held to: each opens an image with reads of its own, and elides within
 * itself.
 */
function comparable({ guest, open, run, close }: Counts): object {
  const changes = ({ reads: _, syncs, ...rest }: PhaseCounts): object => ({
    ...rest,
    syncs: { ops: syncs.ops, byCause: syncs.byCause },
  });
  return { guest, open: changes(open), run: changes(run), close: changes(close) };
}

async function plansOf(workload: string, caches: readonly CacheMode[]): Promise<readonly CellPlan[]> {
  return planMatrix({
    sources: [await findSource(workload)],
    formats: ['raw', 'qcow2', 'qed'],
    refcounts: ['eager', 'lazy'],
    caches,
    clusterSizes: [65_536],
    queueDepths: [1],
    engines: ['qemu'],
    devices: ['file'],
    others: { like: [peerProfile()] },
  });
}

const skipped = reasonToSkip('qemu-io', 'strace');

describe.skipIf(skipped !== undefined)('a cell that QEMU runs', () => {
  test.each(CASES)(
    '%s: is identical, and its counts are those of the builtin engine',
    async (workload, caches) => {
      const theirs = new QemuEngine({ files, filePrefix: workload });
      for (const plan of await plansOf(workload, caches)) {
        const label = JSON.stringify(plan.cell);
        const { counts, countsDevice, parity } = await theirs.count(plan, { limit: REQUESTS });
        const ours = await new BuiltinEngine().count(plan, { limit: REQUESTS });
        expect(parity, label).toMatchObject({ verdict: 'identical', finalBytes: 'identical' });
        expect(comparable(counts), label).toEqual(comparable(ours.counts));
        expect(countsDevice).toBe('file');
      }
      expect(readdirSync(directory)).toEqual([]);
    },
    300_000,
  );

  // All recordings in all modes take minutes; they were identical when this was written.
  const recorded = [
    ['sqlite-wal', ['writeback']],
    ['ext4-unpack', ['directsync']],
  ] as const;
  test.each(someOf(recorded, 1))(
    'a recorded trace, %s: is identical, and so are the counts where QEMU has but one order',
    async (name, caches) => {
      for (const plan of await plansOf(name, caches)) {
        const label = JSON.stringify(plan.cell);
        const { counts, parity } = await new QemuEngine({ files }).count(plan, { limit: TRACE_REQUESTS });
        const ours = await new BuiltinEngine().count(plan, { limit: TRACE_REQUESTS });
        expect(parity, label).toMatchObject({ verdict: 'identical', guestData: 'identical' });
        expect(parity, label).not.toHaveProperty('leftOutRequests');
        if (parity?.exceptions === undefined) {
          expect(comparable(counts), label).toEqual(comparable(ours.counts));
        }
      }
    },
    120_000,
  );

  test('all kinds of request over a backing file: causes and purposes are still those of the builtin engine', async () => {
    const caches = ['writeback', 'writethrough'] as const;
    for (const plan of smallMatrix(
      { sources: [mixedSource()], caches, engines: ['qemu'] },
      { device: 'file', like: peerProfile() },
    )) {
      const label = JSON.stringify(plan.cell);
      const { counts, parity } = await new QemuEngine({ files }).count(plan, {});
      const ours = await new BuiltinEngine().count(plan, {});
      expect(parity, label).toMatchObject({ verdict: 'identical', finalBytes: 'identical' });
      expect(comparable(counts), label).toEqual(comparable(ours.counts));
    }
  });

  test('a chain of backing files: operations, bytes and reads are those of QEMU', async () => {
    const axes: Partial<MatrixAxes> = {
      sources: [mixedSource(), chainSource()],
      formats: ['qcow2', 'qed'],
      refcounts: ['lazy'],
      backingDepths: [3],
      engines: ['qemu'],
    };
    for (const plan of smallMatrix(axes, { device: 'file' })) {
      const { parity } = await new QemuEngine({ files }).count(plan, {});
      expect(parity, JSON.stringify(plan.cell)).toMatchObject({
        verdict: 'identical',
        guestData: 'identical',
      });
    }
  });

  test('discards in between: a copy that is waited for is distinguished from refcounts that are', async () => {
    for (const seed of someOf([1, 2], 1)) {
      const axes: Partial<MatrixAxes> = {
        sources: [copiesAmidDiscards(seed)],
        formats: ['qcow2'],
        caches: ['writeback', 'writethrough'],
        engines: ['qemu'],
      };
      for (const plan of smallMatrix(axes, { device: 'file', like: peerProfile() })) {
        const label = `seed ${String(seed)}, ${JSON.stringify(plan.cell)}`;
        const { counts, parity } = await new QemuEngine({ files }).count(plan, {});
        const ours = await new BuiltinEngine().count(plan, {});
        expect(parity, label).toMatchObject({ verdict: 'identical', finalBytes: 'identical' });
        expect(comparable(counts), label).toEqual(comparable(ours.counts));
        expect(ours.counts.run.syncs.byCause['l2-after-cow'] ?? 0, label).toBeGreaterThan(0);
      }
    }
  });
});

/**
 * Copies from the backing file amid discards, of one cluster a request: nothing is left to the
 * thread pool's order.
 */
function copiesAmidDiscards(seed: number): SyntheticSource {
  const fill = [
    { name: 'fill', bytes: '8MiB', blockSizes: [{ size: '256KiB' }], pattern: { kind: 'sequential' } },
  ];
  const source = smallSource('copies', {
    image: { backing: { fill } },
    phases: [
      {
        name: 'mix',
        requests: 300,
        mix: { write: 8, flush: 1, discard: 3, writeZeroes: 2 },
        blockSizes: [{ size: '4KiB' }, { size: '64KiB' }],
        pattern: { kind: 'uniform', alignment: '64KiB', region: { length: '8MiB' } },
      },
    ],
  });
  return { ...source, workload: { ...source.workload, seed } };
}

/**
 * Sub-cluster writes, discards and zero-writes, so that clusters change hands while the run lasts.
 */
function changingHands(): SyntheticSource {
  return smallSource('changing-hands', {
    phases: [
      {
        name: 'mix',
        requests: 120,
        mix: { read: 2, write: 8, flush: 1, discard: 2, writeZeroes: 2 },
        fuaShare: 0.1,
        unmap: true,
        blockSizes: [
          { size: '512B' },
          { size: '4KiB' },
          { size: '64KiB' },
          { size: '96KiB' },
          { size: '200KiB' },
        ],
        pattern: { kind: 'uniform', alignment: '512B', region: { length: '8MiB' } },
      },
    ],
  });
}

describe.skipIf(skipped !== undefined)(
  'counts by purpose are those of the builtin engine where the image has',
  () => {
    const shapes: readonly (readonly [string, Partial<MatrixAxes>, SmallSetting])[] = [
      ['usual clusters', {}, {}],
      ['clusters of 4 KiB', { clusterSizes: [4096] }, {}],
      ['version 2', { refcounts: ['eager'] }, { shape: { compat: '0.10' } }],
      ['extended L2 entries', {}, { shape: { extendedL2: true } }],
      ['refcounts of 64 bits', {}, { shape: { refcountBits: 64 } }],
      ['a data file', {}, { shape: { dataFile: 'plain' } }],
      ['a raw data file', {}, { shape: { dataFile: 'raw' } }],
      ['preallocated tables', {}, { shape: { preallocation: 'metadata' } }],
      ['preallocated space', {}, { shape: { preallocation: 'falloc' } }],
      [
        'small caches',
        { clusterSizes: [4096] },
        { caches: { l2CacheSize: 8192, refcountCacheSize: 16_384 } },
      ],
      ['no discards', {}, { discard: 'ignore' }],
      ['another format', { formats: ['raw', 'qed'] }, {}],
    ];
    test.each(someOf(shapes, 3))(
      '%s',
      async (_, axes, setting) => {
        const matrix = {
          sources: [changingHands()],
          formats: ['qcow2'],
          caches: ['directsync'],
          engines: ['qemu'],
        } as const;
        for (const plan of smallMatrix(
          { ...matrix, ...axes },
          { device: 'file', like: peerProfile(), ...setting },
        )) {
          const label = JSON.stringify(plan.cell);
          const { counts, parity } = await new QemuEngine({ files }).count(plan, {});
          const ours = await new BuiltinEngine().count(plan, {});
          expect(parity, label).toMatchObject({ verdict: 'identical', guestData: 'identical' });
          expect(changesByPurpose(counts), label).toEqual(changesByPurpose(ours.counts));
        }
      },
      120_000,
    );
  },
);

/** Without syncs: where the order of extents varies, so does their number. */
function changesByPurpose({ open, run, close }: Counts): object {
  const changes = ({ writes, zeroRanges, punchHoles, truncates }: PhaseCounts): object => ({
    writes,
    zeroRanges,
    punchHoles,
    truncates,
  });
  return { open: changes(open), run: changes(run), close: changes(close) };
}

const [anyPlan] = smallMatrix({ formats: ['qcow2'], engines: ['qemu'] }, { device: 'file' });

describe('what QEMU is not run on', () => {
  const reason = (change: Partial<CellPlan>, engine = new QemuEngine({ files })): string | undefined =>
    engine.unsupportedReason({ ...(anyPlan as CellPlan), ...change }, 'count');
  const cell = (change: Partial<CellPlan['cell']>): Partial<CellPlan> => ({
    cell: { ...(anyPlan as CellPlan).cell, ...change },
  });

  test.skipIf(skipped !== undefined)('an ordinary cell is supported', () => {
    expect(reason({})).toBeUndefined();
  });

  test.skipIf(skipped !== undefined).each([
    ['a queue', cell({ queueDepth: 4 }), 'queue depth 1'],
    ['another payload', { payload: 'random' } as const, 'not random'],
    ['memory', cell({ device: 'memory' }), 'not on the device memory'],
    ['a format that would refuse', cell({ clusterSize: 256 }), 'does not support clusters of 256B'],
  ])('%s is named as the reason', (_, change, words) => {
    expect(reason(change)).toContain(words);
  });

  test.skipIf(skipped !== undefined)('without a directory there is nowhere to run', () => {
    expect(reason({}, new QemuEngine())).toContain('no directory');
  });

  test('a directory without a build of QEMU is named', async () => {
    const engine = new QemuEngine({ files, binDirectory: directory });
    expect(reason({}, engine)).toContain(`qemu-io not found in ${directory}`);
    await expect(engine.version()).resolves.toBeUndefined();
  });

  test('times are never taken', () => {
    expect(new QemuEngine({ files }).unsupportedReason(anyPlan as CellPlan, 'time')).toContain(
      'npm run perf',
    );
  });
});
