/** The requests of a pass, all in memory before it begins. */

import { openStream } from '../workload/library.ts';
import type { Request } from '../workload/request.ts';
import type { CellPlan, PassOptions } from './engine.ts';

/** @throws Qcow2BenchError of the trace; the signal's reason. */
export async function collectRequests(
  plan: CellPlan,
  { limit, signal }: Pick<PassOptions, 'limit' | 'signal'>,
): Promise<readonly Request[]> {
  const requests: Request[] = [];
  await using stream = await openStream(plan.source, { limit, seed: plan.seed });
  for await (const batch of stream.batches) {
    signal?.throwIfAborted();
    for (const request of batch) requests.push(request);
  }
  return requests;
}
