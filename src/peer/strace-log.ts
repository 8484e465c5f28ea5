/**
 * Reads what `strace -f -y` prints into operations on the files of one image.
 *
 * Invariants:
 * - Order is the order of *issue*: a call that strace had to split (`<unfinished ...>` and
 *   `resumed`) is placed where it began.
 * - Marks are signals that the traced program raised on itself (`sigraise` of qemu-io): the first
 *   opens the run and its request 0, each further one opens the next request; the last opens the
 *   close.
 * - A read issued by the first thread is QEMU probing the alignment that O_DIRECT asks for, no I/O
 *   of an engine: QEMU's own reads come from its thread pool. It is left out.
 * - Whatever is not understood about a file of the image is an error, never skipped.
 */

import { textOfBytes } from '../core/byte-text.ts';
import { Qcow2BenchError } from '../core/error.ts';
import type { HostOperation, TracedOp } from './host-operation.ts';

/** The calls that touch bytes or durability of a file; what strace is asked to show. */
export const TRACED_CALLS = [
  'pwrite64',
  'pwritev',
  'pwritev2',
  'pread64',
  'preadv',
  'preadv2',
  'fallocate',
  'ftruncate',
  'fdatasync',
  'fsync',
] as const;
export type TracedCall = (typeof TRACED_CALLS)[number];

/** Absolute paths of the image's files by the name that operations carry. */
export type TracedFiles = Readonly<Record<string, string>>;

export interface StraceLogOptions {
  readonly files: TracedFiles;
  /** The signal that marks, as strace names it: `SIGURG`. */
  readonly mark: string;
  /**
   * Guest requests marked: one mark is before each and one after the last. `undefined`: there are
   * no marks.
   */
  readonly requests: number | undefined;
  /** Whether reads of the first thread are operations of the engine. Default: they are not. */
  readonly keepsFirstThread?: boolean | undefined;
  /** Of the log, for errors. */
  readonly path?: string | undefined;
}

/** `PID REST`, the form of every line under `-f`. */
const LINE = /^(\d+) +(.*)$/;
const UNFINISHED = / <unfinished \.\.\.>$/;
const RESUMED = /^<\.\.\. (\w+) resumed>/;
/**
 * Name, file descriptor with its path (strace escapes `<` and `>` within), other arguments, result.
 */
const CALL = /^(\w+)\(\d+<([^>]*)>(?:, (.*))?\) += (-?\d+|\?)(?: (E[A-Z0-9]+))?/;
const OFFSET_LAST = /(?:^|, )(\d+)$/;
/** `pwritev2` and `preadv2` end in the offset and flags. */
const OFFSET_BEFORE_FLAGS = /, (\d+), \w+$/;
const LENGTH_OFFSET = /, (\d+), (\d+)$/;
const FALLOCATE = /^([A-Z_|0-9a-fx]+), (\d+), (\d+)$/;
const VECTOR_LENGTHS = /iov_len=(\d+)/g;

interface Entry {
  readonly call: TracedCall;
  readonly text: string;
  readonly mark: number;
  readonly line: number;
}

export class StraceLogParser {
  readonly #options: StraceLogOptions;
  readonly #names: ReadonlyMap<string, string>;
  readonly #operations: (HostOperation | undefined)[] = [];
  /** Calls begun and not yet resumed, by thread: where they stand, and what was printed so far. */
  readonly #unfinished = new Map<
    string,
    { readonly slot: number; readonly mark: number; readonly text: string }
  >();
  #firstThread: string | undefined;
  #marks = 0;
  #line = 0;

  constructor(options: StraceLogOptions) {
    this.#options = options;
    this.#names = new Map(Object.entries(options.files).map(([name, path]) => [path, name]));
  }

  /** Takes one line, without its end; `number` is its own in the file, for errors. */
  push(line: string, number = this.#line + 1): void {
    this.#line = number;
    const [, thread, rest] = LINE.exec(line) ?? [];
    if (thread === undefined || rest === undefined) {
      throw this.#error('does not start with a process ID', line);
    }
    this.#firstThread ??= thread;
    if (rest.startsWith(`--- ${this.#options.mark} `)) this.#marks++;
    else if (rest.startsWith('<... ')) this.#resume(thread, rest);
    else if (rest.endsWith(' <unfinished ...>')) this.#suspend(thread, rest.replace(UNFINISHED, ''));
    else if (/^\w+\(/.test(rest)) {
      this.#operations.push(this.#operation(thread, { text: rest, mark: this.#marks }));
    }
  }

  /** All operations, in order of issue. Call once, after the last line. */
  finish(): readonly HostOperation[] {
    const { requests } = this.#options;
    const marks = requests === undefined ? 0 : requests + 1;
    if (this.#marks !== marks) {
      throw new Qcow2BenchError(
        'peer-bad-trace',
        `the trace has ${String(this.#marks)} marks, not ${String(marks)}: the program ended early`,
      );
    }
    return this.#operations.filter((operation) => operation !== undefined);
  }

  #suspend(thread: string, text: string): void {
    this.#unfinished.set(thread, { slot: this.#operations.length, mark: this.#marks, text });
    this.#operations.push(undefined);
  }

  #resume(thread: string, rest: string): void {
    const begun = this.#unfinished.get(thread);
    if (begun === undefined) throw this.#error('resumes a call that was not started', rest);
    this.#unfinished.delete(thread);
    const text = begun.text + rest.replace(RESUMED, '');
    this.#operations[begun.slot] = this.#operation(thread, { text, mark: begun.mark });
  }

  /** What a whole call did; `undefined` if it is none of the image's. */
  #operation(thread: string, { text, mark }: { text: string; mark: number }): HostOperation | undefined {
    const [, call, path, args = '', result = '', error] = CALL.exec(text) ?? [];
    if (call === undefined || path === undefined) {
      this.#foreign(text);
      return;
    }
    const file = this.#names.get(unescapePath(path));
    if (file === undefined) return undefined;
    if (!isTracedCall(call)) throw this.#error('is an untraced call on the image', text);
    // A call interrupted by the end of the process: its result is unknown.
    if (result === '?') return undefined;
    const entry = { call, text: args, mark, line: this.#line };
    const extent = this.#extent(entry, Number(result));
    if (extent === undefined) return undefined;
    const isOfEngine = this.#options.keepsFirstThread === true || thread !== this.#firstThread;
    if (extent.op === 'read' && !isOfEngine) return undefined;
    return { ...this.#position(mark), ...extent, file, error };
  }

  /** A line of another form may be ignored only if no file of the image is in it. */
  #foreign(text: string): undefined {
    for (const path of this.#names.keys()) {
      if (unescapePath(text).includes(`<${path}>`)) throw this.#error('cannot be parsed', text);
    }
    return undefined;
  }

  #position(mark: number): Pick<HostOperation, 'phase' | 'request'> {
    if (mark === 0) return { phase: 'open', request: undefined };
    const { requests } = this.#options;
    if (requests === undefined || mark > requests) return { phase: 'close', request: undefined };
    return { phase: 'run', request: mark - 1 };
  }

  #extent(entry: Entry, result: number): Pick<HostOperation, 'op' | 'offset' | 'length'> | undefined {
    switch (entry.call) {
      case 'pwrite64':
        return { op: 'write', ...this.#lengthOffset(entry) };
      case 'pread64': {
        // The second half of a read across the file's end returns nothing: the first is the whole
        // read.
        return result === 0 ? undefined : { op: 'read', ...this.#lengthOffset(entry) };
      }
      case 'pwritev':
      case 'pwritev2':
        return { op: 'write', ...this.#vector(entry) };
      case 'preadv':
      case 'preadv2':
        return result === 0 ? undefined : { op: 'read', ...this.#vector(entry) };
      case 'fallocate':
        return this.#fallocate(entry);
      case 'ftruncate':
        return { op: 'truncate', offset: this.#number(OFFSET_LAST, entry), length: 0 };
      case 'fdatasync':
      case 'fsync':
        return { op: 'sync', offset: 0, length: 0 };
    }
  }

  #lengthOffset(entry: Entry): { offset: number; length: number } {
    const [, length, offset] = LENGTH_OFFSET.exec(entry.text) ?? [];
    if (length === undefined) throw this.#error('lacks length and offset', entry.text);
    return { offset: Number(offset), length: Number(length) };
  }

  #vector(entry: Entry): { offset: number; length: number } {
    const offset = this.#number(entry.call.endsWith('2') ? OFFSET_BEFORE_FLAGS : OFFSET_LAST, entry);
    if (entry.text.includes('}, ...]')) {
      throw this.#error('has a buffer list that strace cut short', entry.text);
    }
    let length = 0;
    for (const [, part] of entry.text.matchAll(VECTOR_LENGTHS)) length += Number(part);
    return { offset, length };
  }

  #fallocate(entry: Entry): Pick<HostOperation, 'op' | 'offset' | 'length'> {
    const [, flags = '', offset, length] = FALLOCATE.exec(entry.text) ?? [];
    const extent = { offset: Number(offset), length: Number(length) };
    const modes: Readonly<Record<string, TracedOp>> = {
      '0': 'allocate',
      FALLOC_FL_KEEP_SIZE: 'allocate',
      FALLOC_FL_ZERO_RANGE: 'zero-range',
      'FALLOC_FL_KEEP_SIZE|FALLOC_FL_ZERO_RANGE': 'zero-range',
      'FALLOC_FL_KEEP_SIZE|FALLOC_FL_PUNCH_HOLE': 'punch-hole',
    };
    const op = modes[flags];
    if (op === undefined) throw this.#error('has an unknown mode', entry.text);
    return { op, ...extent };
  }

  #number(pattern: RegExp, entry: Entry): number {
    const [, digits] = pattern.exec(entry.text) ?? [];
    if (digits === undefined) throw this.#error('lacks an offset', entry.text);
    return Number(digits);
  }

  #error(rule: string, text: string): Qcow2BenchError {
    const message = `a line of strace ${rule}: ${text.slice(0, 200)}`;
    return new Qcow2BenchError('peer-bad-trace', message, { path: this.#options.path, line: this.#line });
  }
}

function isTracedCall(name: string): name is TracedCall {
  return (TRACED_CALLS as readonly string[]).includes(name);
}

/**
 * strace writes bytes that are not printable, and `<`, `>`, `"` and `\`, as octal numbers or C
 * escapes.
 */
export function unescapePath(text: string): string {
  if (!text.includes('\\')) return text;
  const letters: Readonly<Record<string, string>> = { n: '\n', t: '\t', r: '\r', v: '\v', f: '\f' };
  const bytes = text.replace(/\\([0-7]{1,3}|.)/g, (_, escape: string) =>
    /^[0-7]/.test(escape) ? String.fromCharCode(Number.parseInt(escape, 8)) : (letters[escape] ?? escape),
  );
  // Each character is one byte of the file name.
  return textOfBytes(Buffer.from(bytes, 'latin1'));
}
