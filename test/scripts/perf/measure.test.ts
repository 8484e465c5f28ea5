import { describe, expect, it } from 'vitest';

import { perfDocument } from '../../../scripts/perf/document.ts';
import { measureOf, verdictOf, type Measure } from '../../../scripts/perf/measure.ts';

const AT_LEAST_ONE = { at: 'least', value: 1 } as const;
const AT_MOST_ONE = { at: 'most', value: 1 } as const;

describe('verdict on a target', () => {
  it.each([
    ['at least', AT_LEAST_ONE, 1.2, 1.6, 'met'],
    ['at least, the low end on it', AT_LEAST_ONE, 1, 1.6, 'met'],
    ['at least, noise reaches it', AT_LEAST_ONE, 0.56, 1.31, 'inconclusive'],
    ['at least, the high end on it', AT_LEAST_ONE, 0.56, 1, 'inconclusive'],
    ['at least, all below', AT_LEAST_ONE, 0.5, 0.9, 'missed'],
    ['at most', AT_MOST_ONE, 0.5, 1, 'met'],
    ['at most, noise reaches it', AT_MOST_ONE, 0.56, 1.31, 'inconclusive'],
    ['at most, all above', AT_MOST_ONE, 1.1, 1.31, 'missed'],
  ] as const)('%s: the whole interval decides', (_, target, low, high, verdict) => {
    expect(verdictOf({ target, found: { estimate: (low + high) / 2, low, high } })).toBe(verdict);
  });

  it('does not depend on the estimate', () => {
    for (const estimate of [0.6, 1.3]) {
      expect(verdictOf({ target: AT_LEAST_ONE, found: { estimate, low: 0.5, high: 1.4 } })).toBe(
        'inconclusive',
      );
    }
  });

  it('is missed without a figure, and absent without a target', () => {
    expect(verdictOf(measureOf([], { name: 'm', unit: '×', target: AT_LEAST_ONE }))).toBe('missed');
    expect(verdictOf(measureOf([1], { name: 'm', unit: '×' }))).toBeUndefined();
  });

  it('is a column of the table, where only a miss is bold', () => {
    const measure = (low: number, high: number, target: Measure['target']): Measure => ({
      name: 'm',
      unit: '×',
      target,
      found: { estimate: low, low, high },
      samples: 9,
    });
    const text = perfDocument(
      [
        measure(2, 3, AT_LEAST_ONE),
        measure(0.74, 1.31, AT_LEAST_ONE),
        measure(0.1, 0.2, AT_LEAST_ONE),
        measure(1, 1, undefined),
      ],
      'a machine',
    );
    const rows = text.split('\n').filter((line) => line.startsWith('| m |'));
    expect(rows.map((row) => row.split('|')[4]?.trim())).toEqual([
      'met',
      'inconclusive',
      '**missed**',
      'no target',
    ]);
  });
});
