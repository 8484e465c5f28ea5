/**
 * Is the harness faster than what it measures? Times the builtin engine and `qemu-img bench` side by side: the same
 * allocating writes, the same directory, queue depth 1, in pairs that alternate who goes first.
 *
 *   npm run --silent perf -- [--dir DIR] [--cache writeback,writethrough,…] [--requests N] [--pairs N]
 *
 * Both times are those of the requests alone: QEMU's by its own report, ours between first and last request. A ratio
 * above 1 means that QEMU takes longer; the figure is the median over the pairs, with the range in brackets.
 */

import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';

import { runRequests } from '../src/bench/runner.ts';
import { openStack } from '../src/bench/stack.ts';
import { Payload } from '../src/bench/payload.ts';
import { Qcow2BenchError } from '../src/core/error.ts';
import { probeCapabilities } from '../src/device/capabilities.ts';
import { FileStorage } from '../src/device/file-storage.ts';
import { CACHE_MODES, type CacheMode } from '../src/format/cache-mode.ts';
import type { Format } from '../src/format/disk-image.ts';
import type { RefcountMode } from '../src/format/image-options.ts';
import { createWithQemuImg, findQemuTools } from '../src/peer/qemu-tools.ts';
import { runProgram } from '../src/peer/run-program.ts';
import { spreadOf } from '../src/result/statistics.ts';
import type { Request } from '../src/workload/request.ts';

interface Variant {
  readonly name: string;
  readonly format: Format;
  readonly refcounts: RefcountMode | undefined;
}

const VARIANTS: readonly Variant[] = [
  { name: 'raw', format: 'raw', refcounts: undefined },
  { name: 'qcow2 eager', format: 'qcow2', refcounts: 'eager' },
  { name: 'qcow2 lazy', format: 'qcow2', refcounts: 'lazy' },
  { name: 'QED', format: 'qed', refcounts: undefined },
];
const WRITE_BYTES = 4096;
const STRIDE_BYTES = 65_536;

interface Comparison {
  readonly directory: string;
  readonly qemuImg: string;
  readonly variant: Variant;
  readonly cache: CacheMode;
  readonly requestCount: number;
}

await main();

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      dir: { type: 'string', default: tmpdir() },
      cache: { type: 'string', default: 'writeback' },
      requests: { type: 'string', default: '4000' },
      pairs: { type: 'string', default: '9' },
    },
  });
  const requestCount = wholeNumber('--requests', values.requests);
  const pairCount = wholeNumber('--pairs', values.pairs);
  const caches = values.cache.split(',').map(cacheMode);
  const tools = await findQemuTools();
  const directory = mkdtempSync(join(values.dir, 'qcow2-bench-perf-'));
  try {
    const { fileSystem } = probeCapabilities(directory);
    print(
      `${String(requestCount)} writes of 4 KiB at stride 64 KiB, depth 1, ${String(pairCount)} pairs, ${fileSystem}`,
    );
    print(
      `${'format'.padEnd(12)}${'cache'.padEnd(14)}${'qcow2-bench'.padStart(12)}${'QEMU'.padStart(10)}   QEMU ÷ ours`,
    );
    for (const cache of caches) {
      for (const variant of VARIANTS) {
        const comparison = { directory, qemuImg: tools.qemuImg, variant, cache, requestCount };
        print(await comparePairs(comparison, pairCount));
      }
    }
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

/** One line of the table; times are microseconds a request. */
async function comparePairs(comparison: Comparison, pairCount: number): Promise<string> {
  const ours: number[] = [];
  const theirs: number[] = [];
  // The first pair warms up code and caches and is not counted.
  for (let pair = -1; pair < pairCount; pair++) {
    const sides = [
      async (): Promise<void> => void ours.push(await timeOurs(comparison)),
      async (): Promise<void> => void theirs.push(await timeQemu(comparison)),
    ];
    for (const side of pair % 2 === 0 ? sides : sides.toReversed()) await side();
  }
  const ratios = theirs.map((time, index) => time / (ours[index] ?? NaN)).slice(1);
  const ratio = spreadOf(ratios);
  const median = (times: readonly number[]): string => (spreadOf(times.slice(1))?.median ?? NaN).toFixed(1);
  return (
    comparison.variant.name.padEnd(12) +
    comparison.cache.padEnd(14) +
    `${median(ours)} µs`.padStart(12) +
    `${median(theirs)} µs`.padStart(10) +
    (ratio === undefined
      ? ''
      : `   ${ratio.median.toFixed(2)} [${ratio.min.toFixed(2)} … ${ratio.max.toFixed(2)}]`)
  );
}

async function timeOurs({ directory, variant, cache, requestCount }: Comparison): Promise<number> {
  const name = await freshImage(directory, variant, requestCount);
  const requests = Array.from({ length: requestCount }, (_, index): Request => {
    return {
      op: 'write',
      offset: index * STRIDE_BYTES,
      length: WRITE_BYTES,
      fua: false,
      unmap: false,
      timeNs: 0,
    };
  });
  await using stack = await openStack({
    storage: new FileStorage(directory, probeCapabilities(directory)),
    imageName: name,
    format: variant.format,
    cache,
    metered: false,
  });
  const payload = new Payload('pattern', 0);
  const begin = performance.now();
  await runRequests({ backend: stack.backend, batches: [requests], queueDepth: 1, payload });
  const elapsedMs = performance.now() - begin;
  await stack.close();
  return (elapsedMs * 1000) / requestCount;
}

async function timeQemu({ directory, qemuImg, variant, cache, requestCount }: Comparison): Promise<number> {
  const name = await freshImage(directory, variant, requestCount);
  const geometry = ['-c', requestCount, '-d', 1, '-s', WRITE_BYTES, '-S', STRIDE_BYTES].map(String);
  const args = ['bench', '-w', '-t', cache, '-f', variant.format, ...geometry, join(directory, name)];
  const { stdout, stderr, exitCode } = await runProgram(qemuImg, args);
  const [, seconds] = /Run completed in ([\d.]+) seconds/.exec(stdout) ?? [];
  if (exitCode !== 0 || seconds === undefined) {
    throw new Qcow2BenchError('peer-failed', `qemu-img bench failed: ${stderr.trim()}`, { path: name });
  }
  return (Number(seconds) * 1e6) / requestCount;
}

/** Both sides start from an image that qemu-img made. */
async function freshImage(
  directory: string,
  { format, refcounts }: Variant,
  requestCount: number,
): Promise<string> {
  const name = 'image';
  if (existsSync(join(directory, name))) rmSync(join(directory, name));
  const options = refcounts === undefined ? {} : { lazy_refcounts: refcounts === 'lazy' ? 'on' : 'off' };
  await createWithQemuImg(join(directory, name), { format, size: requestCount * STRIDE_BYTES, options });
  return name;
}

function wholeNumber(option: string, text: string): number {
  const value = Number(text);
  if (Number.isSafeInteger(value) && value > 0) return value;
  throw new Qcow2BenchError('usage', `${option} takes a whole number above 0, not '${text}'`);
}

function cacheMode(name: string): CacheMode {
  const mode = CACHE_MODES.find((known) => known === name);
  if (mode !== undefined) return mode;
  throw new Qcow2BenchError('usage', `--cache takes ${CACHE_MODES.join(', ')}, not '${name}'`);
}

function print(line: string): void {
  process.stdout.write(`${line}\n`);
}
