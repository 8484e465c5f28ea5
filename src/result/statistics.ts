/** Order statistics of timing samples. Nothing here assumes a distribution: times of a busy machine have none. */

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
 * The spread of the values, in their unit, or `undefined` if there are none. Quartiles between two values are
 * interpolated (type 7 of Hyndman and Fan, 1996).
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

/** Nanoseconds per guest request of one sample, open and close left out. */
export function requestTimeNs(timing: Timing): number {
  return timing.elapsedNs / timing.requests;
}
