/**
 * Outputs of all commands: none is an input or another output, and none replaces what is not its
 * own.
 */

import { spawnSync } from 'node:child_process';
import {
  linkSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';

import { beforeAll, describe, expect, onTestFinished, test } from 'vitest';

import { DEVICE_MODELS } from '../../src/device/device-models.ts';
import { OUTPUT_KINDS, type OutputKind } from '../../src/cli/options/output-kinds.ts';
import { writeDeviceModel } from '../../src/result/device-model-file.ts';
import { testDirectory } from '../test-directory.ts';
import { callCli } from './call-cli.ts';
import { mountReadOnly, reasonAgainstMount } from './small-disk.ts';
import { errorLine, MAIN, runCli } from './cli-process.ts';

const TRACE =
  '#qcow2-bench trace v1\n#virtual-size 1048576\ntime_ns,op,offset,length,flags\n0,write,0,4096,\n';
const RUN = 'run --workload stride --requests 8 --format raw --cache writeback --samples 0';
const QCOW2_RUN = RUN.replace('raw', 'qcow2 --refcounts eager');

/** Made once; tests work on copies of it or leave it as it is. */
const folder = testDirectory();

beforeAll(async () => {
  const at = (name: string): string => join(folder, name);
  writeFileSync(at('base.raw'), Buffer.alloc(65_536, 7));
  writeFileSync(at('t.csv'), TRACE);
  writeDeviceModel(at('m.json'), { ...(DEVICE_MODELS[0] ?? fail()), name: 'mine' });
  writeFileSync(at('precious'), 'precious');
  writeFileSync(at('none'), '');
  mkdirSync(at('empty'));
  for (const words of [
    'create mid.qcow2 --backing base.raw --backing-format raw',
    'create top.qcow2 --backing mid.qcow2 --backing-format qcow2',
    'create plain.qcow2 64KiB --data-file plain',
    `${RUN} --out r.json`,
    'history add r.json --commit one --file h.jsonl',
  ]) {
    const ended = await callCli(folder, ...words.split(' '));
    if (ended.code !== 0) throw new Error(`${words}: ${ended.stderr}`);
  }
  linkSync(at('top.qcow2'), at('hard'));
  symlinkSync('top.qcow2', at('soft'));
  symlinkSync('new.json', at('dangling'));
  symlinkSync('.', at('here'));
}, 600_000);

function fail(): never {
  throw new Error('no device model ships');
}

/** Names and bytes of all files. */
function contents(): Readonly<Record<string, string>> {
  const names = readdirSync(folder).toSorted();
  return Object.fromEntries(
    names.map((name) => {
      const path = join(folder, name);
      const isFile = lstatSync(path).isFile();
      return [name, isFile ? readFileSync(path).toString('latin1') : 'no file'];
    }),
  );
}

describe('an output is never an input or another output', () => {
  test.for([
    [`${QCOW2_RUN} --image top.qcow2 --out top.qcow2`, '--out', '--image'],
    [`${QCOW2_RUN} --image top.qcow2 --out hard`, '--out', '--image'],
    [`${QCOW2_RUN} --image soft --host-log here/top.qcow2`, '--host-log', '--image'],
    [`${QCOW2_RUN} --image top.qcow2 --out base.raw`, '--out', 'a backing file of --image'],
    [`${RUN} --out new.json --host-log here/new.json`, '--host-log', '--out'],
    [`${RUN} --out dangling --host-log new.json`, '--host-log', '--out'],
    [`${RUN} --device model:m.json --out m.json`, '--out', '--device'],
    ['run --workload ./t.csv --samples 0 --out t.csv', '--out', '--workload'],
    ['bench --samples 0 --out new.json --report new.json', '--report', '--out'],
    ['bench --samples 0 --out new.json --report new.csv', '--report', 'the table of --out'],
    ['replay t.csv --samples 0 --out here/t.csv', '--out', 'TRACE'],
    ['report r.json --out r.json', '--out', 'RESULT'],
    ['report r.json --markdown --out here/r.json', '--out', 'RESULT'],
    ['gate r.json --accept --baseline r.json', '--baseline', 'RESULT'],
    ['trace convert t.csv t.csv', 'OUT', 'TRACE'],
    ['trace slice t.csv here/t.csv', 'OUT', 'TRACE'],
    ['convert top.qcow2 hard', 'OUT', 'IN'],
    ['convert top.qcow2 soft', 'OUT', 'IN'],
    ['convert top.qcow2 mid.qcow2', 'OUT', 'a backing file of IN'],
    ['convert top.qcow2 here/base.raw', 'OUT', 'a backing file of IN'],
    ['convert plain.qcow2 plain.qcow2.data', 'OUT', 'a backing file of IN'],
    ['create base.raw --backing base.raw --backing-format raw', 'IMAGE', '--backing'],
    ['create base.raw --backing top.qcow2 --backing-format qcow2', 'IMAGE', 'a backing file of --backing'],
    ['create new.qcow2 1MiB --data-file plain --data-file-name new.qcow2', '--data-file', 'IMAGE'],
    ['record --image top.qcow2 --socket s --trace soft', '--trace', '--image'],
    ['record --image new.qcow2 --create 1MiB --socket s --trace new.qcow2', '--trace', '--image'],
    ['serve --image new.qcow2 --create 1MiB --socket new.qcow2', '--socket', '--image'],
  ] as const)('%s', async ([words, output, other]) => {
    const before = contents();
    const ended = await callCli(folder, ...words.split(' '), '--overwrite');
    expect(errorLine(ended)).toMatch(
      new RegExp(`^qcow2-bench: error: ${output} \\S+ is the same file as ${other} `),
    );
    expect(ended).toMatchObject({ code: 2, stdout: '' });
    expect(contents()).toEqual(before);
  });
});

describe('a file of another kind is replaced only with --overwrite', () => {
  test.for([
    `${RUN} --out precious`,
    `${RUN} --out top.qcow2`,
    `${RUN} --host-log precious`,
    'bench --samples 0 --out precious --report new.html',
    'bench --samples 0 --out new.json --report precious',
    'replay t.csv --samples 0 --out precious',
    'report r.json --out precious',
    'report r.json --markdown --out precious',
    'gate r.json --accept --baseline precious',
    'calibrate --dir . --out precious',
    'calibrate --dir . --out m.json',
    'trace convert t.csv precious',
    'trace slice t.csv precious',
    'convert base.raw precious',
    'create precious 1MiB',
    'create new.qcow2 1MiB --data-file plain --data-file-name precious',
    'record --image top.qcow2 --socket s --trace precious',
    'serve --image precious --create 1MiB --socket s',
  ])('%s', async (words) => {
    const before = contents();
    const ended = await callCli(folder, ...words.split(' '));
    expect(errorLine(ended)).toMatch(
      /: file exists(?: and is not an? [\w ]+)?; use --overwrite to replace it \[file-exists\]$/,
    );
    expect(ended).toMatchObject({ code: 1, stdout: '' });
    expect(contents()).toEqual(before);
  });

  test('with it the file is replaced; --force is its old name; a symbolic link and permissions stay', async () => {
    const own = testDirectory();
    writeFileSync(join(own, 't.csv'), TRACE);
    writeFileSync(join(own, 'o'), 'precious', { mode: 0o600 });
    symlinkSync('o', join(own, 'link'));
    expect((await callCli(own, 'trace', 'convert', 't.csv', 'link', '--force')).code).toBe(0);
    expect(readFileSync(join(own, 'o'), 'utf8')).toBe(TRACE);
    expect(statSync(join(own, 'o')).mode & 0o777).toBe(0o600);
    expect((await callCli(own, 'report', join(folder, 'r.json'), '--out', 'o', '--overwrite')).code).toBe(0);
    // A page replaces a page.
    expect((await callCli(own, 'report', join(folder, 'r.json'), '--out', 'o')).code).toBe(0);
    expect(readdirSync(own).toSorted()).toEqual(['link', 'o', 't.csv']);
  });
});

/** Every output of every command; `@` is its path. */
const OUTPUTS: readonly (readonly [kind: OutputKind, words: string])[] = [
  ['result', `${RUN} --out @`],
  ['host log', `${RUN} --host-log @`],
  ['image', `${QCOW2_RUN} --image @`],
  ['result', 'bench --samples 0 --out @'],
  ['table', 'bench --samples 0 --out @.json'],
  ['page', 'bench --samples 0 --report @ --out x.json'],
  ['page', 'report r.json --out @'],
  ['markdown', 'report r.json --markdown --out @'],
  ['baseline', 'gate r.json --accept --baseline @'],
  ['comparison markdown', 'compare r.json r.json --markdown @'],
  ['page', 'compare r.json r.json --html @'],
  ['gate markdown', 'gate r.json --markdown @'],
  ['history markdown', 'history show --file h.jsonl --markdown @'],
  ['JUnit report', 'gate r.json --junit @'],
  ['metrics', 'gate r.json --metrics @'],
  ['code quality report', 'gate r.json --code-quality @'],
  ['device model', 'calibrate --dir . --out @'],
  ['trace', 'trace convert t.csv @'],
  ['trace', 'trace slice t.csv @'],
  ['image', 'convert base.raw @'],
  ['image', 'create @ 1MiB'],
  ['image', 'create x 1MiB --data-file plain --data-file-name @'],
  ['image', 'record --image @ --create 1MiB --socket s --trace x'],
  ['trace', 'record --image top.qcow2 --socket s --trace @'],
  ['image', 'serve --image @ --create 1MiB --socket s'],
  ['socket', 'serve --image top.qcow2 --socket @'],
];

/** What a study writes into the directory of `--output`; the name is the study's. */
const OF_STUDIES = { 'study answer': '.md', 'study table': '.csv', chart: '.svg' } as const satisfies Partial<
  Record<OutputKind, string>
>;
const STUDY = 'study growth --workload t.csv --samples 0 --output';

describe('the directory of a study', () => {
  test.for([
    ['no', 'no: the directory does not exist: create it or name another [directory-missing]'],
    ['t.csv', 't.csv: is not a directory: name another [not-a-directory]'],
  ] as const)('that cannot be is an error before the run: %s', async ([path, error]) => {
    const before = contents();
    const ended = await callCli(folder, ...STUDY.split(' '), path);
    expect(errorLine(ended)).toContain(error);
    expect(contents()).toEqual(before);
  });

  test.for(Object.values(OF_STUDIES))('keeps a foreign file: %s', async (ending) => {
    const own = testDirectory();
    writeFileSync(join(own, `growth${ending}`), 'precious');
    const words = STUDY.replace('t.csv', join(folder, 't.csv')).split(' ');
    expect(errorLine(await callCli(own, ...words, '.'))).toMatch(
      /use --overwrite to replace it \[file-exists\]$/,
    );
    expect(readdirSync(own)).toEqual([`growth${ending}`]);
    expect(readFileSync(join(own, `growth${ending}`), 'utf8')).toBe('precious');
  });

  test('its own files are replaced', async () => {
    const own = testDirectory();
    const words = STUDY.replace('t.csv', join(folder, 't.csv')).split(' ');
    expect((await callCli(own, ...words, '.')).code).toBe(0);
    expect((await callCli(own, ...words, '.')).code).toBe(0);
    expect(readdirSync(own).toSorted()).toEqual(['growth.csv', 'growth.json', 'growth.md', 'growth.svg']);
  });
});

/** What `--charts` writes for each chart; the name is the chart's. */
const OF_CHARTS = { chart: '.svg', 'chart picture': '.png' } as const satisfies Partial<
  Record<OutputKind, string>
>;

describe('the directory of charts', () => {
  test.for([
    ['no', 'no: the directory does not exist: create it or name another [directory-missing]'],
    ['t.csv', 't.csv: is not a directory: name another [not-a-directory]'],
  ] as const)('that cannot be is an error: %s', async ([path, error]) => {
    const before = contents();
    expect(errorLine(await callCli(folder, 'report', 'r.json', '--charts', path))).toContain(error);
    expect(contents()).toEqual(before);
  });

  test.for(Object.values(OF_CHARTS))('keeps a foreign file: %s', async (ending) => {
    const own = testDirectory();
    writeFileSync(join(own, `syncs${ending}`), 'precious');
    expect(errorLine(await callCli(own, 'report', join(folder, 'r.json'), '--charts', '.'))).toMatch(
      /use --overwrite to replace it \[file-exists\]$/,
    );
    expect(readdirSync(own)).toEqual([`syncs${ending}`]);
    expect(readFileSync(join(own, `syncs${ending}`), 'utf8')).toBe('precious');
  });

  test('its own files are replaced', async () => {
    const own = testDirectory();
    for (let times = 0; times < 2; times++) {
      expect((await callCli(own, 'report', join(folder, 'r.json'), '--charts', '.')).code).toBe(0);
    }
    expect(readdirSync(own)).toEqual(expect.arrayContaining(['syncs.png', 'syncs.svg']));
  });
});

describe('the place of an output that cannot be', () => {
  test('is tried for every kind of output', () => {
    const tried = [...OUTPUTS.map(([kind]) => kind), ...Object.keys(OF_STUDIES), ...Object.keys(OF_CHARTS)];
    expect(new Set(tried)).toEqual(new Set(Object.keys(OUTPUT_KINDS)));
  });

  const expectRefused = async (words: string, path: string, error: string): Promise<void> => {
    const before = contents();
    const ended = await callCli(folder, ...words.replace('@', path).split(' '));
    expect(errorLine(ended)).toContain(error);
    expect(ended.code).toBe(1);
    expect(contents()).toEqual(before);
  };

  test.for(OUTPUTS)('a missing directory is not made: %s, %s', ([, words]) =>
    expectRefused(
      words,
      'no/x',
      'no: the directory does not exist: create it or name another [directory-missing]',
    ),
  );

  test.for(OUTPUTS)('a file for a directory: %s, %s', ([, words]) =>
    expectRefused(words, 't.csv/x', 't.csv: is not a directory: name another [not-a-directory]'),
  );

  test.for(OUTPUTS.filter(([, words]) => !words.includes('@.')))(
    'a directory for a file: %s, %s',
    ([, words]) => expectRefused(words, 'empty', 'empty: '),
  );

  const noMount = reasonAgainstMount();
  describe.skipIf(noMount !== undefined)(
    `one that takes no files${noMount === undefined ? '' : ` (not tested: ${noMount})`}`,
    () => {
      test.for(OUTPUTS)('%s, %s', ([, words]) => {
        mountReadOnly(join(folder, 'empty'));
        return expectRefused(
          words,
          'empty/x',
          'empty: no file can be created in this directory (EROFS): the file system is read-only: use another directory [directory-unwritable]',
        );
      });

      test.for([
        ...OUTPUTS.filter(([kind]) => kind !== 'socket' && kind !== 'image' && kind !== 'table'),
        ['image', 'create @ 1MiB --overwrite'],
        ['image', 'convert base.raw @ --overwrite'],
      ] as const)('nor a read-only file: %s, %s', ([, words]) => {
        mountReadOnly(join(folder, 'none'));
        return expectRefused(
          words,
          'none',
          'none: cannot be written (EROFS): the file system is read-only: use another directory [write-failed]',
        );
      });
    },
  );
});

/** Nothing in it can be removed or renamed, though files can be made. */
function appendOnly(path: string): boolean {
  if (spawnSync('chattr', ['+a', path]).status !== 0) return false;
  onTestFinished(() => {
    spawnSync('chattr', ['-a', path]);
    for (const name of readdirSync(path)) rmSync(join(path, name));
  });
  return true;
}

test.for(
  OUTPUTS.filter(([kind, words]) => ['page', 'trace', 'image'].includes(kind) && !words.startsWith('bench')),
)('an append-only directory is one error about the file: %s, %s', async ([, words], { skip }) => {
  if (!appendOnly(join(folder, 'empty'))) skip('no chattr +a here');
  const ended = await callCli(folder, ...words.replace('@', 'empty/x').split(' '));
  expect(errorLine(ended)).toMatch(/empty\/x: .*EPERM/);
  expect(ended.code).toBe(1);
});

describe('the folder of an output', () => {
  test('is made where it is the default', async () => {
    const own = testDirectory();
    expect((await callCli(own, 'report', join(folder, 'r.json'))).code).toBe(0);
    expect(readdirSync(own)).toEqual(['reports']);
  });

  test('a directory is no output', async () => {
    const own = testDirectory();
    mkdirSync(join(own, 'd'));
    const ended = await callCli(own, 'report', join(folder, 'r.json'), '--out', 'd', '--overwrite');
    expect(errorLine(ended)).toContain('[not-an-output]');
  });
});

describe('standard output as an output', () => {
  test.for([
    ['report r.json --out /dev/stdout', /^<!doctype html>/],
    ['report r.json --markdown --out /dev/stdout', /^\| Per guest write/],
    [`${RUN} --out /dev/stdout`, /^\{"schema":"qcow2-bench\/result@[^\n]*\n[^]*\}\n$/],
  ] as const)('%s: it holds the output alone', async ([words, pattern]) => {
    const ended = await runCli(folder, ...words.split(' '));
    expect(ended).toMatchObject({ code: 0, stdout: expect.stringMatching(pattern) as string });
  });

  test('a trace goes into a pipe', () => {
    const script = '"$0" "$1" trace convert t.csv /dev/stdout | cat';
    const { stdout } = spawnSync('sh', ['-c', script, process.execPath, MAIN], {
      cwd: folder,
      encoding: 'utf8',
    });
    expect(stdout).toBe(TRACE);
  });
});
