import fc from 'fast-check';
import { expect, test } from 'vitest';

import { Random } from '../../src/core/random.ts';
import { Permutation } from '../../src/workload/permutation.ts';

test('every index comes exactly once', () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 3000 }), fc.nat(), (size, seed) => {
      const permutation = new Permutation(size, new Random(seed));
      const seen = new Set(Array.from({ length: size }, (_, index) => permutation.at(index)));
      expect(seen.size).toBe(size);
      expect(Math.min(...seen)).toBe(0);
      expect(Math.max(...seen)).toBe(size - 1);
    }),
    { numRuns: 60 },
  );
});

test('ranges beyond 32 bits stay within their bounds and do not collide', () => {
  const size = 2 ** 44 + 12_345;
  const permutation = new Permutation(size, new Random(1));
  const seen = new Set<number>();
  for (let index = size - 20_000; index < size; index++) seen.add(permutation.at(index));
  expect(seen.size).toBe(20_000);
  for (const value of seen) expect(value >= 0 && value < size && Number.isInteger(value)).toBe(true);
});

test('neighbours are scattered: any sixteenth of the range gets its share of any run of indices', () => {
  const size = 1 << 16;
  const permutation = new Permutation(size, new Random(7));
  const hits = new Array<number>(16).fill(0);
  for (let index = 0; index < 4096; index++) {
    const part = Math.floor((permutation.at(index) * 16) / size);
    hits[part] = (hits[part] ?? 0) + 1;
  }
  // 256 are expected in each, with a deviation of 15; six of those leave no room for chance.
  for (const count of hits) expect(Math.abs(count - 256)).toBeLessThan(93);
});

test('another seed gives another order', () => {
  const order = (seed: number) => {
    const permutation = new Permutation(1000, new Random(seed));
    return Array.from({ length: 1000 }, (_, index) => permutation.at(index));
  };
  expect(order(1)).toEqual(order(1));
  expect(order(1)).not.toEqual(order(2));
});
