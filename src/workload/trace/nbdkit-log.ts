/**
 * The log of nbdkit's log filter (nbdkit-log-filter(1)): a request has a line when it is issued and one, with
 * three dots before its name, when it is answered. A pair shares its connection and id.
 *
 *     2026-03-01 12:00:00.000100 connection=1 Write id=2 offset=0x10000 count=0x1000 fua=1 ...
 *     2026-03-01 12:00:00.000130 connection=1 ...Write id=2 return=0
 *     2026-03-01 12:00:00.000200 connection=1 Flush id=3 ...
 *
 * Invariants:
 * - Requests come out in issue order, and only if they were answered with success: one that failed, or was
 *   never answered, did nothing that a guest may rely on. Those are counted in `failedCount`.
 * - Times count from the first request. The log's order is the order of issue; a wall clock that steps back
 *   does not change it, so a time before its predecessor's becomes the predecessor's.
 * - At most `OUTSTANDING_MAX` requests wait for their answers.
 */

import type { Request, RequestOp } from '../request.ts';
import { brokenRule, brokenSizeRule } from './request-rules.ts';
import type { TraceParser } from './request-rules.ts';

const OUTSTANDING_MAX = 65_536;

/** Date, time with microseconds, connection, and the rest of the line. */
const LINE =
  /^(\d{4})-(\d\d)-(\d\d) (\d\d):(\d\d):(\d\d)\.(\d{6}) (?:connection=(\d+) )?(\.\.\.)?([A-Z][A-Za-z]*)(?: (.*))?$/;
const FIELD = /([a-z_]+)=(\S*)/g;

const OPS: Readonly<Record<string, RequestOp>> = {
  Read: 'read',
  Write: 'write',
  Flush: 'flush',
  Trim: 'discard',
  Zero: 'write-zeroes',
};

/** A request in the order of issue. `null` while it waits for its answer, `false` if it is left out. */
interface Outstanding {
  readonly request: Request;
  answer: boolean | null;
}

/** Whether a file that begins with `head` is such a log. */
export function isNbdkitLog(head: string): boolean {
  return LINE.test(head.slice(0, head.indexOf('\n') >>> 0));
}

export class NbdkitLogParser implements TraceParser {
  virtualSize: number | undefined;
  readonly provenance = new Map<string, string>();
  failedCount = 0;

  /** In issue order; the first ones whose fate is known are given out. */
  readonly #queue: Outstanding[] = [];
  /** The same requests by connection and id. */
  readonly #unanswered = new Map<string, Outstanding>();
  #firstMicros: number | undefined;
  #timeNs = 0;

  get headerDone(): boolean {
    return this.virtualSize !== undefined;
  }

  line(bytes: Uint8Array, start: number, end: number, ready: Request[]): string | undefined {
    if (start === end) return undefined;
    const match = LINE.exec(Buffer.from(bytes.subarray(start, end)).toString('utf8'));
    if (match === null) return 'is no line of the nbdkit log filter';
    const [, , , , , , , , connection = '', dots, name = '', rest = ''] = match;
    const fields = new Map([...rest.matchAll(FIELD)].map(([, key = '', value = '']) => [key, value]));
    if (name === 'Connect') return this.#connect(fields);
    const op = OPS[name];
    if (op === undefined) return undefined;
    const key = `${connection}:${fields.get('id') ?? ''}`;
    if (dots !== undefined) return this.#answered(key, fields, ready);
    return this.#issued(op, key, fields, microsOf(match));
  }

  finish(ready: Request[]): string | undefined {
    for (const entry of this.#unanswered.values()) this.#settle(entry, false);
    this.#unanswered.clear();
    this.#release(ready);
    if (this.virtualSize === undefined) return 'has no Connect line with the size of the device';
    return undefined;
  }

  #connect(fields: ReadonlyMap<string, string>): string | undefined {
    const size = numberOf(fields, 'size');
    const rule = brokenSizeRule(size);
    if (rule !== undefined) return rule;
    if (this.virtualSize !== undefined && size !== this.virtualSize) {
      return `a connection to a device of ${String(size)} bytes; the ones before it had ${String(this.virtualSize)}`;
    }
    this.virtualSize = size;
    return undefined;
  }

  #issued(
    op: RequestOp,
    key: string,
    fields: ReadonlyMap<string, string>,
    micros: number,
  ): string | undefined {
    if (this.virtualSize === undefined) {
      return 'a request before any Connect line with the size of the device';
    }
    if (this.#unanswered.size >= OUTSTANDING_MAX) {
      return `more than ${String(OUTSTANDING_MAX)} unanswered requests`;
    }
    if (this.#unanswered.has(key)) {
      return 'a request with the connection and id of one that was not answered yet';
    }
    const offset = op === 'flush' ? 0 : numberOf(fields, 'offset');
    const length = op === 'flush' ? 0 : numberOf(fields, 'count');
    if (Number.isNaN(offset) || Number.isNaN(length)) return 'offset or count is not a number below 2^53';
    const rule = brokenRule(op, offset, length, this.virtualSize);
    if (rule !== undefined) return rule;

    this.#firstMicros ??= micros;
    this.#timeNs = Math.max(this.#timeNs, (micros - this.#firstMicros) * 1000);
    const fua = op !== 'read' && fields.get('fua') === '1';
    const unmap = op === 'write-zeroes' && fields.get('trim') === '1';
    const entry = { request: { op, offset, length, fua, unmap, timeNs: this.#timeNs }, answer: null };
    this.#unanswered.set(key, entry);
    this.#queue.push(entry);
    return undefined;
  }

  #answered(key: string, fields: ReadonlyMap<string, string>, ready: Request[]): string | undefined {
    const entry = this.#unanswered.get(key);
    if (entry === undefined) return 'an answer to no request';
    this.#unanswered.delete(key);
    this.#settle(entry, fields.get('return') === '0');
    this.#release(ready);
    return undefined;
  }

  #settle(entry: Outstanding, success: boolean): void {
    entry.answer = success;
    if (!success) this.failedCount++;
  }

  #release(ready: Request[]): void {
    let known = 0;
    for (const entry of this.#queue) {
      if (entry.answer === null) break;
      if (entry.answer) ready.push(entry.request);
      known++;
    }
    if (known > 0) this.#queue.splice(0, known);
  }
}

/** Microseconds since 1970; the log is in UTC. */
function microsOf(match: RegExpExecArray): number {
  const [year = 0, month = 1, day = 1, hours = 0, minutes = 0, seconds = 0, micros = 0] = match
    .slice(1, 8)
    .map(Number);
  return Date.UTC(year, month - 1, day, hours, minutes, seconds) * 1000 + micros;
}

/** A field in hexadecimal (`0x…`) or decimal; NaN if it is missing, no number, or 2^53 or more. */
function numberOf(fields: ReadonlyMap<string, string>, key: string): number {
  const text = fields.get(key) ?? '';
  const value = /^(0x[0-9a-f]+|\d+)$/.test(text) ? Number(text) : NaN;
  return Number.isSafeInteger(value) ? value : NaN;
}
