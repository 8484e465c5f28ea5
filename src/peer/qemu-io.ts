/**
 * Serves a list of guest requests with a real QEMU: one `qemu-io` process under strace, one command
 * a request, each waiting for the one before (queue depth 1).
 *
 * Invariants:
 * - All bytes of the n-th write (counting writes only, from 0) are n mod 255 + 1, as the payload
 *   `pattern` has them.
 * - Commands go through standard input: a thousand of them exceed what a command line may hold.
 * - A request that fails is an error: a failed oracle proves nothing. A read that gives other bytes
 *   than the caller expects is not a failure; it is reported separately.
 */

import { constants } from 'node:os';

import type { CacheMode } from '../format/cache-mode.ts';
import { CACHE_SIZE_OPTIONS, type CacheSizes } from '../format/cache-sizes.ts';
import type { Format } from '../format/disk-image.ts';
import type { DiscardMode } from '../format/image-options.ts';
import type { Request } from '../workload/request.ts';
import { ChildPaths } from './child-paths.ts';
import type { HostOperation } from './host-operation.ts';
import { findQemuIo, type QemuIoTools } from './qemu-tools.ts';
import { runProgram, type ProgramOutcome } from './run-program.ts';
import { MARK_SIGNAL, traceProgram, type SlowedCall } from './strace.ts';

/** What `qemu-io` can be asked for: a write may be of one whole cluster that is compressed. */
export interface QemuIoRequest extends Request {
  readonly compressed?: boolean | undefined;
}

/** Bytes of a read that are to be all alike, as qemu-io can check them. */
export interface ExpectedBytes {
  readonly value: number;
  /** Within the request, in bytes. */
  readonly from: number;
  readonly length: number;
}

export interface QemuIoOptions {
  /** The image, which exists already. */
  readonly path: string;
  readonly format: Format;
  readonly cache: CacheMode;
  readonly requests: readonly QemuIoRequest[];
  /** What becomes of guest discards. Default `unmap`, as of qemu-io 7.2 itself. */
  readonly discard?: DiscardMode | undefined;
  /**
   * Further options of the block layer, given with `--image-opts`, e.g. `{ 'lazy-refcounts': 'on'
   * }`.
   */
  readonly imageOptions?: Readonly<Record<string, string>> | undefined;
  /** Further files to follow, by the name that operations carry: `{ 'backing:0': path }`. */
  readonly files?: Readonly<Record<string, string>> | undefined;
  /** By index of the request: what a read is to give. */
  readonly expected?: ReadonlyMap<number, ExpectedBytes> | undefined;
  readonly signal?: AbortSignal | undefined;
  readonly slowed?: SlowedCall | undefined;
  /** Default: those that are installed. */
  readonly tools?: QemuIoTools | undefined;
}

export interface QemuIoRun {
  /** On the image's files, in order of issue, from open to close. */
  readonly operations: readonly HostOperation[];
  /** What qemu-io said of reads that gave other bytes than expected, one line each. */
  readonly misreads: readonly string[];
}

const MISREAD = /Pattern verification failed at offset \d+, \d+ bytes/g;

/**
 * Runs the requests and gives every host operation.
 *
 * @throws Qcow2BenchError `peer-missing`, `peer-failed` or `peer-bad-trace`
 */
export async function traceQemuIo(options: QemuIoOptions): Promise<QemuIoRun> {
  const tools = options.tools ?? (await findQemuIo());
  using paths = new ChildPaths();
  const { operations, outcome } = await traceProgram({
    strace: tools.strace,
    command: paths.pathFor(tools.qemuIo),
    args: qemuIoArguments(options, paths),
    input: qemuIoScript(options.requests, options.expected),
    files: { image: options.path, ...options.files },
    requests: options.requests.length,
    signal: options.signal,
    slowed: options.slowed,
    accepts: ({ stdout, stderr }) => stderr === '' && stdout.search(MISREAD) >= 0,
  });
  return { operations, misreads: outcome.stdout.match(MISREAD) ?? [] };
}

/** As `traceQemuIo`, where nothing is expected of reads. */
export async function runQemuIo(options: QemuIoOptions): Promise<readonly HostOperation[]> {
  return (await traceQemuIo(options)).operations;
}

/** The commands, with a mark before each request and one after the last. */
export function qemuIoScript(
  requests: readonly QemuIoRequest[],
  expected?: ReadonlyMap<number, ExpectedBytes>,
): string {
  const mark = `sigraise ${String(constants.signals[MARK_SIGNAL])}\n`;
  const lines: string[] = [];
  let writes = 0;
  for (const [index, request] of requests.entries()) {
    lines.push(mark, command(request, writes, expected?.get(index)), '\n');
    if (request.op === 'write') writes++;
  }
  return `${lines.join('')}${mark}quit\n`;
}

/** Sizes of metadata caches as `imageOptions` takes them; nothing if all are the defaults. */
export function cacheOptions(caches: CacheSizes | undefined): Readonly<Record<string, string>> | undefined {
  if (caches === undefined) return undefined;
  const names: Readonly<Record<string, string>> = CACHE_SIZE_OPTIONS;
  return Object.fromEntries(Object.entries(caches).map(([key, bytes]) => [names[key] ?? key, String(bytes)]));
}

/** Of qcow2, as `imageOptions` takes it. */
export const DISCARD_NO_UNREF = { 'discard-no-unref': 'on' } as const;

/** Where an image is and how it is opened. */
export type QemuIoImage = Pick<QemuIoOptions, 'path' | 'format' | 'cache' | 'discard' | 'imageOptions'>;

/**
 * One session with the image open read-only, neither traced nor judged; `input` is the commands.
 *
 * @throws Qcow2BenchError as `runProgram`
 */
export async function readWithQemuIo(
  image: QemuIoImage,
  { tools, input, signal }: { tools: QemuIoTools; input: string; signal?: AbortSignal | undefined },
): Promise<ProgramOutcome> {
  using paths = new ChildPaths();
  const args = ['-r', ...qemuIoArguments(image, paths)];
  return await runProgram(paths.pathFor(tools.qemuIo), args, { input, signal });
}

function qemuIoArguments(options: QemuIoImage, paths: ChildPaths): readonly string[] {
  const args = ['-t', options.cache, '-d', options.discard ?? 'unmap'];
  if (Object.keys(options.imageOptions ?? {}).length === 0) {
    return [...args, '-f', options.format, paths.pathFor(options.path)];
  }
  const image = {
    driver: options.format,
    'file.driver': 'file',
    'file.filename': options.path,
    ...options.imageOptions,
  };
  const list = Object.entries(image).map(([name, value]) => {
    const given = name.endsWith('.filename') ? paths.pathFor(value) : value;
    return `${name}=${given.replaceAll(',', ',,')}`;
  });
  return [...args, '--image-opts', list.join(',')];
}

function command(request: QemuIoRequest, writes: number, expected: ExpectedBytes | undefined): string {
  const range = `${String(request.offset)} ${String(request.length)}`;
  const fua = request.fua ? ' -f' : '';
  switch (request.op) {
    case 'read':
      return `read -q${expected === undefined ? '' : verification(expected)} ${range}`;
    case 'write':
      return `write -q${fua}${request.compressed === true ? ' -c' : ''} -P ${String((writes % 255) + 1)} ${range}`;
    case 'flush':
      return 'flush';
    case 'discard':
      return `discard -q ${range}`;
    case 'write-zeroes':
      return `write -q${fua} -z${request.unmap ? ' -u' : ''} ${range}`;
  }
}

function verification({ value, from, length }: ExpectedBytes): string {
  return ` -P ${String(value)} -s ${String(from)} -l ${String(length)}`;
}
