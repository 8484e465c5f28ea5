/**
 * Reads the fields of a line one after the other, from its bytes, without making a string of any.
 *
 * Invariants: numbers are decimal integers below 2^53, or `NOT_A_NUMBER`, which is negative as all
 * that is no number here; a field that was read is passed over with the one separator after it.
 * `isPastEnd` means that a field was asked for that the line does not have.
 */

const DIGIT_0 = 0x30;
/** Digits of a number that fit 32 bits whatever they are. */
const INTEGER_DIGITS = 9;
/** What the low part of a wide number counts up to. */
export const WIDE_UNIT = 1e9;

export const NOT_A_NUMBER = -1;
export const EMPTY_FIELD = -2;

export const SPACE = 0x20;
export const COMMA = 0x2c;
const TAB = 0x09;

export class LineFields {
  bytes: Uint8Array = new Uint8Array(0);
  /** Where the next field begins. */
  next = 0;
  end = 0;
  /** The field that `word` passed over. */
  wordStart = 0;
  wordEnd = 0;
  /** The number that `wide` read is `high × WIDE_UNIT + low`. */
  high = 0;
  low = 0;

  readonly #separator: number;

  constructor(separator: number) {
    this.#separator = separator;
  }

  begin(bytes: Uint8Array, start: number, end: number): void {
    this.bytes = bytes;
    this.next = start;
    this.end = end;
  }

  /** A field was read that the line does not have. */
  get isPastEnd(): boolean {
    return this.next > this.end + 1;
  }

  /** Exactly the fields of the line were read, none less and none more. */
  get isExact(): boolean {
    return this.next === this.end + 1;
  }

  /** All fields were read. */
  get isAtEnd(): boolean {
    return this.next >= this.end;
  }

  /** The next field as a number. */
  number(): number {
    const { bytes, end } = this;
    const start = this.next;
    let at = start;
    // Nine digits fit a 32-bit integer, in which most numbers end; the rest goes on in floating
    // point.
    const integerEnd = Math.min(end, start + INTEGER_DIGITS);
    let integer = 0;
    for (; at < integerEnd; at++) {
      const digit = (bytes[at] ?? 0) - DIGIT_0;
      if (digit >>> 0 > 9) break;
      integer = (integer * 10 + digit) | 0;
    }
    let value = integer;
    if (at === integerEnd) {
      for (; at < end; at++) {
        const digit = (bytes[at] ?? 0) - DIGIT_0;
        if (digit >>> 0 > 9) break;
        value = value * 10 + digit;
      }
    }
    const stop = at < end && bytes[at] !== this.#separator ? this.#separatorFrom(at) : at;
    this.next = stop + 1;
    if (stop !== at) return NOT_A_NUMBER;
    if (at === start) return EMPTY_FIELD;
    return value <= Number.MAX_SAFE_INTEGER ? value : NOT_A_NUMBER;
  }

  /** The next field as a number of up to 24 digits in `high` and `low`; false if it is none. */
  wide(): boolean {
    this.word();
    const { bytes, wordStart, wordEnd } = this;
    const length = wordEnd - wordStart;
    if (length === 0 || length > 24) return false;
    const middle = Math.max(wordStart, wordEnd - INTEGER_DIGITS);
    this.high = digits(bytes, wordStart, middle);
    this.low = digits(bytes, middle, wordEnd);
    return this.high >= 0 && this.low >= 0;
  }

  /** The next field verbatim, at `wordStart` to `wordEnd`; answers its length. */
  word(): number {
    this.wordStart = this.next;
    this.wordEnd = this.#separatorFrom(this.next);
    this.next = this.wordEnd + 1;
    return this.wordEnd - this.wordStart;
  }

  /** The first byte of the field that `word` read; 0 if it is empty. */
  get wordByte(): number {
    return this.wordEnd > this.wordStart ? (this.bytes[this.wordStart] ?? 0) : 0;
  }

  /** Whether the field that `word` read is this one. */
  wordIs(name: Uint8Array): boolean {
    return equals(this.bytes, this.wordStart, this.wordEnd, name);
  }

  /**
   * The next word, between blanks (runs of spaces and tabs), at `wordStart` to `wordEnd`; answers
   * its length, 0 at the end of the line.
   */
  blankWord(): number {
    this.skipBlanks();
    const { bytes, end } = this;
    let at = this.next;
    while (at < end && !isBlank(bytes[at])) at++;
    this.wordStart = this.next;
    this.wordEnd = at;
    this.next = at;
    return at - this.wordStart;
  }

  /** The word that was read as a number. */
  get wordNumber(): number {
    const { bytes, wordStart, wordEnd } = this;
    if (wordStart === wordEnd) return EMPTY_FIELD;
    const value = digits(bytes, wordStart, wordEnd);
    return value <= Number.MAX_SAFE_INTEGER ? value : NOT_A_NUMBER;
  }

  /** Passes over blanks before the next field. */
  skipBlanks(): void {
    while (this.next < this.end && isBlank(this.bytes[this.next])) this.next++;
  }

  #separatorFrom(start: number): number {
    const { bytes, end } = this;
    const separator = this.#separator;
    for (let at = start; at < end; at++) if (bytes[at] === separator) return at;
    return Math.max(end, start);
  }
}

/** The number that `bytes[start … end)` spells, 0 if there are none; `NOT_A_NUMBER`. */
export function digits(bytes: Uint8Array, start: number, end: number): number {
  let value = 0;
  if (end - start <= INTEGER_DIGITS) {
    for (let at = start; at < end; at++) {
      const digit = (bytes[at] ?? 0) - DIGIT_0;
      if (digit >>> 0 > 9) return NOT_A_NUMBER;
      value = (value * 10 + digit) | 0;
    }
    return value;
  }
  for (let at = start; at < end; at++) {
    const digit = (bytes[at] ?? 0) - DIGIT_0;
    if (digit >>> 0 > 9) return NOT_A_NUMBER;
    value = value * 10 + digit;
  }
  return value;
}

export function indexOfByte(bytes: Uint8Array, wanted: number, start: number, end: number): number {
  for (let at = start; at < end; at++) if (bytes[at] === wanted) return at;
  return end;
}

export function equals(bytes: Uint8Array, start: number, end: number, name: Uint8Array): boolean {
  if (end - start !== name.length) return false;
  for (let index = 0; index < name.length; index++) if (bytes[start + index] !== name[index]) return false;
  return true;
}

export function isBlank(byte: number | undefined): boolean {
  return byte === SPACE || byte === TAB;
}

export function textOf(bytes: Uint8Array, start: number, end: number): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset + start, end - start).toString('latin1');
}
