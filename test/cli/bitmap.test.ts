/** `bitmap` as a user meets it: what it says, what it refuses. The operations: `test/parity`. */

import { describe, expect, test } from 'vitest';

import { testDirectory } from '../test-directory.ts';
import { callCli } from './call-cli.ts';
import { errorLine } from './cli-process.ts';

async function image(...options: readonly string[]): Promise<string> {
  const folder = testDirectory();
  expect((await callCli(folder, 'create', 'disk', '8MiB', ...options)).code).toBe(0);
  return folder;
}

async function bitmapsOf(folder: string): Promise<unknown> {
  const { stdout } = await callCli(folder, 'info', 'disk', '--json');
  const { 'format-specific': specific } = JSON.parse(stdout) as {
    'format-specific'?: { data?: { bitmaps?: unknown } };
  };
  return specific?.data?.bitmaps;
}

describe('bitmap', () => {
  test('says what was done, and info lists it', async () => {
    const folder = await image();
    const added = await callCli(folder, 'bitmap', 'disk', '--add', 'one', '--granularity', '4KiB');
    expect(added).toMatchObject({ code: 0, stdout: "added bitmap 'one' of disk\n" });
    expect(await bitmapsOf(folder)).toEqual([{ flags: ['auto'], name: 'one', granularity: 4096 }]);
    const disabled = await callCli(folder, 'bitmap', 'disk', '--disable', 'one', '--json');
    expect(JSON.parse(disabled.stdout)).toEqual({ filename: 'disk', action: 'disable', bitmap: 'one' });
    expect(await bitmapsOf(folder)).toEqual([{ flags: [], name: 'one', granularity: 4096 }]);
    expect((await callCli(folder, 'bitmap', 'disk', '--remove', 'one')).code).toBe(0);
    expect(await bitmapsOf(folder)).toBeUndefined();
    expect((await callCli(folder, 'check', 'disk')).code).toBe(0);
  });

  const refused = [
    ['one that there is not', [], ['--remove', 'none'], 'bitmap-missing'],
    ['a merge of none', [], ['--merge', 'none', '--source', 'one'], 'bitmap-missing'],
    ['version 2', ['--compat', '0.10'], ['--add', 'one'], 'bitmap-needs-v3'],
    ['a granularity of 100', [], ['--add', 'one', '--granularity', '100'], 'bitmap-bad-granularity'],
    ['a long name', [], ['--add', 'x'.repeat(1024)], 'bitmap-bad-name'],
    ['QED', ['--format', 'qed'], ['--add', 'one'], 'bitmaps-unsupported'],
  ] as const;
  test.each(refused)('%s is refused', async (_, made, words, code) => {
    const folder = await image(...made);
    const ended = await callCli(folder, 'bitmap', 'disk', ...words);
    expect(ended).toMatchObject({ code: 1, stdout: '' });
    expect(errorLine(ended)).toContain(`[${code}]`);
    expect((await callCli(folder, 'check', 'disk')).code).toBe(0);
  });

  test.each([
    [[]],
    [['--add', 'one', '--remove', 'two']],
    [['--clear', 'one', '--granularity', '4KiB']],
    [['--merge', 'one']],
    [['--clear', 'one', '--source', 'two']],
  ])('%j is a misuse', async (words) => {
    const ended = await callCli(await image(), 'bitmap', 'disk', ...words);
    expect(ended).toMatchObject({ code: 2, stdout: '' });
  });
});
