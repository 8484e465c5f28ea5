/** A crash in the middle of a snapshot operation, a resize or a compressed write. */

import { describe, expect, test } from 'vitest';

import { explore } from '../../src/crash/explore.ts';
import { recordCell } from '../../src/crash/record-cell.ts';
import { STRONGEST_MODEL } from '../../src/crash/state-space.ts';
import { isImageStep, STEP_KINDS } from '../../src/crash/steps.ts';
import { recordSmall, smallPlan, type SmallCell } from './small-recording.ts';

const SEED = 7;

/** Clusters of a sector: many tables, which a crash can tear. */
const cells: readonly SmallCell[] = [
  ...STEP_KINDS.flatMap((kind) =>
    [512, 4096].flatMap((clusterSize) =>
      (['eager', 'lazy'] as const).map((refcounts): SmallCell => ({
        format: 'qcow2',
        refcounts,
        cache: 'writeback',
        clusterSize,
        steps: [kind],
        releases: true,
        backed: clusterSize === 4096,
      })),
    ),
  ),
  { format: 'qcow2', refcounts: 'eager', cache: 'writethrough', steps: STEP_KINDS },
  { format: 'qed', cache: 'writeback', steps: ['resize'] },
  { format: 'raw', cache: 'writeback', steps: ['resize'] },
];

describe('a crash in the middle of a step loses neither the disk nor a snapshot', () => {
  test.each(cells)('$steps, $format $refcounts, clusters of $clusterSize', async (cell) => {
    const recording = await recordSmall(cell);
    const { bad, hazards, tried } = await explore(recording, {
      model: STRONGEST_MODEL,
      budget: 120,
      seed: SEED,
    });
    expect(bad.slice(0, 3), `seed ${String(SEED)}`).toEqual([]);
    expect(tried).toBe(120);
    // A check alone may call copied flags corrupt, in a snapshot operation with eager refcounts.
    if (cell.refcounts === 'lazy' || cell.steps?.includes('snapshots') !== true) {
      expect([...hazards.keys()]).not.toContain('stale-copied-flags');
    }
  });
});

test('all steps of a list are taken that the image can take', async () => {
  const cell = { format: 'qcow2', refcounts: 'eager', cache: 'writeback', steps: STEP_KINDS } as const;
  const { requests } = await smallPlan(cell);
  const planned = requests.filter(isImageStep).map(({ op }) => op);
  const taken = (await recordSmall(cell)).requests.map(({ op }) => op);
  for (const op of new Set(planned)) expect(taken).toContain(op);
  expect(taken.filter((op) => op.startsWith('snapshot-'))).toEqual(
    planned.filter((op) => op.startsWith('snapshot-')),
  );
});

test('a step is left out where the image refuses it', async () => {
  const { plan } = await smallPlan({ format: 'qcow2', refcounts: 'eager', cache: 'writeback' });
  const range = { offset: 0, length: 0 };
  const { requests } = await recordCell(plan, {
    requests: [
      { ...range, op: 'snapshot-delete', snapshot: 'a' },
      { ...range, op: 'snapshot-create', snapshot: 'b' },
      { op: 'shrink', offset: 0, length: 512 },
    ],
  });
  expect(requests.map(({ op }) => op)).toEqual(['snapshot-create']);
});

const CLUSTER = 512;
const DISK = 1024 * 1024;

/** Sizes within an L2 table, which maps 64 clusters, and at its border; with and without snapshots. */
test.each([
  ...(['metadata', 'falloc', 'full'] as const).map((preallocation) => ({
    what: `larger, ${preallocation}`,
    steps: [{ op: 'grow', offset: DISK, length: 300 * CLUSTER, preallocation }] as const,
  })),
  ...[60, 100].map((clusters) => ({
    what: `smaller, to ${String(clusters)} clusters`,
    steps: [{ op: 'shrink', offset: clusters * CLUSTER, length: DISK - clusters * CLUSTER }] as const,
  })),
  {
    what: 'smaller, with a snapshot',
    steps: [
      { op: 'snapshot-create', offset: 0, length: 0, snapshot: 'a' },
      { op: 'shrink', offset: 60 * CLUSTER, length: DISK - 60 * CLUSTER },
    ] as const,
  },
])('a crash loses nothing, and leaves leaks at most, while a disk gets $what', async ({ steps }) => {
  const cell = { format: 'qcow2', refcounts: 'eager', cache: 'writeback', clusterSize: CLUSTER } as const;
  const { plan, requests } = await smallPlan({ ...cell, prefilled: true, requests: 12 });
  const flush = { op: 'flush', offset: 0, length: 0, fua: false, unmap: false, timeNs: 0 } as const;
  const recording = await recordCell(plan, { requests: [...requests, flush, ...steps] });
  expect(recording.requests.map(({ op }) => op).slice(-steps.length)).toEqual(steps.map(({ op }) => op));
  const { bad } = await explore(recording, { model: STRONGEST_MODEL, budget: 300, seed: SEED, nested: 2 });
  expect(bad.slice(0, 3), `seed ${String(SEED)}`).toEqual([]);
});
