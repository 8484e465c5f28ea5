/**
 * The traces of Microsoft Research Cambridge (Narayanan, Donnelly, Rowstron: Write Off-Loading,
 * FAST '08), as SNIA distributes them.
 *
 *     Timestamp,Hostname,DiskNumber,Type,Offset,Size,ResponseTime
 *     128166372003061629,hm,0,Read,383496192,32768,113736
 *
 * Invariants: times are ticks of 100 ns since 1601, above 2^53; offsets and sizes are bytes. Host
 * and disk are the volume, called `hm_0` as the published files are. Neither flush nor FUA.
 */

import { COMMA, WIDE_UNIT } from './line-fields.ts';
import { ReadWriteParser } from './read-write-parser.ts';
import { unreadablePlace } from './request-rules.ts';
import type { RequestCollector } from './request-collector.ts';

const NS_PER_TICK = 100;
const READ = Buffer.from('Read', 'latin1');
const WRITE = Buffer.from('Write', 'latin1');
const COLUMNS = 'Timestamp,Hostname,DiskNumber,Type,Offset,Size,ResponseTime';

export class MsrParser extends ReadWriteParser {
  constructor(collector: RequestCollector) {
    super(collector, COMMA, COLUMNS);
  }

  protected override request(bytes: Uint8Array): string | undefined {
    const { fields, collector } = this;
    if (!fields.wide()) return 'the timestamp is not a number of 100 ns ticks';
    const { high, low } = fields;
    if (fields.word() === 0) return 'the hostname is empty';
    const volumeStart = fields.wordStart;
    if (fields.number() < 0) return 'the disk is not a whole number';
    const volumeEnd = fields.next - 1;
    fields.word();
    const op = fields.wordIs(READ) ? 'read' : fields.wordIs(WRITE) ? 'write' : undefined;
    if (op === undefined) return 'the type is neither Read nor Write';
    const offset = fields.number();
    const length = fields.number();
    if (fields.isPastEnd) return 'fewer fields than Timestamp,Hostname,DiskNumber,Type,Offset,Size';
    const rule = unreadablePlace(offset, length);
    if (rule !== undefined) return rule;
    if (!collector.volumes.takesName(bytes, volumeStart, volumeEnd, volumeName)) return undefined;
    const timeNs = collector.clock.since(high, low, WIDE_UNIT) * NS_PER_TICK;
    return this.add(op, offset, length, timeNs);
  }
}

function volumeName(fields: string): string {
  return fields.replace(',', '_');
}
