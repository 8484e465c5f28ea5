/**
 * An image and its data file get their names one after the other: killed before any of these steps,
 * the next command finds the old pair or the new one, and nothing of the killed one is left.
 */

import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import { describe, expect, test } from 'vitest';

import { amount } from '../amount.ts';
import { ioWords, reasonToSkip, runTool } from '../format/system-tools.ts';
import { testDirectory } from '../test-directory.ts';
import { callCli } from './call-cli.ts';
import { MAIN, runCli } from './cli-process.ts';

const skipped = reasonToSkip('strace', 'qemu-img', 'qemu-io');
/** strace counts the calls of each by itself. */
const STEPS = ['link,linkat', 'rename,renameat,renameat2', 'unlink,unlinkat'] as const;
/** More calls of one kind than there are. */
const CALLS_MAX = 30;
/** Of each kind of call, the first and then one in so many. */
const EVERY = amount({ everyday: 3, full: 1 });
const KILLED = 137;

interface Step {
  readonly calls: string;
  readonly number: number;
}

/** Runs the command, and kills it at a step; whether it came to its end before. */
function runKilled(folder: string, words: string, { calls, number }: Step): boolean {
  const inject = `inject=${calls}:signal=SIGKILL:when=${String(number)}`;
  const options = ['-f', '-qq', '-o', '/dev/null', '-e', `trace=${calls}`, '-e', inject];
  const { status, signal, stderr } = spawnSync(
    'strace',
    [...options, process.execPath, MAIN, ...words.split(' ')],
    { cwd: folder, encoding: 'utf8' },
  );
  const isKilled = signal === 'SIGKILL' || status === KILLED;
  if (!isKilled && status !== 0) throw new Error(`${words}: ${stderr}`);
  return !isKilled;
}

/**
 * Calls `once` for every step of a command, each time in a new folder, until it says that the
 * command came to its end.
 */
async function atEachStep(once: (folder: string, step: Step) => Promise<boolean>): Promise<void> {
  for (const calls of STEPS) {
    for (let number = 1; ; number += EVERY) {
      if (number > CALLS_MAX) expect.fail('the command never comes to its end');
      if (await once(testDirectory(), { calls, number })) break;
    }
  }
}

/** What a guest reads. */
function diskOf(folder: string, image: string): string {
  runTool('qemu-img', ['convert', '-f', 'qcow2', '-O', 'raw', image, 'read.raw'], folder);
  const digest = createHash('sha256')
    .update(readFileSync(join(folder, 'read.raw')))
    .digest('hex');
  rmSync(join(folder, 'read.raw'));
  return digest;
}

/** Disks with data in different places: an image with the other's data file reads as neither. */
async function make(folder: string, image: string, write: string): Promise<void> {
  const made = await callCli(folder, 'create', image, '1MiB', '--data-file', 'plain');
  expect(made.code, made.stderr).toBe(0);
  runTool('qemu-io', ioWords([`write ${write}`], image), folder);
}

const PAIRS = ['other', 'out', 'out.data', 'source', 'source.data'];

describe.skipIf(skipped !== undefined)(
  `killed at each step${skipped === undefined ? '' : ` (${skipped})`}`,
  () => {
    test('convert to a new pair', { timeout: 600_000 }, async () => {
      const words = 'convert source out --data-file plain';
      let repeated = 0;
      await atEachStep(async (folder, step) => {
        await make(folder, 'source', '-P 7 0 512K');
        const isDone = runKilled(folder, words, step);
        const ended = await runCli(folder, ...words.split(' '));
        const isWhole = ended.code === 1 && ended.stderr.includes(' out: file exists');
        expect(ended.code === 0 || isWhole, `${JSON.stringify(step)}: ${ended.stderr}`).toBe(true);
        if (!isWhole) repeated++;
        // Another command, as the last one may be refused before it cleans up.
        await runCli(folder, 'create', 'other', '1MiB');
        expect(readdirSync(folder).toSorted(), JSON.stringify(step)).toEqual(PAIRS);
        expect(diskOf(folder, 'out')).toBe(diskOf(folder, 'source'));
        return isDone;
      });
      expect(repeated).toBeGreaterThan(2);
    });

    test('convert --overwrite of a pair', { timeout: 600_000 }, async () => {
      const words = 'convert source out --data-file plain --overwrite';
      const seen = new Set<string>();
      await atEachStep(async (folder, step) => {
        await make(folder, 'source', '-P 7 0 512K');
        await make(folder, 'out', '-P 9 512K 512K');
        const [old, whole] = [diskOf(folder, 'out'), diskOf(folder, 'source')];
        const isDone = runKilled(folder, words, step);
        await runCli(folder, 'create', 'other', '1MiB');
        const after = diskOf(folder, 'out');
        expect([old, whole], JSON.stringify(step)).toContain(after);
        seen.add(after === old ? 'old' : 'new');
        expect(readdirSync(folder).toSorted(), JSON.stringify(step)).toEqual(PAIRS);
        return isDone;
      });
      expect(seen).toEqual(new Set(['old', 'new']));
    });

    test('a data file that was written to since the kill stays', { timeout: 600_000 }, async () => {
      let found = 0;
      await atEachStep(async (folder, step) => {
        await make(folder, 'source', '-P 7 0 512K');
        const isDone = runKilled(folder, 'convert source out --data-file plain', step);
        const names = readdirSync(folder);
        if (!names.includes('out.data') || names.includes('out')) return isDone;
        writeFileSync(join(folder, 'out.data'), 'mine');
        await runCli(folder, 'create', 'other', '1MiB');
        expect(readFileSync(join(folder, 'out.data'), 'utf8')).toBe('mine');
        expect(readdirSync(folder).filter((name) => name.startsWith('.'))).toEqual([]);
        found++;
        return isDone;
      });
      expect(found).toBeGreaterThan(0);
    });
  },
);
