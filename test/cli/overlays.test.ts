/** `rebase` and `commit` as a user meets them. What they do to disks: `test/image/overlays`. */

import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import { describe, expect, test } from 'vitest';

import { testDirectory } from '../test-directory.ts';
import { callCli } from './call-cli.ts';
import { errorLine } from './cli-process.ts';

const MIB = 1024 * 1024;

/** An empty overlay of a raw disk of 1 MiB of sevens, and another disk of ones. */
async function overlay(): Promise<string> {
  const folder = testDirectory();
  writeFileSync(join(folder, 'base.raw'), Buffer.alloc(MIB, 7));
  writeFileSync(join(folder, 'other.raw'), Buffer.alloc(MIB, 1));
  const words = ['create', 'top', '--backing', 'base.raw', '--backing-format', 'raw'];
  expect((await callCli(folder, ...words)).code).toBe(0);
  return folder;
}

async function backingOf(folder: string): Promise<unknown> {
  const { stdout } = await callCli(folder, 'info', 'top', '--json');
  return (JSON.parse(stdout) as { 'backing-filename'?: unknown })['backing-filename'];
}

describe('rebase', () => {
  test('copies what differs, and says so', async () => {
    const folder = await overlay();
    const onto = ['--backing', 'other.raw', '--backing-format', 'raw'];
    const done = await callCli(folder, 'rebase', 'top', ...onto);
    expect(done).toMatchObject({ code: 0, stdout: 'top is over other.raw: 1MiB copied into it\n' });
    expect(await backingOf(folder)).toBe('other.raw');
    const flat = await callCli(folder, 'rebase', 'top', '--flatten', '--json');
    expect(JSON.parse(flat.stdout)).toMatchObject({ 'backing-filename': null, 'copied-bytes': 0 });
    expect((await callCli(folder, 'convert', 'top', 'flat.raw', '--to', 'raw')).code).toBe(0);
    expect(readFileSync(join(folder, 'flat.raw')).equals(Buffer.alloc(MIB, 7))).toBe(true);
  });

  test('--unsafe only names the new file, also if the old one is gone', async () => {
    const folder = await overlay();
    const words = ['rebase', 'top', '--backing', 'other.raw', '--backing-format', 'raw', '--unsafe'];
    expect(await callCli(folder, ...words)).toMatchObject({ code: 0 });
    expect((await callCli(folder, 'convert', 'top', 'read.raw', '--to', 'raw')).code).toBe(0);
    expect(readFileSync(join(folder, 'read.raw')).equals(Buffer.alloc(MIB, 1))).toBe(true);
  });

  test.each([
    [[], '--backing or --flatten'],
    [['--backing', 'other.raw', '--flatten'], '--backing or --flatten'],
    [['--backing', 'other.raw'], '--backing-format'],
    [['--flatten', '--backing-format', 'raw'], '--backing-format needs --backing'],
  ] as const)('%j is a misuse', async (words, text) => {
    const ended = await callCli(await overlay(), 'rebase', 'top', ...words);
    expect(ended).toMatchObject({ code: 2, stdout: '' });
    expect(errorLine(ended)).toContain(text);
  });
});

describe('commit', () => {
  test('writes the overlay into its backing file, and says how much', async () => {
    const folder = await overlay();
    const change = ['rebase', 'top', '--backing', 'other.raw', '--backing-format', 'raw'];
    expect((await callCli(folder, ...change)).code).toBe(0);
    const done = await callCli(folder, 'commit', 'top', '--empty');
    expect(done).toMatchObject({ code: 0, stdout: 'committed top to other.raw: 1MiB; it is empty now\n' });
    expect(readFileSync(join(folder, 'other.raw')).equals(Buffer.alloc(MIB, 7))).toBe(true);
    const again = await callCli(folder, 'commit', 'top', '--json');
    expect(JSON.parse(again.stdout)).toMatchObject({ 'copied-bytes': 0 });
  });

  test('an image without a backing file is refused', async () => {
    const folder = testDirectory();
    expect((await callCli(folder, 'create', 'alone', '1MiB')).code).toBe(0);
    const ended = await callCli(folder, 'commit', 'alone');
    expect(errorLine(ended)).toContain('[commit-without-backing]');
  });
});
