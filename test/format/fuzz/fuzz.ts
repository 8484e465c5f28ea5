/**
 * The fuzzer as a program, for as long as asked: `npm run fuzz -- --minutes N [--format F] [--seed S
 * [--path P]]`.
 *
 * Each round has a seed of its own, counted up from the first, and 500 images. A failure ends the
 * run with exit code 1: its image is saved, and the words are reported that repeat it. An image
 * that never ends, or takes all memory, is a failure.
 */

import { join } from 'node:path';
import { parseArgs } from 'node:util';

import { reasonToSkip } from '../system-tools.ts';
import { BASE_FORMATS } from './base-images.ts';
import { fuzzWatched } from './watched-fuzzer.ts';

const ROUND = 500;
const FOLDER = join('results', 'fuzz');

const { values } = parseArgs({
  options: {
    minutes: { type: 'string', default: '1' },
    format: { type: 'string' },
    seed: { type: 'string', default: String(Date.now() % 1_000_000_000) },
    path: { type: 'string' },
  },
});
const minutes = Number(values.minutes);
const first = Number(values.seed);
const format = BASE_FORMATS.find((each) => each === values.format);
if (!(minutes > 0) || !Number.isSafeInteger(first) || format !== values.format) {
  const formats = BASE_FORMATS.join('|');
  process.stderr.write(`usage: npm run fuzz -- --minutes N [--format ${formats}] [--seed S [--path P]]\n`);
  process.exit(2);
}
process.exitCode = await fuzz();

async function fuzz(): Promise<number> {
  say(`damaged images for ${String(minutes)} minutes, from seed ${String(first)} on`);
  const noQemu = reasonToSkip('qemu-img');
  if (noQemu !== undefined) say(`nothing is held against qemu-img: ${noQemu}`);
  const startMs = performance.now();
  const ending = await fuzzWatched({
    seed: first,
    runs: ROUND,
    rounds: Infinity,
    forMs: minutes * 60_000,
    path: values.path,
    format,
    folder: FOLDER,
  });
  if (ending.kind === 'failed') {
    const { seed, path, text, file } = ending;
    say(`seed ${String(seed)}, path ${path}: ${text}`);
    say(`saved as ${file}`);
    const of = format === undefined ? '' : ` --format ${format}`;
    say(`again: npm run fuzz --${of} --seed ${String(seed)} --path ${path}`);
    return 1;
  }
  if (values.path !== undefined) {
    say('nothing fails there any more');
    return 0;
  }
  const seconds = (performance.now() - startMs) / 1000;
  const { images, asked } = ending;
  const { maxRSS } = process.resourceUsage();
  say(
    `${String(images)} images in ${seconds.toFixed(0)} s, ${(images / seconds).toFixed(0)} a second, ` +
      `${String(asked)} held against qemu-img; at most ${(maxRSS / 1024).toFixed(0)} MiB of memory; no failure`,
  );
  return 0;
}

function say(line: string): void {
  process.stdout.write(`${line}\n`);
}
