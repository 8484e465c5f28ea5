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
import { COMMA } from './line-fields.ts';
import { ReadWriteParser } from './read-write-parser.ts';
import { unreadablePlace } from './request-rules.ts';
import type { RequestCollector } from './request-collector.ts';

const NS_PER_S = 1e9;
const COLUMNS = 'Timestamp,Offset,Size,IOType,VolumeID';

export class TencentParser extends ReadWriteParser {
  constructor(collector: RequestCollector) {
    super(collector, COMMA, COLUMNS);
  }

  protected override request(): string | undefined {
    const { fields, collector } = this;
    const timeS = fields.number();
    if (timeS < 0) return 'the timestamp is not a whole number of seconds';
    const sector = fields.number();
    const sectors = fields.number();
    const type = fields.number();
    const volume = fields.number();
    if (!fields.isExact) return `not the five fields ${COLUMNS}`;
    if (type !== 0 && type !== 1) return 'the type is neither 0 (read) nor 1 (write)';
    if (volume < 0) return 'the volume is not a whole number';
    if (!collector.volumes.takesNumber(volume)) return undefined;
    const offset = sector * SECTOR_SIZE;
    const length = sectors * SECTOR_SIZE;
    const rule = unreadablePlace(offset, length);
    if (rule !== undefined) return rule;
    const timeNs = collector.clock.since(0, timeS, 1) * NS_PER_S;
    const op = type === 0 ? 'read' : 'write';
    return this.add(op, offset, length, timeNs);
  }
}
