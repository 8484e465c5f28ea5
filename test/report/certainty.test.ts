import { expect, it } from 'vitest';

import { controlText, warningsOf } from '../../src/report/certainty.ts';
import { reportCells } from '../../src/report/report-cells.ts';
import type { Environment, ResultRecord, Timing } from '../../src/result/schema.ts';
import { ENVIRONMENT, syntheticResult } from './synthetic-result.ts';

function timings(times: readonly number[]): Timing[] {
  return times.map((elapsedNs, round) => ({ round, requests: 1, elapsedNs, openNs: 0, closeNs: 0 }));
}

const STEADY = [100, 101, 99, 100, 102, 98, 100, 101];

/** Two cells, eager the reference, with these samples. */
function resultOf(
  lazy: readonly number[],
  { eager = STEADY, control = STEADY }: { eager?: readonly number[]; control?: readonly number[] } = {},
  environment: Partial<Environment> = {},
): ResultRecord {
  const cells = syntheticResult().cells.filter(
    ({ cell }) => cell.workload === 'stride' && cell.cache === 'writethrough' && cell.refcounts !== null,
  );
  return {
    ...syntheticResult(),
    environment: { ...ENVIRONMENT, ...environment },
    cells: cells.map((record) =>
      record.cell.refcounts === 'eager'
        ? { ...record, timings: timings(eager), control: timings(control) }
        : { ...record, timings: timings(lazy) },
    ),
  };
}

const warnings = (result: ResultRecord): string => warningsOf(result, reportCells(result)).join('\n');

it('is content with steady times on an idle machine', () => {
  const result = resultOf(STEADY, {}, { governor: 'performance', loadAverage: 0.1 });
  expect(warnings(result)).toBe('');
  expect(controlText(reportCells(result))).toMatch(
    /^Time ratios are to qcow2 eager, paired by round\. The same cell timed twice \(A\/A\) gives 1\.00× to 1\.00×.*smallest difference/,
  );
});

it('names what spoils a figure: load, governor, a file system in memory, barriers that are off', () => {
  const place = { directory: '/mnt', mountOptions: ['rw', 'nobarrier'] };
  const busy = resultOf(STEADY, {}, { loadAverage: ENVIRONMENT.cores, governor: 'powersave' });
  expect(warnings(busy)).toMatch(/busy before the run.*\n.*governor powersave/);
  expect(warnings(resultOf(STEADY, {}, { fileSystem: { ...place, type: 'tmpfs' } }))).toMatch(/tmpfs/);
  expect(warnings(resultOf(STEADY, {}, { fileSystem: { ...place, type: 'xfs' } }))).toMatch(/nobarrier/);
});

it('names cells whose medians are not known, and counts samples that lie far out', () => {
  expect(warnings(resultOf([100, 200, 50, 150, 80, 300]))).toMatch(/1 cell has a median interval wider/);
  expect(warnings(resultOf([100, 100]))).toMatch(/1 cell has too few samples/);
  expect(warnings(resultOf([...STEADY, 100_000]))).toMatch(/1 sample is an outlier, most in stride.*lazy/);
});

it('distrusts a reference that differs from itself', () => {
  const shifted = STEADY.map((time) => time * 1.2);
  expect(warnings(resultOf(STEADY, { control: shifted }))).toMatch(/differs from itself/);
});

it('says nothing of a result without times', () => {
  const result = resultOf([]);
  const untimed = { ...result, cells: result.cells.map((record) => ({ ...record, timings: [] })) };
  expect(warnings(untimed)).toBe('');
  expect(controlText(reportCells(untimed))).toBeUndefined();
});
