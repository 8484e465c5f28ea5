import { expect, test } from 'vitest';

import { answerOf, quotedCells } from '../../src/report/answer.ts';
import { cellAt, reportCells } from '../../src/report/report-cells.ts';
import { cellKey } from '../../src/result/cell.ts';
import type { CellRecord, ResultRecord } from '../../src/result/schema.ts';
import { syntheticResult } from './synthetic-result.ts';

const result = syntheticResult();

function only(keep: (record: CellRecord) => boolean): ResultRecord {
  return { ...result, cells: result.cells.filter(keep) };
}

function aboutOf(of: ResultRecord): Readonly<Record<string, string>> {
  return Object.fromEntries(answerOf(reportCells(of)).points.map(({ about, text }) => [about, text]));
}

test('the headline gives both figures of the workload that allocates with every write', () => {
  expect(answerOf(reportCells(result)).headline).toBe(
    'With cache=writethrough, lazy refcounts issue 1.00 instead of 2.00 syncs and write 69,894 instead of ' +
      '135,299 bytes per guest write (stride: every write allocates).',
  );
});

test('each point says what the data say', () => {
  const about = aboutOf(result);
  expect(about['writeback']).toContain('save nothing on stride: 0.006 instead of 0.007 syncs per write');
  expect(about['Copy-on-write']).toContain('lazy refcounts issue 2.01 instead of 2.00 syncs');
  expect(about['QED']).toContain('issues 1.00 syncs and writes 66,311 bytes');
  expect(about['raw']).toContain('1.00 syncs and writes 4,096 bytes');
  expect(about['Cache modes']).toContain(
    'none issues the same syncs as writeback; unsafe issues none at all',
  );
});

test('figures that a reader cannot distinguish are one', () => {
  const eager = result.cells.filter(({ cell }) => cell.format === 'qcow2' && cell.refcounts === 'eager');
  const twins = eager.map((record) => ({ ...record, cell: { ...record.cell, refcounts: 'lazy' as const } }));
  const same: ResultRecord = { ...result, cells: [...eager, ...twins] };
  const { headline, points } = answerOf(reportCells(same));
  expect(headline).toMatch(
    /lazy refcounts issue the same [\d.]+ syncs and write the same [\d,]+ bytes per guest write/,
  );
  const texts = [headline, ...points.map(({ text }) => text)].join(' ');
  expect(texts).not.toMatch(/\b([\d.,]+) (?:instead of|against) \1\b/);
  expect(texts).toContain('syncs per write with either');
});

test('the cells whose times are quoted are those of the headline, before any was timed', () => {
  const untimed = result.cells.map((record) => ({ ...record, timings: [], control: [] }));
  const quoted = untimed.filter(({ cell }) => quotedCells(untimed).has(cellKey(cell)));
  expect(quoted.map(({ cell }) => [cell.workload, cell.cache])).toEqual(
    Array.from({ length: 4 }, () => ['stride', 'writethrough']),
  );
  // Of cells that answer nothing, all are timed.
  const [first] = untimed;
  const alone =
    first === undefined ? [] : [{ ...first, counts: null, countsDevice: null, skipped: 'not here' }];
  expect(quotedCells(alone).size).toBe(1);
});

test('nothing is said of what was not measured', () => {
  const about = aboutOf(only(({ cell }) => cell.cache === 'writethrough' && cell.format === 'qcow2'));
  expect(Object.keys(about)).toEqual(['Workloads', 'Copy-on-write', 'Time']);
  const withoutLazy = answerOf(reportCells(only(({ cell }) => cell.refcounts !== 'lazy')));
  expect(withoutLazy.headline).not.toContain('lazy');
  expect(withoutLazy.points.map((point) => point.about)).toEqual(['Cache mode']);
  expect(answerOf(reportCells(only(() => false))).headline).toBe('No cell of this result was counted.');
});

test('after a crash it shows the cost of opening, not what the few writes behind it did', () => {
  const crashed = result.cells.map((record) => {
    if (record.counts === null) return record;
    const isMended = record.cell.refcounts === 'lazy' || record.cell.format === 'qed';
    const open = {
      ...record.counts.open,
      reads: { ops: 3, bytes: record.cell.format === 'qed' ? 100_000 : 300_000, byPurpose: {} },
      writes: { ops: isMended ? 2 : 0, bytes: isMended ? 1024 : 0, byPurpose: {} },
      syncs: { ops: isMended ? 1 : 0, elided: 0, byCause: {} },
    };
    return { ...record, counts: { ...record.counts, open } };
  });
  const keep = (cells: readonly CellRecord[], ...workloads: readonly string[]): ResultRecord => ({
    ...result,
    cells: cells.filter(({ cell }) => workloads.includes(cell.workload)),
  });
  const answer = answerOf(reportCells(keep(crashed, 'stride')));
  expect(answer).toMatchObject({ isAnswer: true, points: [], reference: [] });
  expect(answer.headline).toBe(
    'Before the first request after a crash, qcow2 with lazy refcounts reads 300,000 bytes and makes 2 changes and ' +
      '1 sync (stride, cache=writethrough); QED reads 100,000; with eager refcounts nothing needs repair.',
  );

  const beside = keep(
    [...keep(crashed, 'stride').cells, ...keep(result.cells, 'overwrite').cells],
    'stride',
    'overwrite',
  );
  expect(answerOf(reportCells(beside)).headline).toContain('(overwrite:');
});

test('modes that differ in one cell are not called alike', () => {
  const cells = result.cells.map((record) => {
    if (record.cell.cache !== 'directsync' || record.counts === null) return record;
    const { guest } = record.counts;
    return { ...record, counts: { ...record.counts, guest: { ...guest, writes: guest.writes + 1 } } };
  });
  expect(aboutOf({ ...result, cells })['Cache modes']).not.toContain('irectsync');
});

test('cells of one place are distinguished by what differs, and raw is listed with each cluster size', () => {
  const bigger = result.cells
    .filter(({ cell }) => cell.clusterSize !== null && cell.cache === 'none')
    .map((record) => ({ ...record, cell: { ...record.cell, clusterSize: 131_072 } }));
  const report = reportCells({ ...result, cells: [...result.cells, ...bigger] });
  expect(report.setups).toEqual(['64KiB', '128KiB']);
  const place = { workload: 'stride', variant: 'raw', cache: 'none' } as const;
  expect(cellAt(report, place, '128KiB')?.record.cell.clusterSize).toBeNull();
  const places = report.cells.map((cell) =>
    JSON.stringify([cell.workload, cell.variant, cell.cache, cell.setup]),
  );
  expect(new Set(places).size).toBe(places.length);
  expect(reportCells(result).setups).toEqual(['']);
});
