/**
 * The logs that fio writes with `write_iolog` and replays with `read_iolog`, versions 2 and 3
 * (fio(1), TRACE FILE FORMAT): reader and writer.
 *
 *     fio version 2 iolog                   fio version 3 iolog
 *     /dev/vdb add                          0 /dev/vdb add
 *     /dev/vdb open                         0 /dev/vdb open
 *     /dev/vdb write 65536 4096             151 /dev/vdb write 65536 4096
 *     /dev/vdb wait 20 0                    171 /dev/vdb datasync 65536 0
 *     /dev/vdb sync 0 0                     171 /dev/vdb trim 0 65536
 *     /dev/vdb close                        180 /dev/vdb close
 *
 * Invariants:
 * - Offsets and lengths are bytes. Version 3 begins each line with microseconds since the start. In
 *   version 2 a `wait` says when the next action comes: milliseconds since the start, as fio does
 *   it (its manual says otherwise). Version 3 may count from 1970 instead.
 * - The order of the file is that of issue: a time that steps back becomes its predecessor's.
 * - Words are apart by any blanks, as for fio.
 * - `sync`, `datasync` and `syncfs` are flushes; fio repeats the last write's place with them, which
 *   means nothing. `sync_file_range` flushes no cache of the disk, and is passed over.
 * - A file is a volume.
 * - Jobs with one `write_iolog` append their logs to it. Those of version 3 are read side by side
 *   (`log-parts`). fio appends a buffer at a time: jobs that ran at the same time tear each other's
 *   lines, which is always an error, as numbers may be torn too.
 */

import { SECTOR_SIZE, type Request, type RequestOp } from '../request.ts';
import { LineFields, SPACE, textOf } from './line-fields.ts';
import type { RequestCollector } from './request-collector.ts';
import type { LineParser } from './trace-parser.ts';

export const FIO_FIRST_LINES = { 2: 'fio version 2 iolog', 3: 'fio version 3 iolog' } as const;
export type FioVersion = keyof typeof FIO_FIRST_LINES;

/**
 * What the line of an action means; `file` is about the file, `wait` about time, `none` about the
 * page cache.
 */
type Action = RequestOp | 'file' | 'wait' | 'none';

const NS_PER_US = 1000;
const NS_PER_MS = 1_000_000;
/** Times from here on, three years, count from 1970 and not from the start. */
const EPOCH_US_MIN = 1e14;

const ACTIONS: readonly (readonly [Uint8Array, Action])[] = (
  [
    ['read', 'read'],
    ['write', 'write'],
    ['sync', 'flush'],
    ['datasync', 'flush'],
    ['syncfs', 'flush'],
    ['sync_file_range', 'none'],
    ['trim', 'discard'],
    ['wait', 'wait'],
    ['add', 'file'],
    ['open', 'file'],
    ['close', 'file'],
  ] as const
).map(([name, action]) => [Buffer.from(name, 'latin1'), action]);

const ACTION_NAMES = ACTIONS.map(([name]) => Buffer.from(name).toString('latin1')).join(', ');

const TORN =
  'the log of another job begins within the line: jobs that ran at the same time wrote one log and tore its lines; record again with a write_iolog of its own for each job';

/** Whether a file that begins with this line is such a log of this version. */
export function isFioIolog(firstLine: string, version: FioVersion): boolean {
  return firstLine.trimEnd() === FIO_FIRST_LINES[version];
}

export class FioIologParser implements LineParser {
  readonly unit = 'line';

  readonly #collector: RequestCollector;
  readonly #version: FioVersion;
  readonly #fields = new LineFields(SPACE);
  #began = false;
  #isTorn = false;
  /** Of the next action in version 2, of the last request in version 3. */
  #timeNs = 0;
  /** What version 3 counts from, in microseconds. */
  #originUs: number | undefined;

  constructor(collector: RequestCollector, version: FioVersion) {
    this.#collector = collector;
    this.#version = version;
  }

  get canSkip(): boolean {
    return this.#began && !this.#isTorn;
  }

  line(bytes: Uint8Array, start: number, end: number): string | undefined {
    if (!this.#began) return this.#firstLine(Buffer.from(bytes.subarray(start, end)).toString('utf8'));
    if (start === end) return undefined;
    const fields = this.#fields;
    fields.begin(bytes, start, end);
    let timeNs = this.#timeNs;
    if (this.#version === 3) {
      fields.blankWord();
      const timeUs = fields.wordNumber;
      if (timeUs < 0) {
        return this.#otherLog(textOf(bytes, start, end)) ?? 'the time is not a whole number of microseconds';
      }
      this.#originUs ??= timeUs >= EPOCH_US_MIN ? timeUs : 0;
      timeNs = (timeUs - this.#originUs) * NS_PER_US;
      if (!Number.isSafeInteger(timeNs)) return 'the time is 2^53 nanoseconds or more';
    }
    if (fields.blankWord() === 0) {
      return this.#otherLog(textOf(bytes, start, end)) ?? 'the line names no file';
    }
    const { wordStart: fileStart, wordEnd: fileEnd } = fields;
    fields.blankWord();
    const action = actionOf(fields);
    if (action === undefined) {
      return this.#otherLog(textOf(bytes, start, end)) ?? `the action is none of ${ACTION_NAMES}`;
    }
    const { passedOver, volumes } = this.#collector;
    if (action === 'file') {
      passedOver.add('files added, opened and closed');
      return undefined;
    }
    fields.blankWord();
    const offset = fields.wordNumber;
    fields.blankWord();
    const length = fields.wordNumber;
    // Also of a line that is not taken.
    if (offset < 0 || length < 0) {
      const rule = this.#otherLog(textOf(bytes, start, end));
      if (rule !== undefined) return rule;
    }
    if (action === 'none') {
      passedOver.add('sync_file_range');
      return undefined;
    }
    if (action === 'wait') return this.#wait(offset);
    if (!volumes.takesName(bytes, fileStart, fileEnd)) return undefined;
    if (action !== 'flush') {
      if (offset < 0) return 'the offset is not a whole number below 2^53';
      if (length < 0) return 'the length is not a whole number below 2^53';
    }
    const rule = this.#add(action, { offset, length, timeNs: Math.max(timeNs, this.#timeNs) });
    if (rule === undefined && timeNs < this.#timeNs) this.#collector.adjusted.add('times that step back');
    return rule;
  }

  #add(
    op: RequestOp,
    { offset, length, timeNs }: { readonly offset: number; readonly length: number; readonly timeNs: number },
  ): string | undefined {
    const rule =
      op === 'flush'
        ? this.#collector.addFlush(timeNs)
        : this.#collector.add({ op, offset, length, fua: false, unmap: false, timeNs });
    if (rule === undefined) this.#timeNs = timeNs;
    return rule;
  }

  finish(): string | undefined {
    return this.#began
      ? undefined
      : `is empty; a log starts with the line '${FIO_FIRST_LINES[this.#version]}'`;
  }

  #firstLine(text: string): string | undefined {
    if (!isFioIolog(text, this.#version)) return `the first line is not '${FIO_FIRST_LINES[this.#version]}'`;
    this.#began = true;
    return undefined;
  }

  /** The rule that a line breaks in which the log of another job begins. */
  #otherLog(text: string): string | undefined {
    const at = text.indexOf(FIO_FIRST_LINES[this.#version]);
    if (at < 0) return undefined;
    this.#isTorn = true;
    if (at > 0) return TORN;
    return this.#version === 3
      ? 'the log of another job begins here: such a file is read as one trace if it is not compressed and no pipe'
      : `the log of another job begins here, and version 2 has no times to join them by: split the file at the lines '${text}'`;
  }

  #wait(ms: number): string | undefined {
    // Version 3 has times of its own; fio passes over a wait there too.
    if (this.#version === 3) return undefined;
    if (ms < 0 || !Number.isSafeInteger(ms * NS_PER_MS)) return 'the wait is not a number of milliseconds';
    this.#timeNs = Math.max(this.#timeNs, ms * NS_PER_MS);
    return undefined;
  }
}

function actionOf(fields: LineFields): Action | undefined {
  for (const [name, action] of ACTIONS) if (fields.wordIs(name)) return action;
  return undefined;
}

/** The file's name in logs that are written; fio's `replay_redirect` sends it elsewhere. */
const FILE_NAME = 'disk';

/** Bytes that the 32 bits in which fio reads a length can say, in whole sectors. */
export const FIO_LENGTH_MAX = 2 ** 32 - SECTOR_SIZE;

/** The lines before the first request. */
export function formatFioHeader(version: FioVersion): string {
  const time = version === 3 ? '0 ' : '';
  return `${FIO_FIRST_LINES[version]}\n${time}${FILE_NAME} add\n${time}${FILE_NAME} open\n`;
}

/** Makes the lines of requests, in order. */
export class FioIologFormatter {
  readonly #version: FioVersion;
  #timeMs = 0;
  #timeUs = 0;

  constructor(version: FioVersion) {
    this.#version = version;
  }

  /** The lines of a request; what fio's logs do not hold of it is left out. */
  lines(request: Request): string {
    this.#timeUs = Math.floor(request.timeNs / NS_PER_US);
    if (this.#version === 3) return actionLines(request, `${String(this.#timeUs)} `);
    const place = actionLines(request, '');
    const ms = Math.floor(request.timeNs / NS_PER_MS);
    if (ms === this.#timeMs) return place;
    this.#timeMs = ms;
    return `${FILE_NAME} wait ${String(ms)} 0\n${place}`;
  }

  /** The lines after the last request. */
  end(): string {
    return this.#version === 3 ? `${String(this.#timeUs)} ${FILE_NAME} close\n` : `${FILE_NAME} close\n`;
  }
}

/** One line, or several of a request that is longer than a line can say. */
function actionLines({ op, offset, length }: Request, time: string): string {
  const begin = `${time}${FILE_NAME} ${fioActionOf(op)}`;
  let lines = '';
  for (let done = 0; ; done += FIO_LENGTH_MAX) {
    const part = Math.min(length - done, FIO_LENGTH_MAX);
    lines += `${begin} ${String(offset + done)} ${String(part)}\n`;
    if (done + part >= length) return lines;
  }
}

function fioActionOf(op: RequestOp): string {
  switch (op) {
    case 'read':
    case 'write':
      return op;
    case 'flush':
      return 'sync';
    case 'discard':
      return 'trim';
    case 'write-zeroes':
      return 'write';
  }
}
