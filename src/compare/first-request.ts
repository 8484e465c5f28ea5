/**
 * The first guest request that cost something else than before, from what two records kept of each
 * request's cost.
 *
 * Invariants:
 * - Of a change of one subject, it is the first request with another number of its operations; if
 *   there is none, the first with any other cost. Changes at open and close have none.
 * - Only records of the same workload are compared.
 */

import { shortened } from '../core/text-lines.ts';
import { costSequence, type RequestCosts } from '../result/request-costs.ts';
import type { CountedCell, OperationKind } from '../result/schema.ts';
import type { Subject } from './subject-change.ts';

export interface FirstRequest {
  /** From 0. */
  readonly request: number;
  /** Host operations of the request, such as `write data, sync writethrough`. */
  readonly before: string;
  readonly after: string;
}

/** What two results kept of a cell's requests. */
export interface CostPair {
  readonly before: RequestCosts | undefined;
  readonly after: RequestCosts | undefined;
}

export type CostsOf = (cell: CountedCell) => CostPair;

/** `undefined` if no request that was kept differs. */
export function firstRequest({ before, after }: CostPair, subject: Subject): FirstRequest | undefined {
  if (before === undefined || before.digest !== after?.digest) return undefined;
  const [old, own] = [costSequence(before), costSequence(after)];
  const amounts = new Map<string, number>();
  const amountOf = (cost: string): number => {
    const amount = amounts.get(cost) ?? operationsOf(cost, subject);
    amounts.set(cost, amount);
    return amount;
  };
  const differs = (isOther: (a: string, b: string) => boolean): number =>
    old.findIndex((cost, request) => {
      const other = own[request];
      return other !== undefined && cost !== other && isOther(cost, other);
    });
  const ofSubject = differs((a, b) => amountOf(a) !== amountOf(b));
  const request = ofSubject < 0 ? differs(() => true) : ofSubject;
  if (request < 0) return undefined;
  return { request, before: old[request] ?? '', after: own[request] ?? '' };
}

/** Operations shown on either side of what differs. */
const CONTEXT = 2;
const TEXT_MAX = 300;

/** `request 17: write data, sync writethrough → write data, sync l2-after-cow, sync writethrough`. */
export function firstRequestText({ request, before, after }: FirstRequest): string {
  const [old, own] = [before, after].map((cost) => (cost === '' ? [] : cost.split(', ')));
  if (old === undefined || own === undefined) throw new Error('internal error: two costs');
  const most = Math.min(old.length, own.length);
  let [same, sameEnd] = [0, 0];
  while (same < most && old[same] === own[same]) same++;
  while (sameEnd < most - same && old.at(-1 - sameEnd) === own.at(-1 - sameEnd)) sameEnd++;
  const from = same > CONTEXT + 1 ? same - CONTEXT : 0;
  const cut = sameEnd > CONTEXT + 1 ? sameEnd - CONTEXT : 0;
  const shown = (operations: readonly string[]): string => {
    const own = operations.slice(from, operations.length - cut).join(', ');
    const text = [from > 0 ? '… ' : '', own, cut > 0 ? ' …' : ''].join('');
    return shortened(text === '' ? 'nothing' : text, TEXT_MAX);
  };
  return `request ${String(request)}: ${shown(old)} → ${shown(own)}`;
}

const OPERATIONS: Readonly<Record<OperationKind, string>> = {
  writes: 'write',
  zeroRanges: 'zero-range',
  punchHoles: 'punch-hole',
  truncates: 'truncate',
  reads: 'read',
};

/** How many operations of a cost are of the subject; a merged write is one of its first part. */
function operationsOf(cost: string, subject: Subject): number {
  if (subject.kind === 'elided') return 0;
  const name =
    subject.kind === 'syncs' ? `sync ${subject.cause}` : `${OPERATIONS[subject.kind]} ${subject.purpose}`;
  let count = 0;
  for (const operation of cost.split(', ')) {
    const isOwn = operation === name || operation.startsWith(`${name} `) || operation.startsWith(`${name}+`);
    if (isOwn) count += Number(/ × (\d+)$/.exec(operation)?.[1] ?? 1);
  }
  return count;
}
