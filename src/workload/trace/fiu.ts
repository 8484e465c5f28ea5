/**
 * The traces of Florida International University in the form of SRT (Koller, Rangaswami: I/O
 * Deduplication, FAST '10), as SNIA distributes them.
 *
 *     ns pid process lba blocks W|R major minor md5
 *     89966899405 1234 kjournald 904265560 8 W 6 0 531e779b3d5bca7b9c0a6a3a4e2c1a3b
 *
 * Invariants: times are nanoseconds, addresses and sizes sectors of 512 bytes; `major,minor` is the
 * volume, written as blkparse does. Neither flush nor FUA.
 */

import { SECTOR_SIZE } from '../request.ts';
import { SPACE, WIDE_UNIT } from './line-fields.ts';
import { ReadWriteParser } from './read-write-parser.ts';
import { unreadablePlace } from './request-rules.ts';
import type { RequestCollector } from './request-collector.ts';

export class FiuParser extends ReadWriteParser {
  constructor(collector: RequestCollector) {
    super(collector, SPACE);
  }

  protected override request(bytes: Uint8Array): string | undefined {
    const { fields, collector } = this;
    if (!fields.wide()) return 'the time is not a whole number of nanoseconds';
    const { high, low } = fields;
    fields.word();
    fields.word();
    const offset = fields.number() * SECTOR_SIZE;
    const length = fields.number() * SECTOR_SIZE;
    const op = this.letter();
    const volumeStart = fields.next;
    const device = Math.min(fields.number(), fields.number());
    const volumeEnd = fields.next - 1;
    if (fields.isPastEnd) return 'fewer fields than time, pid, process, lba, size, R or W, major, minor';
    if (op === undefined) return 'the operation is neither R nor W';
    if (device < 0) return 'major and minor are not whole numbers';
    if (!collector.volumes.takesName(bytes, volumeStart, volumeEnd, volumeName)) return undefined;
    const rule = unreadablePlace(offset, length);
    if (rule !== undefined) return rule;
    const timeNs = collector.clock.since(high, low, WIDE_UNIT);
    return this.add(op, offset, length, timeNs);
  }
}

function volumeName(fields: string): string {
  return fields.replace(' ', ',');
}
