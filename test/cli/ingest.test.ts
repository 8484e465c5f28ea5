/**
 * `ingest` of operations that an engine wrote itself. The engine is ours, its log that of
 * `--host-log`: what purposes and causes are without those that it names is known.
 */

import { copyFileSync, existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

import { format, resolveConfig } from 'prettier';
import { beforeAll, describe, expect, test, vi } from 'vitest';

import { hostLogJsonSchema } from '../../src/result/host-log-record.ts';
import type { CellRecord, Counts } from '../../src/result/schema.ts';
import { readResult } from '../../src/result/store.ts';
import { testDirectory } from '../test-directory.ts';
import { callCli } from './call-cli.ts';
import { linesOf, type Ended } from './cli-process.ts';

vi.setConfig({ testTimeout: 120_000, hookTimeout: 120_000 });

const folder = testDirectory();
const REQUESTS = ['--requests', 'database-commit', '--count', '100'];

function at(name: string): string {
  return join(folder, name);
}

function text(name: string): string {
  return readFileSync(at(name), 'utf8');
}

function call(...words: readonly string[]): Promise<Ended> {
  return callCli(folder, ...words);
}

function ingestWords(log: string, name: string): readonly string[] {
  return ['ingest', log, '--engine-name', 'mine', '--image', `${name}.qcow2`, '--base', `${name}.base`];
}

function cellOf(name: string): CellRecord {
  const [cell] = readResult(at(name)).cells;
  if (cell === undefined) throw new Error(`${name} has no cell`);
  return cell;
}

/** Flushes within the engine that needed no sync leave no line. */
function withoutElided(counts: Counts | null): unknown {
  return JSON.parse(JSON.stringify(counts, (key, value: unknown) => (key === 'elided' ? 0 : value)));
}

type Line = Record<string, unknown>;

function lines(name: string): readonly Line[] {
  return linesOf(text(name)).map((line) => JSON.parse(line) as Line);
}

function write(name: string, records: readonly Line[]): void {
  writeFileSync(at(name), records.map((record) => `${JSON.stringify(record)}\n`).join(''));
}

/** What an engine has that names nothing: operation, place and request. */
function plain({ op, file, offset, length, request }: Line): Line {
  return { op, file, offset, length, request };
}

/** A run of ours on the image NAME.qcow2, which NAME.base was before; its log is NAME.full. */
async function runOn(name: string, refcounts: string, cache: string): Promise<void> {
  const shape = ['--refcounts', refcounts, '--format', 'qcow2'];
  const size = ['--workload', 'database-commit', '--requests', '100', '--cache', cache, '--samples', '0'];
  expect(
    await call('create', `${name}.base`, '1GiB', '--format', 'qcow2', '--refcounts', refcounts),
  ).toMatchObject({
    code: 0,
  });
  copyFileSync(at(`${name}.base`), at(`${name}.qcow2`));
  const own = [
    '--image',
    `${name}.qcow2`,
    '--in-place',
    '--host-log',
    `${name}.full`,
    '--out',
    `${name}.json`,
  ];
  expect(await call('run', ...size, ...shape, ...own)).toMatchObject({ code: 0 });
  write(`${name}.plain`, lines(`${name}.full`).map(plain));
}

const RUNS = [
  ['eager', 'eager', 'writeback'],
  ['lazy', 'lazy', 'writethrough'],
] as const;

beforeAll(async () => {
  for (const [name, refcounts, cache] of RUNS) await runOn(name, refcounts, cache);
});

describe('JSON Lines', () => {
  test.each(RUNS)(
    '%s: purposes and causes of plain lines are those that the engine names',
    async (name, _, cache) => {
      for (const log of [`${name}.full`, `${name}.plain`]) {
        const words = [...ingestWords(log, name), ...REQUESTS, '--cache', cache, '--out', `${log}.json`];
        expect(await call(...words)).toMatchObject({ code: 0 });
      }
      const [own, full, named] = [`${name}.json`, `${name}.full.json`, `${name}.plain.json`].map(cellOf);
      expect(withoutElided(full?.counts ?? null)).toEqual(withoutElided(own?.counts ?? null));
      expect(withoutElided(named?.counts ?? null)).toEqual(withoutElided(own?.counts ?? null));
      expect(named?.counts).toEqual(full?.counts);
      // Its requests are those of the builtin cell: compare and gate put them side by side.
      expect(named?.requests).toEqual(own?.requests);
      expect(named?.cell).toMatchObject({
        engine: 'mine',
        refcounts: name,
        cache,
        workload: 'database-commit',
      });
    },
  );

  test('a planted sync is one message of the gate, with its cause and its request', async () => {
    const words = [...ingestWords('eager.plain', 'eager'), ...REQUESTS];
    expect(await call(...words, '--out', 'good.json')).toMatchObject({ code: 0 });
    expect(await call('gate', 'good.json', '--accept', '--baseline', 'base.json')).toMatchObject({ code: 0 });
    expect(await call('gate', 'good.json', '--baseline', 'base.json')).toMatchObject({ code: 0 });
    const records = lines('eager.plain');
    // Before the L2 table of the first request that copies and allocates nothing new for tables.
    const place = records.findIndex(
      ({ op, request }, index) => op === 'write' && request === 40 && records[index - 1]?.['op'] === 'write',
    );
    write('planted.plain', records.toSpliced(place, 0, { op: 'sync', file: 'image', request: 40 }));
    const planted = [...ingestWords('planted.plain', 'eager'), ...REQUESTS, '--out', 'bad.json'];
    expect(await call(...planted)).toMatchObject({ code: 0 });
    const { code, stdout } = await call('gate', 'bad.json', '--baseline', 'base.json');
    expect(code).toBe(3);
    expect(stdout.match(/^WORSE/gm)).toHaveLength(1);
    expect(stdout).toMatch(
      /^WORSE {2}\+1\.00 sync per run, [\w-]+ \(.*\), in the only cell;\s+first:[^]*request 40/,
    );
    expect(stdout).not.toContain('see:');
  });

  test('compare and the report take the result beside one of the builtin engine', async () => {
    const words = [...ingestWords('lazy.plain', 'lazy'), ...REQUESTS, '--cache', 'writethrough'];
    expect(await call(...words, '--out', 'lazy-mine.json')).toMatchObject({ code: 0 });
    const compared = await call('compare', 'lazy.json', 'lazy-mine.json');
    expect(compared.code).toBe(0);
    expect(compared.stdout).toContain('builtin → mine');
    expect(await call('report', 'lazy-mine.json', '--markdown')).toMatchObject({ code: 0 });
    expect(await call('report', 'lazy-mine.json', '--out', 'page.html')).toMatchObject({ code: 0 });
  });

  test('without --base it is said that the image is taken for new', async () => {
    const words = ['ingest', 'eager.plain', '--engine-name', 'mine', '--image', 'eager.qcow2', ...REQUESTS];
    expect(await call(...words, '--out', 'new.json')).toMatchObject({ code: 0 });
    expect(cellOf('new.json').fallbacks).toEqual([
      'without --base: the image is taken to have been new before the run',
    ]);
    expect(cellOf('new.json').counts).toEqual(cellOf('eager.plain.json').counts);
  });

  test('--base: what a run frees, and overwrites, is known from the image before it', async () => {
    const own = ['--format', 'qcow2', '--refcounts', 'eager', '--cache', 'writeback', '--samples', '0'];
    const trace = (ops: readonly string[]): string =>
      ['#qcow2-bench trace v1', '#virtual-size 4194304', 'time_ns,op,offset,length,flags', ...ops, ''].join(
        '\n',
      );
    const places = Array.from({ length: 20 }, (_, index) => String(index * 65_536));
    writeFileSync(at('fill.csv'), trace(places.map((place) => `0,write,${place},65536,`)));
    // A write in place, then one to a cluster that was freed: only the second allocates.
    writeFileSync(
      at('change.csv'),
      trace(
        places.flatMap((place) => [
          `0,write,${place},4096,`,
          `0,discard,${place},65536,`,
          `0,write,${place},8192,`,
        ]),
      ),
    );
    expect(await call('create', 'changed.qcow2', '4MiB', '--format', 'qcow2')).toMatchObject({ code: 0 });
    const on = ['--image', 'changed.qcow2', '--in-place', ...own];
    expect(await call('replay', 'fill.csv', ...on)).toMatchObject({ code: 0 });
    copyFileSync(at('changed.qcow2'), at('changed.base'));
    expect(
      await call('replay', 'change.csv', ...on, '--host-log', 'changed.full', '--out', 'changed.json'),
    ).toMatchObject({ code: 0 });
    write('changed.plain', lines('changed.full').map(plain));
    const words = [...ingestWords('changed.plain', 'changed'), '--requests', 'change.csv'];
    expect(await call(...words, '--out', 'changed-mine.json')).toMatchObject({ code: 0 });
    const [ours, theirs] = [cellOf('changed.json'), cellOf('changed-mine.json')];
    expect(theirs.counts?.guest).toMatchObject({ writes: 40, allocatingWrites: 20 });
    expect(theirs.counts?.guest).toEqual(ours.counts?.guest);
    expect(withoutElided(theirs.counts)).toEqual(withoutElided(ours.counts));
  });

  test('docs/host-log.schema.json is the schema', async () => {
    const path = fileURLToPath(new URL('../../docs/host-log.schema.json', import.meta.url));
    const expected = await format(JSON.stringify(hostLogJsonSchema()), {
      ...(await resolveConfig(path)),
      parser: 'json',
    });
    expect(readFileSync(path, 'utf8')).toBe(expected);
  });
});

describe('bad input', () => {
  const PLAIN = (): string => text('eager.plain');
  const cases: readonly (readonly [what: string, log: () => string, message: RegExp])[] = [
    ['a truncated log', () => PLAIN().slice(0, -10), /bad\.log, line \d+: .*truncated/],
    ['an empty log', () => '', /bad\.log/],
    ['no JSON', () => `${PLAIN()}{x\n`, /line \d+: is not JSON/],
    ['an unknown operation', () => `{"op":"erase","offset":0,"length":1}\n${PLAIN()}`, /line 1: field op/],
    ['an unknown field', () => `{"op":"sync","when":1}\n${PLAIN()}`, /line 1: Unrecognized key: "when"/],
    ['an unknown cause', () => `{"op":"sync","cause":"whim"}\n${PLAIN()}`, /line 1: field cause/],
    [
      'some purposes',
      () => `${PLAIN()}{"op":"sync","cause":"close"}\n`,
      /line \d+: has a cause, which line 1 lacks/,
    ],
    [
      'a request too many',
      () => `${PLAIN()}{"op":"sync","request":100}\n`,
      /request is 100, but --requests has 100/,
    ],
    ['a newer result', () => '{"schema":"qcow2-bench/result@2"}\n', /line 1: /],
  ];

  test.each(cases)('%s', async (_, log, message) => {
    writeFileSync(at('bad.log'), log());
    const ended = await call(...ingestWords('bad.log', 'eager'), ...REQUESTS, '--out', 'never.json');
    expect(ended).toMatchObject({ code: 1, stdout: '' });
    expect(linesOf(ended.stderr)).toHaveLength(1);
    expect(ended.stderr).toMatch(message);
    expect(existsSync(at('never.json'))).toBe(false);
  });

  test('requests of another run, another image, and none', async () => {
    const words = ingestWords('eager.plain', 'eager');
    const other = await call(...words, '--requests', 'stride', '--count', '100');
    expect(other).toMatchObject({ code: 1 });
    expect(other.stderr).toMatch(
      /(?:stride needs|request \d+ is a write at 0x\w+, but the log writes guest offset 0x)/,
    );
    const none = await call(...words);
    expect(none).toMatchObject({ code: 1 });
    expect(none.stderr).toMatch(/--requests \[ingest-no-requests\]/);
    const empty = await call(
      'ingest',
      'eager.plain',
      '--engine-name',
      'mine',
      '--image',
      'eager.base',
      ...REQUESTS,
    );
    expect(empty).toMatchObject({ code: 1 });
    expect(empty.stderr).toMatch(/where the image has nothing, first at 0x\w+: .*\[ingest-other-image\]/);
    await call('create', 'small.qcow2', '1GiB', '--format', 'qcow2', '--cluster-size', '4KiB');
    const base = await call(...words.with(-1, 'small.qcow2'), ...REQUESTS);
    expect(base.stderr).toMatch(/small\.qcow2: is not the image before the run: it has clusters of 4KiB/);
  });

  test('names that are missing or taken, and an output that exists', async () => {
    expect(await call('ingest', 'eager.plain', '--image', 'eager.qcow2')).toMatchObject({ code: 2 });
    expect(await call('ingest', 'eager.plain', '--engine-name', 'mine')).toMatchObject({ code: 2 });
    expect(
      await call('ingest', 'eager.plain', '--engine-name', 'builtin', '--image', 'eager.qcow2'),
    ).toMatchObject({ code: 2 });
    expect(
      await call('ingest', 'eager.plain', '--engine-name', 'a b', '--image', 'eager.qcow2'),
    ).toMatchObject({ code: 2 });
    writeFileSync(at('precious'), 'precious');
    const ended = await call(...ingestWords('eager.plain', 'eager'), ...REQUESTS, '--out', 'precious');
    expect(ended).toMatchObject({ code: 1 });
    expect(text('precious')).toBe('precious');
  });
});
