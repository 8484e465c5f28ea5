/**
 * The block traces of Tencent Cloud Block Storage of 2018 (Zhang et al., ATC '20), as SNIA
 * distributes them.
 *
 *     Timestamp,Offset,Size,IOType,VolumeID
 *     1538323200,12910952,128,0,1063
 *
 * Invariants: offsets and sizes are sectors of 512 bytes, times whole seconds since 1970; type 0
 * reads, 1 writes. Requests of one second have the same time and keep their order. Neither flush
 * nor FUA.
 */

import { SECTOR_SIZE } from '../request.ts';
import { COMMA, equals } from './line-fields.ts';
import { ReadWriteParser } from './read-write-parser.ts';
import { unreadablePlace } from './request-rules.ts';
import type { RequestCollector } from './request-collector.ts';

const NS_PER_S = 1e9;
const LINE = /^\d+,\d+,\d+,[01],\d+$/;
const COLUMNS = 'Timestamp,Offset,Size,IOType,VolumeID';
const COLUMNS_LINE = Buffer.from(COLUMNS, 'latin1');

export function isTencentTrace(firstLine: string): boolean {
  return LINE.test(firstLine) || firstLine === COLUMNS;
}

export class TencentParser extends ReadWriteParser {
  constructor(collector: RequestCollector) {
    super(collector, COMMA);
  }

  protected override request(bytes: Uint8Array, start: number, end: number): string | undefined {
    const { fields, collector } = this;
    const timeS = fields.number();
    if (timeS < 0) {
      return equals(bytes, start, end, COLUMNS_LINE)
        ? undefined
        : 'the timestamp is not a whole number of seconds';
    }
    const sector = fields.number();
    const sectors = fields.number();
    const type = fields.number();
    const volume = fields.number();
    if (fields.isPastEnd) return `fewer than the five fields ${COLUMNS}`;
    if (volume < 0) return 'the volume is not a whole number';
    if (!collector.volumes.takesNumber(volume)) return undefined;
    const offset = sector * SECTOR_SIZE;
    const length = sectors * SECTOR_SIZE;
    const rule = unreadablePlace(offset, length);
    if (rule !== undefined) return rule;
    if (type !== 0 && type !== 1) return 'the type is neither 0 (read) nor 1 (write)';
    const timeNs = collector.clock.since(0, timeS, 1) * NS_PER_S;
    const op = type === 0 ? 'read' : 'write';
    return this.add(op, offset, length, timeNs);
  }
}
