/**
 * Lines of columns, by a layout (`column-layout`).
 *
 * Invariants: a line is one request and is understood without those before it. Numbers are decimal,
 * places also hexadecimal (`0x…`); times may have decimals. A first line without a number where
 * time, offset and length are has the column names.
 */

import type { RequestOp } from '../request.ts';
import { BLANKS, PLACE_UNITS, TIME_UNITS, type Column, type ColumnLayout } from './column-layout.ts';
import { digits, indexOfByte, isBlank, textOf, WIDE_UNIT } from './line-fields.ts';
import type { RequestCollector } from './request-collector.ts';
import { unreadablePlace } from './request-rules.ts';
import { Rwbs } from './rwbs.ts';
import type { LineParser } from './trace-parser.ts';

const NUMBER = /^(?:[\d.]+|0x[0-9a-f]+)$/i;
const POINT = 0x2e;
const QUOTE = 0x22;
const NANOSECOND_DIGITS = 9;
/** Of whole units of time; more is no time. */
const TIME_DIGITS_MAX = 20;
const COLUMNS_MAX = 1024;
/** Different operations that are remembered. */
const WORDS_MAX = 1024;

/** Operations as they are spelled out; anything else are letters of RWBS. */
const SPELLED: Readonly<Record<string, RequestOp>> = {
  r: 'read',
  read: 'read',
  w: 'write',
  write: 'write',
  f: 'flush',
  flush: 'flush',
  sync: 'flush',
  fsync: 'flush',
  d: 'discard',
  discard: 'discard',
  trim: 'discard',
  unmap: 'discard',
  zero: 'write-zeroes',
  'write-zeroes': 'write-zeroes',
};

/** What a word in the column of operations asks for; nothing, where the line is passed over. */
interface Kind {
  readonly flushes: boolean;
  readonly op: RequestOp | undefined;
  readonly fua: boolean;
  /** The line breaks this rule. */
  readonly rule: string | undefined;
}

/** Columns of a layout, as indices: from 0, or from the end as −1, −2 …. */
interface Indices {
  readonly time: number | undefined;
  readonly op: number;
  readonly offset: number;
  readonly length: number;
  readonly volume: number | undefined;
  readonly only: readonly { readonly index: number; readonly word: string }[];
}

export class ColumnsParser implements LineParser {
  readonly unit = 'line';
  readonly canSkip = true;
  /** Whether the format's column names were there. */
  isRecognised = false;

  readonly #collector: RequestCollector;
  readonly #layout: ColumnLayout;
  readonly #starts = new Int32Array(COLUMNS_MAX);
  readonly #ends = new Int32Array(COLUMNS_MAX);
  readonly #kinds = new Map<string, Kind>();
  #count = 0;
  #separator: string | undefined;
  #indices: Indices | undefined;

  constructor(collector: RequestCollector, layout: ColumnLayout) {
    this.#collector = collector;
    this.#layout = layout;
    this.#separator = layout.separator;
  }

  line(bytes: Uint8Array, start: number, end: number): string | undefined {
    if (isAllBlank(bytes, start, end)) return undefined;
    const { header } = this.#layout;
    if (header !== undefined && !this.isRecognised) {
      this.isRecognised = header.test(textOf(bytes, start, end).trimEnd());
      this.#collector.passedOver.add(this.isRecognised ? 'column names' : 'lines before the column names');
      return undefined;
    }
    this.#separator ??= separatorIn(textOf(bytes, start, end));
    this.#split(bytes, start, end);
    if (this.#indices === undefined) {
      const names = Array.from({ length: this.#count }, (_, index) => this.#word(bytes, index));
      const found = indicesOf(this.#layout, names);
      if (typeof found === 'string') return found;
      this.#indices = found;
      const numbers = [found.time ?? found.offset, found.offset, found.length];
      const isNames = numbers.every((index) => !NUMBER.test(this.#word(bytes, this.#at(index))));
      if (hasNames(this.#layout) || isNames) {
        this.#collector.passedOver.add('column names');
        return undefined;
      }
    }
    return this.#request(bytes, this.#indices);
  }

  #request(bytes: Uint8Array, indices: Indices): string | undefined {
    const { volumes, passedOver, clock } = this.#collector;
    for (const { index, word } of indices.only) {
      if (this.#word(bytes, this.#at(index)) === word) continue;
      passedOver.add(`lines without ${word} in their column`);
      return undefined;
    }
    const op = this.#at(indices.op);
    const offsetAt = this.#at(indices.offset);
    const lengthAt = this.#at(indices.length);
    const volume = indices.volume === undefined ? -1 : this.#at(indices.volume);
    const time = indices.time === undefined ? -1 : this.#at(indices.time);
    const last = Math.max(op, offsetAt, lengthAt, volume, time);
    if (last >= this.#count || Math.min(op, offsetAt, lengthAt) < 0) {
      return `has ${String(this.#count)} columns, fewer than the layout names`;
    }
    const kind = this.#kindOf(this.#word(bytes, op));
    if (kind.rule !== undefined) return kind.rule;
    let timeNs = 0;
    if (indices.time !== undefined) {
      if (time < 0 || !this.#readTime(bytes, time)) return 'the time is not a number';
      timeNs = clock.since(this.#high, this.#low, WIDE_UNIT);
    }
    if (volume >= 0 && !volumes.takesName(bytes, this.#start(volume), this.#end(volume))) return undefined;
    if (kind.flushes) {
      const rule = this.#collector.addFlush(timeNs);
      if (rule !== undefined || kind.op === undefined) return rule;
    }
    if (kind.op === undefined) {
      passedOver.add(`lines of kind ${this.#word(bytes, op)}`);
      return undefined;
    }
    const { offset, length } = this.#layout;
    const from = this.#number(bytes, offsetAt) * PLACE_UNITS[offset.unit];
    const bytesLong = this.#number(bytes, lengthAt) * PLACE_UNITS[length.unit];
    const rule = unreadablePlace(from, bytesLong);
    if (rule !== undefined) return rule;
    const { op: wanted, fua } = kind;
    return this.#collector.add({ op: wanted, offset: from, length: bytesLong, fua, unmap: false, timeNs });
  }

  #high = 0;
  #low = 0;

  /** Seconds into `#high`, nanoseconds into `#low`. */
  #readTime(bytes: Uint8Array, column: number): boolean {
    const [start, end] = [this.#start(column), this.#end(column)];
    const point = indexOfByte(bytes, POINT, start, end);
    const unitDigits = TIME_UNITS[this.#layout.time?.unit ?? 's'];
    if (point === start || point - start > TIME_DIGITS_MAX) return false;
    const middle = Math.max(start, point - unitDigits);
    const fractionEnd = Math.min(end, point + 1 + NANOSECOND_DIGITS - unitDigits);
    const fractionDigits = Math.max(0, fractionEnd - point - 1);
    const whole = digits(bytes, start, middle);
    const part = digits(bytes, middle, point);
    const fraction = point < end ? digits(bytes, point + 1, fractionEnd) : 0;
    if (whole < 0 || part < 0 || fraction < 0 || digits(bytes, Math.min(fractionEnd, end), end) < 0) {
      return false;
    }
    this.#high = whole;
    this.#low =
      part * 10 ** (NANOSECOND_DIGITS - unitDigits) +
      fraction * 10 ** (NANOSECOND_DIGITS - unitDigits - fractionDigits);
    return true;
  }

  /** NaN if it is none. */
  #number(bytes: Uint8Array, column: number): number {
    const [start, end] = [this.#start(column), this.#end(column)];
    const value = start === end ? -1 : digits(bytes, start, end);
    if (value >= 0) return value;
    const text = textOf(bytes, start, end);
    return /^0x[0-9a-f]{1,14}$/i.test(text) ? Number(text) : NaN;
  }

  #kindOf(word: string): Kind {
    const known = this.#kinds.get(word);
    if (known !== undefined) return known;
    const kind = kindOf(word, this.#layout);
    if (this.#kinds.size < WORDS_MAX) this.#kinds.set(word, kind);
    return kind;
  }

  #split(bytes: Uint8Array, start: number, end: number): void {
    this.#count = 0;
    if (this.#separator === BLANKS) {
      for (let at = start; at < end;) {
        while (at < end && isBlank(bytes[at])) at++;
        const from = at;
        while (at < end && !isBlank(bytes[at])) at++;
        if (at > from) this.#add(from, at);
      }
      return;
    }
    const separator = (this.#separator ?? ',').charCodeAt(0);
    for (let from = start; from <= end;) {
      const to = indexOfByte(bytes, separator, from, end);
      this.#add(from, to);
      this.#trimLast(bytes);
      from = to + 1;
    }
  }

  #add(from: number, to: number): void {
    if (this.#count === COLUMNS_MAX) return;
    this.#starts[this.#count] = from;
    this.#ends[this.#count++] = to;
  }

  /** Without blanks and quotes around it. */
  #trimLast(bytes: Uint8Array): void {
    const column = this.#count - 1;
    let [from, to] = [this.#start(column), this.#end(column)];
    while (from < to && isBlank(bytes[from])) from++;
    while (to > from && isBlank(bytes[to - 1])) to--;
    if (to - from >= 2 && bytes[from] === QUOTE && bytes[to - 1] === QUOTE) {
      from++;
      to--;
    }
    this.#starts[column] = from;
    this.#ends[column] = to;
  }

  #at(index: number): number {
    return index < 0 ? this.#count + index : index;
  }

  #start(column: number): number {
    return this.#starts[column] ?? 0;
  }

  #end(column: number): number {
    return this.#ends[column] ?? 0;
  }

  /** Empty for a column that the line does not have. */
  #word(bytes: Uint8Array, column: number): string {
    return column < 0 || column >= this.#count ? '' : textOf(bytes, this.#start(column), this.#end(column));
  }
}

function kindOf(word: string, { op: { words } }: ColumnLayout): Kind {
  const none = { flushes: false, op: undefined, fua: false, rule: undefined };
  const spelled = words === 'rwbs' ? SPELLED[word.toLowerCase()] : words.get(word);
  if (spelled === 'skip') return none;
  if (spelled === 'flush') return { ...none, flushes: true };
  if (spelled !== undefined) return { ...none, op: spelled };
  if (words === 'rwbs' && /^[A-Z]{1,9}$/.test(word)) {
    const rwbs = new Rwbs();
    const letters = Buffer.from(word, 'latin1');
    rwbs.read(letters, 0, letters.length);
    const { flushes, op, fua } = rwbs;
    if (flushes || op !== undefined || word.startsWith('N')) return { ...none, flushes, op, fua };
  }
  const shown = `'${word.slice(0, 20)}'`;
  return {
    ...none,
    rule: `the operation ${shown} is unknown; with --columns, op=COLUMN:${word === '' ? 'WORD' : word}=write says what it is`,
  };
}

function indicesOf(layout: ColumnLayout, names: readonly string[]): Indices | string {
  const missing: string[] = [];
  const index = (column: Column): number => {
    if (typeof column === 'number') return column > 0 ? column - 1 : column;
    const found = names.indexOf(column);
    if (found < 0) missing.push(column);
    return found;
  };
  const indices = {
    time: layout.time === undefined ? undefined : index(layout.time.column),
    op: index(layout.op.column),
    offset: index(layout.offset.column),
    length: index(layout.length.column),
    volume: layout.volume === undefined ? undefined : index(layout.volume),
    only: layout.only.map(({ column, word }) => ({ index: index(column), word })),
  };
  if (missing.length === 0) return indices;
  return `the first line has no column '${missing[0] ?? ''}', but ${names.map((name) => `'${name}'`).join(', ')}`;
}

/** Whether a column is named, so that the first line has names. */
function hasNames({ time, op, offset, length, volume, only }: ColumnLayout): boolean {
  const columns = [
    time?.column,
    op.column,
    offset.column,
    length.column,
    volume,
    ...only.map(({ column }) => column),
  ];
  return columns.some((column) => typeof column === 'string');
}

function separatorIn(line: string): string {
  return [',', '\t', ';'].find((separator) => line.includes(separator)) ?? BLANKS;
}

function isAllBlank(bytes: Uint8Array, start: number, end: number): boolean {
  for (let at = start; at < end; at++) if (!isBlank(bytes[at])) return false;
  return true;
}
