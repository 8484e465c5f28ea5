/**
 * The fuzzer as a program, for as long as asked: `npm run fuzz -- --minutes N [--seed S [--path P]]`.
 *
 * Each round has a seed of its own, counted up from the first, and 500 images. A failure ends the run with exit code 1: its
 * image is saved, with the mutations that made it and the words that repeat it. The image under way is saved too, so that
 * one that ends the process is not lost.
 */

import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';

import { failureText, Fuzzer, type DamagedImage } from './fuzzer.ts';
import { QemuOpinion } from './qemu-opinion.ts';

const ROUND = 500;
const FOLDER = join('results', 'fuzz');
const UNDER_WAY = join(FOLDER, 'under-way.img');

const { values } = parseArgs({
  options: {
    minutes: { type: 'string', default: '1' },
    seed: { type: 'string', default: String(Date.now() % 1_000_000_000) },
    path: { type: 'string' },
  },
});
const minutes = Number(values.minutes);
const first = Number(values.seed);
if (!(minutes > 0) || !Number.isSafeInteger(first)) {
  process.stderr.write('usage: npm run fuzz -- --minutes N [--seed S [--path P]]\n');
  process.exit(2);
}
process.exitCode = await fuzz();

async function fuzz(): Promise<number> {
  say(`damaged images for ${String(minutes)} minutes, from seed ${String(first)} on`);
  mkdirSync(FOLDER, { recursive: true });
  using opinion = QemuOpinion.make();
  if (opinion === undefined) say('qemu-img is not there: nothing is held against it');
  const fuzzer = await Fuzzer.make();
  const startMs = performance.now();
  const endMs = startMs + minutes * 60_000;
  let images = 0;
  for (let seed = first; performance.now() < endMs; seed++) {
    const failure = await fuzzer.run({
      seed,
      runs: ROUND,
      path: values.path,
      stopAt: endMs,
      onImage: ({ bytes }) => {
        images++;
        writeFileSync(UNDER_WAY, bytes);
      },
      judge: (image, verdict) => opinion?.hold(image, verdict) ?? Promise.resolve(),
    });
    if (failure !== undefined) {
      const path = save(failure.image, `seed-${String(failure.seed)}`);
      say(failureText(failure));
      say(`saved as ${path}`);
      say(`again: npm run fuzz -- --seed ${String(failure.seed)} --path ${failure.path}`);
      return 1;
    }
    if (values.path !== undefined) {
      say('nothing fails there any more');
      return 0;
    }
  }
  rmSync(UNDER_WAY, { force: true });
  const seconds = (performance.now() - startMs) / 1000;
  const { maxRSS } = process.resourceUsage();
  say(
    `${String(images)} images in ${seconds.toFixed(0)} s, ${(images / seconds).toFixed(0)} a second, ` +
      `${String(opinion?.asked ?? 0)} held against qemu-img; at most ${(maxRSS / 1024).toFixed(0)} MiB of memory; no failure`,
  );
  return 0;
}

/** The image and its files as the fuzzer laid them out, and what was done to it. */
function save({ base, bytes, what }: DamagedImage, name: string): string {
  const folder = join(FOLDER, name);
  mkdirSync(join(folder, 'vm'), { recursive: true });
  for (const [file, content] of base.beside) writeFileSync(join(folder, file), content);
  const path = join(folder, 'vm', 'disk');
  writeFileSync(path, bytes);
  writeFileSync(join(folder, 'mutations.txt'), `${base.name}\n${what.join('\n')}\n`);
  return path;
}

function say(line: string): void {
  process.stdout.write(`${line}\n`);
}
