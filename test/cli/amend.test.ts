/** `amend` and `measure` as a user meets them: what they say, what they refuse. */

import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import { describe, expect, test } from 'vitest';

import { testDirectory } from '../test-directory.ts';
import { callCli } from './call-cli.ts';
import { errorLine } from './cli-process.ts';

async function image(...options: readonly string[]): Promise<string> {
  const folder = testDirectory();
  expect((await callCli(folder, 'create', 'disk', '8MiB', ...options)).code).toBe(0);
  return folder;
}

describe('amend', () => {
  test('says what it changed, and that there was nothing to change', async () => {
    const folder = await image('--compat', '0.10');
    const words = ['amend', 'disk', '--compat', '1.1', '--refcounts', 'lazy'];
    const changed = 'amended disk: compat 0.10 to 1.1, refcounts eager to lazy\n';
    expect(await callCli(folder, ...words)).toMatchObject({ code: 0, stdout: changed });
    expect(await callCli(folder, ...words)).toMatchObject({ code: 0, stdout: 'disk: already so\n' });
    const { stdout } = await callCli(folder, 'amend', 'disk', '--refcounts', 'eager', '--json');
    expect(JSON.parse(stdout)).toEqual({
      filename: 'disk',
      format: 'qcow2',
      before: { compat: '1.1', refcounts: 'lazy' },
      after: { compat: '1.1', refcounts: 'eager' },
    });
    expect((await callCli(folder, 'check', 'disk')).code).toBe(0);
  });

  const refused = [
    ['lazy refcounts in version 2', ['--compat', '0.10'], ['--refcounts', 'lazy'], 'qcow2-lazy-needs-v3'],
    ['version 2 and lazy', [], ['--compat', '0.10', '--refcounts', 'lazy'], 'qcow2-lazy-needs-v3'],
    ['version 2 of zstd', ['--compression-type', 'zstd'], ['--compat', '0.10'], 'amend-needs-v3'],
    ['QED', ['--format', 'qed'], ['--refcounts', 'lazy'], 'amend-unsupported'],
  ] as const;
  test.each(refused)('%s is refused, and the image unchanged', async (_, made, words, code) => {
    const folder = await image(...made);
    const before = readFileSync(join(folder, 'disk'));
    const ended = await callCli(folder, 'amend', 'disk', ...words);
    expect(ended).toMatchObject({ code: 1, stdout: '' });
    expect(errorLine(ended)).toContain(`[${code}]`);
    expect(readFileSync(join(folder, 'disk')).equals(before)).toBe(true);
  });

  test('asks what to change', async () => {
    const folder = await image();
    const ended = await callCli(folder, 'amend', 'disk');
    expect(ended).toMatchObject({ code: 2, stdout: '' });
    expect(errorLine(ended)).toContain('--refcounts, --compat or both');
  });
});

describe('measure', () => {
  test('prints two sizes, of a disk or of an image', async () => {
    const folder = testDirectory();
    writeFileSync(join(folder, 'disk.raw'), Buffer.alloc(1024 * 1024, 7));
    const full = 'required size: 1376256\nfully allocated size: 1376256\n';
    expect(await callCli(folder, 'measure', 'disk.raw')).toMatchObject({ code: 0, stdout: full });
    const { stdout } = await callCli(folder, 'measure', '--size', '1GiB', '--json');
    expect(JSON.parse(stdout)).toEqual({ required: 393_216, 'fully-allocated': 1_074_135_040 });
  });

  test.each([
    [['measure'], 'give an IMAGE or --size'],
    [['measure', 'disk', '--size', '1GiB'], 'give an IMAGE or --size'],
    [['measure', '--size', '1GiB', '--snapshot', 'one'], '--snapshot needs an IMAGE'],
    [['measure', '--size', '1GiB', '--to', 'raw', '--cluster-size', '4KiB'], '--cluster-size'],
  ] as const)('%j is a misuse', async (words, text) => {
    const ended = await callCli(await image(), ...words);
    expect(ended).toMatchObject({ code: 2, stdout: '' });
    expect(errorLine(ended)).toContain(text);
  });
});
