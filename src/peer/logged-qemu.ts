/**
 * Serves guest requests with a real `qemu-io` whose image file is behind the driver `blklogwrites`,
 * so that every write, discard and flush of the file is in a log; and notes how long the log was when
 * each request began and was answered.
 *
 * Invariants:
 * - One request at a time: the next is given when `qemu-io` asks for it, and the log is read then.
 * - A request that fails is an error: a failed oracle proves nothing.
 */

import { spawn, type ChildProcessWithoutNullStreams } from 'node:child_process';
import { closeSync, fstatSync, readSync } from 'node:fs';

import { viewOf } from '../core/bytes.ts';
import { Qcow2BenchError, systemCode } from '../core/error.ts';
import { openSync } from '../core/host-fs.ts';
import { DM_LOG_ENTRY_BYTES, readDmLogEntry, readDmLogHead } from '../workload/trace/dm-log-writes.ts';
import type { Request } from '../workload/request.ts';
import type { Format } from '../format/disk-image.ts';
import { ChildPaths } from './child-paths.ts';
import type { QemuIoImage } from './qemu-io.ts';

/** A file behind the image, the nearest first. */
export interface LoggedBacking {
  readonly path: string;
  readonly format: Format;
}

export interface LoggedRunOptions {
  readonly image: QemuIoImage;
  readonly backing: readonly LoggedBacking[];
  /** An empty file, for the log. */
  readonly logPath: string;
  readonly requests: readonly Request[];
  /** By index of the request, of a write: a file with its data. */
  readonly dataPaths: ReadonlyMap<number, string>;
  readonly qemuIo: string;
  readonly signal?: AbortSignal | undefined;
}

/** How many entries the log had. */
export interface LoggedSpan {
  readonly began: number;
  readonly done: number;
}

const PROMPT = 'qemu-io> ';
const OUTPUT_MAX = 4096;

/**
 * Runs the requests from the opening of the image to its close.
 *
 * @returns one span for each request
 * @throws Qcow2BenchError `peer-not-started`, `peer-failed`; the signal's reason
 */
export async function runLoggedQemuIo(options: LoggedRunOptions): Promise<readonly LoggedSpan[]> {
  using paths = new ChildPaths();
  using log = new GrowingLog(options.logPath);
  await using session = new QemuIoSession(
    paths.pathFor(options.qemuIo),
    argumentsOf(options, paths),
    options.signal,
  );
  await session.ready();
  const spans: LoggedSpan[] = [];
  for (const [index, request] of options.requests.entries()) {
    const began = log.entries();
    await session.serve(commandOf(request, options.dataPaths.get(index), paths));
    spans.push({ began, done: log.entries() });
  }
  await session.quit();
  return spans;
}

function argumentsOf({ image, backing, logPath }: LoggedRunOptions, paths: ChildPaths): readonly string[] {
  const list: Record<string, string> = {
    driver: image.format,
    'file.driver': 'blklogwrites',
    'file.file.driver': 'file',
    'file.file.filename': image.path,
    'file.log.driver': 'file',
    'file.log.filename': logPath,
    // It is read while it is written, whatever the cache mode of the image.
    'file.log.cache.direct': 'off',
    ...image.imageOptions,
  };
  // Names of backing files are not resolved from behind the driver.
  let node = '';
  for (const { path, format } of backing) {
    node += 'backing.';
    list[`${node}driver`] = format;
    list[`${node}file.driver`] = 'file';
    list[`${node}file.filename`] = path;
  }
  const words = Object.entries(list).map(([name, value]) => {
    const given = name.endsWith('.filename') ? paths.pathFor(value) : value;
    return `${name}=${given.replaceAll(',', ',,')}`;
  });
  return ['-t', image.cache, '-d', image.discard ?? 'unmap', '--image-opts', words.join(',')];
}

function commandOf(
  { op, offset, length, fua, unmap }: Request,
  dataPath: string | undefined,
  paths: ChildPaths,
): string {
  const range = `${String(offset)} ${String(length)}`;
  const durable = fua ? ' -f' : '';
  switch (op) {
    case 'read':
      return `read -q ${range}`;
    case 'write':
      return `write -q${durable}${dataPath === undefined ? '' : ` -s ${paths.pathFor(dataPath)}`} ${range}`;
    case 'write-zeroes':
      return `write -q${durable} -z${unmap ? ' -u' : ''} ${range}`;
    case 'discard':
      return `discard -q ${range}`;
    case 'flush':
      return 'flush';
  }
}

/** A `qemu-io` that is given one command after another. */
class QemuIoSession implements AsyncDisposable {
  readonly #child: ChildProcessWithoutNullStreams;
  readonly #closed: Promise<number | undefined>;
  readonly #signal: AbortSignal | undefined;
  #output = '';
  #errors = '';
  #onOutput: () => void = () => undefined;
  #hasEnded = false;
  #failure: Error | undefined;

  constructor(file: string, args: readonly string[], signal: AbortSignal | undefined) {
    this.#signal = signal;
    this.#child = spawn(file, args, { env: { ...process.env, LC_ALL: 'C' } });
    this.#child.stdout.setEncoding('utf8').on('data', (text: string) => {
      this.#output = (this.#output + text).slice(-OUTPUT_MAX);
      this.#onOutput();
    });
    this.#child.stderr.setEncoding('utf8').on('data', (text: string) => {
      this.#errors = (this.#errors + text).slice(-OUTPUT_MAX);
    });
    // A program that ends early says why on its own.
    this.#child.stdin.on('error', () => undefined);
    this.#closed = new Promise((resolve) => {
      this.#child.once('error', (error) => {
        const why = systemCode(error) ?? error.message;
        this.#failure = new Qcow2BenchError('peer-not-started', `cannot run ${file}: ${why}`, {}, error);
        this.#end(resolve, undefined);
      });
      this.#child.once('close', (code) => this.#end(resolve, code ?? undefined));
    });
    signal?.addEventListener('abort', this.#stop, { once: true });
    if (signal?.aborted === true) this.#stop();
  }

  /** Waits until the image is open. */
  async ready(): Promise<void> {
    await this.#prompt('open');
  }

  async serve(command: string): Promise<void> {
    this.#child.stdin.write(`${command}\n`);
    await this.#prompt(command);
  }

  /** Closes the image. */
  async quit(): Promise<void> {
    this.#child.stdin.end('quit\n');
    const code = await this.#closed;
    this.#refuseFailure();
    if (code !== 0 || this.#errors !== '') this.#fail('quit');
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#signal?.removeEventListener('abort', this.#stop);
    if (!this.#hasEnded) this.#stop();
    await this.#closed;
  }

  readonly #stop = (): void => {
    this.#child.kill('SIGKILL');
  };

  #end(resolve: (code: number | undefined) => void, code: number | undefined): void {
    this.#hasEnded = true;
    resolve(code);
    this.#onOutput();
  }

  /** It asks for the next command; anything else that it prints is an error. */
  async #prompt(command: string): Promise<void> {
    while (!this.#output.endsWith(PROMPT) && !this.#hasEnded) {
      await new Promise<void>((resolve) => (this.#onOutput = resolve));
    }
    this.#refuseFailure();
    const isQuiet = this.#output === PROMPT && this.#errors === '';
    if (!isQuiet) this.#fail(command);
    this.#output = '';
  }

  #refuseFailure(): void {
    this.#signal?.throwIfAborted();
    if (this.#failure !== undefined) throw this.#failure;
  }

  #fail(command: string): never {
    const said = (this.#errors + this.#output.replace(PROMPT, '')).trim();
    throw new Qcow2BenchError(
      'peer-failed',
      `qemu-io failed at '${command}': ${said === '' ? 'it ended' : said}`,
    );
  }
}

/** A log that is being written. */
class GrowingLog implements Disposable {
  readonly #descriptor: number;
  #sectorSize = 0;
  #at = 0;
  #entries = 0;

  constructor(path: string) {
    this.#descriptor = openSync(path, 'r');
  }

  /** How many entries are there as a whole. */
  entries(): number {
    const { size } = fstatSync(this.#descriptor);
    if (this.#sectorSize === 0) {
      const head = readDmLogHead(this.#read(0));
      if (typeof head === 'string') return 0;
      this.#sectorSize = head.sectorSize;
      this.#at = head.sectorSize;
    }
    while (this.#at + this.#sectorSize <= size) {
      const entry = readDmLogEntry(viewOf(this.#read(this.#at)), this.#sectorSize);
      if (typeof entry === 'string') break;
      const end = this.#at + this.#sectorSize + entry.dataBytes;
      if (end > size) break;
      this.#at = end;
      this.#entries++;
    }
    return this.#entries;
  }

  #read(position: number): Uint8Array {
    const bytes = new Uint8Array(DM_LOG_ENTRY_BYTES);
    readSync(this.#descriptor, bytes, 0, bytes.byteLength, position);
    return bytes;
  }

  [Symbol.dispose](): void {
    closeSync(this.#descriptor);
  }
}
