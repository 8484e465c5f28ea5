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

import { COMMA } from './line-fields.ts';
import { ReadWriteParser } from './read-write-parser.ts';
import { unreadablePlace } from './request-rules.ts';
import type { RequestCollector } from './request-collector.ts';

const NS_PER_US = 1000;
const COLUMNS = 'device_id,opcode,offset,length,timestamp';

export class AlibabaParser extends ReadWriteParser {
  constructor(collector: RequestCollector) {
    super(collector, COMMA, COLUMNS);
  }

  protected override request(): string | undefined {
    const { fields, collector } = this;
    const device = fields.number();
    if (device < 0) return 'the device is not a whole number';
    const op = this.letter();
    if (op === undefined) return 'the opcode is neither R nor W';
    const offset = fields.number();
    const length = fields.number();
    const timeUs = fields.number();
    if (!fields.isExact) return `not the five fields ${COLUMNS}`;
    if (!collector.volumes.takesNumber(device)) return undefined;
    const rule = unreadablePlace(offset, length);
    if (rule !== undefined) return rule;
    if (timeUs < 0) return 'the timestamp is not a whole number of microseconds';
    const timeNs = collector.clock.since(0, timeUs, 1) * NS_PER_US;
    return this.add(op, offset, length, timeNs);
  }
}
