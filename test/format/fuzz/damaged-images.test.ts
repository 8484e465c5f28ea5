/**
 * Any damage of a good image: the promises of `promises.ts`, for as many images as fit a usual run
 * of the tests.
 */

import { readdirSync } from 'node:fs';

import { describe, expect, it } from 'vitest';

import { amount } from '../../amount.ts';
import { testDirectory } from '../../test-directory.ts';
import { fuzzWatched } from './watched-fuzzer.ts';

const RUNS = amount({ everyday: 250, full: 2000 });
/** Fixed, so that a run of the tests repeats; `npm run fuzz` takes others. */
const SEED = 20_240_607;

it(`an image with any damage gives errors with codes and nothing else, in time and in memory (${String(RUNS)} images)`, async () => {
  const ending = await fuzzWatched({ seed: SEED, runs: RUNS, rounds: 1, folder: testDirectory() });
  expect(
    ending.kind === 'failed'
      ? `seed ${String(ending.seed)}, path ${ending.path}: ${ending.text}`
      : 'no failure',
  ).toBe('no failure');
  expect(ending).toMatchObject({ images: RUNS });
});

describe('the watchdog', () => {
  const traps = [
    ['never ends', 'loop', 'not done with the image'],
    ['fills the heap', 'heap', 'MiB of heap'],
    ['takes memory beside the heap', 'bytes', 'the process has grown'],
  ] as const;

  it.each(traps)('names an image that %s by seed and path, and ends it', async (_, kind, words) => {
    const folder = testDirectory();
    const order = { seed: SEED, runs: 100, rounds: 1, trap: { index: 7, kind }, folder };
    const ending = await fuzzWatched(order, kind === 'loop' ? { imageMaxMs: 2000 } : {});
    expect(ending).toMatchObject({ kind: 'failed', seed: SEED, path: '7' });
    expect(ending).toHaveProperty('text', expect.stringContaining(words));
    expect(readdirSync(folder)).toEqual([`seed-${String(SEED)}-path-7.img`]);
  });
});
