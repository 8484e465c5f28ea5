import { writeFileSync } from 'node:fs';
import { join } from 'node:path';

import fc from 'fast-check';
import { describe, expect, test } from 'vitest';

import {
  acceptBaseline,
  baselineText,
  readBaseline,
  writeBaseline,
  type Baseline,
} from '../../src/gate/baseline.ts';
import { COUNT_LEAVES } from '../../src/compare/cell-counts.ts';
import { compareCounts } from '../../src/gate/compare.ts';
import { gateRecord } from '../../src/gate/record.ts';
import { verdictText, type VerdictTextOptions } from '../../src/gate/render/terminal.ts';
import { encodeSequence } from '../../src/result/request-costs.ts';
import type { CellRecord, ResultRecord } from '../../src/result/schema.ts';
import { LOADS, phase, syntheticCell, syntheticResult } from '../report/synthetic-result.ts';
import { testDirectory } from '../test-directory.ts';

const result = syntheticResult();
const baseline = acceptBaseline(result);
const [load] = LOADS;
if (load === undefined) throw new Error('no load');
const eager = syntheticCell(load, { format: 'qcow2', refcounts: 'eager', cache: 'writethrough' });

type Writable<T> = { -readonly [Key in keyof T]: Writable<T[Key]> };

/** A result of one cell, changed. */
function changed(change: (record: Writable<CellRecord>) => void): ResultRecord {
  const record = structuredClone(eager) as Writable<CellRecord>;
  change(record);
  return { ...result, cells: [record] };
}

function countsOf(record: Writable<CellRecord>): NonNullable<Writable<CellRecord>['counts']> {
  if (record.counts === null) throw new Error('the fixture has counts');
  return record.counts;
}

/** The verdict on a result as the terminal shows it. */
function textOf(own: ResultRecord, against: Baseline, options?: VerdictTextOptions): string {
  const record = gateRecord({
    verdict: compareCounts(own, against),
    result: own,
    baseline: against,
    paths: { result: 'r.json', baseline: 'b.json' },
    acceptCommand: 'gate RESULT --accept',
  });
  return verdictText(record, options);
}

const one = acceptBaseline({ ...result, cells: [eager] });

test('a result equals the baseline that accepted it', () => {
  expect(compareCounts(result, baseline)).toEqual({
    passed: true,
    groups: [],
    figures: [],
    aboveHardLimits: [],
    engineChanges: [],
    incomparable: [],
    regressions: [],
    improvements: [],
    workloadChanges: [],
    missing: [],
    added: [],
    equal: result.cells.length,
  });
});

test('one more sync fails, named by cause with both numbers', () => {
  const worse = changed((record) => {
    const { syncs } = countsOf(record).run;
    syncs.ops += 1;
    syncs.byCause['l2-after-refcount'] = 1001;
  });
  const verdict = compareCounts(worse, one);
  expect(verdict.passed).toBe(false);
  expect(verdict.regressions[0]?.changes).toEqual([
    { phase: 'run', counted: { kind: 'syncs', cause: 'l2-after-refcount' }, before: 1000, after: 1001 },
  ]);
  const text = textOf(worse, one);
  expect(text).toMatch(/WORSE {2}\+1\.00 sync per run, l2-after-refcount \(refcounts before/);
  expect(text).toMatch(/stride · qcow2 eager · writethrough {2}1,000 → 1,001 {2}\+1 \(\+0\.1 %\)/);
  expect(text).toContain('gate failed: cells 1 worse\n');
});

test('one more byte of a purpose fails, even where another purpose writes less', () => {
  const moved = changed((record) => {
    const { writes } = countsOf(record).run;
    writes.byPurpose.data = { ops: 1000, bytes: 4_096_001 };
    writes.byPurpose['l1-table'] = { ops: 1, bytes: 7 };
  });
  const verdict = compareCounts(moved, one);
  expect(verdict.passed).toBe(false);
  expect(verdict.regressions[0]?.changes).toHaveLength(2);
  expect(textOf(moved, one)).toContain('l1-table (L1 table)');
});

test('fewer operations pass and are reported, with how to keep them', () => {
  const better = changed((record) => {
    countsOf(record).run.zeroRanges = phase({}).zeroRanges;
  });
  const verdict = compareCounts(better, one);
  expect(verdict).toMatchObject({ passed: true, regressions: [] });
  expect(verdict.improvements).toHaveLength(1);
  const text = textOf(better, one);
  expect(text).toMatch(/BETTER {2}−1\.00 zero-range per allocating write, cow/);
  expect(text).toContain('To accept the changes, make this result the baseline:\n  gate RESULT --accept');
});

test('elided flushes alone neither pass for better work nor fail', () => {
  const elided = changed((record) => (countsOf(record).run.syncs.elided = 12));
  const verdict = compareCounts(elided, one);
  expect(verdict.passed).toBe(true);
  expect(verdict.improvements).toHaveLength(1);
});

test('measuring less fails: a cell that is missing, skipped or counted elsewhere', () => {
  const gone = compareCounts({ ...result, cells: [] }, one);
  expect(gone).toMatchObject({ passed: false, missing: [{ reason: 'not in the result' }] });
  const skipped = changed((record) =>
    Object.assign(record, { counts: null, countsDevice: null, skipped: 'no disk' }),
  );
  expect(compareCounts(skipped, one).missing[0]?.reason).toBe('skipped: no disk');
  const onFile = changed((record) => (record.countsDevice = 'file'));
  expect(compareCounts(onFile, one)).toMatchObject({ passed: false, equal: 0 });
});

test('another workload under the same name fails and is not compared', () => {
  const other = changed((record) => (countsOf(record).guest.writes = 999));
  const verdict = compareCounts(other, one);
  expect(verdict).toMatchObject({ passed: false, regressions: [], improvements: [] });
  expect(textOf(other, one)).toContain('guest writes: 1,000 → 999');
});

test('a new cell is reported and passes', () => {
  const verdict = compareCounts(result, one);
  expect(verdict.passed).toBe(true);
  expect(verdict.added).toHaveLength(result.cells.length - 1);
  expect(textOf(result, one, { cellsMax: 3 })).toContain('… and 176 more');
});

test('where times were taken does not matter; one cell counted twice and unlike is refused', () => {
  const elsewhere = { ...eager, cell: { ...eager.cell, device: 'null' } };
  expect(compareCounts({ ...result, cells: [eager, elsewhere] }, one)).toMatchObject({
    passed: true,
    equal: 1,
  });
  const unlike = changed((record) => {
    record.cell.device = 'null';
    countsOf(record).run.syncs.elided = 5;
  }).cells;
  expect(() => compareCounts({ ...result, cells: [eager, ...unlike] }, one)).toThrow(
    /has different counts for/,
  );
});

test('any leaf that rises fails the gate; any that only falls passes, but for syncs', () => {
  const counted = COUNT_LEAVES.filter((leaf) => !leaf.endsWith('elided'));
  fc.assert(
    fc.property(fc.constantFrom(...counted), fc.integer({ min: 1, max: 1e9 }), (leaf, by) => {
      const cell = one.cells[0];
      if (cell === undefined) throw new Error('the baseline has one cell');
      const value = cell.counts[leaf] ?? 0;
      const lower = { ...one, cells: [{ ...cell, counts: { ...cell.counts, [leaf]: value + by } }] };
      // A sync that is gone may be a lost order: it is accepted, and not passed.
      expect(compareCounts({ ...result, cells: [eager] }, lower).passed).toBe(!leaf.includes('byCause'));
      if (value === 0) return;
      const higher = {
        ...one,
        cells: [{ ...cell, counts: { ...cell.counts, [leaf]: value - Math.min(by, value) } }],
      };
      expect(compareCounts({ ...result, cells: [eager] }, higher).passed).toBe(false);
    }),
  );
});

test('the baseline file is stable, sorted, and read back equal', () => {
  const directory = testDirectory();
  const path = join(directory, 'baseline.json');
  writeBaseline(path, baseline);
  expect(readBaseline(path)).toEqual(baseline);
  const reversed = { ...result, cells: result.cells.toReversed() };
  expect(baselineText(acceptBaseline(reversed))).toBe(baselineText(baseline));
  expect(baselineText(one)).toContain('\n        "run.syncs.byCause.writethrough": 1000,\n');
  writeFileSync(path, baselineText(one).replace('byCause.writethrough', 'byCause.writethru'));
  expect(() => readBaseline(path)).toThrow(/baseline\.json: field cells\[0\]\.counts/);
});

test('nothing counted on the memory device is nothing to accept', () => {
  expect(() => acceptBaseline({ ...result, cells: [] })).toThrow(/nothing to accept/);
});

describe('what each request cost', () => {
  const digest = '0123456789abcdef0123456789abcdef';
  const plain = 'write data, sync writethrough';
  const more = 'write data, sync l2-after-cow, sync writethrough';
  const withCosts = (costs: readonly string[], of = digest): ResultRecord =>
    changed((record) => {
      const own = [...new Set(costs)];
      record.requests = {
        digest: of,
        costs: own,
        sequence: encodeSequence(costs.map((cost) => own.indexOf(cost))),
      };
      const syncs = costs.filter((cost) => cost === more).length;
      const { run } = countsOf(record);
      run.syncs.ops += syncs;
      if (syncs > 0) run.syncs.byCause['l2-after-cow'] = syncs;
    });
  const known = acceptBaseline(withCosts([plain, plain, '', plain]));

  test('the first request that differs is named, with its operations before and now', () => {
    const text = textOf(withCosts([plain, plain, '', more]), known);
    expect(text).toMatch(/first:\s.*, request 3$/m);
    expect(text).toMatch(
      /^ {4}request 3: write data, sync writethrough → write data, sync l2-after-cow, sync writethrough$/m,
    );
  });

  test('a change of the subject counts before any other', () => {
    const other = 'write data × 2, sync writethrough';
    expect(textOf(withCosts([plain, other, '', more]), known)).toMatch(/first:\s.*, request 3$/m);
  });

  test('as many requests that are others are another workload', () => {
    const text = textOf(withCosts([plain, plain, '', plain], digest.replace('0', 'f')), known);
    expect(text).toMatch(/^OTHER WORKLOAD /m);
    expect(text).toContain('as many requests, but others');
    expect(text).toContain('gate failed: cells 1 with another workload');
  });

  test('a baseline or result without costs names no request', () => {
    const older = { ...known, cells: known.cells.map((cell) => ({ ...cell, requests: undefined })) };
    expect(textOf(withCosts([plain, plain, '', more]), older)).not.toMatch(/request \d/);
  });

  test('a committed baseline keeps them', () => {
    const path = join(testDirectory(), 'baseline.json');
    writeBaseline(path, known);
    expect(readBaseline(path)).toEqual(known);
  });
});
