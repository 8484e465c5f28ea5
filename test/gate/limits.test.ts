import { describe, expect, test } from 'vitest';

import { acceptBaseline, type Baseline } from '../../src/gate/baseline.ts';
import { compareCounts, type GateVerdict } from '../../src/gate/compare.ts';
import { gateRecord } from '../../src/gate/record.ts';
import { parseGateLimits, type GateLimits } from '../../src/gate/limits.ts';
import type { ResultRecord } from '../../src/result/schema.ts';
import { syntheticResult } from '../report/synthetic-result.ts';

const result = syntheticResult();
const whole = acceptBaseline(result);

/** The baseline with a leaf of all its lazy cells in writethrough multiplied. */
function scaled(leaf: string, factor: number): Baseline {
  const cells = whole.cells.map((cell) => {
    const value = cell.counts[leaf];
    if (cell.cell.refcounts !== 'lazy' || cell.cell.cache !== 'writethrough' || value === undefined) {
      return cell;
    }
    return { ...cell, counts: { ...cell.counts, [leaf]: Math.round(value * factor) } };
  });
  return { ...whole, cells };
}

function gated(baseline: Baseline, limits: object, cells: readonly object[] = []): GateVerdict {
  const text = JSON.stringify({ schema: 'qcow2-bench/gate@1', limits, cells });
  return compareCounts(result, baseline, parseGateLimits(text, 'gate.json'));
}

const L2_BYTES = 'run.writes.byPurpose.l2-table.bytes';
const THROUGH = 'run.syncs.byCause.writethrough';

test.each([
  ['a soft limit passes a rise within it', { 'writes.l2-table': '5%' }, 1 / 1.04, true],
  ['a soft limit fails a rise beyond it', { 'writes.l2-table': '5%' }, 1 / 1.06, false],
  ['the group of all counts', { '@all': '5%' }, 1 / 1.04, true],
  ['the group of bytes', { '@bytes': '5%' }, 1 / 1.04, true],
  ['a limit of another purpose does not apply', { 'writes.data': '5%' }, 1 / 1.04, false],
  ['a limit of another phase does not apply', { 'close.writes.l2-table': '5%' }, 1 / 1.04, false],
  ['a limit of the phase applies', { 'run.writes.*.bytes': '5%' }, 1 / 1.04, true],
  ['the last limit counts', { 'writes.l2-table': '5%', '@bytes': '0%' }, 1 / 1.04, false],
  ['what is off is not gated', { writes: 'off' }, 1 / 2, true],
  ['a fall passes without a limit', {}, 2, true],
  ['a fall within a negative limit passes', { writes: '-60%' }, 2, true],
  ['a fall beyond a negative limit fails', { writes: '-40%' }, 2, false],
])('%s', (_, limits, factor, passes) => {
  expect(gated(scaled(L2_BYTES, factor), limits).passed).toBe(passes);
});

test('a lost sync fails whatever counts may rise by, unless a limit allows the fall', () => {
  const before = scaled(THROUGH, 2);
  expect(gated(before, {}).passed).toBe(false);
  expect(gated(before, { '@all': '100%' }).passed).toBe(false);
  expect(gated(before, { '@syncs': '100%, -60%' }).passed).toBe(true);
  expect(gated(before, { '@lost-syncs': 'off' }).passed).toBe(true);
});

test('limits of cells override those of all', () => {
  const before = scaled(L2_BYTES, 1 / 1.04);
  const strict = { '@all': '0%' };
  const cells = [
    { match: { refcounts: 'lazy', cache: ['writethrough', 'none'] }, limits: { '@all': '10%' } },
  ];
  expect(gated(before, strict, cells).passed).toBe(true);
  const others = [{ match: { workload: 'overwri*' }, limits: { '@all': '10%' } }];
  expect(gated(before, strict, others).passed).toBe(false);
});

test('a hard limit fails a count that did not change', () => {
  const verdict = gated(whole, { 'syncs.writethrough': 1799 });
  expect(verdict.passed).toBe(false);
  expect(verdict.aboveHardLimits.every(({ value }) => value > 1799)).toBe(true);
  expect(gated(whole, { 'syncs.writethrough': 1e9 }).passed).toBe(true);
});

test('derived figures are gated where they have a limit', () => {
  const before = scaled(L2_BYTES, 1 / 1.5);
  expect(gated(before, { '@all': 'off' }).passed).toBe(true);
  const verdict = gated(before, { '@all': 'off', 'figures.writeAmplification': '1%' });
  expect(verdict.passed).toBe(false);
  expect(new Set(verdict.figures.map(({ name }) => name))).toEqual(new Set(['figures.writeAmplification']));
});

test('modelled times are exact; without them in the baseline nothing is compared', () => {
  const modelled = {
    ...result,
    cells: result.cells.map((record) => ({ ...record, cell: { ...record.cell, device: 'model:nvme' } })),
  };
  const accepted = acceptBaseline(modelled);
  expect(compareCounts(modelled, accepted).passed).toBe(true);
  const [first, ...rest] = modelled.cells;
  if (first === undefined) throw new Error('the fixture has cells');
  const timings = first.timings.map((timing) => ({ ...timing, elapsedNs: timing.elapsedNs + 1 }));
  const slower = { ...modelled, cells: [{ ...first, timings }, ...rest] };
  expect(compareCounts(slower, accepted).figures).toMatchObject([
    { name: 'modelled.model:nvme.elapsedNs', isBreach: true },
  ]);
  expect(compareCounts(slower, whole).passed).toBe(true);
});

test('an engine of another version is reported; where counts differ it is incomparable and fails', () => {
  const older = { ...whole, engines: { builtin: '0.0.9' } };
  expect(compareCounts(result, older)).toMatchObject({
    passed: true,
    engineChanges: [{ engine: 'builtin', before: '0.0.9', after: '0.1.0' }],
    incomparable: [],
  });
  const verdict = compareCounts(result, { ...scaled(L2_BYTES, 2), engines: { builtin: '0.0.9' } });
  expect(verdict).toMatchObject({ passed: false, regressions: [], improvements: [] });
  expect(verdict.incomparable.length).toBeGreaterThan(0);
});

test('cells of QEMU are gated, with its version', () => {
  const qemu = {
    ...result,
    cells: result.cells.map((record) => ({
      ...record,
      cell: { ...record.cell, engine: 'qemu' },
      countsDevice: 'file',
      parity: { verdict: 'identical', qemu: '7.2.22', operations: 1, finalBytes: 'identical' } as const,
    })),
  };
  const accepted = acceptBaseline(qemu);
  expect(accepted.engines).toEqual({ qemu: '7.2.22' });
  expect(compareCounts(qemu, accepted)).toMatchObject({ passed: true, equal: result.cells.length });
});

test.each([
  [
    '{"schema":"qcow2-bench/gate@1","limits":{\n"syncs.l2-after-cows":"0%"}}',
    2,
    /'l2-after-cows' is none of .*did you mean 'l2-after-cow'/,
  ],
  ['{"schema":"qcow2-bench/gate@1","limits":{\n\n"@everything":"0%"}}', 3, /no such group/],
  ['{"schema":"qcow2-bench/gate@1","limits":{\n"@all":"five"}}', 2, /expected '5%'/],
  ['{"schema":"qcow2-bench/gate@1",\n"limit":{}}', 2, /no such field/],
  ['{"schema":"qcow2-bench/gate@2"}', 1, /schema/],
  ['{"schema":"qcow2-bench/gate@1",\n"limits":{"a.b.c.d.e":"0%"}}', 2, /a\.b\.c\.d\.e/],
  [
    '{"schema":"qcow2-bench/gate@1","cells":[\n{"match":{"worklod":"x"},"limits":{}}]}',
    2,
    /no such coordinate/,
  ],
  ['{"schema":"qcow2-bench/gate@1",\n"limits":', 2, /not JSON: expected a value/],
])('a file of limits with a mistake is refused with its line: %s', (text, line, rule) => {
  expect(() => parseGateLimits(text, 'gate.json')).toThrow(rule);
  expect(() => parseGateLimits(text, 'gate.json')).toThrow(`gate.json, line ${String(line)}: `);
});

describe('CPU time per request', () => {
  const timed = (cpuNs: number | undefined): ResultRecord => ({
    ...result,
    cells: result.cells.map((record) => ({
      ...record,
      timings: record.timings.map((timing) =>
        cpuNs === undefined
          ? { ...timing, userNs: undefined, systemNs: undefined }
          : { ...timing, userNs: cpuNs * timing.requests, systemNs: 0 },
      ),
    })),
  });
  const limited = (limit: string): GateLimits =>
    parseGateLimits(
      `{"schema":"qcow2-bench/gate@1","cells":[{"match":{"format":"qed"},"limits":{"harness.cpuNsPerRequest":${limit}}}]}`,
      'gate.json',
    );

  test('above its hard limit it fails, in the cells that have the limit', () => {
    const verdict = compareCounts(timed(2000), acceptBaseline(result), limited('1500'));
    expect(verdict.passed).toBe(false);
    expect(new Set(verdict.aboveHardLimits.map(({ cell }) => cell.format))).toEqual(new Set(['qed']));
    expect(verdict.aboveHardLimits[0]).toMatchObject({
      name: 'harness.cpuNsPerRequest',
      value: 2000,
      most: 1500,
    });
    expect(compareCounts(timed(1500), acceptBaseline(result), limited('1500')).passed).toBe(true);
  });

  test('a limit that could gate nothing is an error', () => {
    expect(() => compareCounts(timed(undefined), acceptBaseline(result), limited('1500'))).toThrow(
      /no cell of the result was timed: run with --samples/,
    );
    expect(() => limited('"5%"')).toThrow(/line 1.*needs a number: CPU time is not in the baseline/);
  });
});

test('a rise that a limit allows is within it, and not better', () => {
  const baseline = scaled(L2_BYTES, 1 / 1.04);
  const limits = parseGateLimits(
    JSON.stringify({ schema: 'qcow2-bench/gate@1', limits: { 'writes.l2-table': '5%' } }),
    'gate.json',
  );
  const { passed, summary } = gateRecord({
    verdict: compareCounts(result, baseline, limits),
    result,
    baseline,
    paths: { result: 'result.json', baseline: 'baseline.json', limits: 'gate.json' },
    acceptCommand: undefined,
  });
  expect(passed).toBe(true);
  expect(summary).toMatch(/^cells \d+ within their limits, \d+ as in the baseline$/);
});
