/**
 * Makes large traces to measure and test the readers with, of the formats that are written and of
 * some that are only read. The same seed gives the same bytes; nothing but a buffer is held.
 *
 *   node scripts/large-traces.ts FORMAT FILE [--requests 10000000] [--seed 1]
 */

import { createWriteStream } from 'node:fs';
import { once } from 'node:events';
import { finished } from 'node:stream/promises';
import { parseArgs } from 'node:util';

import { Qcow2BenchError } from '../src/core/error.ts';
import { Random } from '../src/core/random.ts';
import type { Request, RequestOp } from '../src/workload/request.ts';
import { WRITABLE_FORMATS, type WritableFormat } from '../src/workload/trace/trace-encoder.ts';
import { writeTrace } from '../src/workload/trace/trace-writer.ts';

/** Bytes of the recorded device. */
const DEVICE_BYTES = 64 * 1024 ** 3;
/** Where most of the requests go. */
const HOT_BYTES = 4 * 1024 ** 3;
const PAGE = 4096;
/** Lengths are a page, two, four …, and the requests of a sequential run at most so many. */
const LENGTHS = 5;
const LENGTH_MAX = PAGE << (LENGTHS - 1);
const RUN_MAX = 64;
const SECTOR = 512;
/** Characters gathered before they go to the file. */
const BUFFER_CHARACTERS = 1024 * 1024;
/** Where the times of formats with a clock of their own begin: seconds since 1970. */
const EPOCH_S = 1_700_000_000;
/** Requests in flight at most, where a format logs their completion. */
const DEPTH = 32;

/** How one of the formats that are only read spells requests. */
interface Speller {
  readonly ops: readonly RequestOp[];
  /** The text of a request: one line, or several. */
  readonly lines: (request: Request) => string;
  readonly head?: string;
  readonly tail?: () => string;
}

const READS_AND_WRITES = ['read', 'write'] as const;
const SPELLERS = {
  blkparse: blkparseSpeller,
  msr: msrSpeller,
  alibaba: alibabaSpeller,
  'nbdkit-log': nbdkitSpeller,
  'qemu-trace-log': qemuSpeller,
} as const;

export const LARGE_TRACE_FORMATS = [...WRITABLE_FORMATS, ...objectKeys(SPELLERS)] as const;
export type LargeTraceFormat = (typeof LARGE_TRACE_FORMATS)[number];

export interface LargeTrace {
  readonly format: LargeTraceFormat;
  readonly path: string;
  readonly requests: number;
  readonly seed: number;
  /** Called with each request that is written. */
  readonly observe?: ((request: Request) => void) | undefined;
}

/** Writes the file, in place of one that is there. */
export async function writeLargeTrace({ format, path, observe, ...amount }: LargeTrace): Promise<void> {
  if (isWritable(format)) {
    const requests = largeRequests({ ...amount, ops: OPS_OF[format], observe });
    const options = {
      virtualSize: DEVICE_BYTES,
      format,
      count: amount.requests,
      compression: 'none',
    } as const;
    await writeTrace(path, requests, options);
    return;
  }
  const { ops, lines, head = '', tail } = SPELLERS[format]();
  const file = createWriteStream(path);
  let text = head;
  for (const request of largeRequests({ ...amount, ops, observe })) {
    text += lines(request);
    if (text.length < BUFFER_CHARACTERS) continue;
    if (!file.write(text)) await once(file, 'drain');
    text = '';
  }
  file.end(text + (tail?.() ?? ''));
  await finished(file);
}

const OPS_OF: Readonly<Record<WritableFormat, readonly RequestOp[]>> = {
  native: ['read', 'write', 'flush', 'discard', 'write-zeroes'],
  'fio-v2': ['read', 'write', 'flush', 'discard'],
  'fio-v3': ['read', 'write', 'flush', 'discard'],
  'dm-log-writes': ['write', 'flush', 'discard'],
};

/**
 * Requests as a virtual machine makes them: runs of sequential ones between random ones, most of
 * them small; times in microseconds.
 *
 * @param ops those that the requests may have.
 */
function* largeRequests({
  requests: count,
  seed,
  ops,
  observe,
}: Pick<LargeTrace, 'requests' | 'seed' | 'observe'> & {
  readonly ops: readonly RequestOp[];
}): Generator<Request, undefined> {
  const random = new Random(seed);
  const rest = ops.filter((op) => op !== 'read' && op !== 'write');
  const hasReads = ops.includes('read');
  let next = 0;
  let left = 0;
  let timeUs = 0;
  for (let index = 0; index < count; index++) {
    timeUs += random.below(200);
    const timeNs = timeUs * 1000;
    const other = rest.length > 0 && random.chance(0.05) ? rest[random.below(rest.length)] : undefined;
    if (other === 'flush') {
      const flush = { op: 'flush', offset: 0, length: 0, fua: false, unmap: false, timeNs } as const;
      observe?.(flush);
      yield flush;
      continue;
    }
    const length = PAGE << random.below(LENGTHS);
    if (left === 0) {
      left = random.chance(0.3) ? 1 + random.below(RUN_MAX) : 1;
      const bytes = random.chance(0.8) ? HOT_BYTES : DEVICE_BYTES;
      next = PAGE * random.below((bytes - RUN_MAX * LENGTH_MAX) / PAGE);
    }
    const op = other ?? (hasReads && random.chance(0.4) ? 'read' : 'write');
    const request: Request = { op, offset: next, length, fua: false, unmap: false, timeNs };
    observe?.(request);
    yield request;
    next += length;
    left--;
  }
  return undefined;
}

/** As `blkparse` prints what `blktrace -a queue -a issue -a complete` recorded. */
function blkparseSpeller(): Speller {
  let sequence = 0;
  const event = (
    action: 'Q' | 'D' | 'C',
    { op, offset, length, timeNs }: Request,
    delayUs: number,
  ): string => {
    const ns = timeNs + delayUs * 1000;
    const time = `${String(Math.floor(ns / 1e9)).padStart(5)}.${String(ns % 1e9).padStart(9, '0')}`;
    const by = action === 'C' ? '[0]' : '[qemu-system-x86]';
    const rwbs = op === 'flush' ? 'FN' : op === 'read' ? 'R' : op === 'discard' ? 'D' : 'WS';
    const place = op === 'flush' ? '' : `${String(offset / SECTOR)} + ${String(length / SECTOR)} `;
    sequence++;
    return `  8,0  ${String(sequence % 4).padStart(3)} ${String(sequence).padStart(8)} ${time} ${'697'.padStart(5)}  ${action} ${rwbs.padStart(3)} ${place}${by}\n`;
  };
  return {
    ops: ['read', 'write', 'flush', 'discard'],
    lines: (request) =>
      event('Q', request, 0) +
      event('D', request, 1) +
      (request.op === 'flush' ? '' : event('C', request, 2)),
  };
}

function msrSpeller(): Speller {
  const ticks = 128_166_372_000n * 1_000_000n;
  return {
    ops: READS_AND_WRITES,
    lines: ({ op, offset, length, timeNs }) =>
      `${String(ticks + BigInt(timeNs / 100))},hm,0,${op === 'read' ? 'Read' : 'Write'},${String(offset)},${String(length)},${String(1000 + (timeNs % 7919))}\n`,
  };
}

function alibabaSpeller(): Speller {
  return {
    ops: READS_AND_WRITES,
    lines: ({ op, offset, length, timeNs }) =>
      `419,${op === 'read' ? 'R' : 'W'},${String(offset)},${String(length)},${String(EPOCH_S * 1e6 + timeNs / 1000)}\n`,
  };
}

const NBDKIT_NAMES: Readonly<Record<RequestOp, string>> = {
  read: 'Read',
  write: 'Write',
  flush: 'Flush',
  discard: 'Trim',
  'write-zeroes': 'Zero',
};

/** Requests in flight, answered in another order than they were issued. */
function nbdkitSpeller(): Speller {
  const open: { readonly id: number; readonly name: string }[] = [];
  let id = 0;
  let us = 0;
  const time = (): string =>
    `${new Date((EPOCH_S + Math.floor(us / 1e6)) * 1000).toISOString().slice(0, 19).replace('T', ' ')}.${String(us % 1e6).padStart(6, '0')}`;
  const answer = (): string => {
    const [entry] = open.splice((id * 7) % open.length, 1);
    if (entry === undefined) return '';
    return `${time()} connection=1 ...${entry.name} id=${String(entry.id)} return=0\n`;
  };
  return {
    ops: ['read', 'write', 'flush', 'discard', 'write-zeroes'],
    head: `${time()} connection=1 Connect export="" tls=0 size=0x${DEVICE_BYTES.toString(16)} write=1 flush=1 rotational=0 trim=1 zero=2 fua=2 extents=1 cache=2 fast_zero=1\n`,
    lines: ({ op, offset, length, timeNs }) => {
      us = timeNs / 1000;
      const name = NBDKIT_NAMES[op];
      id++;
      open.push({ id, name });
      const place = op === 'flush' ? '' : ` offset=0x${offset.toString(16)} count=0x${length.toString(16)}`;
      const flags =
        op === 'read' || op === 'flush' ? '' : op === 'write-zeroes' ? ' trim=1 fua=0 fast=0' : ' fua=0';
      const issue = `${time()} connection=1 ${name} id=${String(id)}${place}${flags} ...\n`;
      return open.length > id % DEPTH ? issue + answer() : issue;
    },
    tail: () => {
      let text = '';
      while (open.length > 0) text += answer();
      return text;
    },
  };
}

/** As with `-msg timestamp=on`. */
function qemuSpeller(): Speller {
  return {
    ops: ['read', 'write', 'write-zeroes'],
    lines: ({ op, offset, length, timeNs }) => {
      const us = timeNs / 1000;
      const time = `697@${String(EPOCH_S + Math.floor(us / 1e6))}.${String(us % 1e6).padStart(6, '0')}`;
      const name = op === 'read' ? 'blk_co_preadv' : 'blk_co_pwritev';
      const flags = op === 'write-zeroes' ? '0x6' : '0x0';
      return `${time}:${name} blk 0x55a3c8f0e2d0 bs 0x55a3c8f13a40 offset ${String(offset)} bytes ${String(length)} flags ${flags}\n`;
    },
  };
}

function isWritable(format: LargeTraceFormat): format is WritableFormat {
  return format in OPS_OF;
}

function objectKeys<Key extends string>(object: Readonly<Record<Key, unknown>>): readonly Key[] {
  // The object has no other keys than its type says.
  return Object.keys(object) as Key[];
}

function wholeNumber(option: string, text: string): number {
  const value = Number(text);
  if (Number.isSafeInteger(value) && value >= 0) return value;
  throw new Qcow2BenchError('usage', `${option} takes a whole number, not '${text}'`);
}

if (import.meta.main) {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      requests: { type: 'string', default: '10000000' },
      seed: { type: 'string', default: '1' },
    },
  });
  const [name = '', path, ...others] = positionals;
  const format = LARGE_TRACE_FORMATS.find((known) => known === name);
  if (format === undefined || path === undefined || others.length > 0) {
    process.stderr.write(
      `usage: node scripts/large-traces.ts FORMAT FILE [--requests N] [--seed N]\nFORMAT is one of ${LARGE_TRACE_FORMATS.join(', ')}\n`,
    );
    process.exitCode = 2;
  } else {
    const requests = wholeNumber('--requests', values.requests);
    await writeLargeTrace({ format, path, requests, seed: wholeNumber('--seed', values.seed) });
  }
}
