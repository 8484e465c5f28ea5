import { expect, test } from 'vitest';

import { Random } from '../../src/core/random.ts';
import { ZipfRanks } from '../../src/workload/zipf.ts';

const DRAWS = 200_000;

test.each([0.5, 0.99, 1, 1.5, 3])('ranks come as often as rank^-%d says', (theta) => {
  const count = 50;
  const ranks = new ZipfRanks({ count, theta });
  const random = new Random(42);
  const drawn = new Array<number>(count + 1).fill(0);
  for (let n = 0; n < DRAWS; n++) {
    const rank = ranks.draw(random);
    drawn[rank] = (drawn[rank] ?? 0) + 1;
  }
  const weights = Array.from({ length: count }, (_, index) => (index + 1) ** -theta);
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  weights.forEach((weight, index) => {
    const expected = (DRAWS * weight) / total;
    // Five standard deviations of a count, and a little for the rarest ranks.
    expect(Math.abs((drawn[index + 1] ?? 0) - expected)).toBeLessThan(5 * Math.sqrt(expected) + 3);
  });
  expect(drawn[0]).toBe(0);
});

test('a single rank, and more ranks than any table could hold, are drawn within bounds', () => {
  const random = new Random(1);
  for (const count of [1, 2, 2 ** 43]) {
    for (const theta of [0.01, 0.99, 1, 10]) {
      const ranks = new ZipfRanks({ count, theta });
      for (let n = 0; n < 2000; n++) {
        const rank = ranks.draw(random);
        expect(Number.isInteger(rank) && rank >= 1 && rank <= count).toBe(true);
      }
    }
  }
});
