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
