/**
 * One file of a trace on its way through its parser: takes chunks, cuts them into lines or records,
 * and hands what breaks a rule to the reader with its place.
 *
 * Invariants: at most a chunk and an unfinished line or record is held. A file that ends within one
 * was cut short, which is always an error.
 */

import type { ErrorPlace } from '../../core/error.ts';
import { LIMITS } from '../../core/limits.ts';
import { LineScanner } from './line-scanner.ts';
import { withoutByteOrderMark } from './trace-head.ts';
import { RecordScanner } from './record-scanner.ts';
import { badTrace } from './request-rules.ts';
import type { RequestCollector } from './request-collector.ts';
import type { LineParser, RecordParser, TraceParser } from './trace-parser.ts';

/** A rule was broken: throws, or returns if the line or record is to be left out. */
export type OnBroken = (rule: string, place: ErrorPlace, parser: TraceParser) => void;

export interface FeedParts<Parser extends TraceParser = TraceParser> {
  readonly path: string;
  /** Of a part of a file: lines of the file before it. */
  readonly linesBefore?: number | undefined;
  /** The chunk that was read already. */
  readonly head: Uint8Array;
  readonly collector: RequestCollector;
  readonly parser: Parser;
  readonly onBroken: OnBroken;
  /**
   * Called for a truncated file, with the bytes after its last complete line or record; without it,
   * truncation is an error.
   */
  readonly onCut?: ((bytes: number) => void) | undefined;
}

export interface TraceFeed {
  readonly parser: TraceParser;
  /** The time of the last request it gave to the collector. */
  readonly timeNs: number;
  /** A chunk is wanted. */
  readonly isStarved: boolean;
  readonly isEnded: boolean;
  /** Its position, for errors of the file itself. */
  readonly place: ErrorPlace;
  /** Parses until the collector is full, a request is after `untilNs`, or a chunk is wanted. */
  parse(untilNs: number): void;
  /** Takes the next chunk; `undefined` is the end of the file. */
  push(chunk: Uint8Array | undefined): void;
}

export function openFeed(parts: FeedParts): TraceFeed {
  const { parser } = parts;
  return parser.unit === 'line' ? new LineFeed({ ...parts, parser }) : new RecordFeed({ ...parts, parser });
}

/** Ends the message about a file that was cut short. */
export const RECOVER_HINT = '; use --recover to read up to there';
const TOO_LONG = `the line is longer than ${String(LIMITS.traceLineBytes)} bytes`;

/** What feeds of lines and of records share: where they stand, and how a file ends. */
abstract class FileFeed<Parser extends TraceParser> implements TraceFeed {
  readonly parser: Parser;
  timeNs = -Infinity;
  isStarved = false;
  isEnded = false;

  protected readonly path: string;
  protected readonly collector: RequestCollector;
  protected readonly onBroken: OnBroken;
  readonly #onCut: ((bytes: number) => void) | undefined;

  constructor({ path, collector, parser, onBroken, onCut }: FeedParts<Parser>) {
    this.parser = parser;
    this.path = path;
    this.collector = collector;
    this.onBroken = onBroken;
    this.#onCut = onCut;
  }

  abstract get place(): ErrorPlace;
  abstract parse(untilNs: number): void;
  protected abstract take(chunk: Uint8Array): void;
  /** The rule that is broken if the file ends here, within a line or record. */
  protected abstract readonly cutRule: string | undefined;
  protected abstract readonly unfinishedBytes: number;

  push(chunk: Uint8Array | undefined): void {
    this.isStarved = false;
    if (chunk !== undefined) {
      this.take(chunk);
      return;
    }
    this.isEnded = true;
    const { cutRule } = this;
    const rule = cutRule ?? this.parser.finish?.();
    if (rule === undefined) return;
    if (this.#onCut !== undefined) this.#onCut(this.unfinishedBytes);
    else throw badTrace(`${rule}${RECOVER_HINT}`, cutRule === undefined ? { path: this.path } : this.place);
  }
}

class LineFeed extends FileFeed<LineParser> {
  readonly #lines = new LineScanner({ lengthMax: LIMITS.traceLineBytes });

  constructor(parts: FeedParts<LineParser>) {
    super(parts);
    this.#lines.line = parts.linesBefore ?? 0;
    this.take(withoutByteOrderMark(parts.head));
  }

  override get place(): ErrorPlace {
    return { path: this.path, ...(this.#lines.line > 0 && { line: this.#lines.line + 1 }) };
  }

  override parse(untilNs: number): void {
    const lines = this.#lines;
    const collector = this.collector;
    const { parser } = this;
    collector.timeNs = this.timeNs;
    collector.rejectLater = (rule) => {
      const { line } = lines;
      return () => this.onBroken(rule, { path: this.path, line }, parser);
    };
    while (!collector.isFull && collector.timeNs <= untilNs) {
      if (!lines.advance()) {
        this.isStarved = true;
        if (lines.unfinishedTooLong) throw badTrace(TOO_LONG, { path: this.path, line: lines.line + 1 });
        break;
      }
      const rule = lines.tooLong ? TOO_LONG : parser.line(lines.bytes, lines.start, lines.end);
      if (rule !== undefined) this.onBroken(rule, { path: this.path, line: lines.line }, parser);
    }
    this.timeNs = collector.timeNs;
  }

  protected override take(chunk: Uint8Array): void {
    this.#lines.push(chunk);
  }

  protected override get cutRule(): string | undefined {
    if (this.unfinishedBytes === 0) return undefined;
    return 'the last line does not end with a line feed: the file is truncated';
  }

  protected override get unfinishedBytes(): number {
    return this.#lines.unfinishedBytes;
  }
}

class RecordFeed extends FileFeed<RecordParser> {
  readonly #records = new RecordScanner();

  constructor(parts: FeedParts<RecordParser>) {
    super(parts);
    this.take(parts.head);
  }

  override get place(): ErrorPlace {
    return { path: this.path, offset: this.#records.nextOffset };
  }

  override parse(untilNs: number): void {
    const records = this.#records;
    const collector = this.collector;
    const { parser } = this;
    collector.timeNs = this.timeNs;
    collector.rejectLater = (rule) => {
      const { record, offset } = records;
      const words = `record ${String(record)}: ${rule}`;
      return () => this.onBroken(words, { path: this.path, offset }, parser);
    };
    while (!collector.isFull && collector.timeNs <= untilNs) {
      if (parser.isDone === true && !records.isSkipping) {
        this.isEnded = true;
        break;
      }
      if (!records.advance(parser.recordBytes)) {
        this.isStarved = true;
        break;
      }
      const rule = parser.record(records.bytes, records.start);
      records.skip(parser.bytesToSkip);
      if (rule !== undefined) {
        const place = { path: this.path, offset: records.offset };
        this.onBroken(`record ${String(records.record)}: ${rule}`, place, parser);
      }
    }
    this.timeNs = collector.timeNs;
  }

  protected override take(chunk: Uint8Array): void {
    this.#records.push(chunk);
  }

  protected override get cutRule(): string | undefined {
    if (this.#records.isBetweenRecords) return undefined;
    return `the file is truncated within record ${String(this.#records.record + 1)}`;
  }

  protected override get unfinishedBytes(): number {
    return this.#records.unfinishedBytes;
  }
}
