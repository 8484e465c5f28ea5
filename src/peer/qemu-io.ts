/**
 * Serves a list of guest requests with a real QEMU: one `qemu-io` process under strace, one command a request,
 * each waiting for the one before (queue depth 1).
 *
 * Invariants:
 * - All bytes of the n-th write (counting writes only, from 0) are n mod 255 + 1, as the payload `pattern` has them.
 * - Commands go through standard input: a thousand of them exceed what a command line may hold.
 * - A request that fails is an error: an oracle that stumbled tells nothing.
 */

import { constants } from 'node:os';

import type { CacheMode } from '../format/cache-mode.ts';
import type { Format } from '../format/disk-image.ts';
import type { Request } from '../workload/request.ts';
import type { HostOperation } from './host-operation.ts';
import { findQemuIo, type QemuIoTools } from './qemu-tools.ts';
import { MARK_SIGNAL, traceProgram } from './strace.ts';

export interface QemuIoOptions {
  /** The image, which exists already. */
  readonly path: string;
  readonly format: Format;
  readonly cache: CacheMode;
  readonly requests: readonly Request[];
  /** Discards reach the host file (`-d unmap`); QEMU's tools drop them otherwise. */
  readonly unmap?: boolean | undefined;
  /** Further options of the block layer, given with `--image-opts`, e.g. `{ 'lazy-refcounts': 'on' }`. */
  readonly imageOptions?: Readonly<Record<string, string>> | undefined;
  /** Further files to follow, by the name that operations carry: `{ 'backing:0': path }`. */
  readonly files?: Readonly<Record<string, string>> | undefined;
  readonly signal?: AbortSignal | undefined;
  /** Default: those that are installed. */
  readonly tools?: QemuIoTools | undefined;
}

/**
 * Runs the requests and gives every host operation on the image's files, in order of issue, from open to close.
 *
 * @throws Qcow2BenchError `peer-missing`, `peer-failed` or `peer-bad-trace`
 */
export async function runQemuIo(options: QemuIoOptions): Promise<readonly HostOperation[]> {
  const tools = options.tools ?? (await findQemuIo());
  const { operations } = await traceProgram({
    strace: tools.strace,
    command: tools.qemuIo,
    args: qemuIoArguments(options),
    input: qemuIoScript(options.requests),
    files: { image: options.path, ...options.files },
    requests: options.requests.length,
    signal: options.signal,
  });
  return operations;
}

/** The commands, with a mark before each request and one after the last. */
export function qemuIoScript(requests: readonly Request[]): string {
  const mark = `sigraise ${String(constants.signals[MARK_SIGNAL])}\n`;
  const lines: string[] = [];
  let writes = 0;
  for (const request of requests) {
    lines.push(mark, command(request, writes), '\n');
    if (request.op === 'write') writes++;
  }
  return `${lines.join('')}${mark}quit\n`;
}

function qemuIoArguments(options: QemuIoOptions): readonly string[] {
  const args = ['-t', options.cache];
  if (options.unmap === true) args.push('-d', 'unmap');
  if (options.imageOptions === undefined) return [...args, '-f', options.format, options.path];
  const image = {
    driver: options.format,
    'file.driver': 'file',
    'file.filename': options.path,
    ...options.imageOptions,
  };
  const list = Object.entries(image).map(([name, value]) => `${name}=${value.replaceAll(',', ',,')}`);
  return [...args, '--image-opts', list.join(',')];
}

function command(request: Request, writes: number): string {
  const range = `${String(request.offset)} ${String(request.length)}`;
  const fua = request.fua ? ' -f' : '';
  switch (request.op) {
    case 'read':
      return `read -q ${range}`;
    case 'write':
      return `write -q${fua} -P ${String((writes % 255) + 1)} ${range}`;
    case 'flush':
      return 'flush';
    case 'discard':
      return `discard -q ${range}`;
    case 'write-zeroes':
      return `write -q${fua} -z${request.unmap ? ' -u' : ''} ${range}`;
  }
}
