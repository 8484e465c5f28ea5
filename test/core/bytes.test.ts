/** Words of tables. */

import { expect, test } from 'vitest';

import { emptyWordsEnd } from '../../src/core/bytes.ts';
import { Random } from '../../src/core/random.ts';

test.each([1, 2, 3])('empty words end at the first that is not zero, or at the end (seed %i)', (seed) => {
  const random = new Random(seed);
  for (let turn = 0; turn < 300; turn++) {
    const words = 1 + random.below(4000);
    const table = new DataView(new ArrayBuffer(8 * words + 8), 8);
    const set = random.below(4) === 0 ? undefined : random.below(words);
    // Any bit of the eight bytes counts, also the one that a number as a double has for its sign.
    if (set !== undefined) table.setUint8(8 * set + random.below(8), 1 << random.below(8));
    const first = random.below(words);
    const end = first + random.below(words - first + 1);
    const expected = set === undefined || set < first || set >= end ? end : set;
    expect(emptyWordsEnd(table, first, end)).toBe(expected);
  }
});
