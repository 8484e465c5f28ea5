/**
 * Change points of a series of times: E-divisive means (Matteson and James, A Nonparametric Approach
 * for Multiple Change Point Analysis of Multivariate Data, 2014), with their permutation test.
 *
 * Invariants:
 * - A change is a change of the distribution: nothing is assumed of the noise. How much a series
 *   changed is the ratio of the medians around it, which one outlier does not move.
 * - The test is seeded: one series has one answer.
 * - For samples only. In an exact series every difference is a change, of one commit.
 */

import { medianSorted } from 'simple-statistics';

import { Random } from '../core/random.ts';

export interface ChangePoint {
  /** Index of the first value after the change. */
  readonly index: number;
  /** Medians of the values from the change before to this one, and from here to the next. */
  readonly before: number;
  readonly after: number;
  /** Of the permutation test, as small as the number of permutations allows. */
  readonly pValue: number;
}

export interface ChangePointOptions {
  /** Differences of medians below this share are not reported. Default `DEFAULT_CHANGE`. */
  readonly change?: number;
  /** Values between two changes: fewer are no level. Default `SEGMENT_MIN`. */
  readonly segmentMin?: number;
  /**
   * Of the values themselves, as in the paper, or of their ranks within the segment that is divided:
   * times have a heavy tail, and one sample in ten of three times the length hides 10 %. Default
   * `ranks`.
   */
  readonly distance?: 'values' | 'ranks';
}

export const DEFAULT_CHANGE = 0.05;
export const SEGMENT_MIN = 3;
const P_VALUE = 0.01;
const PERMUTATIONS = 199;
/** Values that are looked at, the newest: the work grows with their square. */
export const SERIES_MAX = 500;
const SEED = 1;

/**
 * The changes of a series, in its order.
 *
 * @param values above 0, in any unit; only the last `SERIES_MAX` are looked at.
 */
export function changePoints(
  values: readonly number[],
  { change = DEFAULT_CHANGE, segmentMin = SEGMENT_MIN, distance = 'ranks' }: ChangePointOptions = {},
): readonly ChangePoint[] {
  const skipped = Math.max(0, values.length - SERIES_MAX);
  const series = Float64Array.from(values.slice(skipped));
  const found = divisions(series, { distance, segmentMin });
  return withLevels(series, found, change).map((point) => ({ ...point, index: point.index + skipped }));
}

interface Division {
  readonly index: number;
  readonly pValue: number;
}

/** Divides the segment that differs most, until no division is significant. */
function divisions(
  values: Float64Array,
  { distance, segmentMin }: Required<Pick<ChangePointOptions, 'distance' | 'segmentMin'>>,
): readonly Division[] {
  const random = new Random(SEED);
  const found: Division[] = [];
  for (;;) {
    const bounds = [0, ...found.map(({ index }) => index).toSorted(ascending), values.length];
    const series = distance === 'ranks' ? rankedWithin(values, bounds) : values;
    const best = bestDivision(series, bounds, segmentMin);
    if (best === undefined) return found;
    const pValue = permutationTest(series, { bounds, segmentMin, observed: best.statistic, random });
    if (pValue > P_VALUE) return found;
    found.push({ index: best.index, pValue });
  }
}

interface Candidate {
  readonly index: number;
  readonly statistic: number;
}

/** Of all segments. */
function bestDivision(
  series: Float64Array,
  bounds: readonly number[],
  segmentMin: number,
): Candidate | undefined {
  let best: Candidate | undefined;
  for (const [at, from] of bounds.slice(0, -1).entries()) {
    const own = segmentDivision(series, { from, to: bounds[at + 1] ?? series.length, segmentMin });
    if (own !== undefined && own.statistic > (best?.statistic ?? 0)) best = own;
  }
  return best;
}

/**
 * The place τ that divides `series[from, to)` best, over all ends κ of what comes after it:
 *
 *     Q(τ, κ) = nm / (n + m) · (2 · mean |x − y| − mean |x − x′| − mean |y − y′|)
 *
 * of the n values x before τ and the m values y from τ to κ. With W(a, b), the sum of all distances
 * within [a, b), the distances between both sides are W(from, κ) − W(from, τ) − W(τ, κ); all W(τ, κ)
 * of one κ come from those of the κ before.
 */
function segmentDivision(
  series: Float64Array,
  { from, to, segmentMin }: { readonly from: number; readonly to: number; readonly segmentMin: number },
): Candidate | undefined {
  const length = to - from;
  if (length < 2 * segmentMin) return undefined;
  /** W(τ, κ) by τ − from, for the current κ. */
  const within = new Float64Array(length);
  /** W(from, τ) by τ − from. */
  const left = new Float64Array(length + 1);
  let best = { index: 0, statistic: 0 };
  for (let last = 1; last < length; last++) {
    const value = series[from + last] ?? 0;
    let distances = 0;
    for (let start = last - 1; start >= 0; start--) {
      distances += Math.abs((series[from + start] ?? 0) - value);
      within[start] = (within[start] ?? 0) + distances;
    }
    const whole = within[0] ?? 0;
    left[last + 1] = whole;
    for (let cut = segmentMin; cut <= last + 1 - segmentMin; cut++) {
      const [n, m] = [cut, last + 1 - cut];
      const [inLeft, inRight] = [left[cut] ?? 0, within[cut] ?? 0];
      const between = whole - inLeft - inRight;
      const statistic =
        (2 * between - (2 * m * inLeft) / Math.max(1, n - 1) - (2 * n * inRight) / Math.max(1, m - 1)) /
        (n + m);
      if (statistic > best.statistic) best = { index: from + cut, statistic };
    }
  }
  return best.statistic > 0 ? best : undefined;
}

/**
 * How often values that are shuffled within their segments can be divided as well. Ends as soon as
 * the result cannot be significant.
 */
function permutationTest(
  series: Float64Array,
  {
    bounds,
    segmentMin,
    observed,
    random,
  }: {
    readonly bounds: readonly number[];
    readonly segmentMin: number;
    readonly observed: number;
    readonly random: Random;
  },
): number {
  let extreme = 0;
  for (let round = 0; round < PERMUTATIONS; round++) {
    const shuffled = series.slice();
    for (const [at, from] of bounds.slice(0, -1).entries()) {
      shuffleWithin(shuffled.subarray(from, bounds[at + 1]), random);
    }
    if ((bestDivision(shuffled, bounds, segmentMin)?.statistic ?? 0) >= observed) extreme++;
    if ((extreme + 1) / (PERMUTATIONS + 1) > P_VALUE) return 1;
  }
  return (extreme + 1) / (PERMUTATIONS + 1);
}

function shuffleWithin(values: Float64Array, random: Random): void {
  for (let last = values.length - 1; last > 0; last--) {
    const other = random.below(last + 1);
    const value = values[last] ?? 0;
    values[last] = values[other] ?? 0;
    values[other] = value;
  }
}

/** Without changes that are too small; what is around one is one level then. */
function withLevels(
  series: Float64Array,
  found: readonly Division[],
  change: number,
): readonly ChangePoint[] {
  let kept = found.toSorted((a, b) => a.index - b.index);
  for (;;) {
    const points = kept.map((division, at): ChangePoint => ({
      ...division,
      before: medianOf(series, kept[at - 1]?.index ?? 0, division.index),
      after: medianOf(series, division.index, kept[at + 1]?.index ?? series.length),
    }));
    const [least] = points.toSorted((a, b) => sizeOf(a) - sizeOf(b));
    if (least === undefined || sizeOf(least) >= change) return points;
    kept = kept.filter(({ index }) => index !== least.index);
  }
}

/** As a share of what was before. */
function sizeOf({ before, after }: ChangePoint): number {
  return before === 0 ? Infinity : Math.abs(after / before - 1);
}

function medianOf(series: Float64Array, from: number, to: number): number {
  return medianSorted([...series.subarray(from, to)].sort(ascending));
}

function ascending(a: number, b: number): number {
  return a - b;
}

/** From 0 to 1 in each segment, so that segments are compared by how well they can be divided. */
function rankedWithin(values: Float64Array, bounds: readonly number[]): Float64Array {
  const ranked = new Float64Array(values.length);
  for (const [at, from] of bounds.slice(0, -1).entries()) {
    const ranks = ranksOf(values.subarray(from, bounds[at + 1]));
    ranked.set(
      ranks.map((rank) => rank / ranks.length),
      from,
    );
  }
  return ranked;
}

/** Ties have the mean of their ranks. */
function ranksOf(series: Float64Array): Float64Array {
  const sorted = series.toSorted();
  const first = new Map<number, number>();
  const last = new Map<number, number>();
  for (const [rank, value] of sorted.entries()) {
    if (!first.has(value)) first.set(value, rank);
    last.set(value, rank);
  }
  return series.map((value) => ((first.get(value) ?? 0) + (last.get(value) ?? 0)) / 2);
}
