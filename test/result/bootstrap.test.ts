import { describe, expect, it } from 'vitest';

import { Random } from '../../src/core/random.ts';
import {
  CONFIDENCE,
  medianInterval,
  ratioInterval,
  relativeHalfWidth,
  SAMPLES_MIN,
} from '../../src/result/bootstrap.ts';

/** Times as machines have them: a floor, and a long tail above it. */
function skewed(random: Random): number {
  return 100 - 20 * Math.log(1 - random.fraction());
}
const SKEWED_MEDIAN = 100 + 20 * Math.LN2;

describe('the interval of a median', () => {
  it('holds the true median of skewed samples about as often as it says', () => {
    const random = new Random(7);
    const experiments = 400;
    let holds = 0;
    for (let index = 0; index < experiments; index++) {
      const interval = medianInterval(Array.from({ length: 21 }, () => skewed(random)));
      if (interval !== undefined && interval.low <= SKEWED_MEDIAN && SKEWED_MEDIAN <= interval.high) holds++;
    }
    expect(holds / experiments).toBeGreaterThan(CONFIDENCE - 0.04);
    expect(holds / experiments).toBeLessThan(1);
  });

  it('is around the median and within the samples, and is the same each time', () => {
    const values = [5, 1, 9, 3, 7, 2, 8];
    const interval = medianInterval(values);
    expect(interval?.estimate).toBe(5);
    expect(interval?.low).toBeGreaterThanOrEqual(1);
    expect(interval?.low).toBeLessThan(5);
    expect(interval?.high).toBeGreaterThan(5);
    expect(interval?.high).toBeLessThanOrEqual(9);
    expect(medianInterval(values)).toEqual(interval);
    expect(values).toEqual([5, 1, 9, 3, 7, 2, 8]);
  });

  it('shrinks as samples come in', () => {
    const random = new Random(3);
    const values = Array.from({ length: 400 }, () => skewed(random));
    const widths = [10, 50, 400].map((count) => {
      const interval = medianInterval(values.slice(0, count));
      return interval === undefined ? NaN : relativeHalfWidth(interval);
    });
    expect(widths[1]).toBeLessThan(widths[0] ?? 0);
    expect(widths[2]).toBeLessThan(widths[1] ?? 0);
  });

  it('is not made up where there are too few samples', () => {
    expect(medianInterval(Array.from({ length: SAMPLES_MIN - 1 }, () => 1))).toBeUndefined();
    expect(medianInterval(Array.from({ length: SAMPLES_MIN }, () => 4))).toEqual({
      estimate: 4,
      low: 4,
      high: 4,
    });
  });
});

describe('the interval of a ratio', () => {
  it('is free of what disturbed both of a pair', () => {
    const random = new Random(5);
    // Every round is slower than the one before it, by far more than the two differ.
    const pairs = Array.from({ length: 12 }, (_, round): [number, number] => {
      const pace = 100 * 1.4 ** round;
      return [pace * 1.1 * (1 + 0.01 * random.fraction()), pace * (1 + 0.01 * random.fraction())];
    });
    const interval = ratioInterval(pairs);
    expect(interval?.low).toBeGreaterThan(1.08);
    expect(interval?.high).toBeLessThan(1.12);
  });
});
