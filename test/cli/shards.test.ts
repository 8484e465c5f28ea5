/** `--shard` and `merge`: a run split over machines is the run on one. */

import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import { beforeAll, describe, expect, test, vi } from 'vitest';

import { mergeShards } from '../../src/result/shards.ts';
import type { ResultRecord } from '../../src/result/schema.ts';
import { readResult } from '../../src/result/store.ts';
import { testDirectory } from '../test-directory.ts';
import { callCli } from './call-cli.ts';
import type { Ended } from './cli-process.ts';

vi.setConfig({ testTimeout: 120_000, hookTimeout: 120_000 });

const CELLS =
  'run --workload stride,overwrite --requests 40 --cache writethrough,writeback,none --samples 0'.split(' ');
const folder = testDirectory();

function call(...words: readonly string[]): Promise<Ended> {
  return callCli(folder, ...words);
}

function read(name: string): ResultRecord {
  return readResult(join(folder, name));
}

/** What a run on one machine has too. */
function counted({ cells }: ResultRecord): unknown {
  return cells.map(({ span: _, shard: __, ...record }) => record);
}

beforeAll(async () => {
  expect(await call(...CELLS, '--out', 'all.json')).toMatchObject({ code: 0 });
  for (const index of [1, 2, 3, 4]) {
    const own = ['--shard', `${String(index)}/4`, '--out', `s${String(index)}.json`];
    expect(await call(...CELLS, ...own, '--balance', 'all.json')).toMatchObject({ code: 0 });
  }
});

const ALL = ['s3.json', 's1.json', 's4.json', 's2.json'];

test('four shards merged are the run on one machine, cell for cell', async () => {
  const { code, stdout } = await call('merge', ...ALL, '--out', 'merged.json');
  expect(code).toBe(0);
  expect(stdout).toContain('merged 24 cells of 4 shards into merged.json');
  const merged = read('merged.json');
  expect(counted(merged)).toEqual(counted(read('all.json')));
  expect(merged.environment).not.toHaveProperty('shard');
  expect(merged.environment.commandLine).not.toContain('--shard');
  await call('gate', 'all.json', '--accept', '--baseline', 'base.json');
  expect(await call('gate', 'merged.json', '--baseline', 'base.json')).toMatchObject({ code: 0 });
});

test('a shard that runs twice has the same counts', async () => {
  const again = [...CELLS, '--shard', '2/4', '--balance', 'all.json', '--out', 's2-again.json'];
  expect(await call(...again)).toMatchObject({ code: 0 });
  expect(counted(read('s2-again.json'))).toEqual(counted(read('s2.json')));
});

test('spans are on one time line, from the start of the first shard', () => {
  const { environment, cells } = mergeShards(
    ALL.map((path) => {
      const result = read(path);
      const date = `2026-01-01T00:00:0${String(result.environment.shard?.index ?? 0)}.000Z`;
      return { path, result: { ...result, environment: { ...result.environment, date } } };
    }),
  );
  expect(environment.date).toBe('2026-01-01T00:00:01.000Z');
  for (const { shard = 0, span } of cells) {
    expect(span?.beganNs).toBeGreaterThanOrEqual((shard - 1) * 1e9);
    expect(span?.beganNs).toBeLessThan((shard - 1) * 1e9 + 60e9);
  }
});

test('more shards than cells: the rest are empty, and merge', async () => {
  const few = 'run --workload stride --requests 5 --format raw --cache none --samples 0'.split(' ');
  for (const index of [1, 2]) {
    const own = ['--shard', `${String(index)}/2`, '--out', `few-${String(index)}.json`];
    expect(await call(...few, ...own)).toMatchObject({ code: 0 });
  }
  expect(await call('merge', 'few-1.json', 'few-2.json', '--out', 'few.json')).toMatchObject({ code: 0 });
  expect(read('few.json').cells).toHaveLength(1);
});

describe('refused, and nothing is written', () => {
  const change = (name: string, to: string, by: (result: Writable) => void): void => {
    const result = JSON.parse(readFileSync(join(folder, name), 'utf8')) as Writable;
    by(result);
    writeFileSync(join(folder, to), JSON.stringify(result));
  };

  beforeAll(() => {
    change('s2.json', 'other-version.json', ({ environment }) => (environment.harness = '0.0.9'));
    change('s2.json', 'unfinished.json', ({ cells }) => cells.pop());
    change('s2.json', 'overlapping.json', ({ environment: { shard } }) => {
      shard.positions[0] = read('s1.json').environment.shard?.positions[0] ?? 0;
    });
  });

  test.each([
    ['a missing one', ['s1.json', 's2.json', 's4.json'], /3\/4 is missing: run it with --shard/],
    ['a doubled one', [...ALL, 's2-again.json'], /is shard 2\/4, and so is/],
    ['one that is no shard', [...ALL, 'all.json'], /all\.json: is not a shard of a run/],
    ['another version', ['s1.json', 'other-version.json'], /harness '0\.0\.9', but s1\.json with/],
    ['one of another matrix', ['s1.json', 'few-2.json'], /few-2\.json: is shard 2\/2 of another matrix/],
    [
      'an unfinished one',
      ['s1.json', 'unfinished.json', 's3.json', 's4.json'],
      /unfinished\.json: shard 2\/4 has \d+ of \d+ cells: continue it with --resume/,
    ],
    [
      'overlapping ones',
      ['s1.json', 'overlapping.json', 's3.json', 's4.json'],
      /a position of the matrix that another shard has too/,
    ],
    ['a missing file', ['s1.json', 'nowhere.json'], /nowhere\.json: does not exist/],
  ])('%s', async (_, names, rule) => {
    const ended = await call('merge', ...names, '--out', 'not.json');
    expect(ended.code).toBe(1);
    expect(ended.stderr).toMatch(rule);
    expect(() => read('not.json')).toThrow();
  });

  test.each([
    [['--shard', '5/4'], /expected I\/N with I from 1 to N/],
    [['--shard', '0/4'], /expected I\/N/],
    [['--shard', '1/2'], /--shard needs --out/],
    [['--balance', 'all.json'], /--balance needs --shard/],
  ])('%s', async (words, rule) => {
    const ended = await call(...CELLS, ...words);
    expect(ended.code).toBe(2);
    expect(ended.stderr).toMatch(rule);
  });

  test('a result of another shard is not continued', async () => {
    const ended = await call(
      ...CELLS,
      '--shard',
      '1/4',
      '--balance',
      'all.json',
      '--out',
      's2.json',
      '--resume',
    );
    expect(ended.code).toBe(1);
    expect(ended.stderr).toMatch(/has shard 2\/4, but this run is shard 1\/4/);
  });
});

interface Writable {
  environment: { harness: string; shard: { positions: number[] } };
  cells: unknown[];
}
