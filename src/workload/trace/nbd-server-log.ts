/**
 * The transaction log of nbd-server (`transactionlog` in its configuration): the requests and
 * replies of the NBD protocol as they went over the wire, without data or, with `datalog`, with
 * those of writes.
 *
 *     request   28  magic 0x25609513  flags u16  command u16  cookie u64  offset u64            length u32
 *     reply     16  magic 0x67446698  error u32               cookie u64
 *     setting   28  magic 0x25609514  type u32                cookie u64  0x4a93ba39a54f31b6    value u32
 *
 * Invariants: everything is big-endian; there are no times. A request comes out in issue order, if
 * it was answered with success. Setting 1 says whether data follow the requests that write. Other
 * commands are passed over and counted; a disconnect has no reply.
 */

import { viewOf } from '../../core/bytes.ts';
import type { RequestOp } from '../request.ts';
import { OutstandingRequests } from './outstanding-requests.ts';
import type { RequestCollector } from './request-collector.ts';
import { unreadablePlace } from './request-rules.ts';
import type { RecordParser } from './trace-parser.ts';

const REQUEST = 0x25609513;
const SETTING = 0x25609514;
const REPLY = 0x67446698;
const SETTING_IS_DATA = 1;

const FLAG_FUA = 1 << 0;
const FLAG_NO_HOLE = 1 << 1;
const WRITE = 1;
const OPS: ReadonlyMap<number, RequestOp> = new Map([
  [0, 'read'],
  [WRITE, 'write'],
  [3, 'flush'],
  [4, 'discard'],
  [6, 'write-zeroes'],
]);
const OTHER_COMMANDS: ReadonlyMap<number, string> = new Map([
  [2, 'disconnect'],
  [5, 'cache'],
  [7, 'block status'],
  [8, 'resize'],
]);

/** A reply, and what a request begins with. */
const HEAD_BYTES = 16;
/** What a request has after it: offset and length. */
const REST_BYTES = 12;

/** Whether a file that begins so is such a log. */
export function isNbdServerLog(head: Uint8Array): boolean {
  if (head.length < HEAD_BYTES + REST_BYTES) return false;
  const magic = viewOf(head).getUint32(0);
  return magic === REQUEST || magic === SETTING;
}

interface Begun {
  readonly magic: number;
  /** Of a setting its type; of a request the flags and the command. */
  readonly type: number;
  readonly cookie: bigint;
}

export class NbdServerLogParser implements RecordParser {
  readonly unit = 'record';
  recordBytes = HEAD_BYTES;
  bytesToSkip = 0;
  /** What is not known has no length. */
  canSkip = false;

  readonly #collector: RequestCollector;
  readonly #outstanding: OutstandingRequests<bigint>;
  /** A request or setting whose rest comes next. */
  #begun: Begun | undefined;
  #hasData = false;

  constructor(collector: RequestCollector) {
    this.#collector = collector;
    this.#outstanding = new OutstandingRequests(collector);
  }

  get failedCount(): number {
    return this.#outstanding.failedCount;
  }

  record(bytes: Uint8Array, start: number): string | undefined {
    const view = new DataView(bytes.buffer, bytes.byteOffset + start, this.recordBytes);
    this.bytesToSkip = 0;
    this.canSkip = false;
    const begun = this.#begun;
    if (begun === undefined) return this.#head(view);
    this.#begun = undefined;
    this.recordBytes = HEAD_BYTES;
    const high = view.getUint32(0);
    const place = { offset: high * 2 ** 32 + view.getUint32(4), length: view.getUint32(8) };
    return begun.magic === SETTING ? this.#setting(begun, place.length) : this.#request(begun, place);
  }

  finish(): string | undefined {
    if (this.#begun !== undefined) return 'ends within a request: the file is truncated';
    this.#outstanding.abandon();
    return undefined;
  }

  #head(view: DataView): string | undefined {
    const magic = view.getUint32(0);
    const type = view.getUint32(4);
    const cookie = view.getBigUint64(8);
    if (magic === REQUEST || magic === SETTING) {
      this.#begun = { magic, type, cookie };
      this.recordBytes = REST_BYTES;
      return undefined;
    }
    if (magic !== REPLY) return 'has neither the magic number of a request nor that of a reply';
    // Replies to commands that are passed over have no request here.
    this.#outstanding.answer(cookie, type === 0);
    return undefined;
  }

  #setting({ type }: Begun, value: number): string | undefined {
    if (type === SETTING_IS_DATA) this.#hasData = value !== 0;
    this.#collector.passedOver.add('settings of the log');
    return undefined;
  }

  #request(
    { type, cookie }: Begun,
    { offset, length }: { offset: number; length: number },
  ): string | undefined {
    const command = type & 0xffff;
    const flags = type >>> 16;
    if (command === WRITE && this.#hasData) this.bytesToSkip = length;
    this.canSkip = true;
    const op = OPS.get(command);
    if (op === undefined) {
      const other = OTHER_COMMANDS.get(command);
      if (other === undefined) return `command ${String(command)} is not of the NBD protocol`;
      this.#collector.passedOver.add(`commands ${other}`);
      return undefined;
    }
    const place = op === 'flush' ? { offset: 0, length: 0 } : { offset, length };
    const rule =
      this.#outstanding.brokenRule(cookie) ??
      unreadablePlace(place.offset, place.length) ??
      this.#collector.brokenRule(op, place.offset, place.length);
    if (rule !== undefined) return rule;
    this.#outstanding.issue(cookie, {
      op,
      ...place,
      fua: op !== 'read' && op !== 'flush' && (flags & FLAG_FUA) !== 0,
      unmap: op === 'write-zeroes' && (flags & FLAG_NO_HOLE) === 0,
      timeNs: 0,
    });
    return undefined;
  }
}
