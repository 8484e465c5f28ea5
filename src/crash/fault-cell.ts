/** One cell: each of its host operations fails in turn, and what is left has to keep what was promised. */

import type { CellPlan } from '../bench/engine.ts';
import type { Pending } from '../core/pending.ts';
import type { Crashes } from './crashes.ts';
import { epochsOf } from './epochs.ts';
import { explore, Surveyor, type BadState } from './explore.ts';
import { FaultInjector, type Fault } from './faults.ts';
import { recordCell } from './record-cell.ts';
import type { Recording } from './recording.ts';
import { shrink, type Example } from './shrink.ts';
import type { CrashModel } from './state-space.ts';
import { StateView } from './state-view.ts';
import type { Step } from './steps.ts';

/** States after a fault that are tried, at most: the end of the run, and crashes of it. */
const FAULT_STATES = 8;
const SHRINK_STATES = 400;
const SHRINK_ATTEMPTS = 40;

export interface FaultOptions {
  readonly model: CrashModel;
  readonly seed: number;
  /** Awaited now and then with the faults tried so far and how many there are. */
  readonly turn: (tried: number, of: number) => Pending;
}

export interface FaultFindings {
  readonly tried: number;
  /** Those of which the guest got an error: of a request, or of the opening or the close. */
  readonly reported: number;
  readonly states: number;
  /** Faults after which something promised was not kept. */
  readonly violations: number;
  /** Of the first of them, with as few requests as show it. */
  readonly example: (Example & { readonly fault: Fault }) | undefined;
}

/** @param requests without image steps */
export async function tryFaults(
  plan: CellPlan,
  requests: readonly Step[],
  { model, seed, turn }: FaultOptions,
): Promise<FaultFindings> {
  // A read changes nothing.
  const changing = requests.filter(({ op }) => op !== 'read');
  const survey = new FaultInjector();
  await recordCell(plan, { requests: changing, inject: survey });
  const faults = survey.possible;
  let [tried, reported, states, violations] = [0, 0, 0, 0];
  let example: FaultFindings['example'];
  for (const fault of faults) {
    await turn(tried++, faults.length);
    const recording = await recordWith(plan, changing, fault);
    if (!recording.isClosed || recording.requests.some(({ doneAt }) => doneAt === Infinity)) reported++;
    const options = { model, seed, budget: FAULT_STATES };
    const atEnd = await badEnd(recording);
    const exploration = atEnd === undefined ? await explore(recording, options) : undefined;
    states += 1 + (exploration?.tried ?? 0);
    const bad = atEnd ?? exploration?.bad[0];
    if (bad === undefined) continue;
    violations++;
    example ??= await exampleOf(plan, changing, { fault, bad, recording, options });
  }
  return { tried, reported, states, violations, example };
}

async function recordWith(plan: CellPlan, requests: readonly Step[], fault: Fault): Promise<Recording> {
  return recordCell(plan, { requests, inject: new FaultInjector(fault) });
}

/** What is wrong when the run ends and all that it wrote is there. */
async function badEnd(recording: Recording): Promise<BadState | undefined> {
  const surveyor = await Surveyor.of(recording);
  for (const epoch of epochsOf(recording)) {
    if (epoch.sync !== undefined) continue;
    const view = new StateView(epoch);
    for (const [place, { isSettled }] of epoch.pending.entries()) if (!isSettled) view.set(place, true);
    const { findings, hazards } = await surveyor.judged(view);
    const crashes: Crashes = [{ of: 'run', epoch: epoch.number, fates: view.fates.slice() }];
    if (findings.length > 0 && hazards === undefined) return { crashes, findings };
  }
  return undefined;
}

async function exampleOf(
  plan: CellPlan,
  requests: readonly Step[],
  found: {
    readonly fault: Fault;
    readonly bad: BadState;
    readonly recording: Recording;
    readonly options: { readonly model: CrashModel; readonly seed: number };
  },
): Promise<FaultFindings['example']> {
  const { fault, bad, recording, options } = found;
  const [finding] = bad.findings;
  if (finding === undefined) return undefined;
  const { part } = fault;
  const struck = typeof part === 'number' ? requests[part] : undefined;
  /** The same fault where other requests were left out. */
  const faultIn = (some: readonly Step[]): Fault | undefined => {
    if (struck === undefined) return fault;
    const index = some.indexOf(struck);
    return index < 0 ? undefined : { ...fault, part: index };
  };
  const shrunk = await shrink(requests, {
    ...options,
    record: (some) => {
      const there = faultIn(some);
      return there === undefined ? recordCell(plan, { requests: some }) : recordWith(plan, some, there);
    },
    budget: SHRINK_STATES,
    attempts: SHRINK_ATTEMPTS,
    target: { kind: 'violation', finding },
  });
  const there = shrunk === undefined ? undefined : faultIn(shrunk.requests);
  if (shrunk === undefined || there === undefined) return { requests, recording, state: bad, fault };
  return { ...shrunk, fault: there };
}
