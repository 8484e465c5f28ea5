/**
 * The fuzzer in a worker, under a watchdog: an image that hangs the code it is tried on, or that
 * takes all memory, is named by its seed and path like any other failure, and the worker ended.
 *
 * Invariants: time and memory are measured from outside while the image is being tested, never
 * reported by the worker; the image is in a file before it is tried.
 */

import { mkdtempSync, renameSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';

import { placeOf, STATE_BYTES, UNDER_WAY, type FuzzEnding, type WorkerOrder } from './fuzz-order.ts';

/**
 * Each command on an image may take 3 s of CPU, and a dozen are tried: what takes longer than all
 * of them never ends.
 */
const IMAGE_MAX_MS = 60_000;
/** MiB of the worker's heap: V8 ends a worker that needs more. */
const HEAP_MAX_MIB = 256;
/** MiB that the whole process may grow by, which bytes outside of the heap count in. */
const GROWTH_MAX_MIB = 768;
const LOOK_EVERY_MS = 100;
const MIB = 1024 * 1024;

export interface WatchdogBounds {
  readonly imageMaxMs?: number;
}

/** Runs rounds of images until the order is done, one fails, or one has to be ended. */
export async function fuzzWatched(
  order: Omit<WorkerOrder, 'state' | 'scratch'>,
  bounds: WatchdogBounds = {},
): Promise<FuzzEnding> {
  const { imageMaxMs = IMAGE_MAX_MS } = bounds;
  const state = new SharedArrayBuffer(STATE_BYTES);
  const scratch = mkdtempSync(join(tmpdir(), 'qcow2-bench-fuzz-'));
  const worker = new Worker(new URL('fuzz-worker.ts', import.meta.url), {
    workerData: { ...order, scratch, state } satisfies WorkerOrder,
    resourceLimits: { maxOldGenerationSizeMb: HEAP_MAX_MIB },
  });
  const rssBefore = process.memoryUsage.rss();
  const { promise, resolve, reject } = Promise.withResolvers<FuzzEnding>();
  const endedAt = (why: string): FuzzEnding => {
    const { seed, path } = placeOf(state);
    const file = join(order.folder, `seed-${String(seed)}-path-${path.replaceAll(':', '-')}.img`);
    renameSync(join(order.folder, UNDER_WAY), file);
    return { kind: 'failed', seed, path, text: why, file };
  };
  const watchdog = setInterval(() => {
    const { startedMs } = placeOf(state);
    const grownMib = (process.memoryUsage.rss() - rssBefore) / MIB;
    if (grownMib > GROWTH_MAX_MIB) {
      resolve(
        endedAt(`the process has grown by ${grownMib.toFixed(0)} MiB; ${String(GROWTH_MAX_MIB)} are allowed`),
      );
    } else if (startedMs !== 0 && Date.now() - startedMs > imageMaxMs) {
      resolve(endedAt(`not done with the image after ${String(imageMaxMs / 1000)} s`));
    }
  }, LOOK_EVERY_MS);
  worker.once('message', (ending: FuzzEnding) => resolve(ending));
  worker.once('error', (error: NodeJS.ErrnoException) => {
    if (error.code === 'ERR_WORKER_OUT_OF_MEMORY') {
      resolve(endedAt(`more than ${String(HEAP_MAX_MIB)} MiB of heap`));
    } else {
      reject(error);
    }
  });
  try {
    return await promise;
  } finally {
    clearInterval(watchdog);
    await worker.terminate();
    rmSync(scratch, { recursive: true, force: true });
  }
}
