/**
 * The worker of the fuzzer: rounds of damaged images, each with a seed of its own, counted up from
 * the first. Before an image is tried, its seed, its path and the time are in memory that the
 * watchdog reads, and its bytes in a file.
 */

import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parentPort, workerData } from 'node:worker_threads';

import { begin, finish, UNDER_WAY, type FuzzEnding, type WorkerOrder } from './fuzz-order.ts';
import { failureText, Fuzzer, type DamagedImage } from './fuzzer.ts';
import { QemuOpinion } from './qemu-opinion.ts';

if (parentPort !== null) parentPort.postMessage(await work(workerData as WorkerOrder));

async function work(order: WorkerOrder): Promise<FuzzEnding> {
  const { runs, rounds, forMs = Infinity, path, folder } = order;
  const stopAt = performance.now() + forMs;
  mkdirSync(folder, { recursive: true });
  const opinion = QemuOpinion.make(order.scratch);
  const fuzzer = await Fuzzer.make(order.format);
  let images = 0;
  for (let seed = order.seed; seed < order.seed + rounds && performance.now() < stopAt; seed++) {
    const failure = await fuzzer.run({
      seed,
      runs,
      path,
      stopAt,
      onImage: ({ bytes }, index) => {
        images++;
        writeFileSync(join(folder, UNDER_WAY), bytes);
        begin(order.state, { seed, index });
        if (index === order.trap?.index) spring(order.trap.kind);
      },
      judge: (image, verdict) => opinion?.hold(image, verdict) ?? Promise.resolve(),
    });
    finish(order.state);
    if (failure !== undefined) {
      const file = save(folder, failure.image, `seed-${String(failure.seed)}`);
      return { kind: 'failed', seed: failure.seed, path: failure.path, text: failureText(failure), file };
    }
    if (path !== undefined) break;
  }
  rmSync(join(folder, UNDER_WAY), { force: true });
  return { kind: 'done', images, asked: opinion?.asked ?? 0 };
}

function spring(kind: 'loop' | 'heap' | 'bytes'): never {
  const bytes: Uint8Array[] = [];
  // Small objects: to make an array of a hundred MiB larger can end the whole process, not only its
  // worker.
  let chain: object = {};
  for (;;) {
    if (kind === 'heap') chain = { chain };
    if (kind === 'bytes') bytes.push(new Uint8Array(2 ** 20).fill(1));
  }
}

/** The image and its files as the fuzzer laid them out, and what was done to it. */
function save(parent: string, { base, bytes, what }: DamagedImage, name: string): string {
  const folder = join(parent, name);
  mkdirSync(join(folder, 'vm'), { recursive: true });
  for (const [file, content] of base.beside) writeFileSync(join(folder, file), content);
  const path = join(folder, 'vm', 'disk');
  writeFileSync(path, bytes);
  writeFileSync(join(folder, 'mutations.txt'), `${base.name}\n${what.join('\n')}\n`);
  return path;
}
