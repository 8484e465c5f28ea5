/**
 * What the published traces have in common whose lines are fields: a line is a read or a write of a
 * volume, without flushes and FUA.
 *
 * Invariant: a line can be understood without those before it, so a broken one may be left out.
 */

import { LineFields } from './line-fields.ts';
import type { RequestCollector } from './request-collector.ts';
import type { LineParser } from './trace-parser.ts';

const READ = 0x52;
const WRITE = 0x57;

export abstract class ReadWriteParser implements LineParser {
  readonly unit = 'line';
  readonly canSkip = true;
  protected readonly collector: RequestCollector;
  protected readonly fields: LineFields;

  constructor(collector: RequestCollector, separator: number) {
    this.collector = collector;
    this.fields = new LineFields(separator);
  }

  line(bytes: Uint8Array, start: number, end: number): string | undefined {
    if (start === end) return undefined;
    this.fields.begin(bytes, start, end);
    return this.request(bytes, start, end);
  }

  /**
   * Takes the line `bytes[start … end)`, at whose beginning `fields` stand; answers the rule it
   * breaks.
   */
  protected abstract request(bytes: Uint8Array, start: number, end: number): string | undefined;

  /** The next field as an operation, which is `R` or `W`. */
  protected letter(): 'read' | 'write' | undefined {
    const { fields } = this;
    if (fields.word() !== 1) return undefined;
    return fields.wordByte === READ ? 'read' : fields.wordByte === WRITE ? 'write' : undefined;
  }

  /** Hands a request on, whose place must have been held against `unreadablePlace`. */
  protected add(op: 'read' | 'write', offset: number, length: number, timeNs: number): string | undefined {
    return this.collector.add({ op, offset, length, fua: false, unmap: false, timeNs });
  }
}
