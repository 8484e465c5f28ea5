/**
 * Times of the same cells in two results.
 *
 * Invariants:
 * - The results are separate runs: samples are not paired, and what changed on the machine between
 *   the runs is in the difference. What an A/A control shows is only the noise within a run.
 * - A difference is one only if its interval leaves 1 out, its effect is large, and it is larger
 *   than what the controls show. Too few samples, or an interval wider than the difference that
 *   matters, are inconclusive, which is not the same as no change.
 * - Modelled times are deterministic: any difference is one.
 */

import { independentRatioInterval, ratioInterval, type Interval } from '../result/bootstrap.ts';
import { cliffsDelta, comparisonGroup, pairsByRound } from '../result/comparison.ts';
import type { Cell, CellRecord } from '../result/schema.ts';
import { requestTimeNs, spreadOf } from '../result/statistics.ts';
import { modelName } from '../result/vocabulary.ts';
import { matchTimed } from './matching.ts';

export type TimeVerdict = 'faster' | 'slower' | 'no change' | 'inconclusive';

export interface TimeComparison {
  readonly cell: Cell;
  /** Modelled, hence without noise. */
  readonly isExact: boolean;
  /** Medians, nanoseconds per guest request. */
  readonly beforeNs: number;
  readonly afterNs: number;
  readonly samplesBefore: number;
  readonly samplesAfter: number;
  /** After ÷ before with its interval; without one of few samples. */
  readonly ratio: Interval | undefined;
  /** Cliff's delta: 1 if every sample after is longer than every one before. */
  readonly cliffsDelta: number;
  /** What a difference of nothing looked like within the runs, farthest from 1. */
  readonly control: Interval | undefined;
  readonly verdict: TimeVerdict;
}

/** From which on Cliff's delta is a large effect (Romano and others, 2006). */
const LARGE_EFFECT = 0.474;
/** An interval that reaches farther than this from 1 cannot show that nothing changed. */
const EQUIVALENCE = 0.1;

/** Timed cells of both, in the order of the first. */
export function timeChanges(
  before: readonly CellRecord[],
  after: readonly CellRecord[],
): readonly TimeComparison[] {
  const isTimed = ({ cell, timings }: CellRecord): boolean => timings.length > 0 && cell.timing === undefined;
  const { pairs } = matchTimed(before.filter(isTimed), after.filter(isTimed), ({ cell }) => cell);
  const controls = [controlsOf(before), controlsOf(after)];
  return pairs.map(([old, own]) =>
    compareTimes(
      old,
      own,
      controls.map((of, index) => of.get(comparisonGroup((index === 0 ? old : own).cell))),
    ),
  );
}

function compareTimes(
  before: CellRecord,
  after: CellRecord,
  controls: readonly (Interval | undefined)[],
): TimeComparison {
  const old = before.timings.map(requestTimeNs);
  const own = after.timings.map(requestTimeNs);
  const isExact = modelName(after.cell.device) !== undefined;
  const [beforeNs, afterNs] = [middle(old), middle(own)];
  const ratio = isExact ? undefined : independentRatioInterval(own, old);
  const control = controls
    .filter((interval) => interval !== undefined)
    .reduce<Interval | undefined>(
      (worst, one) => (worst === undefined || reach(one) > reach(worst) ? one : worst),
      undefined,
    );
  const delta = cliffsDelta(own, old);
  return {
    cell: after.cell,
    isExact,
    beforeNs,
    afterNs,
    samplesBefore: old.length,
    samplesAfter: own.length,
    ratio,
    cliffsDelta: delta,
    control,
    verdict: isExact ? exactVerdict(beforeNs, afterNs) : verdictOf({ ratio, control, cliffsDelta: delta }),
  };
}

function exactVerdict(beforeNs: number, afterNs: number): TimeVerdict {
  if (afterNs === beforeNs) return 'no change';
  return afterNs > beforeNs ? 'slower' : 'faster';
}

function verdictOf({
  ratio,
  control,
  cliffsDelta: delta,
}: Pick<TimeComparison, 'ratio' | 'control' | 'cliffsDelta'>): TimeVerdict {
  if (ratio === undefined) return 'inconclusive';
  const noise = control === undefined ? 0 : reach(control);
  const isLarge = Math.abs(delta) >= LARGE_EFFECT && distance(ratio.estimate) > noise;
  if (isLarge && ratio.low > 1) return 'slower';
  if (isLarge && ratio.high < 1) return 'faster';
  return reach(ratio) <= Math.log1p(EQUIVALENCE) ? 'no change' : 'inconclusive';
}

/** By group: its reference against itself. */
function controlsOf(records: readonly CellRecord[]): ReadonlyMap<string, Interval> {
  const controls = new Map<string, Interval>();
  for (const { cell, timings, control } of records) {
    if (control === undefined) continue;
    const interval = ratioInterval(pairsByRound(control, timings));
    if (interval !== undefined) controls.set(comparisonGroup(cell), interval);
  }
  return controls;
}

/** How far an interval reaches from 1, in logarithms: alike in both directions. */
function reach({ low, high }: Interval): number {
  return Math.max(distance(low), distance(high));
}

function distance(ratio: number): number {
  return Math.abs(Math.log(ratio));
}

function middle(values: readonly number[]): number {
  return spreadOf(values)?.median ?? 0;
}
