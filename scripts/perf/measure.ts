/** One line of the table: what is measured, what it must reach, and what was found. */

import { medianInterval, type Interval } from '../../src/result/bootstrap.ts';

export interface Measure {
  readonly name: string;
  readonly unit: string;
  /** What must be reached; absent where the figure is only reported. */
  readonly target?: { readonly at: 'least' | 'most'; readonly value: number } | undefined;
  readonly found: Interval;
  readonly samples: number;
  /** Beside the figure, for a reader. */
  readonly note?: string | undefined;
}

/** A measure of the median of some samples; with fewer than 5 the interval is their range. */
export function measureOf(
  values: readonly number[],
  what: Pick<Measure, 'name' | 'unit' | 'target' | 'note'>,
): Measure {
  const sorted = values.toSorted((a, b) => a - b);
  const found = medianInterval(values) ?? {
    estimate: sorted[Math.floor((sorted.length - 1) / 2)] ?? NaN,
    low: sorted[0] ?? NaN,
    high: sorted.at(-1) ?? NaN,
  };
  return { ...what, found, samples: values.length };
}

export type Verdict = 'met' | 'missed' | 'inconclusive';

/**
 * Met if the whole interval meets the target, missed if none of it does, inconclusive where the
 * target is inside. `undefined` without a target.
 */
export function verdictOf({ target, found }: Pick<Measure, 'target' | 'found'>): Verdict | undefined {
  if (target === undefined) return undefined;
  const { at, value } = target;
  const meets = (bound: number): boolean => (at === 'least' ? bound >= value : bound <= value);
  if (meets(found.low) && meets(found.high)) return 'met';
  return meets(found.low) || meets(found.high) ? 'inconclusive' : 'missed';
}
