/**
 * The log of nbdkit's log filter (nbdkit-log-filter(1)): a request has a line when it is issued and
 * one, with three dots before its name, when it is answered. A pair shares its connection and id.
 *
 *     2026-03-01 12:00:00.000090 connection=1 Connect export="" tls=0 size=0x40000000 write=1 …
 *     2026-03-01 12:00:00.000100 connection=1 Write id=2 offset=0x10000 count=0x1000 fua=1 ...
 *     2026-03-01 12:00:00.000130 connection=1 ...Write id=2 return=0
 *     2026-03-01 12:00:00.000200 connection=1 Flush id=3 ...
 *
 * Invariants:
 * - Requests come out in issue order, and only if they were answered with success: one that failed,
 *   or was never answered, did nothing that a guest may rely on. Those are counted in
 *   `failedCount`.
 * - Times count from the first request. The log's order is the order of issue; a wall clock that
 *   steps back does not change it, so a time before its predecessor's becomes the predecessor's.
 * - A log may go on after its server was killed (`logappend=true`): connections and ids begin again.
 *   `Ready` of a server, or a Connect of a connection that is known, settles what is open: it was
 *   never answered.
 * - Other lines are passed over and counted.
 * - An export is a volume.
 */

import type { RequestOp } from '../request.ts';
import { digits, LineFields, SPACE } from './line-fields.ts';
import { OutstandingRequests } from './outstanding-requests.ts';
import { brokenSizeRule } from './request-rules.ts';
import type { RequestCollector } from './request-collector.ts';
import type { LineParser } from './trace-parser.ts';

const CONNECTIONS_MAX = 65_536;
/** Ids of a connection count up from 1; a pair of connection and id is one number. */
const IDS_MAX = 2 ** 36;
/** The first export's name is usually empty. */
const UNNAMED_EXPORT = 'default';

const EXPORT = /\bexport="([^"]*)"/;
const SIZE = /\bsize=(0x[0-9a-f]+|\d+)\b/;

/** `2026-03-01 12:00:00.000100`: where its parts stand. */
const DATE_BYTES = 26;
const MINUTE_BYTES = 16;
const SECONDS_AT = 17;
const MICROS_AT = 20;

const POINT = 0x2e;
const DIGIT_0 = 0x30;
const LETTER_A = 0x61;
const LETTER_X = 0x78;
const US_PER_S = 1_000_000;
const NS_PER_US = 1000;

type Name = RequestOp | 'connect';
const NAMES: readonly (readonly [Uint8Array, Name])[] = (
  [
    ['Read', 'read'],
    ['Write', 'write'],
    ['Flush', 'flush'],
    ['Trim', 'discard'],
    ['Zero', 'write-zeroes'],
    ['Connect', 'connect'],
  ] as const
).map(([name, op]) => [Buffer.from(name, 'latin1'), op]);
/** Other operations and states of the server: `Extents`, `Disconnect`, `Preconnect` … */
const OTHER_NAME = /^[A-Z][A-Za-z]*$/;
const READY = 'Ready';
const CONNECTION = Buffer.from('connection', 'latin1');

/** The fields of a request and of its answer, in the order in which `#values` holds them. */
const KEYS = ['id', 'offset', 'count', 'fua', 'trim', 'return'] as const;
const KEY_BYTES = KEYS.map((key) => Buffer.from(`${key}=`, 'latin1'));
/**
 * By its first letter, in which all of them differ, the one key that a word can have; -1 where
 * there is none.
 */
const KEY_BY_LETTER = new Int8Array(256).fill(-1);
for (const [key, [letter = 0]] of KEY_BYTES.entries()) KEY_BY_LETTER[letter] = key;
const [ID, OFFSET, COUNT, FUA, TRIM, RETURN] = [0, 1, 2, 3, 4, 5] as const;

export class NbdkitLogParser implements LineParser {
  readonly unit = 'line';
  /** Whether there was a line of the filter. */
  isRecognised = false;

  readonly #collector: RequestCollector;
  readonly #fields = new LineFields(SPACE);
  readonly #values = new Float64Array(KEYS.length);
  /** By connection and id. */
  readonly #outstanding: OutstandingRequests<number>;
  /** Names of exports by connection, and their sizes. */
  readonly #exports = new Map<number, string>();
  readonly #sizes = new Map<string, number>();
  #firstMicros: number | undefined;
  #timeNs = 0;
  /** The minute that was read last, and when it began. */
  #minute = Buffer.alloc(0);
  #minuteMicros = 0;

  constructor(collector: RequestCollector) {
    this.#collector = collector;
    this.#outstanding = new OutstandingRequests(collector);
  }

  get failedCount(): number {
    return this.#outstanding.failedCount;
  }

  get canSkip(): boolean {
    return this.#sizes.size > 0;
  }

  line(bytes: Uint8Array, start: number, end: number): string | undefined {
    if (start === end) return undefined;
    const broken = "is not a line of nbdkit's log filter";
    const micros = this.#micros(bytes, start, end);
    if (Number.isNaN(micros)) return broken;
    const fields = this.#fields;
    fields.begin(bytes, start + DATE_BYTES + 1, end);
    if (fields.word() === 0) return broken;
    const connection = this.#connection();
    if (connection !== 0) fields.word();
    const isAnswer = fields.wordByte === POINT;
    if (isAnswer) fields.wordStart += 3;
    const name = nameOf(fields);
    if (name === undefined) {
      const word = Buffer.from(bytes.subarray(fields.wordStart, fields.wordEnd)).toString('latin1');
      if (!OTHER_NAME.test(word)) return broken;
      this.isRecognised = true;
      if (word === READY) this.#outstanding.abandon();
      this.#collector.passedOver.add(`lines of ${word}`);
      return undefined;
    }
    this.isRecognised = true;
    if (name === 'connect') {
      if (isAnswer) return undefined;
      return this.#connect(connection, Buffer.from(bytes.subarray(start, end)).toString('utf8'));
    }
    this.#readValues();
    const id = this.#values[ID] ?? NaN;
    if (!(id < IDS_MAX) || connection >= CONNECTIONS_MAX) return 'the request has no id below 2^36';
    const key = connection * IDS_MAX + id;
    return isAnswer ? this.#answered(key) : this.#issued(name, connection, key, micros);
  }

  finish(): string | undefined {
    this.#outstanding.abandon();
    return this.#sizes.size === 0 ? 'has no Connect line with the size of the device' : undefined;
  }

  /** The connection that the present word names; 0 if it names none. */
  #connection(): number {
    const { bytes, wordStart, wordEnd } = this.#fields;
    for (let index = 0; index < CONNECTION.length; index++) {
      if (bytes[wordStart + index] !== CONNECTION[index]) return 0;
    }
    return Math.max(0, digits(bytes, wordStart + CONNECTION.length + 1, wordEnd));
  }

  #connect(connection: number, line: string): string | undefined {
    const size = Number(SIZE.exec(line)?.[1]);
    const rule = brokenSizeRule(size);
    if (rule !== undefined) return rule;
    const name = EXPORT.exec(line)?.[1] ?? '';
    const volume = name === '' ? UNNAMED_EXPORT : name;
    const before = this.#sizes.get(volume);
    if (before !== undefined && before !== size) {
      return `a connection to a device of ${String(size)} bytes; earlier ones had ${String(before)}`;
    }
    if (this.#exports.has(connection)) {
      this.#outstanding.abandon((key) => Math.floor(key / IDS_MAX) === connection);
    }
    if (this.#exports.size >= CONNECTIONS_MAX) this.#exports.clear();
    this.#exports.set(connection, volume);
    this.#sizes.set(volume, size);
    const { wanted } = this.#collector.volumes;
    const isMeant = wanted === undefined ? this.#sizes.size === 1 : volume === wanted;
    return isMeant ? this.#collector.setVirtualSize(size) : undefined;
  }

  #issued(op: RequestOp, connection: number, key: number, micros: number): string | undefined {
    if (this.#sizes.size === 0) return 'a request before any Connect line with the size of the device';
    if (!this.#collector.volumes.takesNumber(connection, this.#exportOf)) return undefined;
    const notNow = this.#outstanding.brokenRule(key);
    if (notNow !== undefined) return notNow;
    const values = this.#values;
    const offset = op === 'flush' ? 0 : (values[OFFSET] ?? NaN);
    const length = op === 'flush' ? 0 : (values[COUNT] ?? NaN);
    if (Number.isNaN(offset) || Number.isNaN(length)) return 'offset or count is not a number below 2^53';
    const rule = this.#collector.brokenRule(op, offset, length);
    if (rule !== undefined) return rule;

    this.#firstMicros ??= micros;
    const timeNs = (micros - this.#firstMicros) * NS_PER_US;
    if (timeNs < this.#timeNs) this.#collector.adjusted.add('times that step back');
    this.#timeNs = Math.max(this.#timeNs, timeNs);
    const fua = op !== 'read' && op !== 'flush' && values[FUA] === 1;
    const unmap = op === 'write-zeroes' && values[TRIM] === 1;
    this.#outstanding.issue(key, { op, offset, length, fua, unmap, timeNs: this.#timeNs });
    return undefined;
  }

  readonly #exportOf = (connection: number): string => this.#exports.get(connection) ?? UNNAMED_EXPORT;

  #answered(key: number): string | undefined {
    if (this.#outstanding.answer(key, this.#values[RETURN] === 0)) return undefined;
    // The answer to a request of another volume is none of ours.
    const { isSeveral, otherCount } = this.#collector.volumes;
    return isSeveral || otherCount > 0 ? undefined : 'a reply without a request';
  }

  /** The `key=value` words that are left, as far as `KEYS` has them; NaN for what is no number. */
  #readValues(): void {
    const fields = this.#fields;
    const values = this.#values;
    const { bytes } = fields;
    for (let key = 0; key < values.length; key++) values[key] = NaN;
    while (!fields.isAtEnd) {
      fields.word();
      const { wordStart, wordEnd } = fields;
      const key = KEY_BY_LETTER[bytes[wordStart] ?? 0] ?? -1;
      const name = key < 0 ? undefined : KEY_BYTES[key];
      if (name === undefined || !startsWith(bytes, wordStart, name)) continue;
      values[key] = numberAt(bytes, wordStart + name.length, wordEnd);
    }
  }

  /**
   * Microseconds since 1970 of the date and time at `start`, which are in UTC; NaN if there are
   * none.
   */
  #micros(bytes: Uint8Array, start: number, end: number): number {
    if (end - start <= DATE_BYTES) return NaN;
    if (!startsWith(bytes, start, this.#minute) || this.#minute.length === 0) {
      const minute = Buffer.from(bytes.slice(start, start + MINUTE_BYTES));
      const text = minute.toString('latin1');
      if (!/^\d{4}-\d\d-\d\d \d\d:\d\d$/.test(text)) return NaN;
      this.#minuteMicros = Date.parse(`${text.replace(' ', 'T')}:00Z`) * 1000;
      this.#minute = minute;
    }
    const seconds = digits(bytes, start + SECONDS_AT, start + SECONDS_AT + 2);
    const micros = digits(bytes, start + MICROS_AT, start + DATE_BYTES);
    if (seconds < 0 || micros < 0 || bytes[start + SECONDS_AT + 2] !== POINT) return NaN;
    return this.#minuteMicros + seconds * US_PER_S + micros;
  }
}

function nameOf(fields: LineFields): Name | undefined {
  for (const [name, op] of NAMES) if (fields.wordIs(name)) return op;
  return undefined;
}

function startsWith(bytes: Uint8Array, start: number, name: Uint8Array): boolean {
  for (let index = 0; index < name.length; index++) if (bytes[start + index] !== name[index]) return false;
  return true;
}

/**
 * The number that `bytes[start … end)` spells in hexadecimal (`0x…`) or decimal; NaN if it is none
 * below 2^53.
 */
function numberAt(bytes: Uint8Array, start: number, end: number): number {
  if (bytes[start] !== DIGIT_0 || bytes[start + 1] !== LETTER_X) {
    const value = start === end ? NaN : digits(bytes, start, end);
    return value >= 0 && Number.isSafeInteger(value) ? value : NaN;
  }
  let value = start + 2 === end ? NaN : 0;
  for (let at = start + 2; at < end; at++) {
    const byte = bytes[at] ?? 0;
    if ((byte - DIGIT_0) >>> 0 <= 9) value = value * 16 + (byte - DIGIT_0);
    else if ((byte - LETTER_A) >>> 0 < 6) value = value * 16 + (byte - LETTER_A + 10);
    else return NaN;
  }
  return Number.isSafeInteger(value) ? value : NaN;
}
