/** `resize`: what `qemu-img resize` does and refuses, byte for byte. */

import { copyFileSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import { describe, expect, test } from 'vitest';

import { crashQemuIo, reasonToSkip, runTool } from '../format/system-tools.ts';
import { testDirectory } from '../test-directory.ts';
import { callCli } from './call-cli.ts';
import { errorLine } from './cli-process.ts';

const MIB = 1024 * 1024;
const skipped = reasonToSkip('qemu-img', 'qemu-io');

/** A folder with the same image twice. */
function twins(make: (run: (...args: readonly string[]) => void, folder: string) => void): string {
  const folder = testDirectory();
  make((...args) => runTool('qemu-img', args, folder), folder);
  copyFileSync(join(folder, 'disk'), join(folder, 'theirs'));
  return folder;
}

const QCOW2 = ['create', '-q', '-f', 'qcow2'] as const;
const ASKED: readonly (readonly [string, readonly string[], readonly (readonly string[])[]])[] = [
  ['to a size', ['3MiB'], [[...QCOW2, 'disk', '1M']]],
  ['by a size', ['+1G'], [[...QCOW2, 'disk', '1M']]],
  ['to the size that it has', ['1M'], [[...QCOW2, 'disk', '1M']]],
  ['smaller', ['-512K', '--shrink'], [[...QCOW2, 'disk', '1M']]],
  ['with space', ['+2M', '--preallocation', 'full'], [[...QCOW2, 'disk', '1M']]],
  ['raw', ['+1M', '--format', 'raw'], [['create', '-q', '-f', 'raw', 'disk', '1M']]],
  ['QED', ['+1M'], [['create', '-q', '-f', 'qed', 'disk', '1M']]],
  [
    'with a snapshot, larger',
    ['5M'],
    [
      [...QCOW2, 'disk', '1M'],
      ['snapshot', '-c', 'one', 'disk'],
    ],
  ],
  [
    'with a snapshot, smaller',
    ['64K', '--shrink'],
    [
      [...QCOW2, '-o', 'preallocation=metadata', 'disk', '1M'],
      ['snapshot', '-c', 'one', 'disk'],
    ],
  ],
  [
    'with a bitmap, larger',
    ['5G'],
    [
      [...QCOW2, 'disk', '1M'],
      ['bitmap', '--add', 'disk', 'changed'],
    ],
  ],
  [
    'with a bitmap, smaller',
    ['64K', '--shrink'],
    [
      [...QCOW2, 'disk', '1M'],
      ['bitmap', '--add', 'disk', 'changed'],
    ],
  ],
];

/** Our words for the same in qemu-img. */
function theirWords(words: readonly string[], format: string, name = 'theirs'): readonly string[] {
  const [size = '', ...options] = words.map((word) => word.replace('MiB', 'M'));
  const preallocation = options.includes('--preallocation') ? [`--preallocation=${options[1] ?? ''}`] : [];
  const shrink = options.includes('--shrink') ? ['--shrink'] : [];
  return ['resize', '-q', '-f', format, ...preallocation, ...shrink, name, size];
}

describe.skipIf(skipped !== undefined)(`resize${skipped === undefined ? '' : ` (${skipped})`}`, () => {
  test.each(ASKED)('%s: the bytes of qemu-img', async (_, words, made) => {
    const folder = twins((run) => {
      for (const args of made) run(...args);
    });
    const format = made[0]?.[3] ?? '';
    const { code, stdout, stderr } = await callCli(folder, 'resize', 'disk', ...words, '--json');
    expect([code, stderr]).toEqual([0, '']);
    runTool('qemu-img', theirWords(words, format), folder);
    expect(readFileSync(join(folder, 'disk')).equals(readFileSync(join(folder, 'theirs')))).toBe(true);
    const info = JSON.parse(runTool('qemu-img', ['info', '--output=json', '-f', format, 'disk'], folder)) as {
      readonly 'virtual-size': number;
    };
    expect(JSON.parse(stdout) as unknown).toEqual({
      filename: 'disk',
      format,
      'virtual-size': info['virtual-size'],
      'virtual-size-before': MIB,
    });
  });

  test.each(
    ['on', 'off'].flatMap((raw) =>
      [['+2M'], ['64K', '--shrink'], ['+2M', '--preallocation', 'falloc']].map((words) => ({ raw, words })),
    ),
  )('data in a file of their own (raw $raw), $words: the bytes of qemu-img', async ({ raw, words }) => {
    const [ours, theirs] = [testDirectory(), testDirectory()];
    for (const folder of [ours, theirs]) {
      const options = `data_file=disk.data,data_file_raw=${raw}`;
      runTool('qemu-img', [...QCOW2, '-o', options, 'disk', '1M'], folder);
      runTool('qemu-io', ['-c', 'write 512 100k', 'disk'], folder);
    }
    expect((await callCli(ours, 'resize', 'disk', ...words)).code).toBe(0);
    runTool('qemu-img', theirWords(words, 'qcow2', 'disk'), theirs);
    for (const name of ['disk', 'disk.data']) {
      const [mine, other] = [ours, theirs].map((folder) => readFileSync(join(folder, name)));
      expect(mine?.byteLength, name).toBe(other?.byteLength);
      expect(mine?.equals(other as Buffer), name).toBe(true);
    }
  });

  const v2 = [
    [...QCOW2, '-o', 'compat=0.10', 'disk', '1M'],
    ['snapshot', '-c', 'one', 'disk'],
  ] as const;
  const one = [[...QCOW2, 'disk', '1M']] as const;
  test.each([
    ['smaller without leave', ['512K'], one, 'shrink-not-allowed'],
    [
      'smaller with space',
      ['512K', '--shrink', '--preallocation', 'full'],
      one,
      'resize-preallocates-growth',
    ],
    ['no whole sectors', ['+1000'], one, 'bad-size'],
    ['nothing left', ['-1M', '--shrink'], one, 'bad-size'],
    ['more than the L1 table holds', ['5000T'], one, 'qcow2-l1-too-large'],
    ['version 2 with snapshots', ['+1M'], v2, 'qcow2-resize-needs-v3'],
    [
      'a smaller QED disk',
      ['512K', '--shrink'],
      [['create', '-q', '-f', 'qed', 'disk', '1M']],
      'qed-no-shrink',
    ],
    [
      'a QED disk with space',
      ['2M', '--preallocation', 'full'],
      [['create', '-q', '-f', 'qed', 'disk', '1M']],
      'qed-no-preallocation',
    ],
  ] as const)('%s: refused by both, and nothing changed', async (_, words, made, errorCode) => {
    const folder = twins((run) => {
      for (const args of made) run(...args);
    });
    const before = readFileSync(join(folder, 'disk'));
    const format = made[0][3];
    expect(() => runTool('qemu-img', theirWords(words, format), folder)).toThrow();
    const ended = await callCli(folder, 'resize', 'disk', ...words);
    expect(ended.code).toBe(1);
    expect(errorLine(ended)).toMatch(/disk[:,]/);
    expect(errorLine(ended)).toContain(`[${errorCode}]`);
    expect(readFileSync(join(folder, 'disk')).equals(before)).toBe(true);
  });

  test.each([
    [['2M'], []],
    [['512K', '--shrink'], []],
    [['1M'], []],
    [['2M', '--preallocation', 'metadata'], []],
    [['2M'], [['bitmap', '--add', 'disk', 'fine']]],
  ])('%s with a bitmap in use is refused, with %j beside it too', async (words, made) => {
    const folder = twins((run, folder) => {
      run(...QCOW2, 'disk', '1M');
      run('bitmap', '--add', 'disk', 'changed');
      crashQemuIo(['write 0 64K'], 'disk', { directory: folder });
      for (const args of made) run(...args);
    });
    expect(() => runTool('qemu-img', theirWords(words, 'qcow2'), folder)).toThrow(/inconsistent/);
    const ended = await callCli(folder, 'resize', 'disk', ...words);
    expect(ended.code).toBe(1);
    expect(errorLine(ended)).toMatch(/bitmap 'changed' .*bitmap --remove.*\[resize-with-bitmap-in-use]/);
    expect(readFileSync(join(folder, 'disk')).equals(readFileSync(join(folder, 'theirs')))).toBe(true);
  });
});

test('what is no size is a matter of usage, also behind a minus', async () => {
  const folder = testDirectory();
  writeFileSync(join(folder, 'disk'), Buffer.alloc(MIB));
  for (const size of ['much', '-1X', '+']) {
    const ended = await callCli(folder, 'resize', 'disk', size);
    expect(ended.code, size).toBe(2);
    expect(errorLine(ended)).toContain(size);
  }
});

test('says what was done in a line', async () => {
  const folder = testDirectory();
  writeFileSync(join(folder, 'disk'), Buffer.alloc(MIB));
  const { stdout } = await callCli(folder, 'resize', 'disk', '+1MiB');
  expect(stdout).toBe('resized disk: raw, 1MiB to 2MiB\n');
});
