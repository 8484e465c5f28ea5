/** One cell: its run recorded, the states explored, and each kind of finding shrunk to an example. */

import type { CellPlan } from '../bench/engine.ts';
import { collectRequests } from '../bench/pass-requests.ts';
import { SECTOR_SIZE } from '../core/alignment.ts';
import type { Pending } from '../core/pending.ts';
import { caseOf, type CrashCase } from './crash-case.ts';
import { explore, Surveyor, type Exploration, type SecondJudge } from './explore.ts';
import { judgeWithQemu, type QemuPlace } from './qemu-judge.ts';
import { recordCell } from './record-cell.ts';
import type { Recording } from './recording.ts';
import { shrink, type Example, type Target } from './shrink.ts';
import type { CrashModel } from './state-space.ts';
import { withSteps, type Step, type StepKind } from './steps.ts';
import { timelineOf } from './timeline.ts';

/** Recordings that are made at most to shrink an example, and states that are tried of each. */
const SHRINK_ATTEMPTS = 60;
const SHRINK_STATES = 4000;

export interface CellOptions {
  readonly model: CrashModel;
  /** Requests of the workload, at most. */
  readonly requests: number;
  /** What is done to the image between them. */
  readonly steps: readonly StepKind[];
  /** States that are tried, at most. */
  readonly states: number;
  /** Crashes in a row. */
  readonly nested: number;
  readonly seed: number;
  /** Where QEMU judges states as well, and how many of the cell. */
  readonly qemu?: (QemuPlace & { readonly states: number }) | undefined;
  /** Called now and then with the states tried so far; rejecting ends the exploration. */
  readonly turn: (tried: number) => Pending;
  /** Hazards of which there is an example already. */
  readonly shown: ReadonlySet<string>;
}

/** What was found, with as few requests and losses as show it. */
export interface FoundExample {
  /** A hazard's name, or the kind of the violation. */
  readonly what: string;
  readonly isHazard: boolean;
  readonly file: CrashCase;
}

export interface CellFindings {
  readonly exploration: Exploration;
  readonly examples: readonly FoundExample[];
  /** Of the exploration, by `nowNs`. */
  readonly seconds: number;
}

export async function exploreCell(
  plan: CellPlan,
  { model, requests: limit, steps, states, nested, seed, qemu, turn, shown }: CellOptions,
  nowNs: () => bigint,
): Promise<CellFindings> {
  const requests = withSteps(await collectRequests(plan, { limit }), steps, {
    virtualSize: plan.source.virtualSize,
    clusterSize: plan.cell.clusterSize ?? SECTOR_SIZE,
  });
  const record = (some: readonly Step[]): Promise<Recording> => recordCell(plan, { requests: some });
  const options = { model, seed, nested, turn };
  const recording = await record(requests);
  const begunNs = nowNs();
  const exploration = await explore(recording, {
    ...options,
    budget: states,
    second: qemu === undefined ? undefined : secondJudge(qemu, states),
  });
  const seconds = Number(nowNs() - begunNs) / 1e9;
  const shrinking = {
    ...options,
    record,
    budget: Math.min(states, SHRINK_STATES),
    attempts: SHRINK_ATTEMPTS,
  };
  const examples: FoundExample[] = [];
  for (const target of plan.cell.cache === 'unsafe' ? [] : targetsOf(exploration)) {
    const what = target.kind === 'hazard' ? target.hazard : target.finding.kind;
    if (target.kind === 'hazard' && shown.has(what)) continue;
    const example =
      (await shrink(requests, { ...shrinking, target })) ??
      unshrunk(exploration, target, { requests, recording });
    if (example === undefined) continue;
    const timeline = await timelineOf(example.state, await Surveyor.of(example.recording));
    examples.push({
      what,
      isHazard: target.kind === 'hazard',
      file: caseOf(plan, example, { what, timeline }),
    });
  }
  return { exploration, examples, seconds };
}

/** QEMU looks at as many states as are to be, spread over those that are tried. */
function secondJudge(
  { storage, qemuImg, states: wanted }: NonNullable<CellOptions['qemu']>,
  states: number,
): SecondJudge {
  return {
    every: Math.max(1, Math.floor(states / wanted)),
    judge: (view, { inspector, expectation }) =>
      judgeWithQemu(view, { storage, qemuImg, inspector, expectation }),
  };
}

/** A violation as it was found, if no part of the requests shows it: QEMU judges only a sample. */
function unshrunk(
  { bad: [state] }: Exploration,
  { kind }: Target,
  run: Pick<Example, 'requests' | 'recording'>,
): Example | undefined {
  return kind === 'violation' && state !== undefined ? { ...run, state } : undefined;
}

/** Each hazard, and the first violation. */
function targetsOf({ hazards, bad }: Exploration): readonly Target[] {
  const named = [...hazards.keys()].map((hazard): Target => ({ kind: 'hazard', hazard }));
  const [finding] = bad[0]?.findings ?? [];
  return finding === undefined ? named : [{ kind: 'violation', finding }, ...named];
}
