/** One line of the table: what is measured, what it must reach, and what was found. */

import { medianInterval, type Interval } from '../../src/result/bootstrap.ts';

export interface Measure {
  readonly name: string;
  readonly unit: string;
  /** What must be reached; absent where the figure is only told. */
  readonly target?: { readonly at: 'least' | 'most'; readonly value: number } | undefined;
  readonly found: Interval;
  readonly samples: number;
  /** Beside the figure, for a reader. */
  readonly note?: string | undefined;
}

/** A measure of the median of some samples; of fewer than 5 the range stands for the interval. */
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

/** A target is met if the interval reaches it; `undefined` without one. */
export function isMet({ target, found }: Measure): boolean | undefined {
  if (target === undefined) return undefined;
  return target.at === 'least' ? found.high >= target.value : found.low <= target.value;
}
