/** What a history shows: changes of counts by commit and cause, of times, and of environments. */

import { describe, expect, test } from 'vitest';

import { historyLine, lineText } from '../../src/history/history-line.ts';
import { historyEntries, parseHistory } from '../../src/history/history.ts';
import { historyRecord, type HistoryRecord } from '../../src/history/record.ts';
import { trendsOf } from '../../src/history/trends.ts';
import { historyCharts } from '../../src/report/history/history-charts.ts';
import { historyMarkdown } from '../../src/report/history/history-markdown.ts';
import { historyText } from '../../src/report/history/history-text.ts';
import { sparkline } from '../../src/report/history/sparkline.ts';
import type { CellRecord, ResultRecord } from '../../src/result/schema.ts';
import { syntheticResult } from '../report/synthetic-result.ts';

const WHOLE = syntheticResult();
const BASE: ResultRecord = {
  ...WHOLE,
  cells: WHOLE.cells.filter(({ cell }) => cell.workload === 'stride' && cell.cache === 'writethrough'),
};

/** Commits `c0`, `c1` … a day each. */
function commits(results: readonly ResultRecord[]): HistoryRecord {
  return recordOf(results.map((result, at) => ({ result, commit: `c${String(at)}`, day: at + 1 })));
}

function recordOf(
  commits: readonly { readonly result: ResultRecord; readonly commit: string; readonly day: number }[],
): HistoryRecord {
  const known = new Set<string>();
  const text = commits.map(({ result, commit, day }) => {
    const line = historyLine([result], { commit, date: dateOf(day) });
    const own = lineText(line, (name) => known.has(name));
    for (const name of Object.keys(line.cells)) known.add(name);
    return own;
  });
  const history = parseHistory(Buffer.from(text.join('')), 'h');
  return historyRecord(trendsOf(historyEntries(history, 'h')), 'h');
}

function dateOf(day: number): string {
  return new Date(Date.UTC(2026, 0, day)).toISOString();
}

function withCells(change: (record: CellRecord) => CellRecord, result = BASE): ResultRecord {
  return { ...result, cells: result.cells.map(change) };
}

/** One more sync per allocating write where refcounts are lazy. */
const COW_SYNCS = withCells((record) => {
  const { cell, counts } = record;
  if (counts === null || cell.refcounts !== 'lazy') return record;
  const { syncs } = counts.run;
  const more = counts.guest.allocatingWrites;
  const byCause = { ...syncs.byCause, 'l2-after-cow': (syncs.byCause['l2-after-cow'] ?? 0) + more };
  const run = { ...counts.run, syncs: { ...syncs, ops: syncs.ops + more, byCause } };
  return { ...record, counts: { ...counts, run } };
});

function withTimes(nsPerRequest: number, result = BASE): ResultRecord {
  return withCells(
    (record) => ({
      ...record,
      timings: [{ round: 0, requests: 100, elapsedNs: 100 * nsPerRequest, openNs: 1, closeNs: 1 }],
    }),
    result,
  );
}

function withKernel(kernel: string, result: ResultRecord): ResultRecord {
  return { ...result, environment: { ...result.environment, kernel } };
}

describe('counts', () => {
  test('every change has its commit and its cause, and its way back too', () => {
    const { events, cells, unchanged } = commits([BASE, BASE, COW_SYNCS, COW_SYNCS, BASE]);
    expect(events.map(({ commit, changes }) => [commit, changes.map(({ kind }) => kind)])).toEqual([
      ['c2', ['more']],
      ['c4', ['lost-syncs']],
    ]);
    expect(events[0]?.changes[0]?.sentence).toMatch(
      /^\+1\.00 sync per allocating write, l2-after-cow .*, in 1 of 4 cells; first: stride · qcow2 lazy/,
    );
    expect([cells, unchanged]).toEqual([4, 3]);
  });

  test('lines are in the order of their dates, not of the file', () => {
    const { events } = recordOf([
      { result: BASE, commit: 'old', day: 1 },
      { result: COW_SYNCS, commit: 'newest', day: 9 },
      { result: BASE, commit: 'middle', day: 5 },
    ]);
    expect(events.map(({ commit }) => commit)).toEqual(['newest']);
  });

  test('a cell that a commit leaves out is compared with its last counts, and named at the end', () => {
    const some = { ...BASE, cells: BASE.cells.filter(({ cell }) => cell.refcounts !== 'lazy') };
    expect(commits([BASE, some, COW_SYNCS]).events.map(({ commit }) => commit)).toEqual(['c2']);
    const { events, gone } = commits([BASE, some]);
    expect(events).toEqual([]);
    expect(gone).toEqual([expect.stringContaining('lazy')]);
    expect(commits([some, BASE]).events[0]?.added).toEqual([expect.stringContaining('lazy')]);
  });

  test('another workload is not compared, and is said', () => {
    const other = withCells((record) =>
      record.counts === null
        ? record
        : { ...record, counts: { ...record.counts, guest: { ...record.counts.guest, writes: 7 } } },
    );
    expect(commits([BASE, other]).events[0]).toMatchObject({
      changes: [],
      otherWorkload: { length: 4 },
    });
  });

  test('counts of QEMU that change with the environment are laid to that, those of memory are not', () => {
    const ofQemu = (result: ResultRecord): ResultRecord =>
      withCells(
        (record) => ({ ...record, countsDevice: 'file', cell: { ...record.cell, engine: 'qemu' } }),
        result,
      );
    const isOfEnvironment = (results: readonly ResultRecord[]): readonly boolean[] =>
      commits(results).events.flatMap(({ changes }) => changes.map((change) => change.isOfEnvironment));
    expect(isOfEnvironment([ofQemu(BASE), withKernel('7', ofQemu(COW_SYNCS))])).toEqual([true]);
    expect(isOfEnvironment([ofQemu(BASE), ofQemu(COW_SYNCS)])).toEqual([false]);
    expect(isOfEnvironment([BASE, withKernel('7', COW_SYNCS)])).toEqual([false]);
  });
});

describe('times', () => {
  /** Two percent to and fro. */
  const noisy = (at: number, ns: number): ResultRecord => withTimes(ns * (1 + ((at * 7) % 5) / 100));

  test('a step is reported once, at its commit', () => {
    const { times } = commits(Array.from({ length: 20 }, (_, at) => noisy(at, at < 12 ? 1000 : 1200)));
    expect(times).toHaveLength(4);
    for (const { changes } of times) expect(changes).toMatchObject([{ commit: 'c12', index: 12 }]);
  });

  test('another environment is an event of its own, and no slower time', () => {
    const results = Array.from({ length: 20 }, (_, at) => noisy(at, at < 12 ? 1000 : 1200));
    const moved = results.map((result, at) => (at < 12 ? result : withKernel('7.0', result)));
    const { times, events, environments } = commits(moved);
    expect(times.map(({ changes }) => changes.length)).toEqual(Array.from({ length: 8 }, () => 0));
    expect(events).toMatchObject([{ commit: 'c12', environment: ['kernel 6.1.0-18-amd64 → 7.0'] }]);
    expect(environments).toHaveLength(2);
  });

  test('machines that take turns are series of their own, and an environment is new once', () => {
    const { times, events } = commits(
      Array.from({ length: 30 }, (_, at) => {
        const result = noisy(at, at % 2 === 0 ? 1000 : 2000);
        return at % 2 === 0 ? result : withKernel('7.0', result);
      }),
    );
    expect(times.flatMap(({ changes }) => changes)).toEqual([]);
    expect(events.map(({ commit }) => commit)).toEqual(['c1']);
  });
});

describe('outputs', () => {
  const record = commits([
    ...Array.from({ length: 10 }, () => withTimes(1000)),
    ...Array.from({ length: 10 }, () => withKernel('7.0', withTimes(1300, COW_SYNCS))),
    ...Array.from({ length: 10 }, () => withKernel('7.0', withTimes(2000, COW_SYNCS))),
  ]);

  test('the terminal has each event, what is slower, and the course of each series', () => {
    const text = historyText(record);
    expect(text).toContain('h: 30 commits, 2026-01-01 to 2026-01-30; 4 cells counted, 8 series of times, 2');
    expect(text).toMatch(/2026-01-11 {2}c10\n {2}ENVIRONMENT {2}kernel .*\n {2}MORE {2}\+1\.00 sync per/);
    expect(text).toContain('SLOWER  1.30 µs → 2.00 µs (+54 %) from 2026-01-21 c20 on');
    expect(text).toContain('▁▁▁▁▁▁▁▁▁▁████████████████████  stride · qcow2 lazy · writethrough');
    expect(text).toContain('3 cells without a change in any commit');
    expect(
      Math.max(
        ...text
          .split('\n')
          .filter((line) => /^ {2}[A-Z]{4}/.test(line))
          .map(({ length }) => length),
      ),
    ).toBeLessThanOrEqual(100);
  });

  test('Markdown has the newest first, and no markup of a foreign name', () => {
    const foreign = commits([BASE, COW_SYNCS]);
    const [event] = foreign.events;
    if (event === undefined) throw new Error('no event');
    const markdown = historyMarkdown({
      ...record,
      events: [...record.events, { ...event, commit: '<img>@all' }],
    });
    expect(markdown).toContain('\\<img\\>@\u2060all');
    expect(markdown.indexOf('img')).toBeLessThan(markdown.indexOf('c10'));
    expect(markdown).toContain('1.30 µs → 2.00 µs (+54 %)');
  });

  test('charts: times and counts, with the commits that changed them', async () => {
    const charts = await historyCharts(record);
    expect([...charts.keys()]).toEqual(['history-times', 'history-counts']);
    expect(charts.get('history-times')).toContain('>c20<');
    expect(charts.get('history-times')).toContain('>environment 2<');
    expect(charts.get('history-counts')).toContain('>c10<');
    expect([...(await historyCharts(commits([BASE]))).keys()]).toEqual(['history-times']);
  });

  test('a sparkline shows a step, and leaves noise flat', () => {
    expect(sparkline([100, 100, 200, 200], 30)).toBe('▁▁██');
    expect(sparkline([100, 101, 100, 101], 30)).toBe('▁▂▁▂');
    expect(sparkline([0, 0], 30)).toBe('▁▁');
    expect(
      sparkline(
        Array.from({ length: 300 }, (_, at) => at),
        30,
      ),
    ).toHaveLength(30);
  });
});
