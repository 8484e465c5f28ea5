/**
 * What QEMU's `simple` trace backend writes with `-trace 'blk_co_*'`: QEMU's `trace/simple.c` and
 * `scripts/simpletrace.py`, version 4.
 *
 *     header    24  2^64 − 1 u64  magic u64  version u64
 *     mapping   20  0 u64  id u64  length u32, then the event's name
 *     event     32  1 u64  id u64  time u64  length u32  pid u32, then its arguments
 *
 * Invariants:
 * - The byte order is that of the machine; the length of an event counts from its id. Times are
 *   nanoseconds of the machine's clock.
 * - The arguments of `blk_co_preadv` and `blk_co_pwritev` are five numbers of 64 bits: block backend
 *   (the volume), node, offset, bytes, flags. Flags are those of the log backend; there are no
 *   flushes and discards.
 * - Other events are passed over and counted. Events that QEMU dropped break a rule: what is left
 *   is not what the guest did.
 */

import { viewOf } from '../../core/bytes.ts';
import { qemuRequest } from './qemu-trace-log.ts';
import type { RequestCollector } from './request-collector.ts';
import { unreadablePlace } from './request-rules.ts';
import type { RecordParser } from './trace-parser.ts';

const HEADER_ID = 2n ** 64n - 1n;
const DROPPED_ID = 2n ** 64n - 2n;
const MAGIC = 0xf2b177cb0aa429b4n;
const VERSION = 4n;

const HEADER_BYTES = 24;
const TYPE_BYTES = 8;
const MAPPING_BYTES = 12;
const EVENT_BYTES = 24;
const MAPPING = 0n;
const EVENT = 1n;
const ARGUMENTS_BYTES = 40;
/** QEMU's buffer for events, in which an event has to fit. */
const EVENT_BYTES_MAX = 256 * 1024;
/** QEMU has some thousands of events, with shorter names. */
const EVENTS_MAX = 65_536;
const NAME_BYTES_MAX = 256;

/** Times are taken apart at this bit. */
const LOW_BITS = 32n;

const READ = 'blk_co_preadv';
const WRITE = 'blk_co_pwritev';

/** Whether a file that begins so is such a trace, of whatever version. */
export function isQemuSimpletrace(head: Uint8Array): boolean {
  return byteOrderOf(head) !== undefined;
}

function byteOrderOf(head: Uint8Array): 'little' | 'big' | undefined {
  if (head.length < HEADER_BYTES) return undefined;
  const view = viewOf(head);
  if (view.getBigUint64(0) !== HEADER_ID) return undefined;
  if (view.getBigUint64(8, true) === MAGIC) return 'little';
  return view.getBigUint64(8) === MAGIC ? 'big' : undefined;
}

/** What comes next in the file. */
type Part = 'header' | 'type' | 'mapping' | 'name' | 'event' | 'arguments' | 'dropped';

export class QemuSimpletraceParser implements RecordParser {
  readonly unit = 'record';
  recordBytes = HEADER_BYTES;
  bytesToSkip = 0;
  /** What breaks the layout leaves no way to the next record. */
  canSkip = false;

  readonly #collector: RequestCollector;
  readonly #isLittle: boolean;
  readonly #names = new Map<bigint, string>();
  #part: Part = 'header';
  #id = 0n;
  #timeNs = 0n;

  constructor(collector: RequestCollector, head: Uint8Array) {
    this.#collector = collector;
    this.#isLittle = byteOrderOf(head) !== 'big';
  }

  record(bytes: Uint8Array, start: number): string | undefined {
    const view = new DataView(bytes.buffer, bytes.byteOffset + start, this.recordBytes);
    this.bytesToSkip = 0;
    this.canSkip = false;
    switch (this.#part) {
      case 'header':
        return this.#header(view);
      case 'type':
        return this.#type(view);
      case 'mapping':
        return this.#mapping(view);
      case 'name':
        this.#names.set(
          this.#id,
          Buffer.from(bytes.subarray(start, start + this.recordBytes)).toString('latin1'),
        );
        this.#expect('type', TYPE_BYTES);
        return undefined;
      case 'event':
        return this.#event(view);
      case 'arguments':
        this.#expect('type', TYPE_BYTES);
        this.canSkip = true;
        return this.#request(view);
      case 'dropped':
        this.#expect('type', TYPE_BYTES);
        this.canSkip = true;
        return `QEMU dropped ${String(this.#u64(view, 0))} events here`;
    }
  }

  finish(): string | undefined {
    if (this.#part === 'type') return undefined;
    return this.#part === 'header' ? 'is empty' : 'ends within a record: the file is truncated';
  }

  #expect(part: Part, bytes: number): void {
    this.#part = part;
    this.recordBytes = bytes;
  }

  #u64(view: DataView, at: number): bigint {
    return view.getBigUint64(at, this.#isLittle);
  }

  #header(view: DataView): string | undefined {
    if (this.#u64(view, 0) !== HEADER_ID || this.#u64(view, 8) !== MAGIC) {
      return "does not begin as a file of QEMU's simple trace backend";
    }
    const version = this.#u64(view, 16);
    if (version !== VERSION) {
      return `version ${String(version)} of the format is not supported; only ${String(VERSION)} is`;
    }
    this.#expect('type', TYPE_BYTES);
    return undefined;
  }

  #type(view: DataView): string | undefined {
    const type = this.#u64(view, 0);
    if (type === MAPPING) this.#expect('mapping', MAPPING_BYTES);
    else if (type === EVENT) this.#expect('event', EVENT_BYTES);
    else return `is of type ${String(type)}, neither a mapping (0) nor an event (1)`;
    return undefined;
  }

  #mapping(view: DataView): string | undefined {
    this.#id = this.#u64(view, 0);
    const length = view.getUint32(8, this.#isLittle);
    if (length === 0 || length > NAME_BYTES_MAX) {
      return `the name of event ${String(this.#id)} has ${String(length)} bytes; expected 1 to ${String(NAME_BYTES_MAX)}`;
    }
    if (this.#names.size >= EVENTS_MAX) return `more than ${String(EVENTS_MAX)} events are named`;
    this.#expect('name', length);
    return undefined;
  }

  #event(view: DataView): string | undefined {
    this.#id = this.#u64(view, 0);
    this.#timeNs = this.#u64(view, 8);
    const length = view.getUint32(16, this.#isLittle);
    if (length < EVENT_BYTES || length > EVENT_BYTES_MAX) {
      return `an event of ${String(length)} bytes; expected ${String(EVENT_BYTES)} to ${String(EVENT_BYTES_MAX)}`;
    }
    const argumentBytes = length - EVENT_BYTES;
    if (this.#id === DROPPED_ID) {
      if (argumentBytes !== 8) return `the record of dropped events has ${String(length)} bytes, not 32`;
      this.#expect('dropped', argumentBytes);
      return undefined;
    }
    const name = this.#names.get(this.#id);
    if (name === READ || name === WRITE) {
      if (argumentBytes !== ARGUMENTS_BYTES) {
        return `${name} has ${String(argumentBytes)} bytes of arguments, not ${String(ARGUMENTS_BYTES)}`;
      }
      this.#expect('arguments', argumentBytes);
      return undefined;
    }
    this.#collector.passedOver.add(name === undefined ? 'events without a name' : `events ${name}`);
    this.bytesToSkip = argumentBytes;
    this.#expect('type', TYPE_BYTES);
    return undefined;
  }

  #request(view: DataView): string | undefined {
    const backend = Buffer.from(`0x${this.#u64(view, 0).toString(16)}`, 'latin1');
    if (!this.#collector.volumes.takesName(backend, 0, backend.length)) return undefined;
    // Signed, so that what is negative is seen to be.
    const offset = Number(view.getBigInt64(16, this.#isLittle));
    const length = Number(view.getBigInt64(24, this.#isLittle));
    const flags = Number(BigInt.asUintN(32, this.#u64(view, 32)));
    const rule = unreadablePlace(offset, length);
    if (rule !== undefined) return rule;
    const high = Number(this.#timeNs >> LOW_BITS);
    const low = Number(BigInt.asUintN(Number(LOW_BITS), this.#timeNs));
    const timeNs = this.#collector.clock.since(high, low, 2 ** Number(LOW_BITS));
    if (!Number.isSafeInteger(timeNs)) return 'its time is more than 2^53 ns from the first one';
    const isRead = this.#names.get(this.#id) === READ;
    return this.#collector.add(qemuRequest({ isRead, offset, length, flags, timeNs }));
  }
}
