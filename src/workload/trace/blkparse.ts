/**
 * The text that blkparse prints of a block trace, and that ftrace's `blk` tracer prints with
 * `blk_classic`.
 *
 *       8,0    3        1     0.000000000   697  Q WFS 223490 + 8 [kjournald]      blkparse
 *       7,0    1   796.229243922 23159  Q  WS 0 + 8 [dd]                           ftrace: no sequence number
 *     device cpu sequence seconds pid action RWBS sector + sectors [process]
 *     RWBS  F before the operation: flush first | R read, W write, D discard, N none | F after it: FUA |
 *           A ahead | S sync | M metadata
 *
 * Invariants: a request shows several times on its way, so only its `Q` counts; sectors are 512
 * bytes. An event without `+` moves no data: with F it is a flush, otherwise it is passed over.
 * What follows the events (the summary, which begins with `CPU` or `Total`) is not read. The device
 * is the volume.
 */

import { SECTOR_SIZE } from '../request.ts';
import { digits, indexOfByte, LineFields, SPACE, WIDE_UNIT } from './line-fields.ts';
import type { RequestCollector } from './request-collector.ts';
import type { LineParser } from './trace-parser.ts';

const LINE = /^\s*\d+,\d+\s+\d+\s+(?:\d+\s+)?\d+\.\d{9}\s+\d+\s+\S{1,2}\s+\S+/;
const SUMMARY = /^(CPU\d* ?\(|Total \()/;
const LOST_EVENTS = /^CPU:\d+ \[LOST/;

const HASH = 0x23;
const POINT = 0x2e;
const PLUS = 0x2b;
const DIGIT_0 = 0x30;
const QUEUED = 0x51;
const LETTER_F = 0x46;
const LETTER_R = 0x52;
const LETTER_W = 0x57;
const LETTER_D = 0x44;
const DECIMALS = 9;

const BROKEN = 'is not a blkparse event: device cpu sequence time pid action RWBS …';

/** Whether one of the first lines is such an event; comments and messages may be before it. */
export function isBlkparse(lines: readonly string[]): boolean {
  return lines.some((line) => LINE.test(line));
}

export class BlkparseParser implements LineParser {
  readonly unit = 'line';
  readonly canSkip = true;

  readonly #collector: RequestCollector;
  readonly #fields = new LineFields(SPACE);
  #isInSummary = false;
  #seconds = 0;
  #nanoseconds = 0;

  constructor(collector: RequestCollector) {
    this.#collector = collector;
  }

  line(bytes: Uint8Array, start: number, end: number): string | undefined {
    if (this.#isInSummary || start === end || bytes[start] === HASH) return undefined;
    const fields = this.#fields;
    fields.begin(bytes, start, end);
    fields.skipBlanks();
    if (fields.isAtEnd) return undefined;
    if (((bytes[fields.next] ?? 0) - DIGIT_0) >>> 0 > 9) return this.#otherLine(bytes, start, end);
    this.#word();
    const { wordStart: deviceStart, wordEnd: deviceEnd } = fields;
    this.#word();
    // A sequence number has no point; the time has.
    this.#word();
    if (indexOfByte(bytes, POINT, fields.wordStart, fields.wordEnd) === fields.wordEnd) this.#word();
    if (!this.#readTime(bytes, fields.wordStart, fields.wordEnd)) return BROKEN;
    this.#word();
    if (this.#word() === 0) return BROKEN;
    if (fields.wordByte !== QUEUED || fields.wordEnd - fields.wordStart !== 1) return undefined;
    if (this.#word() === 0) return BROKEN;
    const { wordStart: kindStart, wordEnd: kindEnd } = fields;
    if (!this.#collector.volumes.takesName(bytes, deviceStart, deviceEnd)) return undefined;
    return this.#queued(bytes, kindStart, kindEnd);
  }

  /** The event's kind is `bytes[start … end)`; its place is yet to be read. */
  #queued(bytes: Uint8Array, start: number, end: number): string | undefined {
    const fields = this.#fields;
    const timeNs = this.#collector.clock.since(this.#seconds, this.#nanoseconds, WIDE_UNIT);
    const flushes = bytes[start] === LETTER_F;
    if (flushes) {
      const rule = this.#collector.addFlush(timeNs);
      if (rule !== undefined) return rule;
    }
    const at = flushes ? start + 1 : start;
    this.#word();
    const sector = digits(bytes, fields.wordStart, fields.wordEnd);
    const hasPlace = this.#word() === 1 && fields.wordByte === PLUS;
    if (!hasPlace) return undefined;
    this.#word();
    const sectors = digits(bytes, fields.wordStart, fields.wordEnd);
    const offset = sector * SECTOR_SIZE;
    const length = sectors * SECTOR_SIZE;
    if (offset < 0 || !Number.isSafeInteger(offset)) return 'the sector is not a number below 2^53 bytes';
    if (length < 0 || !Number.isSafeInteger(length)) {
      return 'the size is not a number of sectors below 2^53 bytes';
    }
    const letter = bytes[at];
    const op =
      letter === LETTER_R
        ? 'read'
        : letter === LETTER_W
          ? 'write'
          : letter === LETTER_D
            ? 'discard'
            : undefined;
    if (op === undefined) return undefined;
    const fua = op === 'write' && at + 1 < end && bytes[at + 1] === LETTER_F;
    return this.#collector.add({ op, offset, length, fua, unmap: false, timeNs });
  }

  #otherLine(bytes: Uint8Array, start: number, end: number): string | undefined {
    const text = Buffer.from(bytes.subarray(start, end)).toString('latin1');
    if (LOST_EVENTS.test(text)) return 'the tracer lost events here';
    if (!SUMMARY.test(text)) return BROKEN;
    this.#isInSummary = true;
    return undefined;
  }

  #word(): number {
    this.#fields.skipBlanks();
    return this.#fields.word();
  }

  #readTime(bytes: Uint8Array, start: number, end: number): boolean {
    const point = indexOfByte(bytes, POINT, start, end);
    if (point === start || end - point - 1 !== DECIMALS) return false;
    this.#seconds = digits(bytes, start, point);
    this.#nanoseconds = digits(bytes, point + 1, end);
    return this.#seconds >= 0 && this.#nanoseconds >= 0;
  }
}
