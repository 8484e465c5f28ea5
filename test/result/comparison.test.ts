import { describe, expect, it } from 'vitest';

import { Random } from '../../src/core/random.ts';
import { comparisonGroup, comparisonsOf, referenceOf } from '../../src/result/comparison.ts';
import type { Cell, CellRecord, ResultRecord, Timing } from '../../src/result/schema.ts';
import { syntheticResult } from '../report/synthetic-result.ts';

const EAGER: Cell = {
  engine: 'builtin',
  workload: 'stride',
  format: 'qcow2',
  refcounts: 'eager',
  cache: 'writethrough',
  clusterSize: 65_536,
  queueDepth: 1,
  device: 'file',
};
const LAZY: Cell = { ...EAGER, refcounts: 'lazy' };
const RAW: Cell = { ...EAGER, format: 'raw', refcounts: null, clusterSize: null };

const ROUNDS = 20;

/**
 * A series whose requests take `factor` times as long as they would, on a machine that has its
 * moods.
 */
function series(random: Random, factor: number, noise: number): Timing[] {
  return Array.from({ length: ROUNDS }, (_, round) => ({
    round,
    requests: 10,
    elapsedNs: 1e6 * factor * Math.exp(noise * (random.fraction() + random.fraction() - 1)),
    openNs: 0,
    closeNs: 0,
  }));
}

function record(cell: Cell, timings: Timing[], control?: Timing[]): CellRecord {
  const base = {
    cell,
    countsDevice: null,
    counts: null,
    timedRequests: 10,
    fallbacks: [],
    skipped: 'no counts',
  };
  return control === undefined ? { ...base, timings } : { ...base, timings, control };
}

function result(cells: CellRecord[]): ResultRecord {
  return { ...syntheticResult(), cells };
}

function compareLazy(random: Random, factor: number, noise: number) {
  const eager = record(EAGER, series(random, 1, noise), series(random, 1, noise));
  const comparisons = comparisonsOf(result([eager, record(LAZY, series(random, factor, noise))]));
  expect(comparisons).toHaveLength(1);
  return comparisons[0];
}

describe('comparing times', () => {
  it('finds a difference that is there, with its size and direction', () => {
    const faster = compareLazy(new Random(1), 0.5, 0.1);
    expect(faster?.verdict).toBe('faster');
    expect(faster?.ratio.estimate).toBeCloseTo(0.5, 1);
    expect(faster?.cliffsDelta).toBe(-1);
    expect(faster?.rounds).toBe(ROUNDS);
    expect(compareLazy(new Random(2), 1.5, 0.1)?.verdict).toBe('slower');
  });

  it('seldom calls a difference what is none', () => {
    let called = 0;
    for (let seed = 1; seed <= 100; seed++) {
      if (compareLazy(new Random(seed), 1, 0.3)?.verdict !== 'no difference shown') called++;
    }
    expect(called).toBeLessThanOrEqual(5);
  });

  it('says how small a difference could be seen: one of that size is found in most runs, a fifth of it is not', () => {
    const shown = (share: number): number => {
      let found = 0;
      for (let seed = 1; seed <= 60; seed++) {
        const detectable = compareLazy(new Random(seed), 1, 0.3)?.detectable ?? NaN;
        const again = compareLazy(new Random(seed + 1000), 1 + share * detectable, 0.3);
        // By the interval alone: the verdict also wants it beyond the control's.
        if (again !== undefined && again.ratio.low > 1) found++;
      }
      return found / 60;
    };
    expect(shown(1)).toBeGreaterThan(0.6);
    expect(shown(0.2)).toBeLessThan(0.35);
  });

  it('does not believe a difference that the control shows too', () => {
    const random = new Random(9);
    const eager = record(EAGER, series(random, 1, 0.02), series(random, 1.3, 0.02));
    const [comparison] = comparisonsOf(result([eager, record(LAZY, series(random, 1.2, 0.02))]));
    expect(comparison?.ratio.low).toBeGreaterThan(1);
    expect(comparison?.verdict).toBe('no difference shown');
  });

  it('pairs only rounds that both have', () => {
    const random = new Random(4);
    const some = series(random, 1, 0.1).filter(({ round }) => round % 2 === 0);
    const [comparison] = comparisonsOf(result([record(EAGER, series(random, 1, 0.1)), record(RAW, some)]));
    expect(comparison?.rounds).toBe(ROUNDS / 2);
    expect(comparison?.control).toBeUndefined();
    expect(comparison?.detectable).toBeUndefined();
  });

  it('compares nothing of few samples, of a model, or across cache modes', () => {
    const random = new Random(4);
    const few = (cell: Cell): CellRecord => record(cell, series(random, 1, 0.1).slice(0, 4));
    expect(comparisonsOf(result([few(EAGER), few(LAZY)]))).toEqual([]);
    const modelled = (cell: Cell): CellRecord =>
      record({ ...cell, device: 'model:hdd-7200' }, series(random, 1, 0.1));
    expect(comparisonsOf(result([modelled(EAGER), modelled(LAZY)]))).toEqual([]);
    const other = record({ ...LAZY, cache: 'none' }, series(random, 1, 0.1));
    expect(comparisonsOf(result([record(EAGER, series(random, 1, 0.1)), other]))).toEqual([]);
  });
});

describe('groups', () => {
  it('hold what differs in format, refcounts and cluster size, and nothing else', () => {
    expect(comparisonGroup(RAW)).toBe(comparisonGroup(EAGER));
    expect(comparisonGroup({ ...EAGER, clusterSize: 1024 })).toBe(comparisonGroup(EAGER));
    for (const other of [
      { queueDepth: 2 },
      { payload: 'zero' },
      { workload: 'other' },
      { device: 'memory' },
    ]) {
      expect(comparisonGroup({ ...EAGER, ...other })).not.toBe(comparisonGroup(EAGER));
    }
  });

  it('have eager qcow2 as their reference, else what comes first', () => {
    expect(referenceOf([RAW, LAZY, EAGER], (cell) => cell)).toBe(EAGER);
    expect(referenceOf([RAW, LAZY], (cell) => cell)).toBe(RAW);
  });
});
