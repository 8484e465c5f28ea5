/**
 * What all trace formats share: the contract of a format's parser, the rules that every recorded request has
 * to meet, and the error for a trace that breaks one.
 */

import { Qcow2BenchError } from '../../core/error.ts';
import { LIMITS } from '../../core/limits.ts';
import { formatSize } from '../../core/size.ts';
import type { Request, RequestOp } from '../request.ts';
import { SECTOR_SIZE } from '../request.ts';

export const TRACE_FORMATS = ['native', 'nbdkit-log'] as const;
export type TraceFormat = (typeof TRACE_FORMATS)[number];

/** Bytes that a request without data may address: what a 32-bit length can say. */
const DATALESS_BYTES_MAX = 2 ** 32;

/**
 * Parses the lines of one trace format, in order.
 *
 * A parser answers what rule a line breaks, or `undefined`; the reader knows the path and line number and
 * decides whether the line is an error or is skipped. It appends the requests that became ready to `ready`,
 * in issue order, and holds back a bounded number.
 */
export interface TraceParser {
  /** Bytes of the recorded device, once it is known: always before the first request. */
  readonly virtualSize: number | undefined;
  /** Whether the header is complete. Until then a broken line is an error even where bad lines are skipped. */
  readonly headerDone: boolean;
  /** Facts that the trace tells about itself; complete with the header. */
  readonly provenance: Map<string, string>;
  /** Requests left out because they failed, or were never answered, when they were recorded. */
  readonly failedCount: number;
  /** Takes the line `bytes[start … end)`. */
  line(bytes: Uint8Array, start: number, end: number, ready: Request[]): string | undefined;
  /** The end of the file. */
  finish(ready: Request[]): string | undefined;
}

/** The rule that a request breaks, or `undefined`. A flush has offset and length 0. */
export function brokenRule(
  op: RequestOp,
  offset: number,
  length: number,
  virtualSize: number,
): string | undefined {
  if (op === 'flush') return undefined;
  if (length === 0) return `a ${op} of length 0`;
  if (offset % SECTOR_SIZE !== 0) return `offset ${String(offset)} is no multiple of ${String(SECTOR_SIZE)}`;
  if (length % SECTOR_SIZE !== 0) return `length ${String(length)} is no multiple of ${String(SECTOR_SIZE)}`;
  const lengthMax = op === 'read' || op === 'write' ? LIMITS.transferBytes : DATALESS_BYTES_MAX;
  if (length > lengthMax) {
    return `length ${String(length)} is more than a ${op} may have (${formatSize(lengthMax)})`;
  }
  if (offset + length > virtualSize) {
    return `the request ends at ${String(offset + length)}, past the device's end at ${String(virtualSize)}`;
  }
  return undefined;
}

/** The rule that a device's size breaks, or `undefined`. */
export function brokenSizeRule(bytes: number): string | undefined {
  if (!Number.isSafeInteger(bytes)) return 'the virtual size is not a number of bytes below 2^53';
  if (bytes <= 0 || bytes % SECTOR_SIZE !== 0) {
    return `the virtual size ${String(bytes)} is not a multiple of ${String(SECTOR_SIZE)} above 0`;
  }
  return undefined;
}

export function badTrace(
  rule: string,
  place: { readonly path: string; readonly line?: number },
  cause?: unknown,
): Qcow2BenchError {
  return new Qcow2BenchError('bad-trace', rule, place, cause);
}
