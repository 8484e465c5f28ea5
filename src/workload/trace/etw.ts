/**
 * Windows' disk events as xperf dumps them (`xperf -a dumper`), as in the traces of Microsoft
 * Enterprise that SNIA distributes.
 *
 *     BeginHeader
 *       DiskRead, TimeStamp, Process Name ( PID), ThreadID, IrpPtr, ByteOffset, IOSize, ElapsedTime, DiskNum, …
 *       DiskFlush, TimeStamp, Process Name ( PID), ThreadID, IrpPtr, ElapsedTime, DiskNum, …
 *     EndHeader
 *       DiskRead,      12345,  sqlservr.exe (1234),  2468, 0xfffffa80, 0x0000001000, 0x00002000, 310, 0, …
 *
 * Invariants: the header names the columns of each event. Times are microseconds, and those of the
 * completion, in whose order the events are. DiskRead, DiskWrite and DiskFlush are requests, other
 * events are passed over and counted. A disk is a volume.
 */

import { textOf, WIDE_UNIT } from './line-fields.ts';
import type { RequestCollector } from './request-collector.ts';
import { unreadablePlace } from './request-rules.ts';
import type { LineParser } from './trace-parser.ts';

const OPS: ReadonlyMap<string, 'read' | 'write' | 'flush'> = new Map([
  ['DiskRead', 'read'],
  ['DiskWrite', 'write'],
  ['DiskFlush', 'flush'],
]);
const US_PER_S = 1_000_000;
const NS_PER_US = 1000;
const NUMBER = /^(?:0x[0-9a-f]{1,16}|\d{1,16})$/i;

/** Indices of columns. */
interface Columns {
  readonly time: number;
  readonly disk: number;
  readonly offset: number;
  readonly length: number;
}

export class EtwParser implements LineParser {
  readonly unit = 'line';
  readonly canSkip = true;
  /** Whether the header names an event of a disk. */
  isRecognised = false;

  readonly #collector: RequestCollector;
  readonly #columns = new Map<string, Columns>();
  #part: 'before the header' | 'header' | 'events' = 'before the header';

  constructor(collector: RequestCollector) {
    this.#collector = collector;
  }

  line(bytes: Uint8Array, start: number, end: number): string | undefined {
    const fields = textOf(bytes, start, end).split(',');
    const name = (fields[0] ?? '').trim();
    if (name === '') return undefined;
    if (name === 'BeginHeader') {
      this.#part = 'header';
      return undefined;
    }
    if (this.#part === 'before the header') {
      return 'comes before BeginHeader, with which a dump of xperf begins';
    }
    if (name === 'EndHeader') {
      this.#part = 'events';
      return this.isRecognised
        ? undefined
        : 'ends a header that names no event of a disk (DiskRead, DiskWrite)';
    }
    if (this.#part === 'header') return this.#head(name, fields);
    const op = OPS.get(name);
    if (op !== undefined) return this.#event(op, name, fields);
    this.#collector.passedOver.add(`events ${name.slice(0, 40)}`);
    return undefined;
  }

  #head(name: string, fields: readonly string[]): string | undefined {
    const op = OPS.get(name);
    if (op === undefined) return undefined;
    const names = fields.map((field) => field.trim());
    const columns = {
      time: names.indexOf('TimeStamp'),
      disk: names.indexOf('DiskNum'),
      offset: names.indexOf('ByteOffset'),
      length: names.indexOf('IOSize'),
    };
    const isWhole =
      columns.time > 0 &&
      columns.disk > 0 &&
      (op === 'flush' || Math.min(columns.offset, columns.length) > 0);
    if (!isWhole) return `the columns of ${name} are without TimeStamp, DiskNum, ByteOffset or IOSize`;
    this.#columns.set(name, columns);
    if (op !== 'flush') this.isRecognised = true;
    return undefined;
  }

  #event(op: 'read' | 'write' | 'flush', name: string, fields: readonly string[]): string | undefined {
    const columns = this.#columns.get(name);
    if (columns === undefined) return `is an event ${name}, whose columns the header does not name`;
    const number = (index: number): number => {
      const text = (fields[index] ?? '').trim();
      return NUMBER.test(text) ? Number(text) : NaN;
    };
    const timeUs = number(columns.time);
    const disk = number(columns.disk);
    if (!Number.isSafeInteger(timeUs)) return 'TimeStamp is not a whole number of microseconds';
    if (!(disk <= 0xffff)) return 'DiskNum is not the number of a disk';
    const { volumes, clock } = this.#collector;
    if (!volumes.takesNumber(disk)) return undefined;
    const timeNs = clock.since(Math.floor(timeUs / US_PER_S), (timeUs % US_PER_S) * NS_PER_US, WIDE_UNIT);
    if (op === 'flush') return this.#collector.addFlush(timeNs);
    const offset = number(columns.offset);
    const length = number(columns.length);
    const rule = unreadablePlace(offset, length);
    if (rule !== undefined) return rule;
    return this.#collector.add({ op, offset, length, fua: false, unmap: false, timeNs });
  }
}
