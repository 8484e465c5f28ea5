/**
 * The guest requests in a log of strace: an NBD server receives each with a header that strace
 * shows, so the log of any such server marks its requests itself.
 *
 * Invariants:
 * - A header is what a socket receives first after the data of the write before it: guest data that
 *   looks like a header is none.
 * - Headers of the NBD protocol, also the extended ones; other commands than requests on data (block
 *   status, cache) are no requests, and a disconnection ends them.
 */

import { Qcow2BenchError } from '../core/error.ts';
import type { Request, RequestOp } from '../workload/request.ts';

/**
 *     request  magic 25609513  flags 2  type 2  cookie 8  offset 8  length 4
 *     extended magic 21e41c71  flags 2  type 2  cookie 8  offset 8  length 8
 */
const MAGIC = 0x25609513;
const EXTENDED_MAGIC = 0x21e41c71;
const HEADER_BYTES = 28;
const EXTENDED_HEADER_BYTES = 32;
const FLAG_FUA = 1;
const FLAG_NO_HOLE = 2;
const OPERATIONS: ReadonlyMap<number, RequestOp> = new Map([
  [0, 'read'],
  [1, 'write'],
  [3, 'flush'],
  [4, 'discard'],
  [6, 'write-zeroes'],
]);
const DISCONNECT = 2;

/** What a socket received: a request, the end of all requests, or something else. */
export type Received = { readonly kind: 'request'; readonly request: Request } | { readonly kind: 'end' };

export class NbdRequests {
  /** Bytes of a write that are still to come, by descriptor. */
  readonly #awaited = new Map<string, number>();

  /**
   * @param text the arguments of a call that receives, as strace prints them.
   * @param received bytes that it returned.
   */
  receive(
    {
      descriptor,
      text,
      received,
    }: { readonly descriptor: string; readonly text: string; readonly received: number },
    line: number,
  ): Received | undefined {
    if (received <= 0) return undefined;
    const awaited = this.#awaited.get(descriptor) ?? 0;
    if (awaited > 0) {
      this.#awaited.set(descriptor, Math.max(0, awaited - received));
      return undefined;
    }
    const [, shown] = /"((?:[^"\\]|\\.)*)"/.exec(text) ?? [];
    if (shown === undefined) return undefined;
    const bytes = bytesOf(shown);
    const magic = bytes.length >= 4 ? bytes.readUInt32BE(0) : 0;
    const size = { [MAGIC]: HEADER_BYTES, [EXTENDED_MAGIC]: EXTENDED_HEADER_BYTES }[magic];
    if (size === undefined || received < size) return undefined;
    if (bytes.length < size) {
      const message = `a header of NBD is truncated after ${String(bytes.length)} bytes: run strace with -s 32`;
      throw new Qcow2BenchError('peer-bad-trace', message, { line });
    }
    const [flags, type] = [bytes.readUInt16BE(4), bytes.readUInt16BE(6)];
    if (type === DISCONNECT) return { kind: 'end' };
    const op = OPERATIONS.get(type);
    if (op === undefined) return undefined;
    const offset = Number(bytes.readBigUInt64BE(16));
    const length = magic === MAGIC ? bytes.readUInt32BE(24) : Number(bytes.readBigUInt64BE(24));
    if (op === 'write') this.#awaited.set(descriptor, Math.max(0, length - (received - size)));
    const request: Request = {
      op,
      offset: op === 'flush' ? 0 : offset,
      length: op === 'flush' ? 0 : length,
      fua: (flags & FLAG_FUA) !== 0 && (op === 'write' || op === 'write-zeroes'),
      unmap: op === 'write-zeroes' && (flags & FLAG_NO_HOLE) === 0,
      timeNs: 0,
    };
    return { kind: 'request', request };
  }
}

const LETTERS: Readonly<Record<string, number>> = { n: 10, t: 9, r: 13, v: 11, f: 12 };

/** The bytes of a string as strace prints it: octal, hexadecimal and C escapes. */
function bytesOf(shown: string): Buffer {
  const bytes: number[] = [];
  for (const [text, hexadecimal, octal, letter] of shown.matchAll(
    /\\x([0-9a-f]{2})|\\([0-7]{1,3})|\\(.)|[^\\]/g,
  )) {
    if (hexadecimal !== undefined) bytes.push(Number.parseInt(hexadecimal, 16));
    else if (octal !== undefined) bytes.push(Number.parseInt(octal, 8));
    else if (letter !== undefined) bytes.push(LETTERS[letter] ?? letter.charCodeAt(0));
    else bytes.push(text.charCodeAt(0));
  }
  return Buffer.from(bytes);
}
