/**
 * What QEMU and its tools print with `-trace 'blk_co_*'` through the log backend.
 *
 *     blk_co_pwritev blk 0x5581d8 bs 0x5581f2 offset 65536 bytes 4096 flags 0x10
 *     12345@1700000000.000123:blk_co_preadv blk 0x5581d8 bs 0x5581f2 offset 0 bytes 512 flags 0x0
 *     2026-03-01T12:00:00.000123Z [guest] qemu-system-x86_64: (12345:main): blk_co_preadv blk …    newer
 *
 * Invariants:
 * - Flags are hexadecimal, with or without `0x`: 0x2 zero-write, 0x4 may unmap, 0x10 FUA. The FUA
 *   that writethrough implies does not show, and QEMU 7.2 has no event for flushes and discards.
 * - `pid@seconds:` or an ISO time is before the event only with `-msg timestamp=on`; without it there
 *   are no times.
 * - Lines of other events, and what QEMU and its tools print beside them, are passed over and
 *   counted; a line with parts of such an event is not. A block backend (`blk`) is a volume.
 */

import type { Request } from '../request.ts';
import { digits, indexOfByte, LineFields, SPACE, WIDE_UNIT } from './line-fields.ts';
import { unreadablePlace } from './request-rules.ts';
import type { RequestCollector } from './request-collector.ts';
import type { LineParser } from './trace-parser.ts';

const READ = Buffer.from('blk_co_preadv', 'latin1');
const WRITE = Buffer.from('blk_co_pwritev', 'latin1');
const KEYS = ['blk', 'bs', 'offset', 'bytes', 'flags'].map((key) => Buffer.from(key, 'latin1'));
const [BLK = READ, BS = READ, OFFSET = READ, BYTES = READ, FLAGS = READ] = KEYS;

const FLAG_ZERO_WRITE = 0x2;
const FLAG_MAY_UNMAP = 0x4;
const FLAG_FUA = 0x10;

const LETTER_A = 0x61;
const LETTER_X = 0x78;
const DIGIT_0 = 0x30;
const AT = 0x40;
const POINT = 0x2e;
const COLON = 0x3a;
const UNDERSCORE = 0x5f;
const MICRO_DIGITS = 6;
const NS_PER_US = 1000;
const MS_PER_S = 1000;

/** What may be before the name of an event: a time, the guest, the program and the thread. */
const PREFIX =
  /^(?:(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:?(?:\d\d)?) +)?(?:\[[^\]]*\] )?(?:[^\s:@]+: )?(?:\(\d+:[^)]*\): )?(?:\(cpuid:\d+\): )?(?:(\d+)@(\d+)\.(\d{6}):|\d+:|\[\d+\] )?(?=[a-z][a-z0-9]*_[a-z0-9_]+(?: |$))/;
/** What no other output has. */
const PART_OF_EVENT = /blk_co_p|\bblk (?:0x)?[0-9a-f]+ bs |\bbytes \d+ flags /;

const BROKEN = 'is not a QEMU trace event: blk_co_pwritev blk … bs … offset N bytes N flags 0x…';

export class QemuTraceLogParser implements LineParser {
  readonly unit = 'line';
  readonly canSkip = true;

  readonly #collector: RequestCollector;
  readonly #fields = new LineFields(SPACE);
  #timeNs = 0;

  constructor(collector: RequestCollector) {
    this.#collector = collector;
  }

  line(bytes: Uint8Array, start: number, end: number): string | undefined {
    if (start === end) return undefined;
    const fields = this.#fields;
    fields.begin(bytes, start, end);
    fields.word();
    if (!fields.wordIs(READ) && !fields.wordIs(WRITE)) {
      const nameStart =
        this.#shortPrefixEnd(bytes, start, fields.wordEnd) ?? this.#prefixEnd(bytes, start, end);
      if (nameStart === undefined) return this.#otherLine(bytes, start, end);
      fields.begin(bytes, nameStart, end);
      fields.word();
    }
    const isRead = fields.wordIs(READ);
    if (!isRead && !fields.wordIs(WRITE)) {
      const name = Buffer.from(bytes.subarray(fields.wordStart, fields.wordEnd)).toString('latin1');
      this.#collector.passedOver.add(`events ${name}`);
      return undefined;
    }
    if (!this.#key(BLK) || fields.word() === 0) return BROKEN;
    const { wordStart: blkStart, wordEnd: blkEnd } = fields;
    if (!this.#key(BS) || fields.word() === 0 || !this.#key(OFFSET)) return BROKEN;
    const offset = fields.number();
    if (!this.#key(BYTES)) return BROKEN;
    const length = fields.number();
    if (!this.#key(FLAGS) || fields.word() === 0) return BROKEN;
    const flags = hexadecimal(bytes, fields.wordStart, fields.wordEnd);
    if (flags < 0) return BROKEN;
    if (!this.#collector.volumes.takesName(bytes, blkStart, blkEnd)) return undefined;
    const rule = unreadablePlace(offset, length);
    if (rule !== undefined) return rule;
    return this.#collector.add(qemuRequest({ isRead, offset, length, flags, timeNs: this.#timeNs }));
  }

  #key(key: Uint8Array): boolean {
    this.#fields.word();
    return this.#fields.wordIs(key);
  }

  /** As `#prefixEnd`, for `pid@seconds.micros:` alone, which is what most lines of a log have. */
  #shortPrefixEnd(bytes: Uint8Array, start: number, end: number): number | undefined {
    const at = indexOfByte(bytes, AT, start, end);
    const point = indexOfByte(bytes, POINT, at, end);
    const colon = point + 1 + MICRO_DIGITS;
    if (at === start || point === at + 1 || colon >= end || bytes[colon] !== COLON) return undefined;
    const pid = digits(bytes, start, at);
    const seconds = digits(bytes, at + 1, point);
    const micros = digits(bytes, point + 1, colon);
    if (pid < 0 || seconds < 0 || micros < 0 || !isName(bytes, colon + 1, end)) return undefined;
    this.#setTime(seconds, micros * NS_PER_US);
    return colon + 1;
  }

  /** Reads the time before an event's name; answers where the name begins, if there is one. */
  #prefixEnd(bytes: Uint8Array, start: number, end: number): number | undefined {
    const text = Buffer.from(bytes.subarray(start, end)).toString('latin1');
    const match = PREFIX.exec(text);
    if (match === null) return undefined;
    const [prefix, date, fraction = '', zone, , seconds, micros] = match;
    if (seconds !== undefined) this.#setTime(Number(seconds), Number(micros) * NS_PER_US);
    else if (date !== undefined) {
      this.#setTime(Date.parse(`${date}${zone ?? 'Z'}`) / MS_PER_S, Number(fraction.padEnd(9, '0')));
    }
    return start + prefix.length;
  }

  #setTime(seconds: number, nanoseconds: number): void {
    if (Number.isNaN(seconds)) return;
    this.#timeNs = this.#collector.clock.since(seconds, nanoseconds, WIDE_UNIT);
  }

  #otherLine(bytes: Uint8Array, start: number, end: number): string | undefined {
    if (PART_OF_EVENT.test(Buffer.from(bytes.subarray(start, end)).toString('latin1'))) return BROKEN;
    this.#collector.passedOver.add('lines of other output');
    return undefined;
  }
}

/** The request of an event of QEMU's block backends, whose flags mean the same in every log. */
export function qemuRequest({
  isRead,
  offset,
  length,
  flags,
  timeNs,
}: Pick<Request, 'offset' | 'length' | 'timeNs'> & {
  readonly isRead: boolean;
  readonly flags: number;
}): Request {
  const isZeroWrite = !isRead && (flags & FLAG_ZERO_WRITE) !== 0;
  return {
    op: isRead ? 'read' : isZeroWrite ? 'write-zeroes' : 'write',
    offset,
    length,
    fua: !isRead && (flags & FLAG_FUA) !== 0,
    unmap: isZeroWrite && (flags & FLAG_MAY_UNMAP) !== 0,
    timeNs,
  };
}

/** Whether an event's name is there, as `PREFIX` wants it. */
function isName(bytes: Uint8Array, start: number, end: number): boolean {
  let at = start;
  while (at < end && isSmallLetterOrDigit(bytes[at] ?? 0)) at++;
  if (at === start || ((bytes[start] ?? 0) - DIGIT_0) >>> 0 <= 9 || bytes[at] !== UNDERSCORE) return false;
  const first = ++at;
  while (at < end && (bytes[at] === UNDERSCORE || isSmallLetterOrDigit(bytes[at] ?? 0))) at++;
  return at > first && at === end;
}

function isSmallLetterOrDigit(byte: number): boolean {
  return (byte - LETTER_A) >>> 0 < 26 || (byte - DIGIT_0) >>> 0 <= 9;
}

/**
 * The number that `bytes[start … end)` spells, with or without `0x`; negative if it is none of 32
 * bits.
 */
function hexadecimal(bytes: Uint8Array, start: number, end: number): number {
  let at = bytes[start] === DIGIT_0 && bytes[start + 1] === LETTER_X ? start + 2 : start;
  if (at === end || end - at > 8) return -1;
  let value = 0;
  for (; at < end; at++) {
    const byte = bytes[at] ?? 0;
    const digit =
      (byte - DIGIT_0) >>> 0 <= 9 ? byte - DIGIT_0 : (byte - LETTER_A) >>> 0 < 6 ? byte - LETTER_A + 10 : -1;
    if (digit < 0) return -1;
    value = value * 16 + digit;
  }
  return value;
}
