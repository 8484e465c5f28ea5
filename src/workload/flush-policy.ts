/**
 * Flushes for traces that hold none: many that are published do not, and a replay of such says
 * nothing about syncs unless somebody says how often the guest would have flushed.
 *
 * Invariants:
 * - The requests themselves stay as they are and in their order; flushes come between them.
 * - A flush is only added where something was changed since the last one, whether added or the
 *   trace's own.
 */

import type { Request } from './request.ts';

/** `none` says in so many words that the guest never flushes. */
export type FlushPolicy =
  | { readonly kind: 'none' }
  | { readonly kind: 'every'; /** Requests that change data. */ readonly changes: number }
  | { readonly kind: 'interval'; /** Of recorded time. */ readonly ms: number };

const COUNT_MAX = 1_000_000_000;
const NS_PER_MS = 1_000_000;

/** `none`, `every=32`, `interval=100`; `undefined` of anything else. */
export function parseFlushPolicy(text: string): FlushPolicy | undefined {
  if (text === 'none') return { kind: 'none' };
  const [, kind, digits] = /^(every|interval)=(\d{1,10})$/.exec(text) ?? [];
  const value = Number(digits);
  if (kind === undefined || value < 1 || value > COUNT_MAX) return undefined;
  return kind === 'every' ? { kind, changes: value } : { kind: 'interval', ms: value };
}

/** As it was given. */
export function flushPolicyName(policy: FlushPolicy): string {
  switch (policy.kind) {
    case 'none':
      return 'none';
    case 'every':
      return `every=${String(policy.changes)}`;
    case 'interval':
      return `interval=${String(policy.ms)}`;
  }
}

/** The requests with the flushes of the policy between them. */
export async function* withFlushes(
  batches: AsyncIterable<readonly Request[]>,
  policy: FlushPolicy,
): AsyncGenerator<readonly Request[], undefined> {
  const periodNs = policy.kind === 'interval' ? policy.ms * NS_PER_MS : Infinity;
  const changesMax = policy.kind === 'every' ? policy.changes : Infinity;
  let changes = 0;
  /** The first tick after the requests so far. */
  let dueNs = periodNs;
  for await (const batch of batches) {
    const result: Request[] = [];
    for (const request of batch) {
      if (request.timeNs >= dueNs) {
        if (changes > 0) result.push(flushAt(dueNs));
        changes = 0;
        dueNs = (Math.floor(request.timeNs / periodNs) + 1) * periodNs;
      }
      result.push(request);
      if (request.op === 'flush') changes = 0;
      else if (request.op !== 'read') changes++;
      if (changes === changesMax) {
        result.push(flushAt(request.timeNs));
        changes = 0;
      }
    }
    yield result;
  }
  return undefined;
}

function flushAt(timeNs: number): Request {
  return { op: 'flush', offset: 0, length: 0, fua: false, unmap: false, timeNs };
}
