/** The rows of a covering array: all pairs are in them, and nothing that is not allowed. */

import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { coveringArray, pairsOf, type Axes } from './covering-array.ts';

/** Every row there is. */
function product(axes: Axes): readonly Record<string, string | number>[] {
  return Object.entries(axes).reduce<readonly Record<string, string | number>[]>(
    (rows, [axis, values]) => rows.flatMap((row) => values.map((value) => ({ ...row, [axis]: value }))),
    [{}],
  );
}

const axesArbitrary = fc
  .array(fc.integer({ min: 1, max: 4 }), { minLength: 2, maxLength: 5 })
  .map((sizes) =>
    Object.fromEntries(sizes.map((size, axis) => [`axis ${String(axis)}`, [...Array(size).keys()]])),
  );

describe('a covering array', () => {
  it('has every pair of an allowed row, and allowed rows only', () => {
    fc.assert(
      fc.property(axesArbitrary, fc.nat(), fc.integer({ min: 2, max: 7 }), (axes, seed, modulus) => {
        // A rule that an incomplete row cannot break yet.
        const allowed = (row: Readonly<Record<string, number>>): boolean =>
          Object.keys(row).length < Object.keys(axes).length ||
          Object.values(row).reduce((sum, value) => sum + value, 0) % modulus !== 1;
        const rows = coveringArray(axes, { seed, allowed: (row) => allowed(row as Record<string, number>) });
        const possible = product(axes).filter((row) => allowed(row as Record<string, number>));
        const wanted = new Set(possible.flatMap(pairsOf));
        const had = new Set(rows.flatMap(pairsOf));
        expect(had).toEqual(wanted);
      }),
    );
  });

  it('is far smaller than the product', () => {
    const values = [0, 1, 2, 3] as const;
    const axes = Object.fromEntries([...Array(8).keys()].map((axis) => [`axis ${String(axis)}`, values]));
    // 4^8 rows are 65,536; 16 is the least that any array could have.
    expect(coveringArray(axes, { seed: 1 }).length).toBeLessThan(36);
  });

  it('goes on with other rows where more are asked for', () => {
    const axes = { left: [1, 2, 3], right: ['a', 'b'], up: [true, false].map(String) };
    const rows = coveringArray(axes, { seed: 7, rows: 20 });
    expect(rows.length).toBeGreaterThanOrEqual(20);
    expect(new Set(rows.map((row) => JSON.stringify(row))).size).toBeGreaterThan(9);
  });

  it('is the same for the same seed', () => {
    const axes = { left: [1, 2, 3], right: ['a', 'b', 'c'], up: [4, 5] };
    expect(coveringArray(axes, { seed: 3 })).toEqual(coveringArray(axes, { seed: 3 }));
  });
});
