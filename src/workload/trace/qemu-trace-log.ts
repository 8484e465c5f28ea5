/**
 * What QEMU and its tools print with `-trace 'blk_co_*'` through the log backend.
 *
 *     blk_co_pwritev blk 0x5581d8 bs 0x5581f2 offset 65536 bytes 4096 flags 0x10
 *     12345@1700000000.000123:blk_co_preadv blk 0x5581d8 bs 0x5581f2 offset 0 bytes 512 flags 0x0
 *
 * Invariants:
 * - Flags are hexadecimal, with or without `0x`: 0x2 zero-write, 0x4 may unmap, 0x10 FUA. The FUA
 *   that writethrough implies does not show, and QEMU 7.2 has no event for flushes and discards.
 * - `pid@seconds:` is before the event only with `-msg timestamp=on`; without it there are no
 *   times.
 * - Lines of other events are passed over. A block backend (`blk`) is a volume.
 */

import { digits, equals, indexOfByte, LineFields, SPACE, WIDE_UNIT } from './line-fields.ts';
import { unreadablePlace } from './request-rules.ts';
import type { RequestCollector } from './request-collector.ts';
import type { LineParser } from './trace-parser.ts';

const LINE = /^(?:\d+@\d+\.\d+:)?blk_co_p(?:read|write)v blk (?:0x)?[0-9a-f]+ bs /;

const READ = Buffer.from('blk_co_preadv', 'latin1');
const WRITE = Buffer.from('blk_co_pwritev', 'latin1');
const KEYS = ['blk', 'bs', 'offset', 'bytes', 'flags'].map((key) => Buffer.from(key, 'latin1'));
const [BLK = READ, BS = READ, OFFSET = READ, BYTES = READ, FLAGS = READ] = KEYS;

const FLAG_ZERO_WRITE = 0x2;
const FLAG_MAY_UNMAP = 0x4;
const FLAG_FUA = 0x10;

const AT = 0x40;
const POINT = 0x2e;
const COLON = 0x3a;
const UNDERSCORE = 0x5f;
const LETTER_A = 0x61;
const LETTER_X = 0x78;
const DIGIT_0 = 0x30;
const NS_PER_US = 1000;
const MICROSECOND_DIGITS = 6;

const BROKEN = 'is not a QEMU trace event: blk_co_pwritev blk … bs … offset N bytes N flags 0x…';

/** Whether one of the first lines is such an event; a tool's own words may be before it. */
export function isQemuTraceLog(lines: readonly string[]): boolean {
  return lines.some((line) => LINE.test(line));
}

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
    let nameStart = fields.wordStart;
    const at = indexOfByte(bytes, AT, nameStart, fields.wordEnd);
    if (at < fields.wordEnd) {
      const colon = indexOfByte(bytes, COLON, at, fields.wordEnd);
      if (!this.#readTime(bytes, at + 1, colon)) {
        return 'the time before the event is not seconds.microseconds';
      }
      nameStart = colon + 1;
    }
    const isRead = equals(bytes, nameStart, fields.wordEnd, READ);
    if (!isRead && !equals(bytes, nameStart, fields.wordEnd, WRITE)) {
      return isEventName(bytes, nameStart, fields.wordEnd) ? undefined : BROKEN;
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
    const isZeroWrite = !isRead && (flags & FLAG_ZERO_WRITE) !== 0;
    return this.#collector.add({
      op: isRead ? 'read' : isZeroWrite ? 'write-zeroes' : 'write',
      offset,
      length,
      fua: !isRead && (flags & FLAG_FUA) !== 0,
      unmap: isZeroWrite && (flags & FLAG_MAY_UNMAP) !== 0,
      timeNs: this.#timeNs,
    });
  }

  #key(key: Uint8Array): boolean {
    this.#fields.word();
    return this.#fields.wordIs(key);
  }

  #readTime(bytes: Uint8Array, start: number, end: number): boolean {
    const point = indexOfByte(bytes, POINT, start, end);
    if (point === start || end - point - 1 !== MICROSECOND_DIGITS) return false;
    const seconds = digits(bytes, start, point);
    const micros = digits(bytes, point + 1, end);
    if (seconds < 0 || micros < 0) return false;
    this.#timeNs = this.#collector.clock.since(seconds, micros * NS_PER_US, WIDE_UNIT);
    return true;
  }
}

/** Names of events have words joined by `_`; what a tool says to its user rarely begins so. */
function isEventName(bytes: Uint8Array, start: number, end: number): boolean {
  return isLetter(bytes[start] ?? 0) && indexOfByte(bytes, UNDERSCORE, start, end) < end;
}

function isLetter(byte: number): boolean {
  return (byte - LETTER_A) >>> 0 < 26;
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
