/**
 * The traces of Florida International University in the form of SRT (Koller, Rangaswami: I/O Deduplication, FAST '10),
 * as SNIA distributes them.
 *
 *     ns pid process lba blocks W|R major minor md5
 *     89966899405 1234 kjournald 904265560 8 W 6 0 531e779b3d5bca7b9c0a6a3a4e2c1a3b
 *
 * Invariants: times are nanoseconds, addresses and sizes sectors of 512 bytes; `major,minor` is the volume, written as
 * blkparse does. Neither flush nor FUA.
 */

import { SECTOR_SIZE } from '../request.ts';
import { LineFields, SPACE, WIDE_UNIT } from './line-fields.ts';
import type { TraceIntake } from './trace-intake.ts';
import type { LineParser } from './trace-parser.ts';

const READ = 0x52;
const WRITE = 0x57;
const LINE = /^\d+ \d+ \S+ \d+ \d+ [RW] \d+ \d+( [0-9A-Fa-f]{8,})?$/;

export function isFiuTrace(firstLine: string): boolean {
  return LINE.test(firstLine);
}

export class FiuParser implements LineParser {
  readonly unit = 'line';
  readonly canSkip = true;
  readonly #intake: TraceIntake;
  readonly #fields = new LineFields(SPACE);

  constructor(intake: TraceIntake) {
    this.#intake = intake;
  }

  line(bytes: Uint8Array, start: number, end: number): string | undefined {
    if (start === end) return undefined;
    const fields = this.#fields;
    fields.begin(bytes, start, end);
    if (!fields.wide()) return 'the time is not a whole number of nanoseconds';
    const { high, low } = fields;
    fields.word();
    fields.word();
    const offset = fields.number() * SECTOR_SIZE;
    const length = fields.number() * SECTOR_SIZE;
    const isOneByte = fields.word() === 1;
    const op = fields.wordByte === READ ? 'read' : fields.wordByte === WRITE ? 'write' : undefined;
    fields.word();
    const volumeStart = fields.wordStart;
    fields.word();
    if (fields.isPastEnd) return 'fewer fields than time, pid, process, lba, size, R or W, major, minor';
    if (!this.#intake.volumes.takesName(bytes, volumeStart, fields.wordEnd, volumeName)) return undefined;
    if (!isOneByte || op === undefined) return 'the operation is neither R nor W';
    if (offset < 0 || !Number.isSafeInteger(offset)) {
      return 'the address is not a number of sectors below 2^53 bytes';
    }
    if (length < 0 || !Number.isSafeInteger(length)) {
      return 'the size is not a number of sectors below 2^53 bytes';
    }
    const timeNs = this.#intake.clock.since(high, low, WIDE_UNIT);
    return this.#intake.add({ op, offset, length, fua: false, unmap: false, timeNs });
  }
}

function volumeName(fields: string): string {
  return fields.replace(' ', ',');
}
