/** What a crash may take, for each way of keeping metadata; and that an explorer notices more. */

import { describe, expect, test } from 'vitest';

import type { WrapDevice } from '../../src/bench/stack.ts';
import { epochsOf } from '../../src/crash/epochs.ts';
import { explore, Surveyor, type Exploration, type JudgedState } from '../../src/crash/explore.ts';
import { recordCell } from '../../src/crash/record-cell.ts';
import type { Recording } from '../../src/crash/recording.ts';
import { shrink } from '../../src/crash/shrink.ts';
import { STRONGEST_MODEL } from '../../src/crash/state-space.ts';
import { StateView, type Fate } from '../../src/crash/state-view.ts';
import type { Step } from '../../src/crash/steps.ts';
import { someOf } from '../amount.ts';
import {
  AnswersEarly,
  CutsEarly,
  DropsSyncs,
  FailsOnce,
  ForgetsDirtyBit,
  HidesFailures,
  ListsSnapshotsEarly,
  Postpones,
  PunchesEarly,
  StaleFlags,
} from './planted.ts';
import { recordSmall, smallPlan, type SmallCell } from './small-recording.ts';

const SEED = 7;

const kinds = [
  { format: 'qcow2', refcounts: 'eager' },
  { format: 'qcow2', refcounts: 'lazy' },
  { format: 'qed' },
  { format: 'raw' },
] as const;
const CACHES = ['writethrough', 'writeback'] as const;
/** In clusters of a sector L1, refcount table and blocks grow. */
const starts = [
  { clusterSize: 512, prefilled: false, releases: true },
  { clusterSize: 4096, prefilled: false, releases: true },
  { clusterSize: 4096, prefilled: true, releases: false },
] as const;
/** Clusters of 16 KiB have subclusters of a sector: one request changes bits of many. */
const subclusters = CACHES.flatMap((cache) =>
  (['eager', 'lazy'] as const).map((refcounts): SmallCell => ({
    format: 'qcow2',
    refcounts,
    shape: { extendedL2: true },
    cache,
    clusterSize: 16_384,
    prefilled: cache === 'writethrough',
    releases: cache === 'writeback',
    backed: refcounts === 'lazy',
  })),
);
const cells = [
  ...kinds.flatMap((kind) =>
    CACHES.flatMap((cache) =>
      starts
        .filter(({ clusterSize }) => kind.format === 'qcow2' || clusterSize >= 4096)
        .flatMap((start) =>
          (kind.format === 'raw' ? [false] : [false, true]).map((backed): SmallCell => ({
            ...kind,
            cache,
            ...start,
            backed,
          })),
        ),
    ),
  ),
  ...subclusters,
];

describe('no crash state loses what was acknowledged', () => {
  test.each(someOf(cells, 16))(
    '$format $refcounts, $cache, clusters of $clusterSize, backed: $backed, used: $prefilled',
    async (cell) => {
      const exploration = await explore(await recordSmall(cell), {
        model: STRONGEST_MODEL,
        budget: 125,
        seed: SEED,
      });
      expect(exploration.bad.slice(0, 3), `seed ${String(SEED)}`).toEqual([]);
      expect(exploration.tried).toBeGreaterThan(60);
    },
  );
});

/**
 * An exploration reuses what it found in the states before; judged alone, with nothing known, each
 * state has the same findings.
 */
test.each<SmallCell>([
  { format: 'qcow2', refcounts: 'lazy', cache: 'writethrough', backed: true },
  {
    format: 'qcow2',
    refcounts: 'eager',
    cache: 'writeback',
    deviation: (device) => new DropsSyncs(device, 'l2-after-refcount'),
  },
  { format: 'qed', cache: 'writeback', prefilled: true, releases: true },
  { format: 'qcow2', refcounts: 'eager', cache: 'writeback', clusterSize: 512, steps: ['snapshots'] },
  {
    format: 'qcow2',
    refcounts: 'lazy',
    cache: 'writeback',
    backed: true,
    deviation: (device) => new AnswersEarly(device),
  },
])('a state is judged alike, whatever was judged before it ($format $refcounts)', async (cell) => {
  const recording = await recordSmall({ ...cell, requests: 16 });
  const states: (Pick<JudgedState, 'findings'> & {
    readonly epoch: number;
    readonly fates: readonly Fate[];
  })[] = [];
  await explore(recording, {
    model: STRONGEST_MODEL,
    budget: 150,
    seed: SEED,
    isEnough: ({ view, findings }) => {
      states.push({ epoch: view.epoch.number, fates: view.fates.slice(), findings });
      return false;
    },
  });
  expect(states.length).toBeGreaterThan(60);
  for (const epoch of epochsOf(recording)) {
    for (const { fates, findings } of states.filter((state) => state.epoch === epoch.number)) {
      const view = new StateView(epoch);
      for (const [place, fate] of fates.entries()) {
        if (epoch.pending[place]?.isSettled === false) view.setFate(place, fate);
      }
      const alone = await (await Surveyor.of(recording)).judged(view);
      expect(inOrder(alone.findings), `epoch ${String(epoch.number)}`).toEqual(inOrder(findings));
    }
  }
});

test.each(['eager', 'lazy'] as const)(
  'a freed place that is used again is a named hazard (%s)',
  async (refcounts) => {
    const { plan } = await smallPlan({ format: 'qcow2', refcounts, cache: 'writeback' });
    const request = { offset: 0, length: 4096, fua: false, unmap: false, timeNs: 0 };
    const recording = await recordCell(plan, {
      requests: [
        { ...request, op: 'write' },
        { ...request, op: 'flush', length: 0 },
        { ...request, op: 'write-zeroes', unmap: true },
        { ...request, op: 'write', offset: 524_288 },
      ],
    });
    const { bad, hazards } = await explore(recording, { model: STRONGEST_MODEL, budget: 300, seed: SEED });
    expect(bad).toEqual([]);
    expect([...hazards.keys()]).toContain('early-reuse');
  },
);

function inOrder(findings: JudgedState['findings']): readonly string[] {
  return findings.map((finding) => JSON.stringify(finding)).toSorted();
}

/** Requests that an example of a planted fault has at most. */
const SHORT = 6;

interface Planted extends SmallCell {
  readonly what: string;
  /** For a fault that needs to know the run without it. */
  readonly deviationOf?: (faultless: Recording) => WrapDevice;
}

const planted: readonly Planted[] = [
  {
    what: 'eager refcounts without the sync between refcounts and L2',
    format: 'qcow2',
    refcounts: 'eager',
    cache: 'writeback',
    deviation: (device) => new DropsSyncs(device, 'l2-after-refcount'),
  },
  {
    what: 'eager refcounts written behind L2',
    format: 'qcow2',
    refcounts: 'eager',
    cache: 'writethrough',
    deviation: (device) => new Postpones(device, 'refcount-block'),
  },
  {
    what: 'lazy refcounts without the dirty bit',
    format: 'qcow2',
    refcounts: 'lazy',
    cache: 'writethrough',
    deviation: (device) => new ForgetsDirtyBit(device),
  },
  {
    what: 'lazy refcounts without the syncs around the dirty bit',
    format: 'qcow2',
    refcounts: 'lazy',
    cache: 'writeback',
    deviation: (device) => new DropsSyncs(device, 'dirty-bit'),
  },
  {
    what: 'a new L2 table linked before it is durable',
    format: 'qcow2',
    refcounts: 'eager',
    cache: 'writeback',
    deviation: (device) => new DropsSyncs(device, 'l2-table-growth'),
  },
  {
    what: 'a new L2 table of one sector linked before it is durable',
    format: 'qcow2',
    refcounts: 'eager',
    cache: 'writeback',
    clusterSize: 512,
    deviation: (device) => new DropsSyncs(device, 'l2-table-growth'),
  },
  {
    what: 'QED over a backing file without the sync before its tables',
    format: 'qed',
    cache: 'writethrough',
    backed: true,
    deviation: (device) => new DropsSyncs(device, 'l2-after-cow'),
  },
  {
    what: 'a writethrough mode that does not sync',
    format: 'qed',
    cache: 'writethrough',
    deviation: (device) => new DropsSyncs(device, 'writethrough'),
  },
  {
    what: 'a guest flush that does not sync',
    format: 'qcow2',
    refcounts: 'lazy',
    cache: 'writeback',
    deviation: (device) => new DropsSyncs(device, 'guest-flush'),
  },
  {
    what: 'lazy refcounts without the sync between copied data and L2',
    format: 'qcow2',
    refcounts: 'lazy',
    cache: 'writethrough',
    backed: true,
    deviation: (device) => new DropsSyncs(device, 'l2-after-cow'),
  },
  {
    what: 'a snapshot that is listed before its refcounts are durable',
    format: 'qcow2',
    refcounts: 'eager',
    cache: 'writeback',
    clusterSize: 512,
    steps: ['snapshots'],
    deviation: (device) => new ListsSnapshotsEarly(device),
  },
  {
    what: 'a hole that is punched before the change of tables is durable',
    format: 'qcow2',
    refcounts: 'eager',
    cache: 'writeback',
    clusterSize: 512,
    steps: ['snapshots'],
    deviationOf: (faultless) => (device) => new PunchesEarly(device, faultless),
  },
  {
    what: 'snapshot operations without their syncs',
    format: 'qcow2',
    refcounts: 'eager',
    cache: 'writeback',
    clusterSize: 512,
    steps: ['snapshots'],
    deviation: (device) => new DropsSyncs(device, 'snapshot', 'l2-after-refcount'),
  },
  {
    what: 'copied flags of tables that a snapshot shares',
    format: 'qcow2',
    refcounts: 'eager',
    cache: 'writeback',
    clusterSize: 512,
    steps: ['snapshots'],
    deviation: (device) => new StaleFlags(device),
  },
  {
    what: 'a file that is cut off before its tables',
    format: 'qcow2',
    refcounts: 'eager',
    cache: 'writeback',
    clusterSize: 4096,
    steps: ['resize'],
    deviation: (device) => new CutsEarly(device),
  },
  {
    what: 'a sync that answers before it is done',
    format: 'raw',
    cache: 'writeback',
    deviation: (device) => new AnswersEarly(device),
  },
  {
    what: 'a flush that is acknowledged after its sync failed',
    format: 'raw',
    cache: 'writeback',
    deviation: (device) => new HidesFailures(device),
    fault: (device) => new FailsOnce(device),
  },
];

describe('a fault of an engine is found, and shown in few requests', () => {
  test.each(planted)('$what', async (cell) => {
    const { plan, requests } = await smallPlan(cell);
    const { fault, deviationOf } = cell;
    const record = async (some: readonly Step[]): Promise<Recording> => {
      const deviation =
        deviationOf === undefined ? cell.deviation : deviationOf(await recordCell(plan, { requests: some }));
      return recordCell(plan, { requests: some, deviation, fault });
    };
    const options = { model: STRONGEST_MODEL, budget: 1500, seed: SEED };
    const { bad } = await explore(await record(requests), { ...options, isEnough: isViolation });
    const [finding] = bad[0]?.findings ?? [];
    if (finding === undefined) throw new Error(`not found, seed ${String(SEED)}`);
    const target = { kind: 'violation', finding } as const;
    const shrinking = { ...options, record, target, budget: 500, attempts: 60 };
    const example = await shrink(requests, shrinking);
    expect(example?.requests.length).toBeLessThanOrEqual(SHORT);
    expect(example?.state.findings.length).toBeGreaterThan(0);
  });
});

function isViolation({ findings, hazards }: JudgedState): boolean {
  return findings.length > 0 && hazards === undefined;
}

test('what is lost without syncs is counted, and nothing is lost with them', async () => {
  const options = { model: STRONGEST_MODEL, budget: 150, seed: SEED };
  const lossesOf = async (cache: SmallCell['cache']): Promise<Exploration['losses']> =>
    (await explore(await recordSmall({ format: 'qcow2', refcounts: 'eager', cache }), options)).losses;
  expect(await lossesOf('writeback')).toEqual({ states: 0, bytesMax: 0, bytesSum: 0, unreadable: 0 });
  const { states, bytesMax, bytesSum } = await lossesOf('unsafe');
  expect(states).toBeGreaterThan(20);
  expect(bytesMax).toBeGreaterThanOrEqual(4096);
  expect(bytesSum).toBeGreaterThan(bytesMax);
  expect(bytesSum).toBeLessThanOrEqual(states * bytesMax);
});
