/**
 * The native trace, version 1: parser and formatter of its lines.
 *
 *     #qcow2-bench trace v1
 *     #virtual-size 1073741824
 *     #key value                         provenance, any number
 *     time_ns,op,offset,length,flags
 *     0,write,0,4096,
 *     1200,write,65536,4096,fua
 *     2400,flush,,,
 *     # a comment
 *
 * Invariants: numbers are decimal integers below 2^53; times never go backwards; flags are joined
 * by `|`. `line` makes no strings and uses no regular expression: it reads bytes once, left to
 * right.
 */

import { REQUEST_OPS } from '../request.ts';
import type { Request, RequestOp } from '../request.ts';
import { COMMA, EMPTY_FIELD, equals, indexOfByte, LineFields } from './line-fields.ts';
import type { RequestCollector } from './request-collector.ts';
import type { LineParser } from './trace-parser.ts';

export const NATIVE_MAGIC_LINE = '#qcow2-bench trace v1';
const MAGIC_PREFIX = '#qcow2-bench trace ';
const COLUMNS_LINE = 'time_ns,op,offset,length,flags';
const SIZE_KEY = 'virtual-size';
/** Header lines and the facts they hold are kept in memory, so their number has a limit. */
const PROVENANCE_LINES_MAX = 1000;

const BAR = 0x7c;
const HASH = 0x23;

/**
 * The ops by the length of their names, which is different for all but two: comparing is then
 * rarely in vain.
 */
const OPS_BY_LENGTH: readonly (readonly (readonly [RequestOp, Uint8Array])[])[] = Array.from(
  { length: 16 },
  (_, length) =>
    REQUEST_OPS.filter((op) => op.length === length).map((op) => [op, Buffer.from(op, 'latin1')] as const),
);
const FLAG_FUA = Buffer.from('fua', 'latin1');
const FLAG_UNMAP = Buffer.from('unmap', 'latin1');

/** Whether a file that begins with this line is a native trace, of whatever version. */
export function isNativeTrace(firstLine: string): boolean {
  return firstLine.startsWith(MAGIC_PREFIX);
}

export class NativeTraceParser implements LineParser {
  readonly unit = 'line';
  readonly provenance = new Map<string, string>();

  readonly #collector: RequestCollector;
  readonly #fields = new LineFields(COMMA);
  #state: 'magic' | 'header' | 'requests' = 'magic';
  #hasSize = false;
  #timeNs = 0;

  constructor(collector: RequestCollector) {
    this.#collector = collector;
  }

  get canSkip(): boolean {
    return this.#state === 'requests';
  }

  line(bytes: Uint8Array, start: number, end: number): string | undefined {
    if (this.#state !== 'requests') {
      return this.#headerLine(Buffer.from(bytes.subarray(start, end)).toString('utf8'));
    }
    if (start === end) return undefined;
    if (bytes[start] === HASH) {
      this.#collector.passedOver.add('comment lines');
      return undefined;
    }

    const fields = this.#fields;
    fields.begin(bytes, start, end);
    const timeNs = fields.number();
    if (timeNs < 0) return 'time_ns is not a whole number below 2^53';
    if (timeNs < this.#timeNs) {
      return `time ${String(timeNs)} is before ${String(this.#timeNs)}, the time of the previous request`;
    }
    fields.word();
    const op = opOf(fields);
    if (op === undefined) return `the op is none of ${REQUEST_OPS.join(', ')}`;
    const offset = fields.number();
    const length = fields.number();
    if (fields.next > end) return `fewer than the five fields ${COLUMNS_LINE}`;

    if (op === 'flush') {
      if ((offset !== EMPTY_FIELD && offset !== 0) || (length !== EMPTY_FIELD && length !== 0)) {
        return 'a flush has no offset and no length';
      }
      if (fields.next !== end) return 'a flush has no flags';
      this.#timeNs = timeNs;
      return this.#collector.add({ op, offset: 0, length: 0, fua: false, unmap: false, timeNs });
    }
    if (offset < 0) return 'offset is not a whole number below 2^53';
    if (length < 0) return 'length is not a whole number below 2^53';

    let fua = false;
    let unmap = false;
    for (let at = fields.next; at < end;) {
      const stop = indexOfByte(bytes, BAR, at, end);
      if (op !== 'read' && equals(bytes, at, stop, FLAG_FUA)) fua = true;
      else if (op === 'write-zeroes' && equals(bytes, at, stop, FLAG_UNMAP)) unmap = true;
      else return flagRule(op);
      if (stop === end - 1) return flagRule(op);
      at = stop + 1;
    }
    const rule = this.#collector.add({ op, offset, length, fua, unmap, timeNs });
    if (rule === undefined) this.#timeNs = timeNs;
    return rule;
  }

  finish(): string | undefined {
    if (this.#state === 'magic') return `is empty; a trace starts with the line '${NATIVE_MAGIC_LINE}'`;
    if (this.#state === 'header') return `ends before the line '${COLUMNS_LINE}'`;
    return undefined;
  }

  #headerLine(text: string): string | undefined {
    if (this.#state === 'magic') {
      if (text !== NATIVE_MAGIC_LINE) {
        return text.startsWith(MAGIC_PREFIX)
          ? `version '${text.slice(MAGIC_PREFIX.length)}' of the trace format is not supported; only v1 is`
          : `is not a native trace: the first line is not '${NATIVE_MAGIC_LINE}'`;
      }
      this.#state = 'header';
      return undefined;
    }
    if (text === COLUMNS_LINE) {
      if (!this.#hasSize) return `has no '#${SIZE_KEY} BYTES' line before the column names`;
      this.#state = 'requests';
      return undefined;
    }
    if (!text.startsWith('#')) return `expected a '#key value' line or the column names '${COLUMNS_LINE}'`;
    const space = text.indexOf(' ');
    const key = space < 0 ? text.slice(1) : text.slice(1, space);
    const value = space < 0 ? '' : text.slice(space + 1);
    if (key === SIZE_KEY) return this.#setVirtualSize(value);
    // A line such as `# remark` is a comment.
    if (key === '') return undefined;
    if (this.provenance.size >= PROVENANCE_LINES_MAX) {
      return `more than ${String(PROVENANCE_LINES_MAX)} header lines`;
    }
    if (this.provenance.has(key)) return `a second '#${key}' line`;
    this.provenance.set(key, value);
    return undefined;
  }

  #setVirtualSize(value: string): string | undefined {
    if (this.#hasSize) return `a second '#${SIZE_KEY}' line`;
    this.#hasSize = true;
    return this.#collector.setVirtualSize(/^\d+$/.test(value) ? Number(value) : NaN);
  }
}

/** The op that the present word names. */
function opOf(fields: LineFields): RequestOp | undefined {
  const candidates = OPS_BY_LENGTH[fields.wordEnd - fields.wordStart];
  if (candidates === undefined) return undefined;
  for (const [op, name] of candidates) if (fields.wordIs(name)) return op;
  return undefined;
}

/**
 * The lines before the first request, each with its line feed.
 *
 * @param provenance keys are single words, values single lines; what is not is a bug of the caller.
 */
export function formatNativeHeader(
  virtualSize: number,
  provenance: Iterable<readonly [string, string]>,
): string {
  const facts = [...provenance].map(([key, value]) => `#${key} ${value}\n`).join('');
  return `${NATIVE_MAGIC_LINE}\n#${SIZE_KEY} ${String(virtualSize)}\n${facts}${COLUMNS_LINE}\n`;
}

/** The line of a request, with its line feed. */
export function formatNativeRequest(request: Request): string {
  const { op, offset, length, fua, unmap, timeNs } = request;
  const time = String(timeNs);
  if (op === 'flush') return `${time},flush,,,\n`;
  const flags = unmap ? (fua ? 'unmap|fua' : 'unmap') : fua ? 'fua' : '';
  return `${time},${op},${String(offset)},${String(length)},${flags}\n`;
}

function flagRule(op: RequestOp): string {
  switch (op) {
    case 'write-zeroes':
      return 'the flags of a write-zeroes are fua and unmap, joined by |';
    case 'write':
    case 'discard':
      return `the only flag of a ${op} is fua`;
    case 'read':
    case 'flush':
      return `a ${op} has no flags`;
  }
}
