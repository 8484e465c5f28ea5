/**
 * The contract between the reader of traces and the parser of each format.
 *
 * A parser takes lines or records in file order, hands the requests in them to the
 * `RequestCollector` it was made with, and answers what rule a line breaks, or `undefined`. The
 * reader alone knows path, line and record number, and decides whether a broken one ends the
 * reading or is left out and counted.
 */

interface Parser {
  /**
   * Whether the lines or records after a broken one can be understood. Where not (a broken header,
   * a record whose length is not known), it is an error even if bad ones are skipped.
   */
  readonly canSkip: boolean;
  /** Facts from the trace's header; complete before the first request. */
  readonly provenance?: ReadonlyMap<string, string>;
  /** Requests left out because they failed, or were never answered, when they were recorded. */
  readonly failedCount?: number;
  /** The end of the file: the rule that is broken if it may not end here. */
  finish?(): string | undefined;
}

/** Of a format of text lines. */
export interface LineParser extends Parser {
  readonly unit: 'line';
  /**
   * Whether a line was taken that shows the format, in formats with lines that give no request by
   * themselves; left out, a request shows it.
   */
  readonly isRecognised?: boolean;
  /** Takes the line `bytes[start … end)`, without its line feed. */
  line(bytes: Uint8Array, start: number, end: number): string | undefined;
}

/** Of a binary format. */
export interface RecordParser extends Parser {
  readonly unit: 'record';
  /** Bytes of the next record, as far as they are to be seen. */
  readonly recordBytes: number;
  /** Bytes that follow the record just taken and are passed over unseen. */
  readonly bytesToSkip: number;
  /** Nothing of the file is left to be taken, whatever follows. */
  readonly isDone?: boolean;
  /** Takes the record that begins at `start`; `recordBytes` are there. */
  record(bytes: Uint8Array, start: number): string | undefined;
}

export type TraceParser = LineParser | RecordParser;
