import { expect, test } from 'vitest';

import { csvHeader, resultCsv } from '../../src/result/csv.ts';
import type { CellRecord, ResultRecord } from '../../src/result/schema.ts';
import { LOADS, syntheticCell, syntheticResult } from '../report/synthetic-result.ts';

const result = syntheticResult();

/** Rows of a CSV without quoted line breaks, as header → text. */
function rowsOf(csv: string): Readonly<Record<string, string>>[] {
  const [head = '', ...lines] = csv.trimEnd().split('\n');
  const columns = head.split(',');
  return lines.map((line) => {
    const texts = line.split(',');
    return Object.fromEntries(columns.map((column, index): [string, string] => [column, texts[index] ?? '']));
  });
}

function csvOf(change: Partial<CellRecord>): ResultRecord {
  const [load] = LOADS;
  if (load === undefined) throw new Error('no load');
  const record = syntheticCell(load, { format: 'qcow2', refcounts: 'eager', cache: 'writethrough' });
  return { ...result, cells: [{ ...record, ...change }] };
}

test('one row a cell, and the columns follow the schema', () => {
  expect(rowsOf(resultCsv(result))).toHaveLength(result.cells.length);
  const header = csvHeader();
  expect(new Set(header).size).toBe(header.length);
  expect(header.slice(0, 5)).toEqual([
    'cell.engine',
    'cell.workload',
    'cell.format',
    'cell.refcounts',
    'cell.cache',
  ]);
  expect(header.indexOf('counts.run.syncs.byCause.writethrough')).toBeGreaterThan(
    header.indexOf('counts.run.writes.byPurpose.data.bytes'),
  );
});

test('counts are under the path they have in the JSON; a cause that never came is 0', () => {
  const [row] = rowsOf(resultCsv(csvOf({})));
  expect(row).toMatchObject({
    'cell.refcounts': 'eager',
    'counts.guest.writes': '1000',
    'counts.run.syncs.byCause.l2-after-refcount': '1000',
    'counts.run.syncs.byCause.repair': '0',
    'counts.run.zeroRanges.byPurpose.cow.bytes': '65536000',
    skipped: '',
  });
});

test('timings are summed up as n, min, median and max per request', () => {
  const timing = { requests: 100, openNs: 1, closeNs: 2 };
  const timings = [300, 100, 900].map((elapsedNs, round) => ({ ...timing, round, elapsedNs }));
  expect(rowsOf(resultCsv(csvOf({ timings })))[0]).toMatchObject({
    'timings.nsPerRequest.n': '3',
    'timings.nsPerRequest.min': '1',
    'timings.nsPerRequest.median': '3',
    'timings.nsPerRequest.max': '9',
    'timings.userNs.median': '',
  });
});

test('what was not counted is empty, never 0', () => {
  const skipped = csvOf({ counts: null, countsDevice: null, timings: [], skipped: 'no O_DIRECT' });
  expect(rowsOf(resultCsv(skipped))[0]).toMatchObject({
    'counts.run.syncs.ops': '',
    'timings.nsPerRequest.median': '',
    skipped: 'no O_DIRECT',
  });
});

test('a name that a spreadsheet would take for a formula, or that holds quotes, is made safe', () => {
  const [record] = csvOf({}).cells;
  if (record === undefined) throw new Error('no cell');
  const csv = resultCsv({
    ...result,
    cells: [{ ...record, cell: { ...record.cell, workload: '=1+"a",b' } }],
  });
  expect(csv).toContain(`"'=1+""a"",b"`);
});
