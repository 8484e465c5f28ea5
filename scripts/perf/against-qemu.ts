/**
 * The builtin engine against `qemu-img bench` on the same file system, in pairs that alternate who
 * goes first. Both times are those of the requests alone: QEMU's by its own report, ours between
 * first and last request.
 */

import { rmSync } from 'node:fs';
import { join } from 'node:path';

import { Payload } from '../../src/bench/payload.ts';
import { runRequests } from '../../src/bench/runner.ts';
import { openStack } from '../../src/bench/stack.ts';
import { Qcow2BenchError } from '../../src/core/error.ts';
import { probeCapabilities } from '../../src/device/capabilities.ts';
import { FileStorage } from '../../src/device/file-storage.ts';
import { HostTimes, Stopwatch } from '../../src/device/stopwatch.ts';
import { CACHE_MODE_RULES, CACHE_MODES, type CacheMode } from '../../src/format/cache-mode.ts';
import { createWithQemuImg } from '../../src/peer/qemu-tools.ts';
import { runProgram } from '../../src/peer/run-program.ts';
import { measureOf, type Measure } from './measure.ts';
import { STRIDE_BYTES, strideWrites, VARIANTS, WRITE_BYTES, type Variant } from './variants.ts';

/** Few where each request waits for the disk. */
const REQUESTS = { synced: 150, buffered: 1500 } as const;
const NS_PER_US = 1000;
const SHARE_MAX = { synced: 5, buffered: 25 } as const;

export interface Comparison {
  readonly directory: string;
  readonly qemuImg: string;
  /** Counted pairs; one more before them warms up. */
  readonly pairs: number;
  readonly queueDepth: number;
  readonly tell: (text: string) => void;
}

interface Cell extends Comparison {
  readonly variant: Variant;
  readonly cache: CacheMode;
  readonly requests: number;
}

/** All cells, with the geometric mean over them at the end. */
export async function againstQemu(comparison: Comparison): Promise<readonly Measure[]> {
  const { pairs, queueDepth, tell } = comparison;
  const measures: Measure[] = [];
  const logs = new Array<number>(pairs).fill(0);
  let cells = 0;
  for (const cache of CACHE_MODES) {
    for (const variant of VARIANTS) {
      const isSynced = CACHE_MODE_RULES[cache].flushAfterWrite;
      const kind = isSynced ? 'synced' : 'buffered';
      const cell = { ...comparison, variant, cache, requests: REQUESTS[kind] };
      const name = `${variant.name}, ${cache}, depth ${String(queueDepth)}`;
      tell(`against QEMU: ${name}`);
      const { ours, theirs, native } = await samplePairs(cell);
      const ratios = theirs.map((time, index) => time / (ours[index] ?? NaN));
      for (const [index, ratio] of ratios.entries()) logs[index] = (logs[index] ?? 0) + Math.log(ratio);
      cells++;
      const value = leastRatio(variant, cache);
      measures.push(
        measureOf(ratios, {
          name: `QEMU's time ÷ ours: ${name}`,
          unit: '×',
          target: queueDepth === 1 ? { at: 'least', value } : undefined,
          note: `ours ${micros(ours)}, QEMU ${micros(theirs)}${native.length > 0 ? `, -i native ${micros(native)}` : ''}`,
        }),
      );
      if (queueDepth === 1 && (cache === 'writethrough' || cache === 'writeback')) {
        const shares: number[] = [];
        for (let pass = -1; pass < pairs; pass++) shares.push(await harnessShare(cell));
        measures.push(
          measureOf(shares.slice(1), {
            name: `Harness and engine, share of the time: ${name}`,
            unit: '%',
            target: { at: 'most', value: SHARE_MAX[kind] },
            note: 'time outside host operations, including the clock reads around each',
          }),
        );
      }
    }
  }
  const means = logs.map((sum) => Math.exp(sum / cells));
  const target = { at: 'least', value: queueDepth === 1 ? 2 : 1 } as const;
  const name = `QEMU's time ÷ ours: geometric mean of ${String(cells)} cells, depth ${String(queueDepth)}`;
  return [...measures, measureOf(means, { name, unit: '×', target })];
}

function leastRatio({ format }: Variant, cache: CacheMode): number {
  if (cache !== 'writeback' && cache !== 'unsafe') return 1;
  // Most of a QED write is the zeroes around it, which take both the same.
  return format === 'qed' ? 2 : 3;
}

async function samplePairs(cell: Cell): Promise<{
  readonly ours: readonly number[];
  readonly theirs: readonly number[];
  readonly native: readonly number[];
}> {
  const ours: number[] = [];
  const theirs: number[] = [];
  const native: number[] = [];
  const isDirect = CACHE_MODE_RULES[cell.cache].direct;
  for (let pair = -1; pair < cell.pairs; pair++) {
    const sides = [
      async (): Promise<void> => void ours.push(await timeOurs(cell)),
      async (): Promise<void> => void theirs.push(await timeQemu(cell, [])),
    ];
    for (const side of pair % 2 === 0 ? sides : sides.toReversed()) await side();
    // Told beside, and not paired: three samples do.
    if (isDirect && pair >= 0 && pair < 3) native.push(await timeQemu(cell, ['-i', 'native']));
  }
  return { ours: ours.slice(1), theirs: theirs.slice(1), native };
}

/** Microseconds a request. */
async function timeOurs(cell: Cell): Promise<number> {
  const { elapsedNs } = await serve(cell);
  return elapsedNs / NS_PER_US / cell.requests;
}

/** Percent of a pass's time that no host operation takes. */
async function harnessShare(cell: Cell): Promise<number> {
  const { elapsedNs, hostNs } = await serve(cell, new HostTimes());
  return (100 * (elapsedNs - hostNs)) / elapsedNs;
}

/**
 * Serves the cell's requests; answers the nanoseconds from the first to the last, and what of them
 * `times` caught.
 */
async function serve(
  cell: Cell,
  times?: HostTimes,
): Promise<{ readonly elapsedNs: number; readonly hostNs: number }> {
  const { directory, variant, cache, requests, queueDepth } = cell;
  const imageName = await freshImage(cell);
  const batches = [...strideWrites(requests)];
  await using stack = await openStack({
    storage: new FileStorage(directory, probeCapabilities(directory)),
    imageName,
    format: variant.format,
    cache,
    metered: false,
    overlap: queueDepth > 1,
    wrap: (device) => (times === undefined ? device : new Stopwatch(device, times, nowNs)),
  });
  const payload = new Payload('pattern', 0);
  times?.reset();
  const began = nowNs();
  await runRequests({ backend: stack.backend, batches, queueDepth, payload });
  const elapsedNs = nowNs() - began;
  // Before the close, whose operations are no request's.
  const hostNs = times === undefined ? 0 : times.dataNs + times.metadataNs + times.syncNs;
  await stack.close();
  return { elapsedNs, hostNs };
}

async function timeQemu(cell: Cell, options: readonly string[]): Promise<number> {
  const { directory, qemuImg, variant, cache, requests, queueDepth } = cell;
  const name = await freshImage(cell);
  const geometry = ['-c', requests, '-d', queueDepth, '-s', WRITE_BYTES, '-S', STRIDE_BYTES].map(String);
  const image = join(directory, name);
  const args = ['bench', '-w', '-t', cache, ...options, '-f', variant.format, ...geometry, image];
  const { stdout, stderr, exitCode } = await runProgram(qemuImg, args);
  const [, seconds] = /Run completed in ([\d.]+) seconds/.exec(stdout) ?? [];
  if (exitCode !== 0 || seconds === undefined) {
    throw new Qcow2BenchError('peer-failed', `qemu-img bench failed: ${stderr.trim()}`, { path: name });
  }
  return (Number(seconds) * 1e6) / requests;
}

/** Both sides start from an image that qemu-img made. */
async function freshImage({ directory, variant, requests }: Cell): Promise<string> {
  const { format, refcounts } = variant;
  const name = 'image';
  rmSync(join(directory, name), { force: true });
  const options = refcounts === undefined ? {} : { lazy_refcounts: refcounts === 'lazy' ? 'on' : 'off' };
  await createWithQemuImg(join(directory, name), { format, size: requests * STRIDE_BYTES, options });
  return name;
}

function nowNs(): number {
  return performance.now() * 1e6;
}

function micros(values: readonly number[]): string {
  const sorted = values.toSorted((a, b) => a - b);
  return `${(sorted[Math.floor((sorted.length - 1) / 2)] ?? NaN).toFixed(1)} µs`;
}
