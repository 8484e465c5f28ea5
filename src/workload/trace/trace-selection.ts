/**
 * A part of a trace: a span of time and a run of requests within it.
 *
 * Invariants: the span is counted in the trace's own time, `fromNs` included and `untilNs` not;
 * requests are counted within the span. What is chosen begins at time 0 where the span does.
 */

import type { Request } from '../request.ts';
import type { OpenTrace } from './trace-reader.ts';

export interface TraceSelection {
  readonly fromNs?: number | undefined;
  readonly untilNs?: number | undefined;
  /** Requests of the span to leave out at its beginning. */
  readonly skip?: number | undefined;
  /** Requests at most. */
  readonly limit?: number | undefined;
}

/** The requests of `trace` that are chosen, in batches; reading ends where they do. */
export async function* selectRequests(
  { batches }: Pick<OpenTrace, 'batches'>,
  { fromNs = 0, untilNs = Infinity, skip = 0, limit = Infinity }: TraceSelection,
): AsyncGenerator<readonly Request[], undefined> {
  let toSkip = skip;
  let left = limit;
  if (left === 0) return undefined;
  for await (const batch of batches) {
    const chosen: Request[] = [];
    let isOver = false;
    for (const request of batch) {
      if (request.timeNs < fromNs) continue;
      isOver = request.timeNs >= untilNs || left === 0;
      if (isOver) break;
      if (toSkip > 0) {
        toSkip--;
        continue;
      }
      left--;
      chosen.push(fromNs === 0 ? request : { ...request, timeNs: request.timeNs - fromNs });
    }
    if (chosen.length > 0) yield chosen;
    if (isOver || left === 0) break;
  }
  return undefined;
}
