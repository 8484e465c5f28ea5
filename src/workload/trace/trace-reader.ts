/**
 * Opens a trace of any known format and gives its requests in batches.
 *
 * Invariants:
 * - Streams: memory is bounded by a chunk of each file and the requests that the format's order
 *   window holds back, whatever the size of the trace.
 * - `openTrace` returns once the device's size is known, so a header that is broken is an error
 *   there. A format that does not record the size is read once for it, unless the size is given.
 * - A line or record that breaks a rule is one error, `bad-trace`, with path, line or offset, and
 *   rule; with `skipBad` it is counted and left out. A broken header, a cut file and a failing disk
 *   are always errors.
 * - Several files (blktrace's, or those of a directory) are merged by time: the next request is read
 *   from the file that is furthest back.
 */

import { Qcow2BenchError, systemCode, type ErrorPlace } from '../../core/error.ts';
import type { RequestStream } from '../request-stream.ts';
import type { Request } from '../request.ts';
import type { BlockAction } from './block-action.ts';
import type { ColumnLayout } from './column-layout.ts';
import { badTrace } from './request-rules.ts';
import { logParts, PARTS_MAX, type LogPart } from './log-parts.ts';
import { openFeed, RECOVER_HINT, type TraceFeed } from './trace-feed.ts';
import { refuseStream, sizeOfFiles, traceFiles } from './trace-files.ts';
import { recogniseTrace, TRACE_FORMATS, traceFormat, type TraceFormat } from './trace-formats.ts';
import { ambiguousTraceRule, headOf, readHead, unknownTraceRule } from './trace-head.ts';
import { BATCH_REQUESTS, RequestCollector } from './request-collector.ts';
import { RequestColumns } from './request-columns.ts';
import type { TallyEntry } from './tally.ts';
import type { TraceParser } from './trace-parser.ts';
import { readUnpacked } from './unpacked-file.ts';

export interface OpenTraceOptions {
  /** Default: detected from the content. */
  readonly format?: TraceFormat | undefined;
  /** Which volume to read; default: the only one there is. */
  readonly volume?: string | undefined;
  /**
   * Bytes of the device; default: what the trace says, or the end of its requests rounded up to
   * whole MiB.
   */
  readonly size?: number | undefined;
  /**
   * Leave out lines and records that break a rule, and count them, instead of stopping at the
   * first.
   */
  readonly skipBad?: boolean | undefined;
  /** Read a file that was cut short up to its last whole line or record, instead of refusing it. */
  readonly recover?: boolean | undefined;
  /**
   * In formats with several events of a request: which of them to take; default: the first of Q, I,
   * D, C that the trace has.
   */
  readonly action?: BlockAction | undefined;
  /** What the columns of a text are: the format is `columns` then. */
  readonly columns?: ColumnLayout | undefined;
  /** Bytes to whose multiples requests are widened, and counted; default: they are bad ones. */
  readonly align?: number | undefined;
  /** At most this many requests; default: all. */
  readonly limit?: number | undefined;
}

export interface OpenTrace extends RequestStream {
  readonly path: string;
  readonly format: TraceFormat;
  /** The volume that is read, in formats with volumes. */
  readonly volume: string | undefined;
  /** Facts from the trace's header, in file order. */
  readonly provenance: ReadonlyMap<string, string>;
  /** Lines or records left out so far by `skipBad`. */
  readonly skippedCount: number;
  /**
   * With `recover`: whether a file was found to be cut short so far, and the unpacked bytes left
   * out at its end.
   */
  readonly isCut: boolean;
  readonly cutBytes: number;
  /**
   * Requests left out so far because they failed, or were never answered, when they were recorded.
   */
  readonly failedCount: number;
  /** Requests left out so far because they went to another volume. */
  readonly otherVolumeCount: number;
  /** Which event of a request was taken, in formats with several, once it is known. */
  readonly action: BlockAction | undefined;
  /** Lines and records so far that were recognised and give no request, by kind. */
  readonly passedOver: readonly TallyEntry[];
  /** Requests so far that were taken otherwise than they are recorded, by kind. */
  readonly adjusted: readonly TallyEntry[];
}

/**
 * Opens the trace at `path`, a file or a directory of files, plain or compressed (gzip, Zstandard).
 * Iterate `batches` once; dispose of the trace if you do not iterate it to its end.
 *
 * @throws Qcow2BenchError `bad-trace`, `several-volumes`, `unknown-volume`, here and while
 *   iterating.
 */
export async function openTrace(path: string, options: OpenTraceOptions = {}): Promise<OpenTrace> {
  refuseStream(path);
  const trace = await openUnsizedTrace(path, options);
  if (trace.isSized) return trace;
  const { format } = trace;
  await readThrough(trace);
  return openUnsizedTrace(path, { ...options, format, size: trace.virtualSize });
}

/** Reads what is left of a trace, for what is known only then. */
async function readThrough({ batches }: OpenTrace): Promise<void> {
  const iterator = batches[Symbol.asyncIterator]();
  while ((await iterator.next()).done !== true);
}

/** A trace whose size may be known only when it was read through. */
export interface UnsizedTrace extends OpenTrace {
  /** Whether `virtualSize` is the device's; otherwise it grows with the requests that were read. */
  readonly isSized: boolean;
  /** The requests as numbers, in place of `batches`; each batch is valid until the next one. */
  readonly columns: AsyncIterable<RequestColumns>;
  /** Bytes of the files, packed or not, and how many of them were read so far. */
  readonly fileBytes: number | undefined;
  readonly readBytes: number;
}

/**
 * As `openTrace`, for those who need no size to begin with: the trace is read once, so it may be a
 * pipe, or `-` for standard input.
 */
export async function openUnsizedTrace(path: string, options: OpenTraceOptions = {}): Promise<UnsizedTrace> {
  const reader = new TraceReader(path, options);
  try {
    await reader.open();
  } catch (error) {
    await reader[Symbol.asyncDispose]();
    throw error;
  }
  return reader;
}

interface Source {
  readonly chunks: AsyncGenerator<Uint8Array, undefined>;
  readonly feed: TraceFeed;
}

class TraceReader implements UnsizedTrace {
  readonly path: string;
  readonly batches: AsyncIterable<readonly Request[]>;
  readonly columns: AsyncIterable<RequestColumns>;
  skippedCount = 0;
  isCut = false;
  cutBytes = 0;
  readBytes = 0;

  readonly #options: OpenTraceOptions;
  #files: readonly AsyncGenerator<Uint8Array, undefined>[];
  /** Where the files are logs that were appended to one another: what `#files` reads. */
  #parts: readonly LogPart[] | undefined;
  readonly #paths: readonly string[];
  #sources: readonly Source[] = [];
  #format: TraceFormat = 'native';
  #collector: RequestCollector | undefined;
  /** The first batch, read by `open`. */
  #first = new RequestColumns();
  #left: number;
  #isEnded = false;
  #hasRequests = false;

  constructor(path: string, options: OpenTraceOptions) {
    this.path = path;
    this.#options = options;
    this.#left = options.limit ?? Infinity;
    this.#paths = traceFiles(path);
    this.#files = this.#paths.map((file) => this.#read(file));
    this.columns = this.#columns();
    this.batches = requestsIn(this.columns);
  }

  get format(): TraceFormat {
    return this.#format;
  }

  get fileBytes(): number | undefined {
    return sizeOfFiles(this.#paths);
  }

  get isSized(): boolean {
    return this.#collector?.virtualSize !== undefined;
  }

  get virtualSize(): number {
    return this.#collector?.virtualSize ?? this.#collector?.footprintSize ?? 0;
  }

  get volume(): string | undefined {
    return this.#collector?.volumes.taken;
  }

  get provenance(): ReadonlyMap<string, string> {
    return this.#sources[0]?.feed.parser.provenance ?? new Map();
  }

  get failedCount(): number {
    const failed = this.#collector?.actions.failedCount ?? 0;
    return this.#sources.reduce((sum, { feed }) => sum + (feed.parser.failedCount ?? 0), failed);
  }

  get otherVolumeCount(): number {
    return this.#collector?.volumes.otherCount ?? 0;
  }

  get action(): BlockAction | undefined {
    return traceFormat(this.#format).hasActions === true ? this.#collector?.actions.chosen : undefined;
  }

  get passedOver(): readonly TallyEntry[] {
    return this.#collector?.passedOver.list() ?? [];
  }

  get adjusted(): readonly TallyEntry[] {
    return this.#collector?.adjusted.list() ?? [];
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const chunks of this.#files) await chunks.return(undefined);
  }

  /**
   * Reads the beginning of every file, then until the first requests, or the end of a trace without
   * any.
   */
  async open(): Promise<void> {
    let heads = await this.#readHeads();
    const { columns } = this.#options;
    this.#format =
      (columns === undefined ? this.#options.format : 'columns') ??
      this.#recognised(heads.find((head) => head.length > 0) ?? new Uint8Array(0));
    const {
      orderWindow: window,
      rebases,
      parser: parserOf,
      hasActions,
      logStart,
    } = traceFormat(this.#format);
    const { volume, size, align, action } = this.#options;
    if (action !== undefined && hasActions !== true) throw this.#noActions();
    if (logStart === undefined) {
      if (this.#paths.length > 1 && !rebases) throw this.#notOfOneClock();
    } else if (await this.#splitLogs(logStart)) {
      heads = await this.#readHeads();
    }
    // Each of several files is read up to the first request after those of the others.
    const orderWindow = this.#files.length > 1 ? Math.max(window, this.#files.length) : window;
    const collector = new RequestCollector({ orderWindow, rebases, volume, size, align, action });
    this.#collector = collector;
    if (this.#files.length > 1 && !rebases) {
      collector.adjusted.add('logs joined as if they began together', this.#files.length);
    }
    this.#sources = this.#files.map((chunks, index) => {
      const head = heads[index] ?? new Uint8Array(0);
      const parts = {
        path: this.#parts?.[index]?.path ?? this.#paths[index] ?? this.path,
        linesBefore: this.#parts?.[index]?.linesBefore,
        head,
        collector,
        onBroken: this.#onBroken,
        onCut: this.#options.recover === true ? this.#onCut : undefined,
      };
      return { chunks, feed: openFeed({ ...parts, parser: parserOf(collector, head, columns) }) };
    });
    while (!this.#isEnded && this.#first.count === 0) this.#first = await this.#fill(collector);
  }

  #read(path: string, range?: LogPart): AsyncGenerator<Uint8Array, undefined> {
    const onCut = this.#options.recover === true ? () => this.#onCut(0) : undefined;
    const onRead = (bytes: number): void => {
      this.readBytes += bytes;
    };
    return readUnpacked(path, { onCut, onRead, range });
  }

  async #readHeads(): Promise<Uint8Array[]> {
    const heads: Uint8Array[] = [];
    for (const [index, chunks] of this.#files.entries()) {
      heads.push(await caught({ path: this.#paths[index] ?? this.path }, () => readHead(chunks)));
    }
    return heads;
  }

  /** Reads the logs in the files one beside the other; false if each file is one. */
  async #splitLogs(logStart: string): Promise<boolean> {
    const parts: LogPart[] = [];
    for (const path of this.#paths) {
      const found = await caught({ path }, () => logParts(path, logStart));
      parts.push(...(found.length > 0 ? found : [{ path, start: 0, end: Infinity, linesBefore: 0 }]));
    }
    if (parts.length === this.#paths.length) return false;
    if (parts.length > PARTS_MAX) throw this.#tooManyLogs();
    await this[Symbol.asyncDispose]();
    this.readBytes = 0;
    this.#parts = parts;
    this.#files = parts.map((part) => this.#read(part.path, part));
    return true;
  }

  #recognised(bytes: Uint8Array): TraceFormat {
    const head = headOf(bytes);
    const { formats, isCertain } = recogniseTrace(head);
    const [format] = formats;
    if (format !== undefined && isCertain) return format;
    const place = { path: this.#paths[0] ?? this.path };
    if (format === undefined) throw badTrace(unknownTraceRule(head, TRACE_FORMATS), place);
    throw new Qcow2BenchError('ambiguous-trace', ambiguousTraceRule(formats), place);
  }

  async *#columns(): AsyncGenerator<RequestColumns, undefined> {
    try {
      let batch = this.#first;
      while (this.#left > 0) {
        if (batch.count > this.#left) batch.count = this.#left;
        this.#left -= batch.count;
        if (batch.count > 0) yield batch;
        if (this.#isEnded || this.#collector === undefined) break;
        batch = await this.#fill(this.#collector);
      }
    } finally {
      await this[Symbol.asyncDispose]();
    }
    return undefined;
  }

  /** Parses until there is a batch, or the files are at their ends. */
  async #fill(collector: RequestCollector): Promise<RequestColumns> {
    const { volumes } = collector;
    collector.batchRequests = Math.max(1, Math.min(BATCH_REQUESTS, this.#left));
    while (!collector.isFull && !volumes.isListed) {
      const { source, untilNs } = furthestBack(this.#sources);
      if (source === undefined) {
        this.#isEnded = true;
        collector.settle();
        break;
      }
      const { chunks, feed } = source;
      if (feed.isStarved) feed.push((await caught(feed.place, () => chunks.next())).value);
      else feed.parse(untilNs);
    }
    if (volumes.isSeveral && (this.#isEnded || volumes.isListed)) throw this.#severalVolumes(collector);
    if (this.#isEnded && volumes.isMissing) throw this.#missingVolume(collector);
    const batch = collector.take({ ended: this.#isEnded });
    this.#hasRequests ||= batch.count > 0;
    if (this.#isEnded && !this.#hasRequests) throw this.#noRequests(collector);
    return batch;
  }

  readonly #onBroken = (rule: string, place: ErrorPlace, parser: TraceParser): void => {
    if (this.#options.skipBad !== true || !parser.canSkip) throw badTrace(rule, place);
    this.skippedCount++;
  };

  readonly #onCut = (bytes: number): void => {
    this.isCut = true;
    this.cutBytes += bytes;
  };

  #noActions(): Qcow2BenchError {
    const message = `the format ${this.#format} has one event for each request: omit --action`;
    return new Qcow2BenchError('no-actions', message, { path: this.path });
  }

  #tooManyLogs(): Qcow2BenchError {
    const message = `has more than ${String(PARTS_MAX)} logs that were appended to one another: split it`;
    return badTrace(message, { path: this.path });
  }

  #notOfOneClock(): Qcow2BenchError {
    const message = `has ${String(this.#paths.length)} files of the format ${this.#format}, whose times count from the start of each file: read them one by one`;
    return new Qcow2BenchError('no-common-clock', message, { path: this.path });
  }

  /** Nothing taken is no success: the error has what there was instead. */
  #noRequests({ volumes: { otherCount } }: RequestCollector): Qcow2BenchError {
    const instead = [
      ...(this.skippedCount > 0 ? [`invalid lines or records ${String(this.skippedCount)}`] : []),
      ...(this.failedCount > 0 ? [`requests that failed or got no reply ${String(this.failedCount)}`] : []),
      ...(otherCount > 0 ? [`requests of other volumes ${String(otherCount)}`] : []),
      ...this.passedOver.map(({ what, count }) => `${what} ${String(count)}`),
    ];
    const { action } = this.#options;
    const wanted = action === undefined ? 'has no requests' : `has no requests of action ${action}`;
    const message = instead.length === 0 ? wanted : `${wanted}; passed over: ${instead.join(', ')}`;
    return new Qcow2BenchError('no-requests', message, { path: this.path });
  }

  #severalVolumes({ volumes }: RequestCollector): Qcow2BenchError {
    const { volume } = traceFormat(this.#format).holds;
    const kind = volume === undefined ? '' : ` (${volume})`;
    const message = `has requests of several volumes: choose one with --volume${kind}: ${listed(volumes.names)}`;
    const more = volumes.isListed ? '; there may be more, only part of the file was read' : '';
    return new Qcow2BenchError('several-volumes', message + more, { path: this.path });
  }

  #missingVolume({ volumes }: RequestCollector): Qcow2BenchError {
    const names = volumes.names;
    const those =
      names.length === 0
        ? `the format ${this.#format} has no volumes, or the trace is empty`
        : `it has ${listed(names)}`;
    const message = `has no request of the volume '${volumes.wanted ?? ''}'; ${those}`;
    return new Qcow2BenchError('unknown-volume', message, { path: this.path });
  }
}

/**
 * Where the next request is to be read, and up to which time it may be: the time of the file that
 * is second.
 */
function furthestBack(sources: readonly Source[]): {
  readonly source: Source | undefined;
  readonly untilNs: number;
} {
  let source: Source | undefined;
  let untilNs = Infinity;
  for (const candidate of sources) {
    const { feed } = candidate;
    if (feed.isEnded) continue;
    if (source === undefined) {
      source = candidate;
    } else if (feed.timeNs < source.feed.timeNs) {
      untilNs = source.feed.timeNs;
      source = candidate;
    } else {
      untilNs = Math.min(untilNs, feed.timeNs);
    }
  }
  return { source, untilNs };
}

/** Names shown of a list of volumes. */
const NAMES_SHOWN = 40;

function listed(names: readonly string[]): string {
  const shown = names.slice(0, NAMES_SHOWN).join(' ');
  return names.length <= NAMES_SHOWN ? shown : `${shown} … (${String(names.length)} in all)`;
}

async function* requestsIn(
  columns: AsyncIterable<RequestColumns>,
): AsyncGenerator<readonly Request[], undefined> {
  for await (const batch of columns) yield batch.requests();
  return undefined;
}

/** Wraps what the file system or the decompressor throws. */
async function caught<T>(place: ErrorPlace, read: () => Promise<T>): Promise<T> {
  try {
    return await read();
  } catch (error) {
    throw badTrace(readFailure(error), place, error);
  }
}

/** Why the bytes ended: the system's code, or the decompressor's words. */
function readFailure(error: unknown): string {
  if (error instanceof Qcow2BenchError) return error.message;
  const code = systemCode(error);
  if (code === 'ENOENT') return 'no such file: check the path';
  if (code?.startsWith('E') === true) return `cannot be read (${code})`;
  const words = error instanceof Error ? error.message : String(error);
  return `the compressed file is damaged or truncated (${words})${RECOVER_HINT}`;
}
