/**
 * The shortest example of what was found: as few requests as show it, then as few lost operations.
 *
 * Each attempt records the requests again and explores what they leave, so an example is one of a
 * real run, and not a part of another.
 */

import { assertInvariant } from '../core/error.ts';
import { stateAfter, type Crash, type Crashes } from './crashes.ts';
import { explore, Surveyor, type BadState, type ExploreOptions, type JudgedState } from './explore.ts';
import type { Finding } from './findings.ts';
import type { Hazard } from './hazards.ts';
import type { Recording } from './recording.ts';
import { StateView, type Fate } from './state-view.ts';
import type { Step } from './steps.ts';

/** What has to be found again. */
export type Target =
  | { readonly kind: 'hazard'; readonly hazard: Hazard }
  | { readonly kind: 'violation'; readonly finding: Pick<Finding, 'kind' | 'moment'> };

export interface ShrinkOptions extends Omit<ExploreOptions, 'isEnough'> {
  readonly record: (requests: readonly Step[]) => Promise<Recording>;
  readonly target: Target;
  /** Recordings that are made at most. */
  readonly attempts: number;
}

export interface Example {
  readonly requests: readonly Step[];
  readonly recording: Recording;
  readonly state: BadState;
}

/**
 * Shrinks the requests in which `target` was found.
 *
 * @returns `undefined` if they do not show it within the budget
 */
export async function shrink(
  requests: readonly Step[],
  options: ShrinkOptions,
): Promise<Example | undefined> {
  let best = await exampleIn(
    requests.filter(({ op }) => op !== 'read'),
    options,
  );
  if (best === undefined) return undefined;
  let attempts = options.attempts;
  for (let size = Math.ceil(best.requests.length / 2); size >= 1 && attempts > 0;) {
    let isSmaller = false;
    for (let from = best.requests.length - size; from > -size && attempts > 0; from -= size) {
      const kept: Step[] = best.requests.filter((_, index) => index < from || index >= from + size);
      if (kept.length === best.requests.length) continue;
      attempts--;
      const found: Example | undefined = await exampleIn(kept, options);
      if (found === undefined) continue;
      best = found;
      isSmaller = true;
    }
    if (size === 1 && !isSmaller) break;
    size = size === 1 ? 1 : Math.ceil(size / 2);
  }
  return { ...best, state: await withFewerLosses(best, options.target) };
}

async function exampleIn(requests: readonly Step[], options: ShrinkOptions): Promise<Example | undefined> {
  const recording = await options.record(requests);
  let state: BadState | undefined;
  await explore(recording, {
    ...options,
    isEnough: (judged) => {
      if (!shows(judged, options.target)) return false;
      const { crashes, findings } = judged;
      state = { crashes, findings };
      return true;
    },
  });
  return state === undefined ? undefined : { requests, recording, state };
}

/** Whether a state that was judged shows it. */
export function shows(
  { findings, hazards }: Pick<JudgedState, 'findings' | 'hazards'>,
  target: Target,
): boolean {
  if (target.kind === 'hazard') return hazards?.has(target.hazard) === true;
  const { kind, moment } = target.finding;
  return hazards === undefined && findings.some((each) => each.kind === kind && each.moment === moment);
}

/** Keeps of what the last crash lost or tore all that the finding does not need. */
export async function withFewerLosses(
  { recording, state }: Omit<Example, 'requests'>,
  target: Target,
): Promise<BadState> {
  const surveyor = await Surveyor.of(recording);
  const view = await stateAfter(recording, surveyor.inspector, state.crashes);
  assertInvariant(view instanceof StateView, 'a run repeats');
  let { findings } = state;
  for (const [place, { isSettled }] of view.epoch.pending.entries()) {
    const before = view.fates[place] as Fate;
    if (isSettled || (before.kept && before.sizeKept && before.tear === undefined)) continue;
    view.set(place, true);
    const judged = await surveyor.judged(view);
    if (shows(judged, target)) findings = judged.findings;
    else view.setFate(place, before);
  }
  const [first, ...later] = state.crashes;
  const last = { ...(later.pop() ?? first), fates: view.fates.slice() };
  return { crashes: state.crashes.length === 1 ? [last] : [first, ...later, last], findings };
}

/**
 * Judges one state of a recording again.
 *
 * @param refuse called if the recording does not have the crashes of the state: with one that it
 *   lacks, and how many operations it has pending then
 */
export async function judgeAgain(
  recording: Recording,
  crashes: Crashes,
  refuse: (crash: Crash, pending: number | undefined) => never,
): Promise<
  Pick<JudgedState, 'findings' | 'hazards'> & { readonly state: BadState; readonly surveyor: Surveyor }
> {
  const surveyor = await Surveyor.of(recording);
  const view = await stateAfter(recording, surveyor.inspector, crashes);
  if (!(view instanceof StateView)) return refuse(view.crash, view.pending);
  const { findings, hazards } = await surveyor.judged(view);
  return { state: { crashes, findings }, findings, hazards, surveyor };
}
