/**
 * A command that is killed and run again: nothing of the killed one is in its way, nothing of it is
 * left, and nothing of the user's is lost. `npm run kills:full` kills 200 times; `KILL_SEED`
 * repeats a run.
 */

import { cpSync, existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';

import { beforeAll, describe, expect, test } from 'vitest';

import { Random } from '../../src/core/random.ts';
import { amount } from '../amount.ts';
import { testDirectory } from '../test-directory.ts';
import { startCli, type Ended } from './cli-process.ts';
import {
  faultsAfterRepair,
  guestBytes,
  INPUTS,
  KILL_CASES,
  makeInputs,
  type KillCase,
} from './kill-cases.ts';

const IS_FULL = process.env['KILLS_FULL'] === '1';
const SHORT = KILL_CASES.filter(({ isLong }) => isLong !== true);
const LONG = KILL_CASES.filter(({ isLong }) => isLong === true);
const KILLS = IS_FULL ? 200 : amount({ everyday: 3, full: SHORT.length });
/**
 * One in so many kills is of a long case: as often as the others these would take most of the time.
 */
const LONG_EVERY = 40;
const SEED = Number(process.env['KILL_SEED'] ?? 1);

const inputs = testDirectory();
/** Of each case without a kill: how long it takes, and what comes of it. */
const undisturbed = new Map<KillCase, { readonly ms: number; readonly outcome: unknown }>();

beforeAll(async () => {
  await makeInputs(inputs);
}, 600_000);

describe(`killed at a random moment (seed ${String(SEED)}), each command can be run again`, () => {
  const random = new Random(SEED);
  const kills = Array.from({ length: KILLS }, (_, index) => {
    const isLong = IS_FULL && index % LONG_EVERY === LONG_EVERY - 1;
    const killed = isLong ? pick(LONG, Math.floor(index / LONG_EVERY)) : pick(SHORT, index);
    return { name: killed.name, killed, moment: random.fraction(), index };
  });

  test.for(kills)('kill $index: $name', { timeout: 600_000 }, async ({ killed, moment }) => {
    const expected = undisturbed.get(killed) ?? (await withoutKill(killed));
    undisturbed.set(killed, expected);
    const folder = copyOfInputs();
    const started = startCli(folder, ...killed.words.split(' '));
    await Promise.race([delay(moment * expected.ms), started.ended]);
    started.process.kill('SIGKILL');
    await started.ended;
    await expectNothingLost(killed, folder);
    if (killed.isWhole !== undefined) expect(await killed.isWhole(join(folder, 'old'))).toBe(true);

    // A file that is never replaced by itself appears whole: the kill then came after the work.
    const isDone = killed.isNewFile === true && existsSync(join(folder, killed.makes[0] ?? ''));
    if (isDone) expect(killed.outcome?.(folder)).toEqual(expected.outcome);
    const ended = await toItsEnd(killed, folder, killed.again ?? killed.words);
    expect(ended.code, ended.stderr).toBe(isDone ? 1 : 0);
    await expectNothingLost(killed, folder);
    expect(readdirSync(folder).toSorted()).toEqual([...INPUTS, ...killed.makes].toSorted());
    expect(killed.outcome?.(folder)).toEqual(expected.outcome);
  });
});

function pick(cases: readonly KillCase[], index: number): KillCase {
  const found = cases[index % cases.length];
  if (found === undefined) throw new Error('no such case');
  return found;
}

function copyOfInputs(): string {
  const folder = testDirectory();
  cpSync(inputs, folder, { recursive: true });
  return folder;
}

async function withoutKill(killed: KillCase): Promise<{ readonly ms: number; readonly outcome: unknown }> {
  const folder = copyOfInputs();
  const startMs = performance.now();
  const ended = await toItsEnd(killed, folder, killed.words);
  expect(ended.code, ended.stderr).toBe(0);
  return { ms: performance.now() - startMs, outcome: killed.outcome?.(folder) };
}

/** A server is ended as soon as it is there. */
async function toItsEnd({ serves }: KillCase, folder: string, words: string): Promise<Ended> {
  const started = startCli(folder, ...words.split(' '));
  if (serves === true) started.process.stdout?.once('data', () => started.process.kill('SIGTERM'));
  return started.ended;
}

async function expectNothingLost({ changes, words }: KillCase, folder: string): Promise<void> {
  for (const name of INPUTS) {
    const isOutput = words.includes(` ${name} --to raw --overwrite`);
    if (name === changes || isOutput) continue;
    expect(readFileSync(join(folder, name)).equals(readFileSync(join(inputs, name))), name).toBe(true);
  }
  if (changes === undefined) return;
  expect(await faultsAfterRepair(join(folder, changes))).toBe(0);
  const [before, after] = [await guestBytes(join(inputs, changes)), await guestBytes(join(folder, changes))];
  expect(after.equals(before), `guest data of ${changes}`).toBe(true);
}
