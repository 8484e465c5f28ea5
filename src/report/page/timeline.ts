/**
 * The host operations of guest requests on a time line, from what a result keeps of each request.
 *
 * Invariants: requests follow one another, and so do the operations of each: what overlapped is drawn
 * as if it had not. A counted operation takes one unit; a modelled one the time of the model, without
 * seeks, as the kept texts have no offsets.
 */

import type { PageDetails, PageModel, PageRequests } from '../page-format.ts';
import {
  laneOf,
  operationsOfCost,
  operationTimesNs,
  type Lane,
  type RequestOperation,
} from '../request-operations.ts';

export interface TimedOperation {
  readonly lane: Lane;
  /** Purpose or cause, which has a colour. */
  readonly name: string;
  readonly text: string;
  readonly start: number;
  readonly end: number;
}

export interface TimedRequest {
  readonly number: number;
  readonly start: number;
  readonly end: number;
  readonly operations: readonly TimedOperation[];
}

/** One unit for each operation, or a model by whose time they are drawn. */
export type TimelineClock = PageModel | 'counted';

/** Requests `from` to `to`, without `to`; time starts with the first of them, at 0. */
export function timelineOf(
  { costs }: Pick<PageDetails, 'costs'>,
  requests: PageRequests,
  clock: TimelineClock,
  { from, to }: { readonly from: number; readonly to: number },
): readonly TimedRequest[] {
  const timed = requests.costs.map((cost) => timesOf(operationsOfCost(costs[cost] ?? ''), requests, clock));
  let now = 0;
  return requests.sequence.slice(from, to).map((position, index) => {
    const start = now;
    const operations = (timed[position] ?? []).map(({ operation, takes }) => {
      const begin = now;
      now += takes;
      return { ...wordsOf(operation), start: begin, end: now };
    });
    // A request that needs no host operation is seen too.
    if (operations.length === 0) now += clock === 'counted' ? 1 : requests.requestNs;
    return { number: from + index, start, end: now, operations };
  });
}

/** The first request that costs something else; `undefined` if none of those kept does. */
export function firstDifference(
  a: Pick<PageRequests, 'costs' | 'sequence'>,
  b: Pick<PageRequests, 'costs' | 'sequence'>,
): number | undefined {
  const most = Math.min(a.sequence.length, b.sequence.length);
  for (let request = 0; request < most; request++) {
    const [own, other] = [a.costs[a.sequence[request] ?? -1], b.costs[b.sequence[request] ?? -1]];
    if (own !== other) return request;
  }
  return undefined;
}

function timesOf(
  operations: readonly RequestOperation[],
  requests: PageRequests,
  clock: TimelineClock,
): readonly { readonly operation: RequestOperation; readonly takes: number }[] {
  if (clock === 'counted') return operations.map((operation) => ({ operation, takes: operation.count }));
  const costs = requests.isDirect ? clock.direct : clock.buffered;
  const sizes = { data: requests.dataBytes, fill: requests.fillBytes };
  const times = operationTimesNs(operations, costs, sizes);
  return operations.map((operation, index) => ({ operation, takes: times[index] ?? 0 }));
}

function wordsOf(operation: RequestOperation): Pick<TimedOperation, 'lane' | 'name' | 'text'> {
  const times = operation.count === 1 ? '' : ` × ${String(operation.count)}`;
  if (operation.op === 'sync') {
    return { lane: laneOf(operation), name: operation.cause, text: `sync: ${operation.cause}${times}` };
  }
  const parts = operation.parts.map(({ purpose, bytes }) =>
    bytes === undefined ? purpose : `${purpose} ${bytes.toLocaleString('en-US')} B`,
  );
  const { purpose: name, op } = operation;
  return { lane: laneOf(operation), name, text: `${op} ${parts.join(' + ')}${times}` };
}
