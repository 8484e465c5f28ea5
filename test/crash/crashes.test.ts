/** A crash in the middle of the opening or the repair after a crash. */

import { describe, expect, test } from 'vitest';

import { caseOf, crashCaseSchema, crashesOfCase } from '../../src/crash/crash-case.ts';
import { stateAfter, type Crashes } from '../../src/crash/crashes.ts';
import { explore, Surveyor, type ExploreOptions, type JudgedState } from '../../src/crash/explore.ts';
import { recordCell } from '../../src/crash/record-cell.ts';
import type { Recording } from '../../src/crash/recording.ts';
import { shrink } from '../../src/crash/shrink.ts';
import { STRONGEST_MODEL } from '../../src/crash/state-space.ts';
import { StateView } from '../../src/crash/state-view.ts';
import type { Step } from '../../src/crash/steps.ts';
import { timelineOf } from '../../src/crash/timeline.ts';
import { DropsSyncs, ForgetsLostTail } from './planted.ts';
import { recordSmall, smallPlan, type SmallCell } from './small-recording.ts';

const SEED = 7;
const OPTIONS: ExploreOptions = { model: STRONGEST_MODEL, budget: 150, seed: SEED, nested: 3 };
const LAZY = { format: 'qcow2', refcounts: 'lazy', cache: 'writeback' } as const;

describe('a repair that a crash ends loses nothing', () => {
  test.each<SmallCell>([
    { ...LAZY, clusterSize: 512, releases: true },
    { ...LAZY, backed: true },
    { ...LAZY, clusterSize: 512, steps: ['snapshots'] },
    { ...LAZY, refcounts: 'eager', clusterSize: 512, releases: true, steps: ['resize'] },
    { format: 'qed', cache: 'writeback', releases: true },
  ])('$format $refcounts, clusters of $clusterSize, $steps', async (cell) => {
    const recording = await recordSmall(cell);
    let deepest = 0;
    const found: Crashes[] = [];
    const { bad, later } = await explore(recording, {
      ...OPTIONS,
      isEnough: ({ crashes }) => {
        deepest = Math.max(deepest, crashes.length);
        if (crashes.length > 1 && found.length < 20) found.push(crashes);
        return false;
      },
    });
    expect(bad.slice(0, 3), `seed ${String(SEED)}`).toEqual([]);
    expect(later.tried).toBeGreaterThan(20);
    expect(later.space.whole).toBeGreaterThanOrEqual(BigInt(later.recoveries));
    expect(deepest).toBeGreaterThanOrEqual(recording.subject.clusterSize < 4096 ? 3 : 2);
    const surveyor = await Surveyor.of(recording);
    for (const crashes of found) {
      const view = await stateAfter(recording, surveyor.inspector, crashes);
      if (!(view instanceof StateView)) throw new Error('a state that was tried is not found again');
      expect((await surveyor.judged(view)).findings).toEqual([]);
    }
  });
});

const planted: readonly (SmallCell & { readonly what: string })[] = [
  {
    ...LAZY,
    what: 'a repair that has no sync before the pointer to its table',
    recoveryDeviation: (device) => new DropsSyncs(device, 'repair'),
  },
  {
    ...LAZY,
    what: 'a repair that puts refcounts where entries lead past a lost tail',
    recoveryDeviation: (device) => new ForgetsLostTail(device),
  },
];

describe('a fault of a repair is found, and shown in few requests', () => {
  test.each(planted)('$what', async (cell) => {
    const { plan, requests } = await smallPlan(cell);
    const { recoveryDeviation } = cell;
    const record = (some: readonly Step[]): Promise<Recording> =>
      recordCell(plan, { requests: some, recoveryDeviation });
    const { bad } = await explore(await record(requests), {
      ...OPTIONS,
      budget: 1000,
      isEnough: isViolation,
    });
    const [finding] = bad[0]?.findings ?? [];
    if (finding === undefined) throw new Error(`not found, seed ${String(SEED)}`);
    const target = { kind: 'violation', finding } as const;
    const options = { ...OPTIONS, budget: 600, record, target, attempts: 60 };
    const example = await shrink(requests, options);
    if (example === undefined) throw new Error(`not shrunk, seed ${String(SEED)}`);
    expect(example.requests.length).toBeLessThanOrEqual(6);
    const surveyor = await Surveyor.of(example.recording);
    const timeline = await timelineOf(example.state, surveyor);
    expect(timeline.filter((line) => line === 'crash')).toHaveLength(example.state.crashes.length);
    // As a file has it: a crash after a crash is reproduced too.
    const file = JSON.stringify(caseOf(plan, example, { what: finding.kind, timeline }));
    const crashes = crashesOfCase(crashCaseSchema.parse(JSON.parse(file)));
    expect(crashes).toEqual(example.state.crashes);
    const view = await stateAfter(example.recording, surveyor.inspector, crashes);
    if (!(view instanceof StateView)) throw new Error('the example is not found again');
    expect((await surveyor.judged(view)).findings).toEqual(example.state.findings);
  });
});

function isViolation({ findings, hazards }: JudgedState): boolean {
  return findings.length > 0 && hazards === undefined;
}
