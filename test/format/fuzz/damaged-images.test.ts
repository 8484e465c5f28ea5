/** Any damage of a good image: the promises of `promises.ts`, for as many images as fit a usual run of the tests. */

import { expect, it } from 'vitest';

import { failureText, Fuzzer, type FuzzOptions } from './fuzzer.ts';
import { QemuOpinion } from './qemu-opinion.ts';

const RUNS = 2000;
/** Fixed, so that a run of the tests repeats; `npm run fuzz` takes others. */
const SEED = 20_240_607;
/** More than the program has before it begins; what is not used any more goes only now and then. */
const MEMORY_MAX_KIB = 600 * 1024;

it(
  `an image with any damage gives errors with codes and nothing else (${String(RUNS)} images)`,
  { timeout: 300_000 },
  async () => {
    using opinion = QemuOpinion.make();
    const fuzzer = await Fuzzer.make();
    const judge: FuzzOptions['judge'] = (image, verdict) =>
      opinion?.hold(image, verdict) ?? Promise.resolve();
    const { maxRSS: before } = process.resourceUsage();
    const failure = await fuzzer.run({ seed: SEED, runs: RUNS, judge });
    expect(failure === undefined ? 'no failure' : failureText(failure)).toBe('no failure');
    expect(process.resourceUsage().maxRSS - before, 'KiB of memory').toBeLessThan(MEMORY_MAX_KIB);
  },
);
