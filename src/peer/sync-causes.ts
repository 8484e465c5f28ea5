/**
 * What forced each sync of a run, derived from its position in the sequence of operations whose
 * purposes are known.
 *
 *      … stretch … sync … stretch … sync …
 *
 * A stretch is what is between two syncs. A cause follows from what the sync made durable (its own
 * stretch) and what was waiting for it (the following stretches of the same request).
 *
 * Invariants:
 * - The rules are those of docs/qemu-rules.md, read backwards; they know nothing of an engine's
 *   state.
 * - A run without an opening repair is taken for granted: a new image is clean.
 */

import type { RangeRecord } from '../device/host-log.ts';
import type { Phase } from '../device/operation.ts';
import type { Purpose, SyncCause } from '../device/purpose.ts';
import { CACHE_MODE_RULES, type CacheMode } from '../format/cache-mode.ts';
import type { Format } from '../format/disk-image.ts';
import type { RefcountMode } from '../format/image-options.ts';
import type { Request } from '../workload/request.ts';

/** One operation that did something. */
export interface SequenceStep {
  readonly phase: Phase;
  /** Index of the guest request; `undefined` at open and close. */
  readonly request: number | undefined;
  /** `undefined` for a sync. */
  readonly record: RangeRecord | undefined;
}

export interface SequenceSetting {
  readonly format: Format;
  readonly refcounts: RefcountMode | null;
  readonly cache: CacheMode;
  readonly requests: readonly Request[];
}

export interface SyncCauses {
  /** By index of the step; `undefined` where it is no sync. */
  readonly causes: readonly (SyncCause | undefined)[];
  /** Requests that had to end with a sync and did not. */
  readonly elidedFlushes: number;
}

/** A sync with what it is judged by. */
interface SyncPlace {
  /** Purposes written since the sync before, in order, whichever request did it. */
  readonly own: readonly Purpose[];
  /** The stretches that follow in the same request (or while closing). */
  readonly following: readonly (readonly Purpose[])[];
  /** Of the stretches before it in the same request, the last one. */
  readonly previous: readonly Purpose[];
  readonly phase: Phase;
  readonly request: Request | undefined;
  /** Nothing changes a file after it in the same request. */
  readonly isLast: boolean;
}

/** Names the cause of every sync. */
export function syncCauses(steps: readonly SequenceStep[], setting: SequenceSetting): SyncCauses {
  const causes: (SyncCause | undefined)[] = steps.map(() => undefined);
  let own: Purpose[] = [];
  let syncedRequests = 0;
  for (const span of spansOf(steps)) {
    const stretches = stretchesOf(steps, span);
    let number = 0;
    for (let index = span.from; index < span.to; index++) {
      const step = steps[index];
      if (step === undefined) continue;
      if (step.record !== undefined) {
        if (step.record.op !== 'read') own.push(step.record.purpose);
        continue;
      }
      const following = stretches.slice(number + 1);
      const place: SyncPlace = {
        own,
        following,
        previous: stretches[number - 1] ?? [],
        phase: step.phase,
        request: step.request === undefined ? undefined : setting.requests[step.request],
        isLast: following.every((stretch) => stretch.length === 0) && following.length <= 1,
      };
      causes[index] = causeOf(place, setting);
      if (place.isLast && endCause(place.request, setting) !== undefined) syncedRequests++;
      own = [];
      number++;
    }
  }
  const durable = setting.requests.filter((request) => endsDurable(request, setting.cache)).length;
  const { neverSync } = CACHE_MODE_RULES[setting.cache];
  return { causes, elidedFlushes: neverSync ? 0 : durable - syncedRequests };
}

function causeOf(place: SyncPlace, setting: SequenceSetting): SyncCause {
  switch (place.phase) {
    case 'open':
      return 'repair';
    case 'run':
      return runCause(place, setting);
    case 'close':
      return closeCause(place, setting);
  }
}

function runCause(place: SyncPlace, setting: SequenceSetting): SyncCause {
  const end = endCause(place.request, setting);
  const growth = setting.format === 'qed' ? qedGrowthCause(place) : qcow2GrowthCause(place);
  if (growth !== undefined) return growth;
  if (place.isLast && end !== undefined) return end;
  return orderCause(place, setting) ?? end ?? 'l2-after-refcount';
}

/**
 * QED syncs a new table before the entry that leads to it; header and L1 entry wait for the next
 * flush.
 */
function qedGrowthCause({ following }: SyncPlace): SyncCause | undefined {
  return following[0]?.includes('l1-table') === true ? 'l2-table-growth' : undefined;
}

/** qcow2 syncs after each step of making its tables grow, and after setting the dirty bit. */
function qcow2GrowthCause({ own, previous, following }: SyncPlace): SyncCause | undefined {
  const [next = [], afterNext = []] = following;
  if (own.includes('l1-table')) return 'l2-table-growth';
  if (own.includes('refcount-table')) return 'refcount-growth';
  if (own.includes('header')) return previous.includes('refcount-table') ? 'refcount-growth' : 'dirty-bit';
  if (leadsToRefcountTable(following)) return 'refcount-growth';
  if (next.includes('l1-table')) return 'l2-table-growth';
  const isBeforeNewTable = next.includes('l2-table') && afterNext.includes('l1-table');
  return isBeforeNewTable && own.includes('refcount-block') ? 'l2-table-growth' : undefined;
}

function closeCause(place: SyncPlace, setting: SequenceSetting): SyncCause {
  if (place.isLast) return 'close';
  const clearsDirtyBit = place.following.some((stretch) => stretch.includes('header'));
  const isBeforeL2 = place.following[0]?.includes('l2-table') === true;
  // In a dirty image refcounts wait for the end by themselves, not for the L2 tables before them.
  if (clearsDirtyBit && !isBeforeL2) return 'dirty-bit';
  return orderCause(place, setting) ?? 'close';
}

/**
 * The cause of a sync that is between two kinds of metadata, or between copied data and its table.
 */
function orderCause(place: SyncPlace, setting: SequenceSetting): SyncCause | undefined {
  const { own, following, previous } = place;
  const { format, refcounts } = setting;
  const next = following[0] ?? [];
  const [nextTable] = next.filter(isTable);
  if (nextTable === 'refcount-block' && own.findLast(isTable) === 'l2-table') return 'refcount-after-l2';
  if (next.includes('l2-table')) {
    if (format === 'qed' || isTurnedAround(place, setting)) return 'l2-after-cow';
    return refcounts === 'eager' || own.includes('refcount-block') ? 'l2-after-refcount' : 'l2-after-cow';
  }
  if (next.includes('refcount-block')) return 'refcount-after-l2';
  // A dependency that was settled to make room for the opposite one: its tables were written, no
  // more follow.
  switch (own.findLast(isTable)) {
    case 'l2-table':
      return 'refcount-after-l2';
    case 'refcount-block':
      return 'l2-after-refcount';
    default:
      // Making the refcount table grow wrote all L2 tables: that refcounts still wait for them is
      // settled with the data.
      return previous.includes('refcount-table') ? 'refcount-after-l2' : undefined;
  }
}

/** Of one of the two caches. */
function isTable(purpose: Purpose): boolean {
  return purpose === 'l2-table' || purpose === 'refcount-block';
}

/**
 * Whether L2 tables are written in the middle of a write because refcounts waited for them, and are
 * to wait for refcounts from now on (R5). No refcounts are before them then: all that they wait for
 * is what was just copied. Tables that wait for refcounts which happen to be clean look the same,
 * but the request ends with them.
 */
function isTurnedAround({ own, following, request }: SyncPlace, setting: SequenceSetting): boolean {
  if (request?.op !== 'write' && request?.op !== 'write-zeroes') return false;
  const [next, ...later] = following;
  const endsWithTables = later.length <= (endCause(request, setting) === undefined ? 0 : 1);
  return next?.[0] === 'l2-table' && !own.includes('refcount-block') && !endsWithTables;
}

/**
 * Whether refcount blocks, and nothing else, are made durable until the refcount table is written.
 */
function leadsToRefcountTable(following: readonly (readonly Purpose[])[]): boolean {
  const stop = following.find((stretch) => stretch.some((purpose) => purpose !== 'refcount-block'));
  return stop?.includes('refcount-table') === true;
}

/** Whether a request has to end with all that was written durable. */
export function endsDurable(request: Request, cache: CacheMode): boolean {
  return endCause(request, { cache }) !== undefined;
}

/** The cause of the sync that a request ends with; `undefined` if it need not be durable. */
function endCause(
  request: Request | undefined,
  { cache }: Pick<SequenceSetting, 'cache'>,
): SyncCause | undefined {
  switch (request?.op) {
    case 'flush':
      return 'guest-flush';
    case 'write':
    case 'write-zeroes':
      if (CACHE_MODE_RULES[cache].flushAfterWrite) return 'writethrough';
      return request.fua ? 'fua' : undefined;
    case 'read':
    case 'discard':
    case undefined:
      return undefined;
  }
}

interface Span {
  readonly from: number;
  readonly to: number;
}

/** Steps of one request, of the opening, or of the closing. */
function spansOf(steps: readonly SequenceStep[]): readonly Span[] {
  const spans: Span[] = [];
  for (let from = 0; from < steps.length;) {
    const first = steps[from];
    let to = from + 1;
    while (to < steps.length && steps[to]?.phase === first?.phase && steps[to]?.request === first?.request) {
      to++;
    }
    spans.push({ from, to });
    from = to;
  }
  return spans;
}

/** The purposes written in each stretch of a span; the last one is what follows its last sync. */
function stretchesOf(steps: readonly SequenceStep[], { from, to }: Span): readonly (readonly Purpose[])[] {
  const stretches: Purpose[][] = [[]];
  for (const { record } of steps.slice(from, to)) {
    if (record === undefined) stretches.push([]);
    else if (record.op !== 'read') stretches.at(-1)?.push(record.purpose);
  }
  return stretches;
}
