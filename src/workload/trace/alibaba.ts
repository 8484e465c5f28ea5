/**
 * The block traces of Alibaba Cloud of 2020 (Li et al., IISWC '20; github.com/alibaba/block-traces), `io_traces.csv`.
 *
 *     device_id,opcode,offset,length,timestamp
 *     419,W,8792731648,16384,1577808144360767
 *
 * Invariants: offsets and lengths are bytes, times microseconds since 1970; a device is a volume. Neither flush nor FUA.
 */

import { COMMA, equals, LineFields } from './line-fields.ts';
import type { TraceIntake } from './trace-intake.ts';
import type { LineParser } from './trace-parser.ts';

const NS_PER_US = 1000;
const READ = 0x52;
const WRITE = 0x57;
const LINE = /^\d+,[RW],\d+,\d+,\d+$/;
const COLUMNS = 'device_id,opcode,offset,length,timestamp';
const COLUMNS_LINE = Buffer.from(COLUMNS, 'latin1');

export function isAlibabaTrace(firstLine: string): boolean {
  return LINE.test(firstLine) || firstLine === COLUMNS;
}

export class AlibabaParser implements LineParser {
  readonly unit = 'line';
  readonly canSkip = true;
  readonly #intake: TraceIntake;
  readonly #fields = new LineFields(COMMA);

  constructor(intake: TraceIntake) {
    this.#intake = intake;
  }

  line(bytes: Uint8Array, start: number, end: number): string | undefined {
    if (start === end) return undefined;
    const fields = this.#fields;
    fields.begin(bytes, start, end);
    const device = fields.number();
    if (device < 0) {
      return equals(bytes, start, end, COLUMNS_LINE) ? undefined : 'the device is not a whole number';
    }
    if (!this.#intake.volumes.takesNumber(device)) return undefined;
    const isOneByte = fields.word() === 1;
    const op = fields.wordByte === READ ? 'read' : fields.wordByte === WRITE ? 'write' : undefined;
    if (!isOneByte || op === undefined) return 'the opcode is neither R nor W';
    const offset = fields.number();
    const length = fields.number();
    const timeUs = fields.number();
    if (fields.isPastEnd) return `fewer than the five fields ${COLUMNS}`;
    if (offset < 0) return 'the offset is not a whole number below 2^53';
    if (length < 0) return 'the length is not a whole number below 2^53';
    if (timeUs < 0) return 'the timestamp is not a whole number of microseconds';
    const timeNs = this.#intake.clock.since(0, timeUs, 1) * NS_PER_US;
    return this.#intake.add({ op, offset, length, fua: false, unmap: false, timeNs });
  }
}
