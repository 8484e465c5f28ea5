/**
 * Cells compared in time: how much longer one takes than another, how sure that is, and what this
 * machine could have shown at all.
 *
 * Every group of cells that differ only in format, refcounts and cluster size has a reference,
 * which is timed twice in each round: the second series is its *control*. Compared with itself (an
 * A/A comparison) the reference shows what a difference of nothing looks like here.
 *
 * Invariants:
 * - Samples are paired by round: both were taken within the same round, so what slowed that round
 *   slowed both.
 * - A difference is only called one if its interval leaves 1 out and it is larger than what the
 *   control shows.
 * - All samples count, outliers too.
 */

import { CONFIDENCE, medianError, ratioInterval, type Interval } from './bootstrap.ts';
import { coordinateNames } from './coordinates.ts';
import { requestTimeNs } from './statistics.ts';
import type { Cell, CellRecord, ResultRecord, Timing } from './schema.ts';
import { modelName } from './vocabulary.ts';

export type ComparisonVerdict = 'faster' | 'slower' | 'no difference shown';

export interface Comparison {
  readonly reference: CellRecord;
  readonly record: CellRecord;
  /** Rounds in which both were timed. */
  readonly rounds: number;
  /**
   * Time a request of the cell ÷ that of the reference: median over the rounds, and its interval.
   */
  readonly ratio: Interval;
  /**
   * Cliff's delta: 1 if every sample of the cell took longer than every one of the reference, −1 if
   * shorter.
   */
  readonly cliffsDelta: number;
  /** The reference against itself; `undefined` of a result without control samples. */
  readonly control: Interval | undefined;
  /**
   * The smallest relative difference that as many rounds, as noisy as the control's, would show in
   * four of five runs: `0.03` is 3 %.
   */
  readonly detectable: number | undefined;
  readonly verdict: ComparisonVerdict;
}

const GROUPING: readonly string[] = coordinateNames(({ isCompared = false }) => !isCompared);

/**
 * Cells that are compared with each other have the same: all coordinates but those that are
 * compared.
 */
export function comparisonGroup(cell: Cell): string {
  const rest = Object.entries(cell).filter(([name]) => GROUPING.includes(name));
  return JSON.stringify(rest.toSorted(([a], [b]) => (a < b ? -1 : 1)));
}

/**
 * What the others of a group are compared with: its first qcow2 cell with eager refcounts, or its
 * first cell.
 */
export function referenceOf<T>(group: readonly T[], cellOf: (item: T) => Cell): T | undefined {
  return group.find((item) => cellOf(item).refcounts === 'eager') ?? group[0];
}

/**
 * Every timed cell against the reference of its group. Modelled times have no noise, and replays by
 * the trace's times all take as long as the trace: they are not compared here.
 */
export function comparisonsOf(result: Pick<ResultRecord, 'cells'>): readonly Comparison[] {
  const timed = result.cells.filter(
    ({ cell, timings }) =>
      timings.length > 0 && modelName(cell.device) === undefined && cell.timing === undefined,
  );
  const groups = Map.groupBy(timed, ({ cell }) => comparisonGroup(cell));
  return [...groups.values()].flatMap((group) => {
    const reference = referenceOf(group, ({ cell }) => cell);
    if (reference === undefined) return [];
    return group.flatMap((record) => (record === reference ? [] : (compareRecords(record, reference) ?? [])));
  });
}

/**
 * A timed cell against another; `undefined` of too few rounds in which both were timed.
 *
 * @param controlled the cell that was timed twice in each round, if it is not the reference.
 */
export function compareRecords(
  record: CellRecord,
  reference: CellRecord,
  controlled = reference,
): Comparison | undefined {
  const pairs = pairsByRound(record.timings, reference.timings);
  const ratio = ratioInterval(pairs);
  if (ratio === undefined) return undefined;
  const controlPairs = pairsByRound(controlled.control ?? [], controlled.timings);
  const control = ratioInterval(controlPairs);
  return {
    reference,
    record,
    rounds: pairs.length,
    ratio,
    cliffsDelta: cliffsDelta(
      pairs.map(([own]) => own),
      pairs.map(([, other]) => other),
    ),
    control,
    detectable: detectableDifference(controlPairs),
    verdict: verdictOf(ratio, control),
  };
}

type Pair = readonly [numerator: number, denominator: number];

/** Times a request of two series, paired where both were taken in the same round. */
export function pairsByRound(
  numerators: readonly Timing[],
  denominators: readonly Timing[],
): readonly Pair[] {
  const byRound = new Map(denominators.map((timing) => [timing.round, timing]));
  return numerators.flatMap((timing): readonly Pair[] => {
    const other = byRound.get(timing.round);
    return other === undefined ? [] : [[requestTimeNs(timing), requestTimeNs(other)]];
  });
}

function verdictOf(ratio: Interval, control: Interval | undefined): ComparisonVerdict {
  const noise = control === undefined ? 0 : Math.max(...[control.low, control.high].map(distanceFromOne));
  if (distanceFromOne(ratio.estimate) <= noise) return 'no difference shown';
  if (ratio.high < 1) return 'faster';
  return ratio.low > 1 ? 'slower' : 'no difference shown';
}

/** How far a ratio is from 1, alike in both directions: of 2 and of ½ the same. */
function distanceFromOne(ratio: number): number {
  return Math.abs(Math.log(ratio));
}

/** z of a two-sided test at `CONFIDENCE`, and of a power of 80 %. */
const Z_CONFIDENCE = 1.96;
const Z_POWER = 0.84;

/**
 * See Cohen, Statistical Power Analysis for the Behavioral Sciences (1988), with the error from the
 * control.
 */
function detectableDifference(controlPairs: readonly Pair[]): number | undefined {
  const error = medianError(controlPairs.map(([a, b]) => Math.log(a / b)));
  return error === undefined ? undefined : Math.expm1((Z_CONFIDENCE + Z_POWER) * error);
}

/**
 * Cliff, Dominance statistics (1993): the share of pairs of samples in which one takes longer, less
 * the other's.
 */
export function cliffsDelta(own: readonly number[], others: readonly number[]): number {
  let balance = 0;
  for (const one of own) for (const other of others) balance += Math.sign(one - other);
  return balance / (own.length * others.length);
}

/** As text for intervals: `95 %`. */
export const CONFIDENCE_TEXT = `${String(Math.round(CONFIDENCE * 100))} %`;
