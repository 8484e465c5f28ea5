/**
 * One list of guest steps, compressed writes among them, served by a real QEMU and by our engine on
 * copies of the same image, and what differs: host operations in order, and the bytes in the end.
 *
 * Where the other parity suites write bytes that are all alike, here it matters how well they pack:
 * a step says what it carries.
 */

import { copyFileSync, readFileSync, writeFileSync } from 'node:fs';
import { constants } from 'node:os';
import { join } from 'node:path';
import { expect } from 'vitest';
import type { Stack } from '../../src/bench/stack.ts';
import { Random } from '../../src/core/random.ts';
import { probeCapabilities } from '../../src/device/capabilities.ts';
import { FileStorage } from '../../src/device/file-storage.ts';
import type { CacheMode } from '../../src/format/cache-mode.ts';
import type { Comparison } from '../../src/peer/compare-operations.ts';
import { findQemuTools } from '../../src/peer/qemu-tools.ts';
import { MARK_SIGNAL, traceProgram, type SlowedCall } from '../../src/peer/strace.ts';
import { judgeRuns, type TaggedRecord } from '../../src/peer/varying-order.ts';
import { expectSameBytes, expectSameOperations } from '../format/expect-same.ts';
import { runTool } from '../format/system-tools.ts';
import { openPeerStack } from './peer-stack.ts';

/**
 * What a write carries: one byte throughout, text that packs well, or noise that does not pack at
 * all.
 */
export type Fill = number | 'text' | 'noise';

export interface Step {
  readonly op: 'read' | 'write' | 'write-compressed' | 'write-zeroes' | 'discard' | 'flush';
  readonly offset?: number;
  readonly length?: number;
  readonly fill?: Fill;
  readonly fua?: boolean;
  readonly unmap?: boolean;
}

export interface ParityRun {
  /** Bytes of the disk. */
  readonly size: number;
  /** As `qemu-img create -o` takes them. */
  readonly create: Readonly<Record<string, string>>;
  readonly cache: CacheMode;
  readonly steps: readonly Step[];
}

/** What both did: paths of the two images, and the operations. */
export interface BothRuns {
  readonly theirs: string;
  readonly ours: string;
  readonly comparison: Comparison;
}

/** Serves the steps with both and expects no difference; says `what` in a failure. */
export async function expectParity(directory: string, run: ParityRun, what: string): Promise<void> {
  const { theirs, ours, comparison } = await serveWithBoth(directory, run);
  expectSameOperations(comparison, what);
  expectSameBytes(readFileSync(ours), readFileSync(theirs), what);
}

export async function serveWithBoth(directory: string, run: ParityRun): Promise<BothRuns> {
  const place = new Place(directory);
  create(place, run);
  copyFileSync(place.theirs, place.ours);
  const before = `${place.theirs}.before`;
  copyFileSync(place.theirs, before);
  const { comparison } = await judgeRuns(await serveByUs(place, run), (slowed) => {
    copyFileSync(before, place.theirs);
    return serveByQemu(place, run, slowed);
  });
  return { theirs: place.theirs, ours: place.ours, comparison };
}

/** The files of one comparison. */
class Place {
  readonly directory: string;
  readonly theirs: string;
  readonly ours: string;

  constructor(directory: string) {
    this.directory = directory;
    this.theirs = join(directory, 'theirs');
    this.ours = join(directory, 'ours');
    for (const kind of ['text', 'noise'] as const) writeFileSync(this.pattern(kind), PATTERNS[kind]);
  }

  /** A file that `qemu-io` repeats to fill a write. */
  pattern(kind: 'text' | 'noise'): string {
    return join(this.directory, kind);
  }
}

const PATTERN_BYTES = 300_000;
const PATTERNS = { text: textBytes(), noise: noiseBytes() };

function textBytes(): Buffer {
  const random = new Random(7);
  const words = ['alpha', 'beta', 'gamma', 'delta\n', '0x0012', '    '];
  let text = '';
  while (text.length < PATTERN_BYTES) text += `${words[random.below(words.length)] ?? ''} `;
  return Buffer.from(text.slice(0, PATTERN_BYTES));
}

function noiseBytes(): Buffer {
  const random = new Random(8);
  return Buffer.from(Array.from({ length: PATTERN_BYTES }, () => random.below(256)));
}

function create(place: Place, { size, create: options }: ParityRun): void {
  const settings = Object.entries(options).flatMap(([name, value]) => ['-o', `${name}=${value}`]);
  runTool('qemu-img', ['create', '-q', '-f', 'qcow2', ...settings, place.theirs, String(size)]);
}

async function serveByQemu(place: Place, { cache, steps }: ParityRun, slowed: SlowedCall | undefined) {
  const tools = await findQemuTools();
  const mark = `sigraise ${String(constants.signals[MARK_SIGNAL])}\n`;
  const commands = steps.map((step) => `${mark}${command(place, step)}\n`);
  const { operations, outcome } = await traceProgram({
    strace: tools.strace,
    command: tools.qemuIo,
    args: ['-t', cache, '-d', 'unmap', '-f', 'qcow2', place.theirs],
    input: `${commands.join('')}${mark}quit\n`,
    files: { image: place.theirs },
    requests: steps.length,
    slowed,
  });
  expect(outcome.stdout).not.toContain('failed');
  return operations;
}

function command(place: Place, step: Step): string {
  const { offset = 0, length = 0, fill = 0 } = step;
  const range = `${String(offset)} ${String(length)}`;
  const fua = step.fua === true ? ' -f' : '';
  const payload = typeof fill === 'number' ? `-P ${String(fill)}` : `-s ${place.pattern(fill)}`;
  switch (step.op) {
    case 'read':
      return `read -q ${range}`;
    case 'write':
      return `write -q${fua} ${payload} ${range}`;
    case 'write-compressed':
      return `write -q -c ${payload} ${range}`;
    case 'write-zeroes':
      return `write -q -z${fua}${step.unmap === true ? ' -u' : ''} ${range}`;
    case 'discard':
      return `discard -q ${range}`;
    case 'flush':
      return 'flush';
  }
}

async function serveByUs(place: Place, run: ParityRun): Promise<readonly TaggedRecord[]> {
  const log: TaggedRecord[] = [];
  let request: number | undefined;
  const storage = new FileStorage(place.directory, probeCapabilities(place.directory));
  await using stack = await openPeerStack({
    storage,
    imageName: 'ours',
    format: 'qcow2',
    cache: run.cache,
    hostLog: (record) => log.push({ ...record, request }),
  });
  for (const [index, step] of run.steps.entries()) {
    request = index;
    await serve(stack, step);
  }
  request = undefined;
  await stack.close();
  return log;
}

async function serve({ backend }: Stack, step: Step): Promise<void> {
  const { offset = 0, length = 0, fua = false, unmap = false } = step;
  switch (step.op) {
    case 'read':
      await backend.read(offset, new Uint8Array(length));
      return;
    case 'write':
      await backend.write(offset, payloadOf(step), { fua });
      return;
    case 'write-compressed':
      await backend.image.writeCompressed?.(offset, payloadOf(step));
      return;
    case 'write-zeroes':
      await backend.writeZeroes(offset, length, { fua, unmap });
      return;
    case 'discard':
      await backend.discard(offset, length);
      return;
    case 'flush':
      await backend.flush();
  }
}

function payloadOf({ length = 0, fill = 0 }: Step): Uint8Array {
  const bytes = new Uint8Array(length);
  if (typeof fill === 'number') return bytes.fill(fill);
  const pattern = PATTERNS[fill];
  for (let at = 0; at < length; at += pattern.byteLength) {
    bytes.set(pattern.subarray(0, Math.min(pattern.byteLength, length - at)), at);
  }
  return bytes;
}
