/**
 * Change points held against what others published: Apache Otava's series and its own answers, and
 * the annual flow of the Nile.
 */

import { describe, expect, test } from 'vitest';

import { Random } from '../../src/core/random.ts';
import { changePoints } from '../../src/result/change-points.ts';
import { amount } from '../amount.ts';
import { TIGERBEETLE } from './tigerbeetle-series.ts';

function indices(values: readonly number[], options: Parameters<typeof changePoints>[1]): readonly number[] {
  return changePoints(values, options).map(({ index }) => index);
}

describe('the TigerBeetle series of Apache Otava', () => {
  test.each(['values', 'ranks'] as const)('its levels by %s: 15 and 71', (distance) => {
    // Otava, with its old defaults, compares means; medians put its next candidate at 5.1 %.
    expect(indices(TIGERBEETLE, { change: 0.06, distance })).toEqual([15, 71]);
  });

  test('all changes, as its implementation of the permutation test finds them', () => {
    // PermutationsSignificanceTester(max_pvalue=0.01, permutations=199), seeds 1, 2 and 3: all alike.
    expect(indices(TIGERBEETLE, { change: 0, segmentMin: 1, distance: 'values' })).toEqual([
      15, 71, 95, 131, 192,
    ]);
  });

  test('by ranks, no less, and no more than its t-test finds at p ≤ 0.001', () => {
    const published = [15, 61, 71, 95, 117, 131, 142, 148, 192, 212, 260];
    const found = indices(TIGERBEETLE, { change: 0 });
    expect(found).toEqual(expect.arrayContaining([15, 71, 95, 131, 192]));
    expect(published).toEqual(expect.arrayContaining([...found]));
  });
});

test('the sequence of three levels in its tests', () => {
  const sequence = [0.3, 2.4, 1.5, -0.9, -0.5, 99.7, 98.3, 99.1, 149, 149.7, 149.5, 149.1, 148.8, 150];
  expect(indices(sequence, { change: 0, distance: 'values' })).toEqual([5, 8]);
});

test('the Nile at Aswan from 1871 to 1970: one change, in 1899 (Cobb, 1978)', () => {
  const flow = [
    1120, 1160, 963, 1210, 1160, 1160, 813, 1230, 1370, 1140, 995, 935, 1110, 994, 1020, 960, 1180, 799, 958,
    1140, 1100, 1210, 1150, 1250, 1260, 1220, 1030, 1100, 774, 840, 874, 694, 940, 833, 701, 916, 692, 1020,
    1050, 969, 831, 726, 456, 824, 702, 1120, 1100, 832, 764, 821, 768, 845, 864, 862, 698, 845, 744, 796,
    1040, 759, 781, 865, 845, 944, 984, 897, 822, 1010, 771, 676, 649, 846, 812, 742, 801, 1040, 860, 874,
    848, 890, 744, 749, 838, 1050, 918, 986, 797, 923, 975, 815, 1020, 906, 901, 1170, 912, 746, 919, 718,
    714, 740,
  ];
  expect(indices(flow, {}).map((index) => 1871 + index)).toEqual([1899]);
});

describe('simulated histories of 60 commits', () => {
  const SERIES = amount({ everyday: 25, full: 100 });
  const noise: Readonly<Record<string, (random: Random) => number>> = {
    'steady, ± 1 %': (random) => 1 + 0.02 * (random.fraction() - 0.5),
    'heavy tail: one in ten up to + 300 %': (random) =>
      (random.chance(0.1) ? 1 + 3 * random.fraction() : 1) * (1 + 0.02 * (random.fraction() - 0.5)),
  };

  test.each(Object.entries(noise))('%s: without a change none is reported', (_, draw) => {
    const random = new Random(11);
    const alarms = Array.from({ length: SERIES }, () =>
      indices(
        Array.from({ length: 60 }, () => 20_000 * draw(random)),
        {},
      ),
    ).filter((found) => found.length > 0);
    expect(alarms).toEqual([]);
  });

  test.each(Object.entries(noise))('%s: ten percent more at commit 40 is found there', (_, draw) => {
    const random = new Random(12);
    const found = Array.from({ length: SERIES }, () =>
      indices(
        Array.from({ length: 60 }, (_each, at) => 20_000 * draw(random) * (at >= 40 ? 1.1 : 1)),
        {},
      ),
    );
    const right = found.filter((points) => points.some((index) => Math.abs(index - 40) <= 3));
    expect(right.length / SERIES).toBeGreaterThan(0.95);
  });
});

test('one outlier is no change; the answer is the same each time', () => {
  const values = Array.from({ length: 40 }, (_, at) => (at === 20 ? 90 : 30 + (at % 3)));
  expect(changePoints(values)).toEqual([]);
  const start = TIGERBEETLE.slice(0, 60);
  expect(changePoints(start)).toEqual(changePoints(start));
});

test('too few values have no change; of a long series the newest are looked at', () => {
  expect(changePoints([1, 1, 9, 9, 9])).toEqual([]);
  expect(changePoints([])).toEqual([]);
  const long = Array.from({ length: 600 }, (_, at) => (at < 560 ? 10 : 20) + (at % 2) * 0.1);
  expect(indices(long, {})).toEqual([560]);
});
