import { expect, test } from 'vitest';

import { compareSides, resultSide, type SideComparison } from '../../src/compare/compare-results.ts';
import { comparisonMarkdown } from '../../src/report/comparison/comparison-markdown.ts';
import { comparisonText } from '../../src/report/comparison/comparison-text.ts';
import type { Cell, CellRecord, ResultRecord } from '../../src/result/schema.ts';
import { syntheticResult } from '../report/synthetic-result.ts';

const result = syntheticResult();

function withCells(change: (cell: Cell) => Partial<Cell>): ResultRecord {
  return {
    ...result,
    cells: result.cells.map((record) => ({ ...record, cell: { ...record.cell, ...change(record.cell) } })),
  };
}

function compared(before: ResultRecord, after: ResultRecord): SideComparison {
  const [comparison] = compareSides([resultSide('a.json', before), resultSide('b.json', after)]);
  if (comparison === undefined) throw new Error('two sides make a comparison');
  return comparison;
}

/** Every sample as long as it was, times a factor. */
function slowed(factor: number): ResultRecord {
  const cells = result.cells.map((record): CellRecord => ({
    ...record,
    timings: record.timings.map((timing) => ({ ...timing, elapsedNs: timing.elapsedNs * factor })),
  }));
  return { ...result, cells };
}

test('a result has no difference from itself, in one line', () => {
  const text = comparisonText([compared(result, result)]);
  expect(text).toContain(`Counts: ${String(result.cells.length)} cells unchanged.`);
  expect(text.split('\n')).toHaveLength(6);
});

test('results of two engines are compared, and the engine is named as what distinguishes them', () => {
  const { counts } = compared(
    result,
    withCells(() => ({ engine: 'qemu' })),
  );
  expect(counts).toMatchObject({ compared: result.cells.length, equal: result.cells.length, onlyAfter: [] });
  expect(counts.distinctions).toEqual([{ name: 'engine', before: 'builtin', after: 'qemu' }]);
});

test('equal cells match first; what is left is matched by what distinguishes it', () => {
  const sized = withCells(({ format }) => (format === 'qcow2' ? { caches: { l2CacheEntrySize: 4096 } } : {}));
  const { counts } = compared(result, sized);
  expect(counts.compared).toBe(result.cells.length);
  expect(counts.distinctions.map(({ name }) => name)).toEqual(['caches']);
});

test('cells of other workloads never match, and are listed', () => {
  const { counts } = compared(
    { ...result, cells: result.cells.filter(({ cell }) => cell.workload === 'stride') },
    { ...result, cells: result.cells.filter(({ cell }) => cell.workload === 'overwrite') },
  );
  expect(counts).toMatchObject({ compared: 0, distinctions: [] });
  expect(counts.onlyBefore.length).toBe(20);
  expect(counts.onlyAfter.length).toBe(20);
});

test('counts on memory and on files are the same cells; times are not', () => {
  const { counts, times } = compared(result, {
    ...result,
    cells: result.cells.map((record, index) => ({
      ...record,
      cell: { ...record.cell, device: index % 2 === 0 ? 'memory' : 'null' },
    })),
  });
  expect(counts.equal).toBe(result.cells.length);
  expect(times).toEqual([]);
});

test('a workload that did something else is incomparable, and is named', () => {
  const [first, ...others] = result.cells;
  if (first?.counts === null || first === undefined) throw new Error('the fixture has counts');
  const counts = { ...first.counts, guest: { ...first.counts.guest, writes: 7 } };
  const comparison = compared(result, { ...result, cells: [{ ...first, counts }, ...others] });
  expect(comparison.counts.workloadChanges).toHaveLength(1);
  expect(comparisonText([comparison])).toMatch(
    /Incomparable: stride · raw · \w+: its guest did\s+something else/,
  );
});

test('counts of overlapping operations are samples and are not judged', () => {
  const overlapped = withCells(() => ({ overlap: true }));
  const [first, ...others] = overlapped.cells;
  if (first?.counts === null || first === undefined) throw new Error('the fixture has counts');
  const run = { ...first.counts.run, syncs: { ...first.counts.run.syncs, elided: 77 } };
  const comparison = compared(overlapped, {
    ...overlapped,
    cells: [{ ...first, counts: { ...first.counts, run } }, ...others],
  });
  expect(comparison.counts).toMatchObject({ changed: [], groups: [] });
  expect(comparison.counts.samples).toHaveLength(1);
});

test('times that doubled are slower; the same times are no change; few samples are inconclusive', () => {
  const verdicts = (after: ResultRecord): readonly string[] => [
    ...new Set(compared(result, after).times.map(({ verdict }) => verdict)),
  ];
  expect(verdicts(slowed(2))).toEqual(['slower']);
  expect(verdicts(slowed(0.5))).toEqual(['faster']);
  expect(verdicts(slowed(1)).filter((verdict) => verdict === 'slower' || verdict === 'faster')).toEqual([]);
  const few = {
    ...result,
    cells: result.cells.map((record) => ({ ...record, timings: record.timings.slice(0, 3) })),
  };
  expect(verdicts(few)).toEqual(['inconclusive']);
});

test('modelled times are exact: any difference is one', () => {
  const modelled = withCells(() => ({ device: 'model:nvme' }));
  const [first, ...others] = modelled.cells;
  if (first === undefined) throw new Error('the fixture has cells');
  const [timing] = first.timings;
  if (timing === undefined) throw new Error('the fixture has times');
  const longer = {
    ...first,
    timings: first.timings.map((each) => ({ ...each, elapsedNs: each.elapsedNs + 300 })),
  };
  const { times } = compared(modelled, { ...modelled, cells: [longer, ...others] });
  expect(times.filter(({ verdict }) => verdict === 'slower')).toHaveLength(1);
  expect(times.filter(({ verdict }) => verdict === 'no change')).toHaveLength(times.length - 1);
});

test('Markdown of many changes stays below the limit of a comment and closes what it opened', () => {
  const cells = result.cells.flatMap((record) =>
    Array.from({ length: 6 }, (_, index) => ({
      ...record,
      cell: { ...record.cell, workload: `${record.cell.workload}-${String(index)}-<b>|@someone` },
    })),
  );
  const many = { ...result, cells };
  const changed = {
    ...result,
    cells: cells.map((record): CellRecord => {
      if (record.counts === null) return record;
      const { syncs } = record.counts.run;
      const { writethrough = 0 } = syncs.byCause;
      const more = {
        ...syncs,
        ops: syncs.ops + 1,
        byCause: { ...syncs.byCause, writethrough: writethrough + 1 },
      };
      return { ...record, counts: { ...record.counts, run: { ...record.counts.run, syncs: more } } };
    }),
  };
  const text = comparisonMarkdown([compared(many, changed)]);
  expect(Buffer.byteLength(text)).toBeLessThanOrEqual(60_000);
  expect(text).toMatch(/… and [\d,]+ more lines\.\n$/);
  expect(text.match(/<details>/g)).toHaveLength(text.match(/<\/details>/g)?.length ?? -1);
  expect(text).not.toContain('<b>');
  expect(text).not.toMatch(/@someone/);
});
