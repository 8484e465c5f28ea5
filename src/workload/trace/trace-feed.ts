/**
 * One file of a trace on its way through its parser: takes chunks, cuts them into lines or records, and hands what
 * breaks a rule to the reader with its place.
 *
 * Invariants: at most a chunk and an unfinished line or record is held. A file that ends within one was cut short,
 * which is always an error.
 */

import type { ErrorPlace } from '../../core/error.ts';
import { LIMITS } from '../../core/limits.ts';
import { LineScanner } from './line-scanner.ts';
import { RecordScanner } from './record-scanner.ts';
import { badTrace } from './request-rules.ts';
import type { TraceIntake } from './trace-intake.ts';
import type { LineParser, RecordParser, TraceParser } from './trace-parser.ts';

/** A rule was broken: throws, or returns if the line or record is to be left out. */
export type OnBroken = (rule: string, place: ErrorPlace, parser: TraceParser) => void;

export interface FeedParts<Parser extends TraceParser = TraceParser> {
  readonly path: string;
  /** The chunk that was read already. */
  readonly head: Uint8Array;
  readonly intake: TraceIntake;
  readonly parser: Parser;
  readonly onBroken: OnBroken;
}

export interface TraceFeed {
  readonly parser: TraceParser;
  /** The time of the last request it gave to the intake. */
  readonly timeNs: number;
  /** A chunk is wanted. */
  readonly isStarved: boolean;
  readonly isEnded: boolean;
  /** Where it stands, for errors of the file itself. */
  readonly place: ErrorPlace;
  /** Parses until the intake is full, a request lies after `untilNs`, or a chunk is wanted. */
  parse(untilNs: number): void;
  /** Takes the next chunk; `undefined` is the end of the file. */
  push(chunk: Uint8Array | undefined): void;
}

export function openFeed(parts: FeedParts): TraceFeed {
  const { parser } = parts;
  return parser.unit === 'line' ? new LineFeed({ ...parts, parser }) : new RecordFeed({ ...parts, parser });
}

const TOO_LONG = `the line is longer than ${String(LIMITS.traceLineBytes)} bytes`;

class LineFeed implements TraceFeed {
  readonly parser: LineParser;
  timeNs = -Infinity;
  isStarved = false;
  isEnded = false;

  readonly #path: string;
  readonly #intake: TraceIntake;
  readonly #onBroken: OnBroken;
  readonly #lines = new LineScanner({ lengthMax: LIMITS.traceLineBytes });

  constructor({ path, head, intake, parser, onBroken }: FeedParts<LineParser>) {
    this.parser = parser;
    this.#path = path;
    this.#intake = intake;
    this.#onBroken = onBroken;
    this.#lines.push(head);
  }

  get place(): ErrorPlace {
    return { path: this.#path, ...(this.#lines.line > 0 && { line: this.#lines.line + 1 }) };
  }

  parse(untilNs: number): void {
    const lines = this.#lines;
    const intake = this.#intake;
    const { parser } = this;
    intake.timeNs = this.timeNs;
    while (!intake.isFull && intake.timeNs <= untilNs) {
      if (!lines.advance()) {
        this.isStarved = true;
        if (lines.unfinishedTooLong) throw badTrace(TOO_LONG, { path: this.#path, line: lines.line + 1 });
        break;
      }
      const rule = lines.tooLong ? TOO_LONG : parser.line(lines.bytes, lines.start, lines.end);
      if (rule !== undefined) this.#onBroken(rule, { path: this.#path, line: lines.line }, parser);
    }
    this.timeNs = intake.timeNs;
  }

  push(chunk: Uint8Array | undefined): void {
    this.isStarved = false;
    if (chunk !== undefined) {
      this.#lines.push(chunk);
      return;
    }
    this.isEnded = true;
    if (this.#lines.unfinishedBytes > 0) {
      const rule =
        'the last line does not end with a line feed: the file was cut short, or lacks its last byte';
      throw badTrace(rule, { path: this.#path, line: this.#lines.line + 1 });
    }
    const rule = this.parser.finish?.();
    if (rule !== undefined) throw badTrace(rule, { path: this.#path });
  }
}

class RecordFeed implements TraceFeed {
  readonly parser: RecordParser;
  timeNs = -Infinity;
  isStarved = false;
  isEnded = false;

  readonly #path: string;
  readonly #intake: TraceIntake;
  readonly #onBroken: OnBroken;
  readonly #records = new RecordScanner();

  constructor({ path, head, intake, parser, onBroken }: FeedParts<RecordParser>) {
    this.parser = parser;
    this.#path = path;
    this.#intake = intake;
    this.#onBroken = onBroken;
    this.#records.push(head);
  }

  get place(): ErrorPlace {
    return { path: this.#path, offset: this.#records.nextOffset };
  }

  parse(untilNs: number): void {
    const records = this.#records;
    const intake = this.#intake;
    const { parser } = this;
    intake.timeNs = this.timeNs;
    while (!intake.isFull && intake.timeNs <= untilNs) {
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
        const place = { path: this.#path, offset: records.offset };
        this.#onBroken(`record ${String(records.record)}: ${rule}`, place, parser);
      }
    }
    this.timeNs = intake.timeNs;
  }

  push(chunk: Uint8Array | undefined): void {
    this.isStarved = false;
    if (chunk !== undefined) {
      this.#records.push(chunk);
      return;
    }
    this.isEnded = true;
    if (!this.#records.isBetweenRecords) {
      throw badTrace(`the file was cut short within record ${String(this.#records.record + 1)}`, this.place);
    }
    const rule = this.parser.finish?.();
    if (rule !== undefined) throw badTrace(rule, { path: this.#path });
  }
}
