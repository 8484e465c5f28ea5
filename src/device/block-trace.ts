/**
 * The requests that the kernel issues to one block device, by its own tracing (tracefs, the event
 * `block_rq_issue`).
 *
 * Invariants:
 * - Events go to an instance of their own, so no other tracing of the machine is disturbed. A tracefs
 *   that is not mounted is mounted for this process alone.
 * - An instance does not end with its process: the next one removes those that no process has open.
 */

import { closeSync, constants, writeSync } from 'node:fs';
import { cpus } from 'node:os';
import { join } from 'node:path';

import { Qcow2BenchError, systemCode } from '../core/error.ts';
import { existsSync, mkdirSync, openSync, readdirSync, readFileSync, rmdirSync } from '../core/host-fs.ts';
import { mountPrivately } from './private-mounts.ts';
import { temporaryPrefix } from './temporary-file.ts';

const TRACEFS = '/sys/kernel/tracing';
const INSTANCES = join(TRACEFS, 'instances');
const EVENT = 'events/block/block_rq_issue';
const PREFIX = 'qcow2-bench-';
/** Of the buffers of all processors together. */
const BUFFER_KIB = 65_536;
const BUFFER_KIB_MIN = 1024;
/** Of a device number in the kernel: the bits of its minor. */
const MINOR_BITS = 20;
const ENTRIES = /^# entries-in-buffer\/entries-written: (\d+)\/(\d+)/m;
/**
 * First sector and sectors of a read or a write; the parentheses have the command of a device that is
 * not a disk.
 */
const ISSUED = /block_rq_issue: \d+,\d+ F?[WR]\S* \d+ \([^)]*\) (\d+) \+ (\d+)/gu;

let counter = 0;

export class BlockTrace implements Disposable {
  readonly #directory: string;
  /** Keeps the instance in use. */
  readonly #fd: number;

  /**
   * Begins to trace.
   *
   * @param device as in `/sys/block`.
   * @throws Qcow2BenchError `no-block-trace`
   */
  static of(device: string): BlockTrace {
    let step = 'mounting tracefs';
    try {
      if (!existsSync(INSTANCES)) mountPrivately('tracefs', TRACEFS, 'tracefs', '');
      removeUnused();
      step = 'making an instance of tracefs';
      const directory = join(INSTANCES, `${temporaryPrefix()}-${String(counter++)}`);
      mkdirSync(directory);
      step = 'tracing block_rq_issue';
      const trace = new BlockTrace(directory);
      try {
        trace.#begin(device);
      } catch (error) {
        trace[Symbol.dispose]();
        throw error;
      }
      return trace;
    } catch (error) {
      const message = `requests below the file system cannot be traced: ${step} fails with ${systemCode(error) ?? String(error)}; use --below counts`;
      throw new Qcow2BenchError('no-block-trace', message, { path: TRACEFS }, error);
    }
  }

  private constructor(directory: string) {
    this.#directory = directory;
    this.#fd = openSync(join(directory, 'tracing_on'), constants.O_RDWR);
  }

  /**
   * Ends it. Answers how many requests with data did not start where the one before them ended;
   * `undefined` if the kernel's buffer was too small for all.
   */
  seeks(): number | undefined {
    this.#set(join(EVENT, 'enable'), '0');
    return seeksOf(readFileSync(join(this.#directory, 'trace'), 'latin1'));
  }

  [Symbol.dispose](): void {
    closeSync(this.#fd);
    removeInstance(this.#directory);
  }

  #begin(device: string): void {
    const [major = 0, minor = 0] = readFileSync(`/sys/block/${device}/dev`, 'latin1').split(':').map(Number);
    const perProcessor = Math.max(BUFFER_KIB_MIN, Math.floor(BUFFER_KIB / cpus().length));
    this.#set('buffer_size_kb', String(perProcessor));
    this.#set(join(EVENT, 'filter'), `dev == ${String((major << MINOR_BITS) | minor)}`);
    this.#set(join(EVENT, 'enable'), '1');
  }

  #set(name: string, value: string): void {
    const fd = openSync(join(this.#directory, name), constants.O_WRONLY);
    try {
      writeSync(fd, value);
    } finally {
      closeSync(fd);
    }
  }
}

/** From the text of a trace; for tests. */
export function seeksOf(trace: string): number | undefined {
  const [, kept, written] = ENTRIES.exec(trace) ?? [];
  if (kept === undefined || kept !== written) return undefined;
  let seeks = 0;
  let end: number | undefined;
  for (const [, sector, sectors] of trace.matchAll(ISSUED)) {
    if (end !== undefined && Number(sector) !== end) seeks++;
    end = Number(sector) + Number(sectors);
  }
  return seeks;
}

/** Those of processes that were killed. The kernel keeps one that a process has open. */
function removeUnused(): void {
  for (const name of readdirSync(INSTANCES)) {
    if (name.startsWith(PREFIX)) removeInstance(join(INSTANCES, name));
  }
}

function removeInstance(directory: string): void {
  try {
    rmdirSync(directory);
  } catch {
    // In use by another process.
  }
}
