/**
 * The traces of a virtual desktop infrastructure of SYSTOR '17 (Lee et al.), as SNIA distributes
 * them.
 *
 *     Timestamp,Response,IOType,LUN,Offset,Size
 *     1456095145.133076000,0.000806000,R,0,899056122368,131072
 *
 * Invariants: times are seconds since 1970 with nine decimals (exact to the microsecond), offsets
 * and sizes bytes; a LUN is a volume. A blank type is a request to which the recorder saw no
 * answer: its type is unknown, so it is left out and counted. Neither flush nor FUA.
 */

import { COMMA, digits, indexOfByte, WIDE_UNIT } from './line-fields.ts';
import { ReadWriteParser } from './read-write-parser.ts';
import { unreadablePlace } from './request-rules.ts';
import type { RequestCollector } from './request-collector.ts';

const POINT = 0x2e;
const DECIMALS_MAX = 9;
const READ = 0x52;
const WRITE = 0x57;
const COLUMNS = 'Timestamp,Response,IOType,LUN,Offset,Size';

export class SystorParser extends ReadWriteParser {
  #seconds = 0;
  #nanoseconds = 0;

  constructor(collector: RequestCollector) {
    super(collector, COMMA, COLUMNS);
  }

  protected override request(bytes: Uint8Array): string | undefined {
    const { fields, collector } = this;
    fields.word();
    if (!this.#readTime(bytes, fields.wordStart, fields.wordEnd)) {
      return 'the timestamp is not a number of seconds with decimals';
    }
    fields.word();
    const isOneByte = fields.word() === 1;
    const type = fields.wordByte;
    const volume = fields.number();
    const offset = fields.number();
    const length = fields.number();
    if (!fields.isExact) return `not the six fields ${COLUMNS}`;
    if (volume < 0) return 'the LUN is not a whole number';
    const op = type === READ ? 'read' : type === WRITE ? 'write' : undefined;
    if (type !== 0 && (!isOneByte || op === undefined)) return 'the type is neither R, W nor blank';
    if (!collector.volumes.takesNumber(volume)) return undefined;
    if (op === undefined) {
      this.failedCount++;
      return undefined;
    }
    const rule = unreadablePlace(offset, length);
    if (rule !== undefined) return rule;
    const timeNs = collector.clock.since(this.#seconds, this.#nanoseconds, WIDE_UNIT);
    return this.add(op, offset, length, timeNs);
  }

  #readTime(bytes: Uint8Array, start: number, end: number): boolean {
    const point = indexOfByte(bytes, POINT, start, end);
    const decimals = Math.max(0, end - point - 1);
    if (point === start || point === end || decimals > DECIMALS_MAX) return false;
    this.#seconds = digits(bytes, start, point);
    const fraction = digits(bytes, point + 1, end);
    this.#nanoseconds = fraction * 10 ** (DECIMALS_MAX - decimals);
    return this.#seconds >= 0 && fraction >= 0;
  }
}
