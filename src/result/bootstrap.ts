/**
 * How sure a figure is: bootstrap intervals of medians and of ratios (Efron and Tibshirani, An
 * Introduction to the Bootstrap, 1993, chapter 13: percentile intervals).
 *
 * Invariants:
 * - Nothing here assumes a distribution, and no sample is left out.
 * - Resampling is seeded: one result gives one interval, wherever and however often it is looked
 *   at.
 * - An interval of a few samples is narrower than it says: a bootstrap sees only the values that
 *   came. Below `SAMPLES_MIN` there is none.
 */

import { medianSorted, quantileSorted } from 'simple-statistics';

import { Random } from '../core/random.ts';

/** Fewer samples than this have a median, but say nothing of how sure it is. */
export const SAMPLES_MIN = 5;
/** The share of intervals that hold the true value. */
export const CONFIDENCE = 0.95;
const RESAMPLES = 1000;
const SEED = 1;

/** An estimate with its interval at `CONFIDENCE`, in the unit of the values. */
export interface Interval {
  readonly estimate: number;
  readonly low: number;
  readonly high: number;
}

/** The median of the values with its interval; `undefined` of fewer than `SAMPLES_MIN`. */
export function medianInterval(values: readonly number[]): Interval | undefined {
  if (values.length < SAMPLES_MIN) return undefined;
  const medians = resampledMedians(values);
  return {
    estimate: medianSorted(values.toSorted(ascending)),
    low: quantileSorted(medians, (1 - CONFIDENCE) / 2),
    high: quantileSorted(medians, (1 + CONFIDENCE) / 2),
  };
}

/**
 * The median of the ratios `numerator ÷ denominator` with its interval. The two of a pair were
 * measured side by side, so what disturbed both falls out.
 *
 * @param pairs numerator and denominator, both above 0, in any one unit.
 */
export function ratioInterval(pairs: readonly (readonly [number, number])[]): Interval | undefined {
  return medianInterval(pairs.map(([numerator, denominator]) => numerator / denominator));
}

/**
 * The ratio of the medians of two series that were not measured side by side, with its interval:
 * each is resampled on its own. `undefined` if one has fewer than `SAMPLES_MIN`.
 */
export function independentRatioInterval(
  numerators: readonly number[],
  denominators: readonly number[],
): Interval | undefined {
  if (numerators.length < SAMPLES_MIN || denominators.length < SAMPLES_MIN) return undefined;
  const random = new Random(SEED);
  const tops = drawnMedians(numerators, random);
  const bottoms = drawnMedians(denominators, random);
  const ratios = tops.map((top, index) => top / (bottoms[index] ?? 1)).sort(ascending);
  return {
    estimate: medianSorted(numerators.toSorted(ascending)) / medianSorted(denominators.toSorted(ascending)),
    low: quantileSorted(ratios, (1 - CONFIDENCE) / 2),
    high: quantileSorted(ratios, (1 + CONFIDENCE) / 2),
  };
}

/** Standard error of the median, in the unit of the values. */
export function medianError(values: readonly number[]): number | undefined {
  if (values.length < SAMPLES_MIN) return undefined;
  const medians = resampledMedians(values);
  const mean = medians.reduce((sum, value) => sum + value, 0) / medians.length;
  const squares = medians.reduce((sum, value) => sum + (value - mean) ** 2, 0);
  return Math.sqrt(squares / (medians.length - 1));
}

/** The interval's half-width as a share of the estimate: `0.05` is ± 5 %. */
export function relativeHalfWidth({ estimate, low, high }: Interval): number {
  return estimate === 0 ? 0 : (high - low) / 2 / Math.abs(estimate);
}

/** Medians of samples drawn with replacement, in ascending order. */
function resampledMedians(values: readonly number[]): readonly number[] {
  return drawnMedians(values, new Random(SEED)).sort(ascending);
}

/** As they were drawn. */
function drawnMedians(values: readonly number[], random: Random): number[] {
  const medians: number[] = [];
  const sample = new Float64Array(values.length);
  for (let index = 0; index < RESAMPLES; index++) {
    for (let at = 0; at < sample.length; at++) sample[at] = values[random.below(values.length)] ?? 0;
    sample.sort();
    medians.push(medianOf(sample));
  }
  return medians;
}

function medianOf(sorted: Float64Array): number {
  const middle = sorted.length >> 1;
  const upper = sorted[middle] ?? 0;
  return sorted.length % 2 === 1 ? upper : (upper + (sorted[middle - 1] ?? 0)) / 2;
}

function ascending(a: number, b: number): number {
  return a - b;
}
