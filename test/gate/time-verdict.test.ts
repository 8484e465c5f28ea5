/** Times of two commits that ran in turns: what is called slower, and what is not. */

import fc from 'fast-check';
import { expect, test } from 'vitest';

import { Random } from '../../src/core/random.ts';
import {
  judgeTimes,
  medianInterval,
  MIN_EFFECT,
  roundsNeeded,
  type RoundTimes,
} from '../../src/gate/time-verdict.ts';
import { syntheticResult } from '../report/synthetic-result.ts';

const [record] = syntheticResult().cells;
if (record === undefined) throw new Error('no cell');
const { cell } = record;

function outcomeOf(rounds: readonly RoundTimes[], cells = 1): string | undefined {
  return judgeTimes(Array.from({ length: cells }, () => ({ cell, rounds })))[0]?.outcome;
}

/** Rounds with noise of some percent, in which the head takes `factor` times as long. */
function rounds(factor: number, { count = 20, noise = 0.01, seed = 1 } = {}): readonly RoundTimes[] {
  const random = new Random(seed);
  const noisy = (): number => 1 + noise * (random.fraction() - 0.5);
  return Array.from({ length: count }, () => {
    const common = 1000 * (1 + random.fraction());
    return { base: common * noisy(), head: common * factor * noisy(), control: common * noisy() };
  });
}

test('the interval is that of the sign test', () => {
  // Hollander and Wolfe: of 12 values, the third from either end covers the median with 96.1 %.
  const values = Array.from({ length: 12 }, (_, at) => at + 1);
  expect(medianInterval(values, 0.0386)).toEqual([3, 10]);
  expect(medianInterval(values, 0.038)).toEqual([2, 11]);
  expect(medianInterval(values, 2 ** -11)).toEqual([1, 12]);
  expect(medianInterval(values, 2 ** -11 - 1e-9)).toBeUndefined();
  expect(medianInterval([], 0.5)).toBeUndefined();
});

test('it misses the median as rarely as it says, whatever the distribution', () => {
  const random = new Random(7);
  const draws: readonly (() => number)[] = [
    () => random.fraction() - 0.5,
    // Bimodal, and a heavy tail.
    () => (random.fraction() < 0.5 ? -1 : 1) * (1 + random.fraction()),
    () => Math.tan(Math.PI * (random.fraction() - 0.5)),
  ];
  for (const draw of draws) {
    let missed = 0;
    for (let run = 0; run < 2000; run++) {
      const interval = medianInterval(Array.from({ length: 15 }, draw), 0.1);
      if (interval !== undefined && (interval[0] > 0 || interval[1] < 0)) missed++;
    }
    expect(missed).toBeLessThan(2000 * 0.1);
    expect(missed).toBeGreaterThan(0);
  }
});

test('a clear difference is a regression or an improvement', () => {
  expect(outcomeOf(rounds(1.1), 100)).toBe('regression');
  expect(outcomeOf(rounds(0.9), 100)).toBe('improvement');
  expect(outcomeOf(rounds(1), 100)).toBe('no change');
});

test('a difference that is sure and small is none', () => {
  expect(outcomeOf(rounds(1 + MIN_EFFECT / 2, { noise: 0.001 }))).toBe('no change');
});

test('one that the control has too is inconclusive', () => {
  const drifting = rounds(1.2).map((round) => ({ ...round, control: round.base * 1.3 }));
  expect(outcomeOf(drifting)).toBe('inconclusive');
});

test('too few rounds are inconclusive, and how many are needed is known', () => {
  for (const cells of [1, 7, 100]) {
    const needed = roundsNeeded(cells);
    expect(outcomeOf(rounds(2, { count: needed - 1 }), cells)).toBe('inconclusive');
    expect(outcomeOf(rounds(2, { count: needed }), cells)).toBe('regression');
  }
  expect(outcomeOf(rounds(1.02, { noise: 0.5 }))).toBe('inconclusive');
});

test('what slows a whole round changes nothing', () => {
  fc.assert(
    fc.property(
      fc.array(fc.double({ min: 0.1, max: 100, noNaN: true }), { minLength: 20, maxLength: 20 }),
      (slow) => {
        const base = rounds(1.1);
        const own = base.map((round, at) => {
          const by = slow[at] ?? 1;
          return { base: round.base * by, head: round.head * by, control: round.control * by };
        });
        expect(judgeTimes([{ cell, rounds: own }])[0]?.ratio).toBeCloseTo(
          judgeTimes([{ cell, rounds: base }])[0]?.ratio ?? 0,
          9,
        );
      },
    ),
    { seed: 17 },
  );
});
