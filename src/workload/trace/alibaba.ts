/**
 * The block traces of Alibaba Cloud of 2020 (Li et al., IISWC '20;
 * github.com/alibaba/block-traces), `io_traces.csv`.
 *
 *     device_id,opcode,offset,length,timestamp
 *     419,W,8792731648,16384,1577808144360767
 *
 * Invariants: offsets and lengths are bytes, times microseconds since 1970; a device is a volume.
 * Neither flush nor FUA.
 */

import { COMMA, equals } from './line-fields.ts';
import { ReadWriteParser } from './read-write-parser.ts';
import { unreadablePlace } from './request-rules.ts';
import type { RequestCollector } from './request-collector.ts';

const NS_PER_US = 1000;
const LINE = /^\d+,[RW],\d+,\d+,\d+$/;
const COLUMNS = 'device_id,opcode,offset,length,timestamp';
const COLUMNS_LINE = Buffer.from(COLUMNS, 'latin1');

export function isAlibabaTrace(firstLine: string): boolean {
  return LINE.test(firstLine) || firstLine === COLUMNS;
}

export class AlibabaParser extends ReadWriteParser {
  constructor(collector: RequestCollector) {
    super(collector, COMMA);
  }

  protected override request(bytes: Uint8Array, start: number, end: number): string | undefined {
    const { fields, collector } = this;
    const device = fields.number();
    if (device < 0) {
      return equals(bytes, start, end, COLUMNS_LINE) ? undefined : 'the device is not a whole number';
    }
    if (!collector.volumes.takesNumber(device)) return undefined;
    const op = this.letter();
    if (op === undefined) return 'the opcode is neither R nor W';
    const offset = fields.number();
    const length = fields.number();
    const timeUs = fields.number();
    if (fields.isPastEnd) return `fewer than the five fields ${COLUMNS}`;
    const rule = unreadablePlace(offset, length);
    if (rule !== undefined) return rule;
    if (timeUs < 0) return 'the timestamp is not a whole number of microseconds';
    const timeNs = collector.clock.since(0, timeUs, 1) * NS_PER_US;
    return this.add(op, offset, length, timeNs);
  }
}
