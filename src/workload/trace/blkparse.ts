/**
 * The text that blkparse prints of a block trace, and that ftrace's `blk` tracer prints with
 * `blk_classic`.
 *
 *       8,0    3        1     0.000000000   697  Q WFS 223490 + 8 [kjournald]      blkparse
 *       8,0    3        2     0.000005000   697  C  WS 8 + 8 (    5000) [0]        blkparse -t
 *       7,0    1   796.229243922 23159  Q  WS 0 + 8 [dd]                           ftrace: no sequence number
 *     device cpu sequence seconds pid action RWBS sector + sectors [process] or [error]
 *
 * Invariants: a request shows several times on its way, and `ActionChoice` takes one of them;
 * sectors are 512 bytes. An event without `+` moves no data: with F it is a flush, whatever its
 * sector; otherwise it is passed over. Every line is an event, or has one of the forms of blkparse's
 * other output and is counted; before the first event any line may be. The device is the volume.
 */

import { SECTOR_SIZE } from '../request.ts';
import type { BlockAction } from './block-action.ts';
import { digits, indexOfByte, LineFields, SPACE, textOf, WIDE_UNIT } from './line-fields.ts';
import type { RequestCollector } from './request-collector.ts';
import { Rwbs } from './rwbs.ts';
import type { LineParser } from './trace-parser.ts';

/** What is printed beside the events, by the words under which it is counted. */
const OTHER_LINES: readonly (readonly [what: string, form: RegExp])[] = [
  // `CPU0 (sda):`, `Total (sda):`, `dd (697)`, and the pairs of a label and a figure below them.
  ['summary lines', /^(?:CPU\d+|Total) \(.*\):$|^\S.* \(\d+(?:, \.\.\.)?\)$/],
  ['summary lines', /^ (?:PC |IO |Timer )?[A-Z]?[A-Za-z. ]+: +\d+/i],
  ['summary lines', /^Throughput \(R\/W\): |^Events \(.*\): \d+ entries$|^Skips: 0 forward /],
  ["lines of blkparse's own", /^Input file .* added$|^cpu \d+ trace info has error/],
  ["lines of blkparse's own", /^Script (?:started|done) on |^=== .* ===$/],
  ['summary lines', /^ +CPU +\d+: +\d+ events, +\d+ KiB data$|^ +Total: +\d+ events .*KiB data$/],
];
const LOST_EVENTS = /^CPU:\d+ \[LOST|^Skips: [1-9]\d* forward /;

/** What may be between RWBS and the process or the error. */
const ACTIONS: ReadonlySet<string> = new Set('A B C D F G I M P Q R S T U UT X m ZP ZU ZM'.split(' '));
const RWBS_LETTERS_MAX = 8;

const HASH = 0x23;
const POINT = 0x2e;
const COMMA = 0x2c;
const PLUS = 0x2b;
const OPENING = 0x28;
const BRACKET = 0x5b;
const MINUS = 0x2d;
const DIGIT_0 = 0x30;
const LETTER_C = 0x43;
const LETTER_D = 0x44;
const LETTER_I = 0x49;
const LETTER_Q = 0x51;
const LETTER_Z = 0x5a;
const LETTER_A = 0x41;
const DECIMALS = 9;

const BROKEN = 'is not a blkparse event: device cpu sequence time pid action RWBS …';

export class BlkparseParser implements LineParser {
  readonly unit = 'line';
  readonly canSkip = true;
  /** Whether there was an event. */
  isRecognised = false;

  readonly #collector: RequestCollector;
  readonly #fields = new LineFields(SPACE);
  readonly #rwbs = new Rwbs();
  /** Whether the present line begins as an event does. */
  #isEvent = false;
  #seconds = 0;
  #nanoseconds = 0;

  constructor(collector: RequestCollector) {
    this.#collector = collector;
  }

  line(bytes: Uint8Array, start: number, end: number): string | undefined {
    if (start === end) return undefined;
    const fields = this.#fields;
    fields.begin(bytes, start, end);
    fields.skipBlanks();
    if (fields.isAtEnd) return undefined;
    const rule = this.#event(bytes);
    if (rule !== BROKEN) {
      this.isRecognised = true;
      return rule;
    }
    return this.#isEvent ? BROKEN : this.#otherLine(bytes, start, end);
  }

  /** Takes the event in which `fields` stand at the device; answers the rule it breaks. */
  #event(bytes: Uint8Array): string | undefined {
    const fields = this.#fields;
    this.#word();
    const { wordStart: deviceStart, wordEnd: deviceEnd } = fields;
    this.#isEvent = isDevice(bytes, deviceStart, deviceEnd);
    if (!this.#isEvent || !this.#number()) return BROKEN;
    // A sequence number has no point; the time has.
    this.#word();
    if (indexOfByte(bytes, POINT, fields.wordStart, fields.wordEnd) === fields.wordEnd) {
      if (!isNumber(bytes, fields.wordStart, fields.wordEnd)) return BROKEN;
      this.#word();
    }
    if (!this.#readTime(bytes, fields.wordStart, fields.wordEnd) || !this.#number()) return BROKEN;
    const length = this.#word();
    const { wordStart: actionStart, wordEnd: actionEnd } = fields;
    const action = length === 1 ? actionOf(fields.wordByte) : undefined;
    const { actions } = this.#collector;
    if (action === undefined || !actions.wants(action)) {
      if (action === undefined && !this.#passesOver(bytes, actionStart, actionEnd)) return BROKEN;
      return action === undefined ? undefined : actions.lateRule(action);
    }
    if (!this.#isKind(bytes)) return BROKEN;
    const { wordStart: kindStart, wordEnd: kindEnd } = fields;
    if (!this.#collector.volumes.takesName(bytes, deviceStart, deviceEnd)) {
      actions.addOfOtherVolume(action);
      return undefined;
    }
    return this.#request(action, bytes, kindStart, kindEnd);
  }

  /** An event of another action than those that may stand for a request. */
  #passesOver(bytes: Uint8Array, start: number, end: number): boolean {
    const { actions } = this.#collector;
    const action = textOf(bytes, start, end);
    if (!ACTIONS.has(action)) return false;
    actions.passOver(action);
    if (action !== 'R' || actions.chosen === 'Q' || actions.chosen === 'C') return true;
    if (!this.#isKind(bytes)) return true;
    this.#rwbs.read(bytes, this.#fields.wordStart, this.#fields.wordEnd);
    const place = this.#place(bytes);
    if (typeof place === 'object') actions.requeue(this.#rwbs.op, place.offset, place.length);
    return true;
  }

  /** The event's kind is `bytes[start … end)`; its place is yet to be read. */
  #request(action: BlockAction, bytes: Uint8Array, start: number, end: number): string | undefined {
    const { actions, passedOver, clock } = this.#collector;
    const place = this.#place(bytes);
    if (place === 'broken') return BROKEN;
    if (place === 'pass-through') {
      passedOver.add('pass-through commands');
      return undefined;
    }
    if (action === 'C' && this.#hasFailed(bytes)) {
      actions.addFailed(action);
      return undefined;
    }
    const timeNs = clock.since(this.#seconds, this.#nanoseconds, WIDE_UNIT);
    this.#rwbs.read(bytes, start, end);
    const { offset, length } = place === 'no data' ? NOWHERE : place;
    return actions.addEvent(action, this.#rwbs, { offset, length, timeNs });
  }

  /**
   * What is after RWBS: `sector + sectors`; a command; nothing, or the sector alone, of an event
   * that moves no data.
   */
  #place(bytes: Uint8Array): Place | 'pass-through' | 'no data' | 'broken' {
    const fields = this.#fields;
    if (this.#word() === 0 || fields.wordByte === BRACKET) return 'no data';
    if (fields.wordByte === OPENING) return 'pass-through';
    const sector = digits(bytes, fields.wordStart, fields.wordEnd);
    if (sector < 0) return 'broken';
    if (this.#word() === 0 || fields.wordByte === BRACKET) return 'no data';
    if (fields.wordByte === OPENING) return 'pass-through';
    if (fields.wordByte !== PLUS || fields.wordEnd - fields.wordStart !== 1 || !this.#number()) {
      return 'broken';
    }
    const sectors = digits(bytes, fields.wordStart, fields.wordEnd);
    return { offset: sector * SECTOR_SIZE, length: sectors * SECTOR_SIZE };
  }

  /** Whether the `[error]` at the end of a completion is not 0. */
  #hasFailed(bytes: Uint8Array): boolean {
    const { end } = this.#fields;
    let at = end;
    while (at > 0 && bytes[at - 1] !== BRACKET) at--;
    return bytes[at] === MINUS || (isDigit(bytes[at]) && bytes[at] !== DIGIT_0);
  }

  #otherLine(bytes: Uint8Array, start: number, end: number): string | undefined {
    const { passedOver } = this.#collector;
    if (bytes[start] === HASH) {
      passedOver.add('comment lines');
      return undefined;
    }
    const text = textOf(bytes, start, end);
    if (LOST_EVENTS.test(text)) return 'the tracer lost events here';
    const what = OTHER_LINES.find(([, form]) => form.test(text))?.[0];
    if (what === undefined && this.isRecognised) return BROKEN;
    passedOver.add(what ?? 'lines before the first event');
    return undefined;
  }

  #word(): number {
    return this.#fields.blankWord();
  }

  /** Moves to the next word; false if it is no number. */
  #number(): boolean {
    const fields = this.#fields;
    return this.#word() > 0 && isNumber(fields.bytes, fields.wordStart, fields.wordEnd);
  }

  #isKind(bytes: Uint8Array): boolean {
    const fields = this.#fields;
    const length = this.#word();
    if (length === 0 || length > RWBS_LETTERS_MAX) return false;
    for (let at = fields.wordStart; at < fields.wordEnd; at++) {
      if (((bytes[at] ?? 0) - LETTER_A) >>> 0 > LETTER_Z - LETTER_A) return false;
    }
    return true;
  }

  #readTime(bytes: Uint8Array, start: number, end: number): boolean {
    const point = indexOfByte(bytes, POINT, start, end);
    if (point === start || end - point - 1 !== DECIMALS) return false;
    this.#seconds = digits(bytes, start, point);
    this.#nanoseconds = digits(bytes, point + 1, end);
    return this.#seconds >= 0 && this.#nanoseconds >= 0;
  }
}

/** Bytes; not below 2^53 where the sector is not. */
interface Place {
  readonly offset: number;
  readonly length: number;
}

const NOWHERE = { offset: 0, length: undefined };

function actionOf(letter: number): BlockAction | undefined {
  switch (letter) {
    case LETTER_Q:
      return 'Q';
    case LETTER_I:
      return 'I';
    case LETTER_D:
      return 'D';
    case LETTER_C:
      return 'C';
    default:
      return undefined;
  }
}

/** `8,0`. */
function isDevice(bytes: Uint8Array, start: number, end: number): boolean {
  const comma = indexOfByte(bytes, COMMA, start, end);
  return isNumber(bytes, start, comma) && comma < end && isNumber(bytes, comma + 1, end);
}

function isNumber(bytes: Uint8Array, start: number, end: number): boolean {
  return end > start && digits(bytes, start, end) >= 0;
}

function isDigit(byte: number | undefined): boolean {
  return ((byte ?? 0) - DIGIT_0) >>> 0 <= 9;
}
