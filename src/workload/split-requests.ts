/**
 * Requests that are longer than what a disk takes at once, in parts.
 *
 * Invariants: the parts are in order, have the time of the request and cover it; FUA is on the last
 * one, as QEMU has it where FUA is a flush. Requests without data are split only where their length
 * does not fit the 32 bits that protocols have for it.
 */

import { LIMITS } from '../core/limits.ts';
import type { Request } from './request.ts';

/** Bytes of a read or write, by default and at most. */
export const TRANSFER_BYTES_MAX = LIMITS.transferBytes;
const DATALESS_BYTES_MAX = 2 ** 32;

/** Whether a request is issued in several parts. */
export function isSplit({ op, length }: Request, transferBytes: number): boolean {
  return length > partBytes(op, transferBytes);
}

/** @param transferBytes of a read or write: a multiple of 512. */
export async function* withinTransfer(
  batches: AsyncIterable<readonly Request[]>,
  transferBytes: number,
): AsyncGenerator<readonly Request[], undefined> {
  for await (const batch of batches) {
    yield batch.some((request) => isSplit(request, transferBytes))
      ? batch.flatMap((request) =>
          isSplit(request, transferBytes) ? parts(request, transferBytes) : [request],
        )
      : batch;
  }
  return undefined;
}

/** A generator would be slower; a request of a terabyte is some ten thousand parts. */
function parts(request: Request, transferBytes: number): readonly Request[] {
  const { op, offset, length, fua } = request;
  const most = partBytes(op, transferBytes);
  return Array.from({ length: Math.ceil(length / most) }, (_, index) => {
    const before = index * most;
    const isLast = before + most >= length;
    return {
      ...request,
      offset: offset + before,
      length: isLast ? length - before : most,
      fua: fua && isLast,
    };
  });
}

function partBytes(op: Request['op'], transferBytes: number): number {
  return op === 'read' || op === 'write' ? transferBytes : DATALESS_BYTES_MAX;
}
