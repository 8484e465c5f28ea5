/**
 * Times of two versions that ran in turns: what changed, for each cell.
 *
 * Invariants:
 * - Runs are paired by round, so what slowed a round slowed both. The interval of the median ratio
 *   comes from order statistics (the sign test): it assumes no distribution, and holds for few
 *   rounds too.
 * - The cells of a run are judged together: intervals are so wide (Bonferroni) that in 99 of 100
 *   runs in which nothing changed no cell is called slower or faster.
 * - A difference must also be large: at least `MIN_EFFECT`, and more than the control, which is the
 *   old version against itself in the same rounds.
 * - What cannot be decided is inconclusive, which is no pass: too few rounds, or too wide an
 *   interval.
 */

import { median } from 'simple-statistics';

import type { Cell } from '../result/schema.ts';

export type TimeOutcome = 'regression' | 'improvement' | 'no change' | 'inconclusive';

/** Of one cell in one round: time per request, in nanoseconds. */
export interface RoundTimes {
  readonly base: number;
  readonly head: number;
  /** The old version once more. */
  readonly control: number;
}

export interface TimeVerdict {
  readonly cell: Cell;
  readonly rounds: number;
  /** Head ÷ base: the median over the rounds. */
  readonly ratio: number;
  /** Of that median, with `ERRORS` over all cells; `undefined` if there are too few rounds. */
  readonly interval: readonly [low: number, high: number] | undefined;
  /** Control ÷ base. */
  readonly control: number;
  readonly outcome: TimeOutcome;
}

/** Runs with a false alarm. */
const ERRORS = 0.01;
/** Smaller differences are never called one: `0.03` is 3 %. */
export const MIN_EFFECT = 0.03;
/** An interval within this distance of 1 shows that nothing changed. */
const EQUIVALENCE = 0.05;

/** The verdict on each cell; all are judged as one family. */
export function judgeTimes(
  cells: readonly { readonly cell: Cell; readonly rounds: readonly RoundTimes[] }[],
): readonly TimeVerdict[] {
  return cells.map(({ cell, rounds }) => {
    const ratios = rounds.map(({ base, head }) => head / base);
    const controls = rounds.map(({ base, control }) => control / base);
    const judged = {
      ratio: median(ratios),
      interval: medianInterval(ratios, ERRORS / cells.length),
      control: median(controls),
    };
    return { cell, rounds: rounds.length, ...judged, outcome: outcomeOf(judged) };
  });
}

/** Rounds that are needed before an interval of so many cells exists. */
export function roundsNeeded(cells: number): number {
  return Math.ceil(Math.log2((2 * cells) / ERRORS));
}

/**
 * The interval between two order statistics that misses the median with at most the probability
 * `error` (Hollander and Wolfe, Nonparametric Statistical Methods, 1999, section 3.6).
 */
export function medianInterval(
  values: readonly number[],
  error: number,
): readonly [low: number, high: number] | undefined {
  const sorted = values.toSorted((a, b) => a - b);
  const count = sorted.length;
  // Values that are left out at either end: as many as the error allows.
  let [left, tail, term] = [-1, 0, 2 ** -count];
  while (left + 1 < count / 2 && 2 * (tail + term) <= error) {
    left++;
    tail += term;
    term *= (count - left) / (left + 1);
  }
  const [low, high] = [sorted[left], sorted[count - 1 - left]];
  return left < 0 || low === undefined || high === undefined ? undefined : [low, high];
}

function outcomeOf({
  ratio,
  interval,
  control,
}: Pick<TimeVerdict, 'ratio' | 'interval' | 'control'>): TimeOutcome {
  if (interval === undefined) return 'inconclusive';
  const [low, high] = interval;
  const effect = distance(ratio);
  const isLarge = effect >= Math.log1p(MIN_EFFECT) && effect > distance(control);
  if (isLarge && low > 1) return 'regression';
  if (isLarge && high < 1) return 'improvement';
  return Math.max(distance(low), distance(high)) <= Math.log1p(EQUIVALENCE) ? 'no change' : 'inconclusive';
}

/** From 1, in logarithms: alike in both directions. */
function distance(ratio: number): number {
  return Math.abs(Math.log(ratio));
}
