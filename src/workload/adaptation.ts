/**
 * A trace adapted to what it is replayed for: fitted to an image of another size, with flushes that
 * it does not hold, in requests that the image takes.
 *
 * Invariant: the limit counts requests as they are served, added flushes included.
 */

import { flushPolicyName, withFlushes, type FlushPolicy } from './flush-policy.ts';
import { remapped, type Remap, type RemapSizes } from './remap.ts';
import type { RequestStream } from './request-stream.ts';
import type { Request } from './request.ts';
import { TRANSFER_BYTES_MAX, withinTransfer } from './split-requests.ts';

export interface Adaptation {
  readonly flushPolicy?: FlushPolicy | undefined;
  readonly remap?: { readonly way: Remap; readonly sizes: RemapSizes } | undefined;
  /** Bytes of a read or write at most; longer ones are split. Default: what an image takes. */
  readonly transferBytes?: number | undefined;
}

/** How a cell names it. */
export function adaptationNames({ flushPolicy, remap, transferBytes = TRANSFER_BYTES_MAX }: Adaptation): {
  readonly flushPolicy?: string;
  readonly remap?: Remap;
  readonly maxTransfer?: number;
} {
  return {
    ...(flushPolicy === undefined ? {} : { flushPolicy: flushPolicyName(flushPolicy) }),
    ...(remap === undefined ? {} : { remap: remap.way }),
    ...(transferBytes === TRANSFER_BYTES_MAX ? {} : { maxTransfer: transferBytes }),
  };
}

/** The stream is disposed of with the one it is made of. */
export function adapted(
  stream: RequestStream,
  { flushPolicy, remap, transferBytes = TRANSFER_BYTES_MAX }: Adaptation,
  limit = Infinity,
): RequestStream {
  let { batches } = stream;
  if (remap !== undefined && remap.way !== 'grow') batches = remapped(batches, remap.way, remap.sizes);
  if (flushPolicy !== undefined) batches = withFlushes(batches, flushPolicy);
  batches = withinTransfer(batches, transferBytes);
  return {
    virtualSize: stream.virtualSize,
    batches: cut(batches, limit),
    [Symbol.asyncDispose]: () => stream[Symbol.asyncDispose](),
  };
}

async function* cut(
  batches: AsyncIterable<readonly Request[]>,
  limit: number,
): AsyncGenerator<readonly Request[], undefined> {
  let left = limit;
  for await (const batch of batches) {
    yield batch.length > left ? batch.slice(0, left) : batch;
    left -= batch.length;
    if (left <= 0) return undefined;
  }
  return undefined;
}
