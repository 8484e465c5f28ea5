import { describe, expect, test } from 'vitest';

import { boundedTables, markdownTables } from '../../src/report/markdown.ts';
import { factorText, microsecondsText, rateText } from '../../src/report/numbers.ts';
import { syncsPictureSvg } from '../../src/report/picture.ts';
import { terminalSummary } from '../../src/report/terminal.ts';
import type { CellRecord, Parity } from '../../src/result/schema.ts';
import { syntheticResult } from './synthetic-result.ts';

const result = syntheticResult();
const ESCAPE = '\u001b[';

function renamed(workload: string): readonly CellRecord[] {
  return result.cells.map((record) => ({ ...record, cell: { ...record.cell, workload } })).slice(0, 4);
}

test('figures keep the digits that distinguishes them', () => {
  expect([0, 0.0002, 0.0054, 0.0949, 0.0951, 2.003, null].map(rateText)).toEqual([
    '0',
    '<0.001',
    '0.005',
    '0.09',
    '0.10',
    '2.00',
    '–',
  ]);
  expect([1, 9.996, 48.1, 120].map(factorText)).toEqual(['1.00×', '10.0×', '48.1×', '120×']);
  expect([7100, 1_058_000, undefined].map(microsecondsText)).toEqual(['7.1 µs', '1,058 µs', '–']);
});

test('no line of the summary is wider than the terminal, 100 columns at most', () => {
  for (const width of [80, 100, 200]) {
    const cells = [
      ...result.cells,
      ...renamed('a-workload-with-a-name-that-is-far-too-long-for-a-column-of-a-table'),
    ];
    const lines = terminalSummary({ ...result, cells }, { width, all: true }).split('\n');
    expect(Math.max(...lines.map((line) => line.length))).toBeLessThanOrEqual(Math.min(width, 100));
  }
});

test('the summary begins with the answer and lists a cell a line', () => {
  const text = terminalSummary(result);
  expect(text.split('\n')[0]).toMatch(
    /^With cache=writethrough, lazy refcounts issue 1\.00 instead of 2\.00 syncs/,
  );
  expect(text).toMatch(/^ +qcow2 lazy +1\.00 +65,798 +17\.1× +467 µs ±\d+ % +0\.\d\d×$/m);
  expect(text).toContain('108 more cells are in the result and its report.');
  expect(terminalSummary(result, { all: true })).toContain('cache=unsafe');
});

test('a workload whose name finds no room beside its figures is above them, whole', () => {
  const lines = terminalSummary(result, { width: 80 }).split('\n');
  expect(lines).toContain('boot-from-backing');
  expect(lines.join('\n')).toMatch(/^boot-from-backing\n {2}raw .*\n {2}qcow2 eager /m);
});

test('setups that fit are all listed, each under a heading of its own', () => {
  const few = result.cells.filter(({ cell }) => cell.workload === 'stride' && cell.format === 'qcow2');
  const larger = few.map((record) => ({ ...record, cell: { ...record.cell, clusterSize: 2 ** 20 } }));
  const text = terminalSummary({ ...result, cells: [...few, ...larger] });
  const headings = text.split('\n').filter((line) => line.startsWith('cache='));
  expect(headings).toEqual(expect.arrayContaining(['cache=writeback · 64KiB', 'cache=writeback · 1MiB']));
  expect(headings).toHaveLength(2 * 5);
  expect(text).not.toContain('more cells');
});

test('what nothing was measured of has no column', () => {
  const cells = result.cells
    .filter(({ cell }) => cell.refcounts === 'lazy')
    .map((record) => ({ ...record, timings: [] }));
  const text = terminalSummary({ ...result, cells });
  expect(text).toMatch(/^By cache mode, a guest write costs /);
  expect(text).toContain('Amplif.');
  expect(text).not.toMatch(/Median|Time ratio|cannot compare|\n\n\n/);
});

describe('beside QEMU', () => {
  const identical = {
    qemu: '7.2.0',
    verdict: 'identical',
    operations: 1806,
    finalBytes: 'identical',
    difference: undefined,
  } as const;
  const beside = (change: (index: number) => Partial<Parity>, name = 'w'.repeat(70)): string => {
    const cells = renamed(name).map((record, index) => ({
      ...record,
      parity: { ...identical, ...change(index) },
    }));
    return terminalSummary({ ...result, cells }, { width: 80 });
  };

  test('cells of which there is no more to say are one line', () => {
    const text = beside(() => ({})).replaceAll('\n', ' ');
    expect(text).toContain('Parity: 4 of 4 cells identical to QEMU 7.2.0 (7,224 operations).');
    expect(text).not.toContain('parity:');
  });

  test('many with the same exception are counted', () => {
    const cells = Array.from({ length: 5 }, (_, index) => renamed(`w${String(index)}`)).flat();
    const parity = { ...identical, exceptions: ['varying-order'] } as const;
    const judged = cells.map((record) => ({ ...record, parity }));
    const text = terminalSummary({ ...result, cells: judged });
    expect(text.match(/in one of QEMU's varying orders/g)).toHaveLength(1);
    expect(text).toContain("  20 cells: in one of QEMU's varying orders");
  });

  test('those with an exception and those that differ are named, and whole however long their names', () => {
    const text = beside((index) => {
      if (index === 0) return { exceptions: ['varying-order'], leftOutRequests: 3 };
      if (index === 1) return { exceptions: ['varying-order'] };
      return index === 2 ? { verdict: 'different', difference: 'operation 7 differs\n  7 F  W' } : {};
    });
    const words = text.replaceAll(/\n\s*/g, ' ');
    expect(words).toContain('Parity: 3 of 4 cells identical to QEMU 7.2.0 (5,418 operations).');
    expect(words).toContain('without 3 requests in which runs of QEMU differ');
    expect(words.match(/in one of QEMU's varying orders/g)).toHaveLength(1);
    expect(words).toContain('parity: different from QEMU 7.2.0 operation 7 differs 7 F  W');
    expect(text.split('\n').every((line) => line.length <= 80)).toBe(true);
  });
});

const bold = (text: string): string => `${ESCAPE}[1m${text}${ESCAPE}[22m`;

test('colours are only there where they are asked for', () => {
  expect(terminalSummary(result)).not.toContain(ESCAPE);
  expect(terminalSummary(result, { paint: { bold, dim: bold, yellow: bold } })).toContain(ESCAPE);
});

test('where guest discards reach the file, the defaults of QEMU are named', () => {
  const discarding = (discard?: 'ignore'): string => {
    const cells = result.cells.map((record) => ({
      ...record,
      cell: discard === undefined ? record.cell : { ...record.cell, discard },
      counts: record.counts && { ...record.counts, guest: { ...record.counts.guest, discards: 3 } },
    }));
    return terminalSummary({ ...result, cells }).replaceAll(/\s+/g, ' ');
  };
  const note = "discard=unmap, the default of qemu-io and qemu-nbd); a VM's drive ignores them";
  expect(discarding()).toContain(note);
  expect(discarding('ignore')).not.toContain(note);
  expect(terminalSummary(result).replaceAll(/\s+/g, ' ')).not.toContain(note);
});

test('skipped cells and fallbacks are reported with their reason', () => {
  const cells = result.cells.map((record, index) =>
    index < 2 ? { ...record, timings: [], skipped: 'tmpfs has no O_DIRECT' } : record,
  );
  expect(terminalSummary({ ...result, cells })).toContain('2 cells: skipped: tmpfs has no O_DIRECT');
});

test('the Markdown table has a line a workload and a column a variant', () => {
  const lines = markdownTables(result, { cache: 'writethrough' }).trimEnd().split('\n');
  expect(lines).toHaveLength(2 + 9);
  expect(lines[0]).toBe('| Per guest write, cache=writethrough | raw | qcow2 eager | qcow2 lazy | QED |');
  expect(lines[2]).toBe(
    '| stride | 1.00 syncs, 4,096 B | 2.00 syncs, 135,299 B | 1.00 syncs, 69,894 B | 1.00 syncs, 66,311 B |',
  );
});

test('a workload’s name cannot break the Markdown table', () => {
  const cells = renamed('a|b\n<i>');
  expect(markdownTables({ ...result, cells }, { cache: 'writethrough' })).toContain(
    '| a\\|b\\\\x0a\\<i\\> |',
  );
});

test('the picture is drawn without a browser and holds its figures and legend', async () => {
  const svg = await syncsPictureSvg(result);
  expect(svg).toMatch(/^<svg /);
  for (const text of ['Workload stride', '2.00', '0.007', 'l2-after-refcount', 'writeback']) {
    expect(svg).toContain(`>${text}</text>`);
  }
  // Causes that the shown workload has none of are not in its legend.
  expect(svg).not.toContain('>l2-after-cow</text>');
});

test('Markdown that is too long has the rows that fit, and counts the others', () => {
  const tables = (['writethrough', 'none'] as const).map((cache) =>
    markdownTables(syntheticResult(), { cache }),
  );
  const whole = tables.join('\n');
  expect(boundedTables(tables)).toBe(whole);
  const rows = (text: string): number => text.match(/^\| [a-z].*syncs.*$/gm)?.length ?? 0;
  for (const bytes of [400, 900, Buffer.byteLength(whole) - 1]) {
    const short = boundedTables(tables, bytes);
    expect(Buffer.byteLength(short)).toBeLessThanOrEqual(bytes);
    expect(rows(short) + Number(/… (\d+) rows? left out/.exec(short)?.[1])).toBe(rows(whole));
  }
});
