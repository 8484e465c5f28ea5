/** How a matrix is split over machines. */

import fc from 'fast-check';
import { expect, test } from 'vitest';

import { shardOf } from '../../src/bench/shard.ts';
import { cellKey } from '../../src/result/cell.ts';
import { comparisonGroup } from '../../src/result/comparison.ts';
import type { CellRecord } from '../../src/result/schema.ts';
import { syntheticResult } from '../report/synthetic-result.ts';
import { ALL_CACHES, smallMatrix, smallSource } from './small-run.ts';

const sources = ['one', 'two', 'three', 'four'].map((name) => smallSource(name));
const plans = smallMatrix({ sources, caches: ALL_CACHES });
const [example] = syntheticResult().cells;

function indices(of: number): readonly number[] {
  return Array.from({ length: of }, (_, at) => at + 1);
}

/** Records of the cells, each with its duration. */
function costs(tookNs: (position: number) => number): readonly CellRecord[] {
  if (example === undefined) throw new Error('no example');
  return plans.map(({ cell }, position) => ({
    ...example,
    cell,
    timings: [],
    span: { beganNs: 0, tookNs: tookNs(position) },
  }));
}

test('each cell is in one shard, in the order of the matrix; compared cells are together', () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 40 }), fc.array(fc.nat(1000)), (of, durations) => {
      const known = durations.length === 0 ? [] : costs((at) => durations[at % durations.length] ?? 0);
      const shards = indices(of).map((index) => shardOf(plans, { index, of }, { known }));
      const places = shards.flatMap(({ shard }) => shard.positions);
      expect(places.toSorted((a, b) => a - b)).toEqual(plans.map((_, at) => at));
      for (const { plans: own, shard } of shards) {
        expect(shard.positions).toEqual(shard.positions.toSorted((a, b) => a - b));
        expect(own.map(({ cell }) => cellKey(cell))).toEqual(
          shard.positions.map((at) => plans[at] && cellKey(plans[at].cell)),
        );
      }
      const groups = shards.map(({ plans: own }) => new Set(own.map(({ cell }) => comparisonGroup(cell))));
      expect(groups.reduce((sum, { size }) => sum + size, 0)).toBe(
        new Set(groups.flatMap((all) => [...all])).size,
      );
      expect(new Set(shards.map(({ shard }) => shard.matrix)).size).toBe(1);
    }),
    { seed: 17 },
  );
});

test('the split does not depend on the order of the options', () => {
  const reversed = smallMatrix({ sources: sources.toReversed(), caches: ALL_CACHES.toReversed() });
  for (const index of indices(3)) {
    const keys = [plans, reversed].map((all) =>
      shardOf(all, { index, of: 3 })
        .plans.map(({ cell }) => cellKey(cell))
        .toSorted(),
    );
    expect(keys[0]).toEqual(keys[1]);
  }
});

test('known durations balance the shards', () => {
  // One workload takes a hundred times as long as the others.
  const known = costs((at) => (plans[at]?.cell.workload === 'two' ? 100e6 : 1e6));
  const loads = indices(4).map(
    (index) =>
      shardOf(plans, { index, of: 4 }, { known }).plans.filter(({ cell }) => cell.workload === 'two').length,
  );
  expect(Math.max(...loads) - Math.min(...loads)).toBeLessThanOrEqual(4);
  expect(Math.min(...loads)).toBeGreaterThan(0);
});

test('another split, and other settings, are another matrix', () => {
  const one = { index: 1, of: 2 };
  const digests = [
    shardOf(plans, one),
    shardOf(plans, { index: 1, of: 3 }),
    shardOf(plans, one, { setting: { requests: 10 } }),
    shardOf(plans.slice(1), one),
    shardOf(plans, one, { known: costs((at) => (at < 4 ? 1e9 : 1e6)) }),
  ].map(({ shard }) => shard.matrix);
  expect(new Set(digests).size).toBe(digests.length);
});
