/**
 * What the published traces have in common whose lines are fields: a line is a read or a write of a
 * volume, without flushes and FUA.
 *
 * Invariants: a line can be understood without those before it, so a broken one may be left out. A
 * first line of column names is passed over and counted.
 */

import { equals, LineFields } from './line-fields.ts';
import type { RequestCollector } from './request-collector.ts';
import type { LineParser } from './trace-parser.ts';

const READ = 0x52;
const WRITE = 0x57;

export abstract class ReadWriteParser implements LineParser {
  readonly unit = 'line';
  readonly canSkip = true;
  protected readonly collector: RequestCollector;
  protected readonly fields: LineFields;
  readonly #columns: Uint8Array | undefined;
  #isFirst = true;

  /** @param columns the line of column names that may be before the others. */
  constructor(collector: RequestCollector, separator: number, columns?: string) {
    this.collector = collector;
    this.fields = new LineFields(separator);
    this.#columns = columns === undefined ? undefined : Buffer.from(columns, 'latin1');
  }

  /** Whether the file began with the column names of the format. */
  get isRecognised(): boolean {
    return this.hasColumns || this.failedCount > 0;
  }

  hasColumns = false;
  failedCount = 0;

  line(bytes: Uint8Array, start: number, end: number): string | undefined {
    if (start === end) return undefined;
    if (this.#isFirst) {
      this.#isFirst = false;
      if (this.#columns !== undefined && equals(bytes, start, end, this.#columns)) {
        this.hasColumns = true;
        this.collector.passedOver.add('column names');
        return undefined;
      }
    }
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
