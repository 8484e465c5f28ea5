/** `compare` and `gate` as they are called, on results of this engine and with planted changes. */

import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import { beforeAll, describe, expect, test, vi } from 'vitest';

import { BASELINE_SCHEMA } from '../../src/gate/baseline.ts';
import type { ResultRecord } from '../../src/result/schema.ts';
import { testDirectory } from '../test-directory.ts';
import { callCli } from './call-cli.ts';
import type { Ended } from './cli-process.ts';

vi.setConfig({ testTimeout: 120_000, hookTimeout: 120_000 });

const CELLS =
  '--workload stride --requests 40 --format qcow2 --cache writethrough,writeback --samples 0'.split(' ');
const folder = testDirectory();

function call(line: string): Promise<Ended> {
  return callCli(folder, ...line.split(' '));
}

beforeAll(async () => {
  for (const words of [
    ['run', ...CELLS, '--out', 'a.json'],
    ['run', ...CELLS, '--l2-cache-entry-size', '4KiB', '--out', 'slices.json'],
    ['gate', 'a.json', '--accept', '--baseline', 'base.json'],
  ]) {
    expect(await callCli(folder, ...words), words.join(' ')).toMatchObject({ code: 0 });
  }
  for (const [name, extra] of [
    ['one', ''],
    ['two', '--l2-cache-entry-size 4KiB'],
  ] as const) {
    const words = `run --workload stride --requests 40 --format qcow2 --refcounts lazy --cache writeback --samples 0 --host-log ${name}.jsonl ${extra}`;
    expect(await call(words.trim())).toMatchObject({ code: 0 });
  }
  const result = JSON.parse(readFileSync(join(folder, 'a.json'), 'utf8')) as ResultRecord;
  writeFileSync(join(folder, 'foreign.jsonl'), '{"op":"write","offset":0,"length":512}\n');
  writeFileSync(join(folder, 'worse.json'), JSON.stringify(withCowSyncs(result)));
});

/** One more sync per allocating write in every lazy cell. */
function withCowSyncs(result: ResultRecord): ResultRecord {
  const cells = result.cells.map((record) => {
    const { cell, counts } = record;
    if (counts === null || cell.refcounts !== 'lazy') return record;
    const { syncs } = counts.run;
    const more = counts.guest.allocatingWrites;
    const own = syncs.byCause['l2-after-cow'] ?? 0;
    const byCause = { ...syncs.byCause, 'l2-after-cow': own + more };
    return {
      ...record,
      counts: { ...counts, run: { ...counts.run, syncs: { ...syncs, ops: syncs.ops + more, byCause } } },
    };
  });
  return { ...result, cells };
}

describe('compare', () => {
  test('a result with itself: one line of counts', async () => {
    const ended = await call('compare a.json a.json');
    expect(ended.code).toBe(0);
    expect(ended.stdout).toContain('Counts: 4 cells unchanged.');
  });

  test('a cache size that distinguishes two results is compared, by cause', async () => {
    const { code, stdout } = await call('compare a.json slices.json --markdown c.md --html c.html');
    expect(code).toBe(0);
    expect(stdout).toContain('The results differ: default caches → l2-cache-entry-size 4KiB.');
    expect(stdout).toMatch(/Counts: 4 of 4 cells changed, by one cause; 0 unchanged\./);
    expect(stdout).toMatch(
      /MORE {2}\+\d+\.00 writes? per \w+, l2-table \(L2 tables\), bytes [\d,]+ → [\d,]+/,
    );
    expect(readFileSync(join(folder, 'c.md'), 'utf8')).toMatch(/^## Comparison\n/);
    const page = readFileSync(join(folder, 'c.html'), 'utf8');
    expect(page).toContain("default-src 'none'");
    expect(page.replaceAll(/<script[^>]*>[^]*?<\/script>/g, '')).not.toMatch(/src=|href=/);
    // Its own kind of file is replaced, another is not.
    expect(await call('compare a.json slices.json --markdown c.md --html c.html')).toMatchObject({ code: 0 });
    expect(await call('compare a.json slices.json --markdown one.jsonl')).toMatchObject({ code: 1 });
  });

  test('a baseline is a side, and --by splits one result', async () => {
    expect((await call('compare base.json worse.json')).stdout).toMatch(
      /\+1\.00 sync per allocating write, l2-after-cow/,
    );
    const split = await call('compare a.json --by refcounts --json');
    expect(JSON.parse(split.stdout)).toMatchObject([
      { before: { name: 'refcounts eager' }, after: { name: 'refcounts lazy' }, counts: { compared: 2 } },
    ]);
  });

  test('host logs: the first operation that differs, with its request', async () => {
    const { code, stdout } = await call('compare one.jsonl two.jsonl');
    expect(code).toBe(0);
    expect(stdout).toMatch(
      /Host operation \d+ \(from 0\) differs, in request \d+ \(write of 4096 bytes at guest offset 0x[0-9a-f]+\)/,
    );
    expect((await call('compare one.jsonl one.jsonl')).stdout).toContain('All host operations are the same');
  });

  test('report: a page and a table of host logs, with the counts of the run that wrote them', async () => {
    expect(await call('report one.jsonl two.jsonl --out logs.html')).toMatchObject({ code: 0 });
    expect(readFileSync(join(folder, 'logs.html'), 'utf8')).toContain('id="log-data"');
    const lines = readFileSync(join(folder, 'one.jsonl'), 'utf8').trimEnd().split('\n');
    const syncs = lines.filter((line) => line.includes('"op":"sync"')).length;
    const { stdout } = await call('report one.jsonl --markdown');
    expect(stdout).toContain(
      `one.jsonl: ${lines.length.toLocaleString('en-US')} host operations for 40 guest requests, ${String(syncs)} syncs`,
    );
  });

  test.each([
    ['report one.jsonl a.json', 2, /one\.jsonl is a host log, a\.json is not/],
    ['report one.jsonl two.jsonl one.jsonl', 2, /needs one or two host logs; these are 3/],
    ['report one.jsonl --serve 0', 2, /--serve applies to results/],
    ['report one.jsonl --charts .', 2, /--charts applies to results/],
    ['report one.jsonl --markdown --cache none', 2, /--cache applies to results/],
    [
      'report foreign.jsonl',
      1,
      /foreign\.jsonl, line 1: phase must be .*ingest reads those of other engines/,
    ],
    ['compare a.json', 2, /at least two files/],
    ['compare a.json one.jsonl', 2, /host logs are compared with host logs/],
    ['compare one.jsonl', 2, /exactly two host logs/],
    ['compare one.jsonl two.jsonl --html x.html', 2, /--html applies to results/],
    ['compare a.json --by workload', 2, /the same value, stride/],
    ['compare a.json missing.json', 1, /missing\.json: does not exist/],
    ['compare a.json a.json --ignore-reads', 2, /applies to host logs/],
    ['compare a.json slices.json --markdown a.json', 2, /--markdown a\.json is the same file as RESULT/],
  ])('%s is refused', async (line, code, rule) => {
    const ended = await call(line);
    expect(ended.code).toBe(code);
    expect(ended.stderr).toMatch(rule);
  });
});

describe('gate', () => {
  test('one cause in several cells is one message, in every output', async () => {
    const ended = await call(
      'gate worse.json --baseline base.json --github --markdown g.md --junit g.xml --metrics m.txt --code-quality q.json',
    );
    expect(ended.code).toBe(3);
    const title = '+1.00 sync per allocating write, l2-after-cow (copied data before its L2 entry)';
    expect(ended.stdout.replaceAll(/\s+/g, ' ')).toContain(
      `WORSE ${title}, in 2 of 4 cells; first: stride · qcow2 lazy`,
    );
    expect(ended.stdout.match(/^WORSE/gm)).toHaveLength(1);
    expect(ended.stdout.match(/^::error /gm)).toHaveLength(1);
    expect(ended.stdout).toMatch(/see: qcow2-bench run --workload stride --format qcow2 --refcounts lazy/);
    expect(readFileSync(join(folder, 'g.md'), 'utf8')).toContain('**WORSE**');
    expect(readFileSync(join(folder, 'g.xml'), 'utf8')).toContain('tests="4" failures="2"');
    expect(readFileSync(join(folder, 'm.txt'), 'utf8')).toContain('qcow2_bench_gate_problems 1\n');
    expect(JSON.parse(readFileSync(join(folder, 'q.json'), 'utf8'))).toHaveLength(1);
    const quiet = await call('gate a.json --baseline base.json --quiet');
    expect(quiet).toMatchObject({ code: 0, stdout: 'gate passed: cells 4 as in the baseline\n' });
  });

  test('limits of a file let a rise pass; a mistake in it names the line', async () => {
    const limits = { schema: 'qcow2-bench/gate@1', limits: { 'syncs.l2-after-cow': 'off' } };
    writeFileSync(join(folder, 'gate.json'), JSON.stringify(limits));
    const ended = await call('gate worse.json --baseline base.json --limits gate.json');
    expect(ended.code).toBe(0);
    expect(ended.stdout).toMatch(/^WITHIN LIMIT {2}\+1\.00 sync/);
    writeFileSync(join(folder, 'bad.json'), JSON.stringify({ ...limits, limits: { syncz: 'off' } }, null, 2));
    const bad = await call('gate worse.json --baseline base.json --limits bad.json');
    expect(bad.code).toBe(1);
    expect(bad.stderr).toMatch(
      /bad\.json, line 4: limits\.syncz: 'syncz' is none of .*\(did you mean 'syncs'\?\)/,
    );
  });

  test('the summary of a job in GitHub Actions is appended to', async () => {
    const summary = join(folder, 'summary.md');
    writeFileSync(summary, 'of another step\n');
    vi.stubEnv('GITHUB_ACTIONS', 'true');
    vi.stubEnv('GITHUB_STEP_SUMMARY', summary);
    try {
      await call('gate worse.json --baseline base.json');
    } finally {
      vi.unstubAllEnvs();
    }
    expect(readFileSync(summary, 'utf8')).toMatch(/^of another step\n## ❌ qcow2-bench gate failed\n/);
  });

  test.each([
    ['truncated', (text: string) => text.slice(0, 900), /base2\.json, line \d+: is not valid JSON/],
    [
      'newer',
      (text: string) => text.replace(BASELINE_SCHEMA, 'qcow2-bench/baseline@2'),
      /has schema 'qcow2-bench\/baseline@2'/,
    ],
    [
      'with an unknown count',
      (text: string) => text.replace('l2-table.ops', 'l3-table.ops'),
      /field cells\[0\]\.counts/,
    ],
  ])('a baseline that is %s is refused, and nothing is written', async (_, change, rule) => {
    writeFileSync(join(folder, 'base2.json'), change(readFileSync(join(folder, 'base.json'), 'utf8')));
    const ended = await call('gate a.json --baseline base2.json --markdown none.md');
    expect(ended.code).toBe(1);
    expect(ended.stderr).toMatch(rule);
    expect(existsSync(join(folder, 'none.md'))).toBe(false);
  });
});
