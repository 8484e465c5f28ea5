/**
 * Order statistics of timing samples. Nothing here assumes a distribution: times of a busy machine
 * have none.
 */

import { quantileSorted } from 'simple-statistics';

import type { Timing } from './schema.ts';

export interface Spread {
  readonly n: number;
  readonly min: number;
  /** First quartile. */
  readonly q1: number;
  readonly median: number;
  /** Third quartile. */
  readonly q3: number;
  readonly max: number;
}

/**
 * The spread of the values, in their unit, or `undefined` if there are none. Quartiles between two
 * values are interpolated (type 7 of Hyndman and Fan, 1996).
 */
export function spreadOf(values: readonly number[]): Spread | undefined {
  const sorted = values.toSorted((a, b) => a - b);
  const min = sorted[0];
  const max = sorted.at(-1);
  if (min === undefined || max === undefined) return undefined;
  return {
    n: sorted.length,
    min,
    q1: quantileSorted(sorted, 0.25),
    median: quantileSorted(sorted, 0.5),
    q3: quantileSorted(sorted, 0.75),
    max,
  };
}

/** Tukey's outer fences: this many interquartile ranges beyond the quartiles. */
const FENCE = 3;

/**
 * Values far outside the rest (Tukey, Exploratory Data Analysis, 1977): to be shown, never to be
 * dropped.
 */
export function outliersOf(values: readonly number[]): readonly number[] {
  const spread = spreadOf(values);
  if (spread === undefined) return [];
  const reach = FENCE * (spread.q3 - spread.q1);
  return values.filter((value) => value < spread.q1 - reach || value > spread.q3 + reach);
}

/** Nanoseconds per guest request of one sample, open and close left out. */
export function requestTimeNs(timing: Timing): number {
  return timing.elapsedNs / timing.requests;
}
