/**
 * `convert` as a user meets it: what is in the way is never lost without his word, and what fails
 * leaves nothing behind.
 */

import { spawnSync } from 'node:child_process';
import {
  linkSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';

import { describe, expect, test } from 'vitest';

import { testDirectory } from '../test-directory.ts';
import { callCli } from './call-cli.ts';
import { errorLine } from './cli-process.ts';
import { mountSmall, reasonAgainstMount } from './small-disk.ts';

const MIB = 1024 ** 2;

/** A raw disk of some MiB without a zero. */
function source(size = MIB): string {
  const folder = testDirectory();
  writeFileSync(join(folder, 'in.raw'), Buffer.alloc(size, 7));
  return folder;
}

async function expectRefused(folder: string, code: string, ...words: readonly string[]): Promise<string> {
  const ended = await callCli(folder, 'convert', ...words);
  expect(ended).toMatchObject({ code: 1, stdout: '' });
  const line = errorLine(ended);
  expect(line).toContain(`[${code}]`);
  return line;
}

describe('convert', () => {
  test('a file that is there is replaced only with --overwrite, which the error names', async () => {
    const folder = source();
    writeFileSync(join(folder, 'out'), 'precious');
    expect(await expectRefused(folder, 'file-exists', 'in.raw', 'out')).toContain('--overwrite');
    expect(readFileSync(join(folder, 'out'), 'utf8')).toBe('precious');
    expect((await callCli(folder, 'convert', 'in.raw', 'out', '--overwrite')).code).toBe(0);
    expect(readFileSync(join(folder, 'out')).subarray(0, 3).toString()).toBe('QFI');
    expect(readdirSync(folder)).toEqual(['in.raw', 'out']);
  });

  test('through a symbolic link the file behind it is replaced, and the link stays', async () => {
    const folder = source();
    mkdirSync(join(folder, 'away'));
    writeFileSync(join(folder, 'away', 'disk'), 'old');
    symlinkSync('away/disk', join(folder, 'out'));
    expect((await callCli(folder, 'convert', 'in.raw', 'out', '--overwrite')).code).toBe(0);
    expect(lstatSync(join(folder, 'out')).isSymbolicLink()).toBe(true);
    expect(statSync(join(folder, 'away', 'disk')).size).toBeGreaterThan(MIB);
  });

  test.each(['plain', 'raw'])('a %s data file is beside the result and reads the same', async (kind) => {
    const folder = source();
    writeFileSync(join(folder, 'out.data'), 'precious');
    const words = ['in.raw', 'out', '--data-file', kind];
    await expectRefused(folder, 'file-exists', ...words);
    expect(readFileSync(join(folder, 'out.data'), 'utf8')).toBe('precious');
    await expectRefused(folder, 'qcow2-compressed-data-file', ...words, '--overwrite', '--compress');
    expect(readdirSync(folder)).toEqual(['in.raw', 'out.data']);
    expect(await callCli(folder, 'convert', ...words, '--overwrite')).toMatchObject({ code: 0, stderr: '' });
    expect(readdirSync(folder)).toEqual(['in.raw', 'out', 'out.data']);
    expect((await callCli(folder, 'convert', 'out', 'back.raw', '--to', 'raw')).code).toBe(0);
    expect(readFileSync(join(folder, 'back.raw')).equals(readFileSync(join(folder, 'in.raw')))).toBe(true);
  });

  test('onto itself is a misuse, under any of its names', async () => {
    const folder = source();
    linkSync(join(folder, 'in.raw'), join(folder, 'hard'));
    symlinkSync('in.raw', join(folder, 'soft'));
    for (const out of ['in.raw', 'hard', 'soft']) {
      const ended = await callCli(folder, 'convert', 'in.raw', out, '--overwrite');
      expect(ended.code).toBe(2);
      expect(errorLine(ended)).toContain('is the same file as IN in.raw');
    }
    expect(readFileSync(join(folder, 'in.raw')).equals(Buffer.alloc(MIB, 7))).toBe(true);
  });

  test('a file behind the source is not replaced: it may have other overlays', async () => {
    const folder = source();
    const words = ['--backing', 'in.raw', '--backing-format', 'raw'];
    expect((await callCli(folder, 'create', 'top.qcow2', ...words)).code).toBe(0);
    const ended = await callCli(folder, 'convert', 'top.qcow2', 'in.raw', '--to', 'raw', '--overwrite');
    expect(ended.code).toBe(2);
    expect(errorLine(ended)).toContain('is the same file as a backing file of IN');
    expect(readFileSync(join(folder, 'in.raw')).equals(Buffer.alloc(MIB, 7))).toBe(true);
    expect(readdirSync(folder)).toEqual(['in.raw', 'top.qcow2']);
  });

  test('a device, a pipe or a directory is never replaced by a file', async () => {
    const folder = source();
    spawnSync('mkfifo', [join(folder, 'pipe')]);
    mkdirSync(join(folder, 'folder'));
    for (const out of ['pipe', 'folder']) {
      await expectRefused(folder, 'not-an-output', 'in.raw', out, '--overwrite');
    }
    expect(lstatSync(join(folder, 'pipe')).isFIFO()).toBe(true);
    expect(readdirSync(folder)).toEqual(['folder', 'in.raw', 'pipe']);
  });

  test('a directory that is missing is named, and compression of raw is a misuse', async () => {
    const folder = source();
    expect(await expectRefused(folder, 'directory-missing', 'in.raw', 'no/out')).toContain('no');
    const ended = await callCli(folder, 'convert', 'in.raw', 'out', '--to', 'raw', '--compress');
    expect(ended.code).toBe(2);
    expect(errorLine(ended)).toContain('--compress');
    expect(readdirSync(folder)).toEqual(['in.raw']);
  });

  const noMount = reasonAgainstMount();

  test.skipIf(noMount !== undefined && process.env['CI'] !== 'true')(
    `a disk that fills up: one error, and what was begun is gone${noMount === undefined ? '' : ` (not tested: ${noMount})`}`,
    async () => {
      const folder = source(8 * MIB);
      const small = join(folder, 'small');
      mkdirSync(small);
      mountSmall(small);
      writeFileSync(join(small, 'old'), 'precious');
      for (const to of ['raw', 'qcow2', 'qed']) {
        const words = ['in.raw', 'small/old', '--to', to, '--overwrite'];
        expect(await expectRefused(folder, 'host-write-failed', ...words)).toContain('ENOSPC');
        expect(readdirSync(small)).toEqual(['old']);
        expect(readFileSync(join(small, 'old'), 'utf8')).toBe('precious');
      }
    },
  );
});
