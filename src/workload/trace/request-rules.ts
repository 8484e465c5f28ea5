/** The rules that every recorded request has to meet, and the error for a trace that breaks one. */

import { Qcow2BenchError, type ErrorPlace } from '../../core/error.ts';
import type { RequestOp } from '../request.ts';
import { SECTOR_SIZE } from '../request.ts';

/**
 * The rule that a request breaks, or `undefined`. A flush has offset and length 0. How much a
 * request may move at once is no rule of a trace: a replay splits what is longer.
 */
export function brokenRule(
  op: RequestOp,
  offset: number,
  length: number,
  virtualSize: number,
): string | undefined {
  if (op === 'flush') return undefined;
  if (length === 0) return `a ${op} of length 0`;
  if (!isWholeSectors(offset)) {
    return `offset ${String(offset)} is not a multiple of ${String(SECTOR_SIZE)}`;
  }
  if (!isWholeSectors(length)) {
    return `length ${String(length)} is not a multiple of ${String(SECTOR_SIZE)}`;
  }
  if (offset + length > virtualSize) {
    return `the request ends at ${String(offset + length)}, past the device's end at ${String(virtualSize)}`;
  }
  return undefined;
}

/** The bits of the remainder are among the lowest 32, to which `&` cuts a number below 2^53. */
function isWholeSectors(bytes: number): boolean {
  return (bytes & (SECTOR_SIZE - 1)) === 0;
}

/**
 * The rule that a request breaks whose offset or length, in bytes, could not be read: negative, or
 * too large to be exact.
 */
export function unreadablePlace(offset: number, length: number): string | undefined {
  if (offset < 0 || !Number.isSafeInteger(offset)) return 'the offset is not a whole number below 2^53 bytes';
  if (length < 0 || !Number.isSafeInteger(length)) return 'the size is not a whole number below 2^53 bytes';
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

export function badTrace(rule: string, place: ErrorPlace, cause?: unknown): Qcow2BenchError {
  return new Qcow2BenchError('bad-trace', rule, place, cause);
}
