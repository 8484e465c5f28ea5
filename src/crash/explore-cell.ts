/** One cell: its run recorded, the states explored, and each kind of finding shrunk to an example. */

import type { CellPlan } from '../bench/engine.ts';
import { collectRequests } from '../bench/pass-requests.ts';
import { SECTOR_SIZE } from '../core/alignment.ts';
import { assertInvariant } from '../core/error.ts';
import type { Pending } from '../core/pending.ts';
import { caseOf, type CrashCase } from './crash-case.ts';
import { explore, Surveyor, type Exploration, type SecondJudge } from './explore.ts';
import { tryFaults, type FaultFindings } from './fault-cell.ts';
import { faultText, type FaultInjector } from './faults.ts';
import { judgeWithQemu, type QemuPlace } from './qemu-judge.ts';
import { recordCell } from './record-cell.ts';
import { recordLogged, type ForeignEngine } from './record-logged.ts';
import type { Recording } from './recording.ts';
import { shrink, type Example, type Target } from './shrink.ts';
import type { CrashModel } from './state-space.ts';
import { withSteps, type Step, type StepKind } from './steps.ts';
import { timelineOf } from './timeline.ts';

/** Recordings that are made at most to shrink an example, and states that are tried of each. */
const SHRINK_ATTEMPTS = 60;
const SHRINK_STATES = 4000;

/** As cells name it. */
export const BUILTIN_ENGINE = 'builtin';

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
  /** Whether each host operation fails in turn, too. */
  readonly faults: boolean;
  readonly seed: number;
  /** Where QEMU judges states as well, and how many of the cell. */
  readonly qemu?: (QemuPlace & { readonly states: number }) | undefined;
  /** What serves the requests of a cell of another engine. */
  readonly foreign?: ForeignEngine | undefined;
  readonly signal?: AbortSignal | undefined;
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

/** The same, as it is printed. */
export interface ShownExample extends Omit<FoundExample, 'file'> {
  readonly file: { readonly what: string; readonly timeline: readonly string[] };
}

export interface CellFindings {
  readonly exploration: Exploration;
  readonly faults?: Omit<FaultFindings, 'example'> | undefined;
  readonly examples: readonly FoundExample[];
  /** Of the exploration, by `nowNs`. */
  readonly seconds: number;
}

export async function exploreCell(
  plan: CellPlan,
  {
    model,
    requests: limit,
    steps,
    states,
    nested,
    faults,
    seed,
    qemu,
    foreign,
    signal,
    turn,
    shown,
  }: CellOptions,
  nowNs: () => bigint,
): Promise<CellFindings> {
  const requests = withSteps(await collectRequests(plan, { limit }), steps, {
    virtualSize: plan.source.virtualSize,
    clusterSize: plan.cell.clusterSize ?? SECTOR_SIZE,
  });
  const record = (some: readonly Step[]): Promise<Recording> =>
    recordPlan(plan, { requests: some, foreign, signal });
  const options = { model, seed, nested, turn };
  const recording = await record(requests);
  const { exploration, seconds } = await exploreTimed(recording, { ...options, states, qemu }, nowNs);
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
  // What a failed step leaves of an image is not defined.
  if (!faults || steps.length > 0 || plan.cell.cache === 'unsafe') return { exploration, examples, seconds };
  const { example, ...counts } = await tryFaults(plan, requests, { model, seed, turn: () => turn(states) });
  if (example !== undefined) examples.push(await faultExample(plan, example));
  return { exploration, faults: counts, examples, seconds };
}

/** The recording of a cell, by the engine that it names. */
export function recordPlan(
  plan: CellPlan,
  {
    requests,
    foreign,
    signal,
    inject,
  }: Pick<CellOptions, 'foreign' | 'signal'> & {
    readonly requests: readonly Step[];
    readonly inject?: FaultInjector | undefined;
  },
): Promise<Recording> {
  if (plan.cell.engine === BUILTIN_ENGINE) return recordCell(plan, { requests, inject, signal });
  assertInvariant(foreign !== undefined, 'a cell of another engine has one');
  return recordLogged(plan, { requests, engine: foreign, signal });
}

/** How one recording is explored. */
export type TimedOptions = Pick<CellOptions, 'model' | 'seed' | 'nested' | 'turn' | 'states' | 'qemu'>;

export async function exploreTimed(
  recording: Recording,
  { states, qemu, ...options }: TimedOptions,
  nowNs: () => bigint,
): Promise<Pick<CellFindings, 'exploration' | 'seconds'>> {
  const begunNs = nowNs();
  const exploration = await explore(recording, {
    ...options,
    budget: states,
    second: qemu === undefined ? undefined : secondJudge(qemu, states),
  });
  return { exploration, seconds: Number(nowNs() - begunNs) / 1e9 };
}

async function faultExample(
  plan: CellPlan,
  example: NonNullable<FaultFindings['example']>,
): Promise<FoundExample> {
  const { fault, state, recording } = example;
  const what = state.findings[0]?.kind ?? 'nothing';
  const timeline = [faultText(fault), ...(await timelineOf(state, await Surveyor.of(recording)))];
  return { what, isHazard: false, file: caseOf(plan, example, { what, timeline, fault }) };
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
export function targetsOf({ hazards, bad }: Exploration): readonly Target[] {
  const named = [...hazards.keys()].map((hazard): Target => ({ kind: 'hazard', hazard }));
  const [finding] = bad[0]?.findings ?? [];
  return finding === undefined ? named : [{ kind: 'violation', finding }, ...named];
}
