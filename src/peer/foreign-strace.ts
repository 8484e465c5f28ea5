/**
 * A log of strace that someone else took of a block layer, in the form that `strace-log` reads: any
 * of strace's usual layouts, with or without the path of each descriptor, with marks of requests.
 *
 * Invariants:
 * - Requests are marked in the log: by a signal before each and one after the last, as the traced
 *   program raises it, or by the headers that an NBD server receives.
 * - What strace cannot show of a file of the image (io_uring, libaio, shared memory, positions of a
 *   file) is an error: counts without it would be wrong.
 * - Only calls on files of the image are passed on.
 */

import { Qcow2BenchError } from '../core/error.ts';
import { baseName, withoutDeleted } from './traced-paths.ts';
import type { Request } from '../workload/request.ts';
import { NbdRequests } from './nbd-requests.ts';
import type { HostOperation } from './host-operation.ts';
import { StraceLogParser, TRACED_CALLS, unescapePath, type TracedFiles } from './strace-log.ts';

export interface ForeignTrace {
  readonly operations: readonly HostOperation[];
  /** Those that the log shows; `undefined` if it has marks alone. */
  readonly requests: readonly Request[] | undefined;
  /** Marks of requests. */
  readonly marked: number;
  /** What is to be said of the counts. */
  readonly notes: readonly string[];
}

export interface ForeignStraceOptions {
  /** Absolute paths of the image's files by the name that operations carry. */
  readonly files: TracedFiles;
  /** Requests that were served; default: those that the log shows. */
  readonly expected: readonly Request[] | undefined;
  /** Of the log, for errors. */
  readonly path: string;
}

/** The signal that marks, as QEMU's side has it. */
const MARK_SIGNAL = 'SIGURG';
/** A mark as `strace-log` reads it. */
const MARK_LINE = `--- ${MARK_SIGNAL} {mark} ---`;

const RECEIVING = ['read', 'recv', 'recvfrom', 'recvmsg', 'readv'];
const OPENING = ['open', 'openat', 'openat2', 'creat'];
const COPYING = ['dup', 'dup2', 'dup3', 'fcntl'];
/** Calls on a file of the image that read or write it at a place, or in a way, that is not shown. */
const UNSEEN: Readonly<Record<string, string>> = {
  write: 'writes at the position of the file: use pwrite',
  writev: 'writes at the position of the file: use pwritev',
  sendfile: 'copies within the kernel: use pwrite',
  splice: 'copies within the kernel: use pwrite',
  copy_file_range: 'copies within the kernel: use pwrite',
  mmap: 'maps the file for writing, and strace does not show what is written there: use pwrite',
};
/** A ring that is only set up is QEMU's, which waits for events with it. */
const ASYNCHRONOUS: Readonly<Record<string, string>> = {
  io_uring_enter: 'io_uring',
  io_submit: 'libaio',
};

/** Times that strace prints before a call with -t, -tt, -ttt or -r. */
const TIME = /^(?:\d+:\d+:\d+(?:\.\d+)?|\d+\.\d+|\(\+ *\d+\.\d+\)) +/;
const THREAD = /^(?:\[pid +(\d+)\] |(\d+) +(?=[^\s.:]))/;
/** Of a process without -f, whose lines have no ID. */
const ONLY_THREAD = '1';

/**
 * The operations of a log.
 *
 * @param lines without their ends.
 * @throws Qcow2BenchError `peer-bad-trace` with path and line; `ingest-asynchronous`,
 *   `ingest-other-file`, `ingest-unmarked`, `ingest-misfit`.
 */
export function readForeignStrace(lines: Iterable<string>, options: ForeignStraceOptions): ForeignTrace {
  const reader = new ForeignStrace(options);
  let number = 0;
  for (const line of lines) reader.push(line, ++number);
  return reader.finish();
}

interface KeptLine {
  readonly text: string;
  readonly line: number;
}

class ForeignStrace {
  readonly #options: ForeignStraceOptions;
  readonly #nbd = new NbdRequests();
  /** Paths by descriptor, where the log has no path of each. */
  readonly #paths = new Map<string, string>();
  /** What was printed of calls that are not resumed, by thread. */
  readonly #begun = new Map<string, { readonly text: string; readonly slot: number | undefined }>();
  readonly #kept: (KeptLine | undefined)[] = [];
  readonly #requests: Request[] = [];
  readonly #notes = new Set<string>();
  /** Of all files that were read, written or synced. */
  readonly #seen = new Set<string>();
  #signals = 0;
  /** Where the last client left. */
  #end: number | undefined;
  #line = 0;

  constructor(options: ForeignStraceOptions) {
    this.#options = options;
  }

  push(raw: string, line: number): void {
    this.#line = line;
    const [, bracketed, plain] = THREAD.exec(raw.trimStart()) ?? [];
    const thread = bracketed ?? plain ?? ONLY_THREAD;
    const text = raw.trimStart().replace(THREAD, '').replace(TIME, '').replace(TIME, '');
    if (text === '' || text.startsWith('> ') || text.startsWith('+++') || text.startsWith('strace: ')) return;
    if (text.startsWith('--- ')) {
      if (!text.startsWith(`--- ${MARK_SIGNAL} `)) return;
      this.#signals++;
      this.#keep(`${thread} ${MARK_LINE}`);
      return;
    }
    if (text.startsWith('<... ')) this.#resume(thread, text);
    else if (text.endsWith(' <unfinished ...>')) this.#suspend(thread, text);
    else if (/^\w+\(/.test(text)) this.#call(thread, text);
    else throw this.#error(`is no line of strace: ${text.slice(0, 100)}`);
  }

  finish(): ForeignTrace {
    const torn = [...this.#begun.values()].find(({ slot }) => slot !== undefined);
    if (torn !== undefined) {
      throw this.#error(
        `the log ends within a call on the image: it is truncated (${torn.text.slice(0, 80)})`,
      );
    }
    const { expected } = this.#options;
    const requests = this.#signals > 0 ? undefined : this.#requests;
    const marked = this.#signals > 0 ? this.#signals - 1 : this.#requests.length;
    if (marked === 0) throw unmarked(this.#options.path, expected);
    const served = matched(requests, { expected, marked, path: this.#options.path });
    return {
      operations: this.#operations(served.length),
      requests,
      marked: served.length,
      notes: [...this.#notes],
    };
  }

  #operations(requests: number): readonly HostOperation[] {
    const files = this.#namedFiles();
    const { path } = this.#options;
    const parser = new StraceLogParser({ files, mark: MARK_SIGNAL, requests, keepsFirstThread: true, path });
    let marks = 0;
    for (const kept of this.#kept) {
      if (kept === undefined) continue;
      // Flushes by which a client ends are of the close.
      if (kept.text.endsWith(MARK_LINE) && marks++ > requests) continue;
      parser.push(kept.text, kept.line);
    }
    while (marks++ <= requests) parser.push(`${ONLY_THREAD} ${MARK_LINE}`, this.#line);
    return parser.finish();
  }

  /** The image's files as the log names them: a log of another place has the same names. */
  #namedFiles(): TracedFiles {
    const { files, path } = this.#options;
    const named = Object.entries(files).map(([name, own]) => {
      if (this.#seen.has(own)) return [name, own] as const;
      const alike = [...this.#seen].filter((each) => baseName(each) === baseName(own));
      return [name, alike.length === 1 ? (alike[0] ?? own) : own] as const;
    });
    const image = named.find(([name]) => name === 'image')?.[1] ?? '';
    if (this.#seen.has(image)) return Object.fromEntries(named);
    const others = [...this.#seen].slice(0, 3).join(', ');
    const message = `has no call on ${image}${others === '' ? '' : `, but on ${others}`}: name the image that was served with --image`;
    throw new Qcow2BenchError('ingest-other-file', message, { path });
  }

  #suspend(thread: string, whole: string): void {
    const text = whole.replace(/ <unfinished \.\.\.>$/, '');
    const [, call = ''] = /^(\w+)\(/.exec(text) ?? [];
    if (call in ASYNCHRONOUS) this.#refuseAsynchronous(call);
    const placed = isPlaced(call) ? this.#withPath(text) : undefined;
    const slot = placed === undefined ? undefined : this.#keep(`${thread} ${placed} <unfinished ...>`);
    this.#begun.set(thread, { text: placed ?? text, slot });
  }

  #resume(thread: string, text: string): void {
    const begun = this.#begun.get(thread);
    // strace was attached while the call went on.
    if (begun === undefined) return;
    this.#begun.delete(thread);
    if (begun.slot !== undefined) this.#keep(`${thread} ${text}`);
    else this.#call(thread, begun.text + text.replace(/^<\.\.\. \w+ resumed>/, ''));
  }

  #call(thread: string, text: string): void {
    const [, call = ''] = /^(\w+)\(/.exec(text) ?? [];
    if (call in ASYNCHRONOUS || text.includes('IORING_SETUP_SQPOLL')) this.#refuseAsynchronous(call);
    if (OPENING.includes(call)) this.#open(text);
    else if (COPYING.includes(call)) this.#copy(text);
    else if (call === 'close') this.#close(text);
    else if (isPlaced(call)) this.#place(thread, call, text);
    else if (RECEIVING.includes(call)) this.#receive(thread, text);
    else if (call in UNSEEN) this.#refuseUnseen(call, text);
  }

  #place(thread: string, call: string, text: string): void {
    const placed = this.#withPath(text);
    this.#keep(`${thread} ${placed}`);
    const isDurable = /, (?:RWF_\w+\|)*RWF_D?SYNC\b/.test(text);
    if (call === 'pwritev2' && isDurable && !text.includes(' = -')) {
      const [, descriptor = ''] = /^\w+\((\d+<[^>]*>)/.exec(placed) ?? [];
      this.#keep(`${thread} fdatasync(${descriptor}) = 0`);
    }
  }

  #receive(thread: string, text: string): void {
    const [, descriptor = '', path, args = '', result] =
      /^\w+\((\d+)(?:<((?:[^>\\]|\\.)*)>)?, (.*)\) += (-?\d+|\?)/.exec(text) ?? [];
    const file = path ?? this.#paths.get(descriptor);
    if (file !== undefined && this.#isOfImage(file)) {
      this.#notes.add(
        'reads at the position of the file are not counted, as strace does not show where they are',
      );
      return;
    }
    const found = this.#nbd.receive({ descriptor, text: args, received: Number(result ?? -1) }, this.#line);
    if (found === undefined || this.#signals > 0) return;
    if (found.kind === 'request') {
      this.#requests.push(found.request);
      // Another client came after one that left.
      if (this.#end !== undefined) this.#kept[this.#end] = undefined;
      this.#end = undefined;
      this.#keep(`${thread} ${MARK_LINE}`);
    } else if (this.#requests.length > 0) this.#end ??= this.#keep(`${thread} ${MARK_LINE}`);
  }

  /** The call with the path behind its descriptor, as strace has it with -y. */
  #withPath(text: string): string {
    const [, name = '', descriptor = '', shown] = /^(\w+)\((\d+)(<(?:[^>\\]|\\.)*>)?/.exec(text) ?? [];
    if (shown !== undefined) {
      const path = withoutDeleted(unescapePath(shown.slice(1, -1)));
      this.#seen.add(path);
      return text.replace(' (deleted)>', '>').replace('>(deleted)', '>');
    }
    const path = this.#paths.get(descriptor);
    if (path === undefined) {
      throw this.#error(
        `${name} is of the descriptor ${descriptor}, which no line opens: run strace with -y, or trace openat from the start`,
      );
    }
    this.#seen.add(unescapePath(path));
    return text.replace(`${name}(${descriptor}`, `${name}(${descriptor}<${path}>`);
  }

  #open(text: string): void {
    const [, shown = '', flags = '', descriptor, path] =
      /^\w+\((?:[^",]+, )?"((?:[^"\\]|\\.)*)"(.*)\) += (\d+)(?:<((?:[^>\\]|\\.)*)>)?/.exec(text) ?? [];
    if (descriptor === undefined) return;
    const name = path ?? shown.replaceAll('<', '\\74').replaceAll('>', '\\76');
    this.#paths.set(descriptor, name);
    if (/\bO_D?SYNC\b/.test(flags) && this.#isOfImage(name)) {
      throw this.#error(
        `opens ${unescapePath(name)} with O_SYNC or O_DSYNC: each write is durable without a call that could be counted; open it without, and sync`,
      );
    }
  }

  #copy(text: string): void {
    const [, from = '', to] = /^\w+\((\d+).*\) += (\d+)/.exec(text) ?? [];
    const path = this.#paths.get(from);
    const isCopy = !text.startsWith('fcntl') || text.includes('F_DUPFD');
    if (isCopy && to !== undefined && path !== undefined) this.#paths.set(to, path);
  }

  #close(text: string): void {
    const [, descriptor = ''] = /^close\((\d+)/.exec(text) ?? [];
    this.#paths.delete(descriptor);
  }

  #refuseAsynchronous(call: string): never {
    const way = ASYNCHRONOUS[call] ?? 'io_uring';
    const message = `the process used ${way} (${call}), of which strace does not show the operations: run it with synchronous calls (QEMU: aio=threads), or have it write its operations as JSON Lines`;
    throw new Qcow2BenchError('ingest-asynchronous', message, { path: this.#options.path, line: this.#line });
  }

  #refuseUnseen(call: string, text: string): void {
    const shared = call !== 'mmap' || (text.includes('PROT_WRITE') && text.includes('MAP_SHARED'));
    if (!shared || text.includes(' = -1 ')) return;
    const touched = [...text.matchAll(/\b(\d+)(?:<((?:[^>\\]|\\.)*)>)?/g)].some(
      ([, descriptor = '', path], at) => {
        const isDescriptor = path !== undefined || (at === 0 && call !== 'mmap');
        const file = path ?? this.#paths.get(descriptor);
        return isDescriptor && file !== undefined && this.#isOfImage(file);
      },
    );
    if (touched) throw this.#error(`${call} on the image ${UNSEEN[call] ?? ''}`);
  }

  #isOfImage(path: string): boolean {
    const name = baseName(withoutDeleted(unescapePath(path)));
    return Object.values(this.#options.files).some((own) => baseName(own) === name);
  }

  #keep(text: string): number {
    this.#kept.push({ text, line: this.#line });
    return this.#kept.length - 1;
  }

  #error(rule: string): Qcow2BenchError {
    return new Qcow2BenchError('peer-bad-trace', rule, { path: this.#options.path, line: this.#line });
  }
}

function isPlaced(call: string): boolean {
  return (TRACED_CALLS as readonly string[]).includes(call);
}

function unmarked(path: string, expected: readonly Request[] | undefined): Qcow2BenchError {
  const wanted = expected === undefined ? 'N + 1' : String(expected.length + 1);
  const message = `does not show where requests begin: have the program raise ${MARK_SIGNAL} before each and after the last (${wanted} of them), or trace the calls by which an NBD server receives them (read, recvmsg, recvfrom) with -s 32`;
  return new Qcow2BenchError('ingest-unmarked', message, { path });
}

/** The requests of the run, as they are known. */
function matched(
  shown: readonly Request[] | undefined,
  {
    expected,
    marked,
    path,
  }: { readonly expected: readonly Request[] | undefined; readonly marked: number; readonly path: string },
): readonly Request[] | { readonly length: number } {
  const misfit = (text: string): Qcow2BenchError =>
    new Qcow2BenchError('ingest-misfit', `${text}: name the requests that were served with --requests`, {
      path,
    });
  if (expected === undefined) {
    if (shown !== undefined) return shown;
    throw misfit(`has ${String(marked)} marked requests, and does not show which`);
  }
  if (shown === undefined) {
    if (marked === expected.length) return expected;
    throw misfit(
      `has ${String(marked + 1)} marks, but ${String(expected.length)} requests need ${String(expected.length + 1)}`,
    );
  }
  const other = expected.findIndex((request, at) => !isSame(request, shown[at]));
  if (other >= 0) {
    const found = shown[other];
    const has = found === undefined ? 'ends before it' : `has ${requestText(found)} there`;
    throw misfit(`request ${String(other)} is ${requestText(expected[other])}, but the log ${has}`);
  }
  const rest = shown.slice(expected.length);
  // A client flushes when it leaves.
  if (rest.every(({ op }) => op === 'flush')) return expected;
  throw misfit(`has ${String(shown.length)} requests, but --requests has ${String(expected.length)}`);
}

/** A client may leave out what only advises. */
function isSame(one: Request, other: Request | undefined): boolean {
  return one.op === other?.op && one.offset === other.offset && one.length === other.length;
}

function requestText(request: Request | undefined): string {
  if (request === undefined) return 'none';
  const { op, offset, length } = request;
  return op === 'flush' ? 'a flush' : `a ${op} of ${String(length)} bytes at 0x${offset.toString(16)}`;
}
