import {
  closeSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';

import { describe, expect, test } from 'vitest';

import { readResult } from '../../src/result/store.ts';
import { testDirectory } from '../test-directory.ts';
import { callCli } from './call-cli.ts';
import { errorLine, type Ended } from './cli-process.ts';
import { mountSmall, reasonAgainstMount } from './small-disk.ts';

/** One cell, counted only. */
const ONE_CELL = ['--refcounts', 'lazy', '--cache', 'writeback', '--samples', '0'];
const HEADER = { incompatible: 72, clusterBits: 20 } as const;

function expectError(ended: Ended, ...naming: readonly string[]): void {
  const line = errorLine(ended);
  expect(line).toMatch(/^qcow2-bench: error: /);
  for (const name of naming) expect(line).toContain(name);
  expect(line).not.toContain('bug in qcow2-bench');
  expect(ended).toMatchObject({ code: 1, stdout: '' });
}

async function makeImage(folder: string, format: 'qcow2' | 'qed'): Promise<string> {
  expect((await callCli(folder, 'create', `disk.${format}`, '1GiB', '--format', format)).code).toBe(0);
  return join(folder, `disk.${format}`);
}

function patch(path: string, at: number, bytes: readonly number[]): void {
  const descriptor = openSync(path, 'r+');
  writeSync(descriptor, Uint8Array.from(bytes), 0, bytes.length, at);
  closeSync(descriptor);
}

describe('a bad image is refused in one line that names file, offset and rule', () => {
  const COMMANDS = [['info'], ['check'], ['check', '--repair', 'all']] as const;

  test.for(COMMANDS)('%s: qcow2 cut within its header', async (words) => {
    const folder = testDirectory();
    const path = await makeImage(folder, 'qcow2');
    truncateSync(path, 60);
    expectError(await callCli(folder, ...words, 'disk.qcow2'), path, 'offset 0x3c', 'truncated');
  });

  test('qcow2 cut before its L1 table: refused, damage to a check, and not repaired into an empty disk without a word', async () => {
    const folder = testDirectory();
    const path = await makeImage(folder, 'qcow2');
    truncateSync(path, 0x20000);
    const before = readFileSync(path);
    expectError(await callCli(folder, 'info', 'disk.qcow2'), path, 'L1 table', '0x20000');
    const checked = await callCli(folder, 'check', 'disk.qcow2');
    expect(checked.code).toBe(2);
    expect(checked.stdout).toContain('exceeding the end of the file');
    expect(readFileSync(path).equals(before)).toBe(true);
    const repaired = await callCli(folder, 'check', '--repair', 'all', 'disk.qcow2');
    expect(repaired.stdout).toContain('their data is lost');
  });

  test.for(COMMANDS)('%s: QED cut within its first-level table', async (words) => {
    const folder = testDirectory();
    const path = await makeImage(folder, 'qed');
    truncateSync(path, 0x20000);
    expectError(await callCli(folder, ...words, 'disk.qed'), path, 'first-level table', '0x');
  });

  test.for(COMMANDS)('%s: an unknown incompatible feature', async (words) => {
    const folder = testDirectory();
    const path = await makeImage(folder, 'qcow2');
    patch(path, HEADER.incompatible, [0, 0, 1]);
    expectError(await callCli(folder, ...words, 'disk.qcow2'), path, 'offset 0x48', 'bit 40');
  });

  test('a cluster size that there cannot be', async () => {
    const folder = testDirectory();
    const path = await makeImage(folder, 'qcow2');
    patch(path, HEADER.clusterBits, [0, 0, 0, 40]);
    expectError(await callCli(folder, 'info', 'disk.qcow2'), path, 'offset 0x14', '40');
  });

  test('a foreign image under a run: not a byte of it changes', async () => {
    const folder = testDirectory();
    const path = await makeImage(folder, 'qed');
    const before = readFileSync(path);
    const words = ['--format', 'qcow2', ...ONE_CELL, '--image', 'disk.qed'];
    const ended = await callCli(folder, 'run', '--workload', 'stride', ...words);
    expect(ended.code).toBe(2);
    expect(errorLine(ended)).toMatch(/--format qcow2 contradicts disk\.qed, which has qed/);
    expect(readFileSync(path).equals(before)).toBe(true);
  });
});

describe('a bad workload or trace is refused with its line', () => {
  test('a workload that is no JSON', async () => {
    const folder = testDirectory();
    writeFileSync(
      join(folder, 'mine.json'),
      '{\n  "schema": "qcow2-bench/workload@1",\n  "name" "mine"\n}\n',
    );
    expectError(await callCli(folder, 'run', '--workload', './mine.json'), 'mine.json', 'line 3');
  });

  test('a workload with an unknown field', async () => {
    const folder = testDirectory();
    const stride = readFileSync(new URL('../../workloads/stride.json', import.meta.url), 'utf8');
    writeFileSync(
      join(folder, 'mine.json'),
      stride.replace('"seed"', '"sede"').replace('"phases"', '"phasis"'),
    );
    expectError(await callCli(folder, 'run', '--workload', './mine.json'), 'mine.json', '"phasis"');
  });

  test('a workload that there is not', async () => {
    const ended = await callCli(testDirectory(), 'run', '--workload', 'strid');
    expect(errorLine(ended)).toMatch(/^qcow2-bench: error: .*'strid'.*stride/);
    expect(ended).toMatchObject({ code: 2, stdout: '' });
  });

  const TRACE = [
    '#qcow2-bench trace v1',
    '#virtual-size 1048576',
    'time_ns,op,offset,length,flags',
    '0,write,0,4096,',
    '10,write,100,4096,',
    '20,flush,,,',
    '',
  ].join('\n');

  test('a trace with an unaligned request, before any cell is begun', async () => {
    const folder = testDirectory();
    writeFileSync(join(folder, 'my.trace.csv'), TRACE);
    const ended = await callCli(folder, 'replay', 'my.trace.csv', '--out', 'result.json', '--samples', '0');
    expectError(ended, 'my.trace.csv', 'line 5', '512');
    expect(readdirSync(folder)).toEqual(['my.trace.csv']);
  });

  test('--skip-bad goes on without the line, and the result says so', async () => {
    const folder = testDirectory();
    writeFileSync(join(folder, 'my.trace.csv'), TRACE);
    const words = ['--skip-bad', '--format', 'qcow2', ...ONE_CELL, '--json'];
    const { code, stdout } = await callCli(folder, 'replay', 'my.trace.csv', ...words);
    expect(code).toBe(0);
    expect(JSON.parse(stdout)).toMatchObject({
      cells: [
        {
          counts: { guest: { writes: 1, flushes: 1 } },
          fallbacks: ['skipped 1 invalid line of the trace'],
        },
      ],
    });
  });

  test('a trace cut in mid-file', async () => {
    const folder = testDirectory();
    const packed = readFileSync(
      new URL('../../workloads/recorded/ext4-unpack.trace.csv.gz', import.meta.url),
    );
    writeFileSync(join(folder, 'cut.trace.csv.gz'), packed.subarray(0, packed.byteLength / 2));
    expectError(await callCli(folder, 'replay', 'cut.trace.csv.gz', '--samples', '0'), 'cut.trace.csv.gz');
  });
});

describe('places', () => {
  test('an unwritable --dir is reported before anything is run', async () => {
    const folder = testDirectory();
    const ended = await callCli(
      folder,
      'run',
      '--workload',
      'stride',
      '--dir',
      '/proc',
      '--out',
      'result.json',
    );
    expectError(ended, '/proc');
    expect(readdirSync(folder)).toEqual([]);
  });

  test('a --dir that there is not', async () => {
    expectError(await callCli(testDirectory(), 'run', '--workload', 'stride', '--dir', 'no/such'), 'no/such');
  });

  test('an --out that cannot be written', async () => {
    const folder = testDirectory();
    mkdirSync(join(folder, 'result.json'));
    expectError(await callCli(folder, 'run', '--workload', 'stride', '--out', 'result.json'), 'result.json');
  });

  const noMount = reasonAgainstMount();

  test.skipIf(noMount !== undefined && process.env['CI'] !== 'true')(
    `a disk that fills up in mid-run: the counts are kept, and the run goes on where there is room${
      noMount === undefined ? '' : ` (not tested: ${noMount})`
    }`,
    async () => {
      const folder = testDirectory();
      const small = join(folder, 'small');
      mkdirSync(small);
      mountSmall(small);
      const cells = [
        '--workload',
        'stride',
        '--format',
        'raw,qed',
        '--cache',
        'writeback',
        '--out',
        'result.json',
      ];
      const timing = ['--samples', '1', '--timed-requests', '200'];
      const ended = await callCli(folder, 'run', ...cells, ...timing, '--dir', small);
      expectError(ended, 'ENOSPC', small, 'cell stride · QED', 'kept in result.json');
      expect(readResult(join(folder, 'result.json')).cells.map(({ counts }) => counts !== null)).toEqual([
        true,
        true,
      ]);
      expect(readdirSync(small)).toEqual([]);
      const resumed = await callCli(folder, 'run', ...cells, ...timing, '--resume');
      expect(resumed.code).toBe(0);
      expect(readResult(join(folder, 'result.json')).cells.map(({ timings }) => timings.length)).toEqual([
        1, 1,
      ]);
    },
  );
});
