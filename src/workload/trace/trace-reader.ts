/**
 * Opens a trace of any known format and gives its requests in batches.
 *
 * Invariants:
 * - Streams: memory is bounded by a chunk of the file and the requests in it, whatever the file's size.
 * - `openTrace` returns once the device's size is known, so a header that is broken is an error there.
 * - A line that breaks a rule is one error, `bad-trace`, with path, line number and rule; with `skipBad` it is
 *   counted and left out. A broken header, a cut file and a failing disk are always errors.
 */

import { Qcow2BenchError, systemCode } from '../../core/error.ts';
import { LIMITS } from '../../core/limits.ts';
import { readUnpacked } from './unpacked-file.ts';
import { LineScanner } from './line-scanner.ts';
import { NativeTraceParser } from './native.ts';
import { NbdkitLogParser, isNbdkitLog } from './nbdkit-log.ts';
import type { RequestStream } from '../request-stream.ts';
import type { Request } from '../request.ts';
import { badTrace } from './request-rules.ts';
import type { TraceFormat, TraceParser } from './request-rules.ts';

/** Requests a batch holds at most, but for those that one line makes ready. */
const BATCH_REQUESTS_MAX = 4096;
/** Bytes that tell the formats apart. */
const HEAD_BYTES = 512;

export interface OpenTraceOptions {
  /** Default: told from the content. */
  readonly format?: TraceFormat | undefined;
  /** Leave out lines that break a rule, and count them, instead of stopping at the first. */
  readonly skipBad?: boolean | undefined;
  /** At most this many requests; default: all. */
  readonly limit?: number | undefined;
}

export interface OpenTrace extends RequestStream {
  readonly path: string;
  readonly format: TraceFormat;
  /** The `#key value` facts of the header, in file order. */
  readonly provenance: ReadonlyMap<string, string>;
  /** Lines left out so far by `skipBad`. */
  readonly skippedCount: number;
  /** Requests left out so far because they failed, or were never answered, when they were recorded. */
  readonly failedCount: number;
}

/**
 * Opens the trace at `path`: native text or the log of nbdkit's log filter, plain or compressed (gzip,
 * Zstandard). Iterate `batches` once; dispose of the trace if you do not iterate it to its end.
 *
 * @throws Qcow2BenchError `bad-trace`, here and while iterating.
 */
export async function openTrace(path: string, options: OpenTraceOptions = {}): Promise<OpenTrace> {
  const reader = new TraceReader(path, options);
  try {
    await reader.readHeader();
  } catch (error) {
    await reader[Symbol.asyncDispose]();
    throw error;
  }
  return reader;
}

class TraceReader implements OpenTrace {
  readonly path: string;
  readonly batches: AsyncIterable<readonly Request[]>;
  skippedCount = 0;

  readonly #chunks: AsyncGenerator<Uint8Array, undefined>;
  readonly #lines = new LineScanner({ lengthMax: LIMITS.traceLineBytes });
  readonly #skipBad: boolean;
  #format: TraceFormat | undefined;
  #parser: TraceParser | undefined;
  /** Requests that the header's chunk held already, then those of the present batch. */
  #ready: Request[] = [];
  #left: number;
  #ended = false;

  constructor(path: string, { format, skipBad = false, limit = Infinity }: OpenTraceOptions) {
    this.path = path;
    this.#format = format;
    this.#skipBad = skipBad;
    this.#left = limit;
    this.#chunks = readUnpacked(path);
    this.batches = this.#batches();
  }

  get format(): TraceFormat {
    return this.#format ?? 'native';
  }

  get virtualSize(): number {
    return this.#parser?.virtualSize ?? 0;
  }

  get provenance(): ReadonlyMap<string, string> {
    return this.#parser?.provenance ?? new Map();
  }

  get failedCount(): number {
    return this.#parser?.failedCount ?? 0;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#chunks.return(undefined);
  }

  /** Reads until the first request, or the end of a trace without any. */
  async readHeader(): Promise<void> {
    while (!this.#ended && this.#ready.length === 0) await this.#fill();
  }

  async *#batches(): AsyncGenerator<readonly Request[], undefined> {
    try {
      while (this.#left > 0) {
        if (this.#ready.length > 0) {
          const batch = this.#ready.length > this.#left ? this.#ready.slice(0, this.#left) : this.#ready;
          this.#ready = [];
          this.#left -= batch.length;
          yield batch;
        } else if (this.#ended) {
          break;
        } else {
          await this.#fill();
        }
      }
    } finally {
      await this[Symbol.asyncDispose]();
    }
    return undefined;
  }

  /** Parses up to a batch of requests from the lines at hand, or else takes another chunk. */
  async #fill(): Promise<void> {
    const lines = this.#lines;
    const parser = this.#parser;
    if (parser !== undefined) {
      while (this.#ready.length < BATCH_REQUESTS_MAX && lines.advance()) {
        const rule = lines.tooLong
          ? tooLongRule
          : parser.line(lines.bytes, lines.start, lines.end, this.#ready);
        if (rule !== undefined) this.#bad(rule, lines.line, parser);
      }
      if (this.#ready.length > 0) return;
      if (lines.unfinishedTooLong) throw badTrace(tooLongRule, { path: this.path, line: lines.line + 1 });
    }
    const chunk = await this.#nextChunk();
    const known = parser ?? this.#choose(chunk);
    if (chunk === undefined) this.#finish(known);
    else lines.push(chunk);
  }

  async #nextChunk(): Promise<Uint8Array | undefined> {
    try {
      const { value } = await this.#chunks.next();
      return value ?? undefined;
    } catch (error) {
      const place = { path: this.path, ...(this.#lines.line > 0 && { line: this.#lines.line + 1 }) };
      throw badTrace(readFailure(error), place, error);
    }
  }

  #choose(head: Uint8Array | undefined): TraceParser {
    const text = Buffer.from(head?.subarray(0, HEAD_BYTES) ?? []).toString('latin1');
    this.#format ??= isNbdkitLog(text) ? 'nbdkit-log' : 'native';
    this.#parser = createParser(this.#format);
    return this.#parser;
  }

  #finish(parser: TraceParser): void {
    this.#ended = true;
    const place = { path: this.path, line: this.#lines.line + 1 };
    if (this.#lines.unfinishedBytes > 0) {
      throw badTrace('the last line does not end with a line feed: the file was cut short', place);
    }
    const rule = parser.finish(this.#ready);
    if (rule !== undefined) throw badTrace(rule, { path: this.path });
  }

  #bad(rule: string, line: number, parser: TraceParser): void {
    if (!this.#skipBad || !parser.headerDone) throw badTrace(rule, { path: this.path, line });
    this.skippedCount++;
  }
}

const tooLongRule = `the line is longer than ${String(LIMITS.traceLineBytes)} bytes`;

function createParser(format: TraceFormat): TraceParser {
  switch (format) {
    case 'native':
      return new NativeTraceParser();
    case 'nbdkit-log':
      return new NbdkitLogParser();
  }
}

/** Why the bytes ended: the system's code, or the decompressor's words. */
function readFailure(error: unknown): string {
  if (error instanceof Qcow2BenchError) return error.message;
  const code = systemCode(error);
  if (code?.startsWith('E') === true) return `cannot be read (${code})`;
  const words = error instanceof Error ? error.message : String(error);
  return `the compressed file is damaged or cut short (${words})`;
}
