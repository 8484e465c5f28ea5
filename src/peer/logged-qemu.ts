/**
 * Serves guest requests with a real `qemu-io` whose image file is behind the driver `blklogwrites`,
 * so that every write, discard and flush of the file is in a log; and notes how long the log was when
 * each request began and was answered.
 *
 * Invariants:
 * - One request at a time: the next is given when `qemu-io` asks for it, and the log is read then.
 * - A request that fails is an error: a failed oracle proves nothing.
 */

import { closeSync, fstatSync, readSync } from 'node:fs';

import { viewOf } from '../core/bytes.ts';
import { Qcow2BenchError } from '../core/error.ts';
import { openSync } from '../core/host-fs.ts';
import { DM_LOG_ENTRY_BYTES, readDmLogEntry, readDmLogHead } from '../workload/trace/dm-log-writes.ts';
import type { Request } from '../workload/request.ts';
import type { Format } from '../format/disk-image.ts';
import { ChildPaths } from './child-paths.ts';
import type { QemuIoImage } from './qemu-io.ts';
import { ProgramSession } from './run-program.ts';

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
  readonly #program: ProgramSession;

  constructor(file: string, args: readonly string[], signal: AbortSignal | undefined) {
    this.#program = new ProgramSession(file, args, { signal });
  }

  /** Waits until the image is open. */
  async ready(): Promise<void> {
    await this.#prompt('open');
  }

  async serve(command: string): Promise<void> {
    this.#program.write(`${command}\n`);
    await this.#prompt(command);
  }

  /** Closes the image. */
  async quit(): Promise<void> {
    this.#program.write('quit\n');
    const { exitCode, stderr } = await this.#program.ended();
    if (exitCode !== 0 || stderr !== '') this.#fail('quit', stderr);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#program[Symbol.asyncDispose]();
  }

  /** It asks for the next command; anything else that it prints is an error. */
  async #prompt(command: string): Promise<void> {
    const { stdout, stderr } = await this.#program.printed((text) => text.endsWith(PROMPT));
    if (stdout !== PROMPT || stderr !== '') this.#fail(command, stderr + stdout.replace(PROMPT, ''));
  }

  #fail(command: string, said: string): never {
    const why = said.trim();
    throw new Qcow2BenchError(
      'peer-failed',
      `qemu-io failed at '${command}': ${why === '' ? 'it ended' : why}`,
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
