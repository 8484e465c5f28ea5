/** `history add` and `history show` as they are called: nothing of a file is ever lost. */

import { copyFileSync, existsSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import { beforeAll, describe, expect, test, vi } from 'vitest';

import { loadOfdLocks } from '../../src/device/ofd-lock.ts';
import type { ResultRecord } from '../../src/result/schema.ts';
import { testDirectory } from '../test-directory.ts';
import { callCli } from './call-cli.ts';
import { linesOf, runCli, type Ended } from './cli-process.ts';

vi.setConfig({ testTimeout: 120_000, hookTimeout: 120_000 });

const folder = testDirectory();

function call(...words: readonly string[]): Promise<Ended> {
  return callCli(folder, ...words);
}

function at(name: string): string {
  return join(folder, name);
}

function text(name: string): string {
  return readFileSync(at(name), 'utf8');
}

beforeAll(async () => {
  const cell = '--workload stride --requests 20 --format qcow2 --cache none --samples 0'.split(' ');
  expect(await call('run', ...cell, '--out', 'a.json')).toMatchObject({ code: 0 });
  expect(await call('run', ...cell, '--l2-cache-entry-size', '4KiB', '--out', 'other.json')).toMatchObject({
    code: 0,
  });
  const result = JSON.parse(text('a.json')) as ResultRecord;
  const cells = result.cells.map((record) => {
    const { counts } = record;
    if (counts === null) return record;
    const { syncs } = counts.run;
    const byCause = { ...syncs.byCause, 'l2-after-cow': 20 };
    const run = { ...counts.run, syncs: { ...syncs, ops: syncs.ops + 20, byCause } };
    return { ...record, counts: { ...counts, run } };
  });
  writeFileSync(at('worse.json'), JSON.stringify({ ...result, cells }));
  for (const [commit, name, day] of [
    ['aaaa', 'a.json', '01'],
    ['bbbb', 'a.json', '02'],
    ['cccc', 'worse.json', '03'],
  ] as const) {
    const words = ['--commit', commit, '--date', `2026-01-${day}T10:00:00+02:00`, '--file', 'h.jsonl'];
    expect(await call('history', 'add', name, ...words)).toMatchObject({ code: 0 });
  }
});

test('a line is appended for each commit; counts that the file has are not repeated', () => {
  const lines = linesOf(text('h.jsonl'));
  expect(lines).toHaveLength(3);
  const [first, second, third] = lines.map((line) => JSON.parse(line) as { date: string; cells: object });
  expect(first?.date).toBe('2026-01-01T08:00:00.000Z');
  expect([first, second, third].map((line) => Object.keys(line?.cells ?? {}).length)).toEqual([2, 0, 2]);
});

test('show names the commit, the cause and the cells; --json has the same', async () => {
  const { code, stdout } = await call('history', 'show', '--file', 'h.jsonl');
  expect(code).toBe(0);
  expect(stdout).toMatch(/2026-01-03 {2}cccc\n {2}MORE {2}\+1\.00 sync per allocating write, l2-after-cow/);
  const json = await call('history', 'show', '--file', 'h.jsonl', '--json');
  expect(JSON.parse(json.stdout)).toMatchObject({ commits: 3, events: [{ commit: 'cccc', line: 3 }] });
  const last = await call('history', 'show', '--file', 'h.jsonl', '--last', '2', '--json');
  expect(JSON.parse(last.stdout)).toMatchObject({ commits: 2, events: [{ commit: 'cccc' }] });
});

test('Markdown and charts are written, and replaced again', async () => {
  for (let times = 0; times < 2; times++) {
    const ended = await call('history', 'show', '--file', 'h.jsonl', '--markdown', 'h.md', '--charts', '.');
    expect(ended).toMatchObject({ code: 0 });
  }
  expect(text('h.md')).toContain('**MORE**');
  expect(text('history-counts.svg')).toContain('>cccc<');
  expect(existsSync(at('history-counts.png'))).toBe(true);
  // No time was taken.
  expect(existsSync(at('history-times.svg'))).toBe(false);
  // A picture of the user's is not replaced.
  writeFileSync(at('history-counts.png'), Buffer.from('89504e470d0a1a0a0000000d49484452', 'hex'));
  const refused = await call('history', 'show', '--file', 'h.jsonl', '--charts', '.');
  expect(refused.code).toBe(1);
  expect(refused.stderr).toContain('history-counts.png');
  rmSync(at('history-counts.png'));
});

test('a page holds the changes with their commits, and the pictures; nothing in it is loaded', async () => {
  copyFileSync(at('h.jsonl'), at('<b>.jsonl'));
  const ended = await call('history', 'show', '--file', '<b>.jsonl', '--html', 'h.html');
  expect(ended).toMatchObject({ code: 0 });
  const page = text('h.html');
  expect(page).toContain('1 commit changed counts.');
  expect(page).toMatch(/<h3>cccc <span class="sub">2026-01-03<\/span><\/h3>/);
  expect(page).toContain('+1.00 sync per allocating write, l2-after-cow');
  expect(page).toContain('>cccc</text>');
  expect(page).toContain('&lt;b&gt;.jsonl');
  expect(page).not.toContain('<b>');
  expect(page).not.toMatch(/<(?:link|img|iframe)\b/);
});

test('a commit that is added again with the same counts is no second line, with others an error', async () => {
  copyFileSync(at('h.jsonl'), at('again.jsonl'));
  const again = await call('history', 'add', 'a.json', '--commit', 'aaaa', '--file', 'again.jsonl');
  expect(again).toMatchObject({ code: 0 });
  expect(again.stdout).toContain('again.jsonl, line 1: has aaaa in this environment already, with the same');
  const other = await call('history', 'add', 'worse.json', '--commit', 'aaaa', '--file', 'again.jsonl');
  expect(other).toMatchObject({ code: 1 });
  expect(other.stderr).toMatch(/again\.jsonl, line 1: .*with other counts.*\[history-doubled\]/);
  expect(text('again.jsonl')).toBe(text('h.jsonl'));
});

test('several results of one commit are one line; counts of one cell that differ are refused', async () => {
  const words = ['--commit', 'aaaa', '--file', 'several.jsonl', '--json'];
  const ended = await call('history', 'add', 'a.json', 'other.json', ...words);
  expect(JSON.parse(ended.stdout)).toMatchObject({ added: [{ line: 1, counted: 4 }] });
  const differ = await call('history', 'add', 'a.json', 'worse.json', '--commit', 'x', '--file', 'no.jsonl');
  expect(differ).toMatchObject({ code: 1 });
  expect(differ.stderr).toContain('gate-ambiguous-cell');
  expect(existsSync(at('no.jsonl'))).toBe(false);
});

describe('a torn last line', () => {
  function torn(name: string): string {
    copyFileSync(at('h.jsonl'), at(name));
    truncateSync(at(name), text(name).length - 30);
    return text(name);
  }

  test('is named and left out by show', async () => {
    const before = torn('torn.jsonl');
    const { code, stdout, stderr } = await call('history', 'show', '--file', 'torn.jsonl');
    expect(code).toBe(0);
    expect(stderr).toMatch(/torn\.jsonl, line 3: the file ends within this line .* it is left out/);
    expect(stdout).toContain('2 commits');
    expect(text('torn.jsonl')).toBe(before);
  });

  test('is refused by add, and taken away on request only', async () => {
    const before = torn('torn.jsonl');
    const add = ['history', 'add', 'worse.json', '--commit', 'dddd', '--file', 'torn.jsonl'];
    const refused = await call(...add);
    expect(refused).toMatchObject({ code: 1 });
    expect(refused.stderr).toMatch(/torn\.jsonl, line 3: .*--repair.*\[history-torn\]/);
    expect(text('torn.jsonl')).toBe(before);
    expect(await call(...add, '--repair')).toMatchObject({ code: 0 });
    expect(linesOf(text('torn.jsonl')).slice(0, 2)).toEqual(linesOf(text('h.jsonl')).slice(0, 2));
    expect((await call('history', 'show', '--file', 'torn.jsonl')).stdout).toContain('dddd');
  });

  test('that is no line of a history stays, also with --repair', async () => {
    writeFileSync(at('notes.txt'), 'my notes');
    const words = ['--commit', 'x', '--file', 'notes.txt', '--repair'];
    expect(await call('history', 'add', 'a.json', ...words)).toMatchObject({ code: 1 });
    expect(text('notes.txt')).toBe('my notes');
  });

  test('that lacks only its line feed is whole', async () => {
    copyFileSync(at('h.jsonl'), at('unended.jsonl'));
    truncateSync(at('unended.jsonl'), text('unended.jsonl').length - 1);
    const words = ['--commit', 'dddd', '--file', 'unended.jsonl'];
    expect(await call('history', 'add', 'worse.json', ...words)).toMatchObject({ code: 0 });
    expect(text('unended.jsonl').startsWith(text('h.jsonl'))).toBe(true);
    expect(linesOf(text('unended.jsonl'))).toHaveLength(4);
  });
});

describe('bad input', () => {
  const LINES = (): string[] => text('h.jsonl').trimEnd().split('\n');
  const cases: readonly (readonly [what: string, content: () => string, message: RegExp])[] = [
    [
      'a newer version',
      () => text('h.jsonl').replaceAll('history@1', 'history@2'),
      /line 1: has schema .*version/,
    ],
    ['a line that is no JSON', () => [...LINES(), 'x', ''].join('\n'), /line 4: is not JSON/],
    ['a merge conflict', () => `${text('h.jsonl')}<<<<<<< HEAD\n`, /line 4: is a mark of a merge conflict/],
    [
      'a line that was removed',
      () => `${LINES().slice(1).join('\n')}\n`,
      /line 1: names the cell \w+, which no/,
    ],
    [
      'a count that was changed',
      () => text('h.jsonl').replace('"writes":20', '"writes":21'),
      /another digest/,
    ],
    [
      'an unknown field',
      () => text('h.jsonl').replace('"date"', '"day":1,"date"'),
      /line 1: field : Unrec.*"day"/,
    ],
    [
      'two lines that disagree',
      () => text('h.jsonl').replace('"cccc"', '"aaaa"'),
      /line 3: has commit aaaa .*again/,
    ],
    ['a result', () => text('a.json').replaceAll('\n', '') + '\n', /has schema 'qcow2-bench\/result@1'/],
  ];

  test.each(cases)('%s', async (_, content, message) => {
    writeFileSync(at('bad.jsonl'), content());
    const ended = await call('history', 'show', '--file', 'bad.jsonl');
    expect(ended).toMatchObject({ code: 1, stdout: '' });
    expect(linesOf(ended.stderr)).toHaveLength(1);
    expect(ended.stderr).toMatch(message);
    const add = await call('history', 'add', 'a.json', '--commit', 'zzzz', '--file', 'bad.jsonl');
    if (_ !== 'a line that was removed' && _ !== 'two lines that disagree') {
      expect(add).toMatchObject({ code: 1 });
    }
    expect(text('bad.jsonl').startsWith(content())).toBe(true);
  });

  test('a missing commit, date or file', async () => {
    expect(await call('history', 'add', 'a.json')).toMatchObject({ code: 2 });
    expect(await call('history', 'add', 'a.json', '--commit', 'a b')).toMatchObject({ code: 2 });
    expect(await call('history', 'add', 'a.json', '--commit', 'a', '--date', '3 May')).toMatchObject({
      code: 2,
    });
    expect(await call('history', 'show', '--file', 'none.jsonl')).toMatchObject({ code: 1 });
    expect(await call('history', 'add', 'a.json', '--commit', 'a', '--file', 'none/h.jsonl')).toMatchObject({
      code: 1,
    });
    expect(existsSync(at('none.jsonl'))).toBe(false);
  });
});

test.skipIf(!loadOfdLocks().ok)('many that add at once leave whole lines, each once', async () => {
  const names = Array.from({ length: 6 }, (_, index) => `commit-${String(index)}`);
  // Two of each: of two that add one commit, one finds it.
  const ended = await Promise.all(
    [...names, ...names].map((commit) =>
      runCli(folder, 'history', 'add', 'a.json', '--commit', commit, '--file', 'many.jsonl'),
    ),
  );
  expect(ended.map(({ code }) => code)).toEqual(ended.map(() => 0));
  const lines = linesOf(text('many.jsonl')).map(
    (line) => JSON.parse(line) as { commit: string; cells: object },
  );
  expect(lines.map(({ commit }) => commit).toSorted()).toEqual(names);
  expect(lines.filter(({ cells }) => Object.keys(cells).length > 0)).toHaveLength(1);
});
