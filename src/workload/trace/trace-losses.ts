/**
 * What of a trace another format does not hold, counted by name before anything is written.
 *
 * Invariant: a trace without losses comes back from that format as it was, request by request.
 */

import { formatSize } from '../../core/size.ts';
import { SECTOR_SIZE, type Request } from '../request.ts';
import { FIO_LENGTH_MAX } from './fio-iolog.ts';
import { Tally, type TallyEntry } from './tally.ts';
import { traceFormat, type TraceContents, type TraceFormat } from './trace-formats.ts';

const UNIT_NS: Readonly<Record<TraceContents['times'], number>> = {
  ns: 1,
  '100 ns': 100,
  us: 1000,
  ms: 1_000_000,
  s: 1e9,
  none: Infinity,
};

export class TraceLosses {
  readonly #format: TraceFormat;
  readonly #holds: TraceContents;
  readonly #unitNs: number;
  /** Bytes of a request that the format can say. */
  readonly #lengthMax: number;
  readonly #tally = new Tally();

  constructor(format: TraceFormat) {
    this.#format = format;
    this.#holds = traceFormat(format).holds;
    this.#unitNs = UNIT_NS[this.#holds.times];
    this.#lengthMax = format === 'fio-v2' || format === 'fio-v3' ? FIO_LENGTH_MAX : Infinity;
  }

  /** Whether the format holds the request at all. */
  keeps({ op }: Request): boolean {
    switch (op) {
      case 'read':
      case 'flush':
      case 'discard':
        return this.#holds[op];
      case 'write':
      case 'write-zeroes':
        return true;
    }
  }

  /** Counts what is lost of a request. */
  add(request: Request): void {
    const { op, fua, unmap, timeNs } = request;
    if (!this.keeps(request)) {
      this.#count(op === 'flush' ? 'flushes' : `${op}s`);
      return;
    }
    const asWrite = op === 'write-zeroes' && !this.#holds.writeZeroes;
    if (asWrite) this.#count('write-zeroes, which become writes');
    // Beside write-zeroes only this program's own format and the protocol of NBD know a discard
    // with FUA.
    const holdsFua = this.#holds.fua && (op !== 'discard' || this.#holds.writeZeroes);
    if (fua && !holdsFua) this.#count('FUA flags');
    if (unmap && asWrite) this.#count('unmap flags');
    if (request.length > this.#lengthMax) {
      this.#count(`requests of ${formatSize(this.#lengthMax + SECTOR_SIZE)} or more, which become several`);
    }
    if (this.#unitNs === Infinity ? timeNs !== 0 : timeNs % this.#unitNs !== 0) {
      this.#count(this.#unitNs === Infinity ? 'times' : `times, truncated to ${this.#holds.times}`);
    }
  }

  /** Counts what is lost of the header. */
  addHeader({ virtualSize, footprintSize, facts }: TraceHeader): void {
    if (!this.#holds.size && virtualSize !== footprintSize) this.#count('size of the device');
    if (this.#format !== 'native' && facts > 0) this.#count('lines of provenance', facts);
  }

  list(): readonly TallyEntry[] {
    return this.#tally.list();
  }

  #count(what: string, count = 1): void {
    this.#tally.add(what, count);
  }
}

export interface TraceHeader {
  /** Bytes of the device. */
  readonly virtualSize: number;
  /** The size that a reader gives the device where the format does not hold it. */
  readonly footprintSize: number;
  /** Lines of provenance. */
  readonly facts: number;
}
