/**
 * A stream of guest requests, wherever they come from: what a runner drives through an image.
 *
 * Requests come in batches, so that a consumer pays for one `await` a batch and runs through it
 * synchronously.
 */

import { generateRequests } from './generator.ts';
import type { GenerateOptions } from './generator.ts';
import type { Request } from './request.ts';
import type { Workload } from './schema.ts';

export interface RequestStream extends AsyncDisposable {
  /** Bytes of the device that the requests address. */
  readonly virtualSize: number;
  /** The requests in issue order; to be iterated once. No batch is empty. */
  readonly batches: AsyncIterable<readonly Request[]>;
}

const BATCH_REQUESTS = 4096;

/** The measured requests of a workload as a stream. */
export function workloadStream(workload: Workload, options: GenerateOptions = {}): RequestStream {
  return {
    virtualSize: workload.image.size,
    batches: inBatches(generateRequests(workload, options)),
    [Symbol.asyncDispose]: () => Promise.resolve(),
  };
}

async function* inBatches(requests: Iterable<Request>): AsyncGenerator<readonly Request[], undefined> {
  let batch: Request[] = [];
  for (const request of requests) {
    batch.push(request);
    if (batch.length === BATCH_REQUESTS) {
      yield batch;
      batch = [];
    }
  }
  if (batch.length > 0) yield batch;
  return undefined;
}
