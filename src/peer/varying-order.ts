/**
 * The verdict on a list of requests, given what our engine did and what QEMU did in one run or
 * several.
 *
 * Extents of one request are tasks of their own in QEMU, and its thread pool decides in which order
 * they end. Mostly that reorders a stretch between two syncs; it can also decide what is linked
 * before a cache is written, or whether a sync covers a write. Two named exceptions of
 * docs/qemu-rules.md follow from it:
 *
 * - `varying-order`: QEMU's own operations differ from one run to the next. In each request that
 *   varies ours are those of one of its runs, or the request is left out; all others are compared
 *   as ever.
 * - `late-extent`: data written only while the sync of another extent of the same request is in
 *   flight are not covered by it, and cost a second sync at once.
 *
 * Final bytes are compared in any case: they never vary.
 */

import type { HostLogRecord } from '../device/host-log.ts';
import { compareOperations, formatOperation, type Comparison } from './compare-operations.ts';
import type { HostOperation } from './host-operation.ts';
import type { SlowedCall } from './strace.ts';

export type ExceptionName = 'varying-order' | 'late-extent';

/**
 * Runs of QEMU before it counts as different. All but the first slow one kind of call down, so that
 * its order varies where it can, however busy the machine is.
 */
export const ORDER_RUNS: readonly (SlowedCall | undefined)[] = [
  undefined,
  { call: 'fallocate', microseconds: 3000 },
  { call: 'pwrite64', microseconds: 2000 },
  { call: 'pwritev', microseconds: 3000 },
  { call: 'fdatasync', microseconds: 2000 },
  { call: 'pread64', microseconds: 2000 },
  // Of two writes at once only one, so that either ends first.
  { call: 'pwrite64', microseconds: 3000, when: '1+2' },
  { call: 'pwrite64', microseconds: 3000, when: '2+2' },
  undefined,
];

/** One of our operations, and during which request it was issued; `undefined` at open and close. */
export type TaggedRecord = HostLogRecord & { readonly request: number | undefined };

export interface OrderVerdict {
  readonly comparison: Comparison;
  readonly exceptions: readonly ExceptionName[];
  /** Requests that were left out. */
  readonly leftOut: readonly number[];
  readonly runs: number;
  /** Requests in which QEMU's runs are not the same among themselves. */
  readonly varying: readonly number[];
  /** QEMU's operations as they were compared: changes and syncs, without the requests left out. */
  readonly theirs: readonly HostOperation[];
}

/** @param runs of QEMU over the same requests, the last one last; at least one. */
export function judgeOrder(
  ours: readonly TaggedRecord[],
  runs: readonly (readonly HostOperation[])[],
): OrderVerdict {
  const all = runs.map(changesOf);
  const last = all.at(-1) ?? [];
  const comparison = compareWithout(ours, last, []);
  const again: readonly ExceptionName[] = runs.length > 1 ? ['varying-order'] : [];
  const varying = varyingRequests(all);
  const seen = { runs: all.length, varying };
  const plain = { ...seen, comparison, exceptions: again, leftOut: [], theirs: last };
  if (comparison.identical) return plain;
  const timely = all.map(withoutLateSyncs);
  const ways: readonly (readonly [readonly ExceptionName[], readonly (readonly HostOperation[])[]])[] = [
    [again, all],
    [['late-extent'], timely.slice(-1)],
    [[...again, 'late-extent'], timely],
  ];
  for (const [exceptions, theirRuns] of ways) {
    const { theirs, leftOut } = nearestOf(ours, theirRuns, varying);
    const tolerant = compareWithout(ours, theirs, leftOut);
    if (tolerant.identical) {
      return { ...seen, comparison: tolerant, exceptions, leftOut, theirs: keep(theirs, leftOut) };
    }
  }
  return plain;
}

/**
 * Whether another run could say more: something differs, or a request was left out that may be as
 * in ours there.
 */
export function wantsAnotherRun({ comparison, leftOut, runs }: OrderVerdict): boolean {
  return runs < ORDER_RUNS.length && (!comparison.identical || leftOut.length > 0);
}

/**
 * As `judgeOrder`, with as many runs as it takes; `run` begins each with the same files, and leaves
 * those of the last.
 */
export async function judgeRuns(
  ours: readonly TaggedRecord[],
  run: (slowed: SlowedCall | undefined) => Promise<readonly HostOperation[]>,
): Promise<OrderVerdict> {
  const runs: (readonly HostOperation[])[] = [];
  for (;;) {
    runs.push(await run(ORDER_RUNS[runs.length]));
    const order = judgeOrder(ours, runs);
    if (!wantsAnotherRun(order)) return order;
  }
}

/**
 * The last run, in which each varying request, and the close, has the operations of the run that
 * did there what ours did; requests of which no run did are to be left out. One run cannot show
 * variation.
 */
function nearestOf(
  ours: readonly TaggedRecord[],
  runs: readonly (readonly HostOperation[])[],
  varying: readonly number[],
): { readonly theirs: readonly HostOperation[]; readonly leftOut: readonly number[] } {
  const last = runs.at(-1) ?? [];
  if (runs.length < 2) return { theirs: last, leftOut: [] };
  const mine = byRequest(ours);
  const candidates = runs.map(byRequest);
  const leftOut: number[] = [];
  const chosen = new Map<number, readonly HostOperation[]>();
  for (const request of varying) {
    const found = candidates
      .map((run) => run.get(request) ?? [])
      .find((operations) => compareWithout(mine.get(request) ?? [], operations, []).identical);
    if (found === undefined) leftOut.push(request);
    else chosen.set(request, found);
  }
  // Which table the cache took in last, and so writes last at the close, follows from the requests
  // that vary.
  const closes = runs.map((run) => outsideRequests(run, 'close'));
  const ourClose = outsideRequests(ours, 'close');
  const close = closes.find((operations) => compareWithout(ourClose, operations, []).identical);
  return { theirs: withChosen(last, chosen, close), leftOut };
}

/** `operations`, with those of some requests exchanged, and perhaps those of the close. */
function withChosen(
  operations: readonly HostOperation[],
  chosen: ReadonlyMap<number, readonly HostOperation[]>,
  close: readonly HostOperation[] = outsideRequests(operations, 'close'),
): readonly HostOperation[] {
  const spans = new Map(byRequest(operations));
  for (const [request, others] of chosen) spans.set(request, others);
  const inOrder = [...spans].sort(([left], [right]) => left - right).flatMap(([, span]) => span);
  return [
    ...outsideRequests(operations, 'open'),
    ...inOrder,
    ...outsideRequests(operations, 'run'),
    ...close,
  ];
}

function outsideRequests<T extends Pick<HostOperation, 'request' | 'phase'>>(
  operations: readonly T[],
  phase: HostOperation['phase'],
): readonly T[] {
  return operations.filter((operation) => operation.request === undefined && operation.phase === phase);
}

function byRequest<T extends { readonly request: number | undefined }>(
  operations: readonly T[],
): ReadonlyMap<number, readonly T[]> {
  const spans = new Map<number, T[]>();
  for (const operation of operations) {
    const { request } = operation;
    if (request === undefined) continue;
    const span = spans.get(request);
    if (span === undefined) spans.set(request, [operation]);
    else span.push(operation);
  }
  return spans;
}

/** Our operations against those of one run, `leftOut` left out of both. */
export function compareWithout(
  ours: readonly TaggedRecord[],
  theirs: readonly HostOperation[],
  leftOut: readonly number[],
): Comparison {
  const changes = ours.filter(({ file }) => !file.startsWith('backing:'));
  return compareOperations(keep(changes, leftOut), keep(theirs, leftOut));
}

function keep<T extends { readonly request: number | undefined }>(
  operations: readonly T[],
  leftOut: readonly number[],
): readonly T[] {
  return operations.filter(({ request }) => request === undefined || !leftOut.includes(request));
}

/** What changes the image's files or makes them durable. */
function changesOf(operations: readonly HostOperation[]): readonly HostOperation[] {
  return operations.filter(
    ({ op, error, file }) =>
      op !== 'read' && op !== 'allocate' && error === undefined && !file.startsWith('backing:'),
  );
}

/** The requests whose operations are not the same in all runs. */
function varyingRequests(runs: readonly (readonly HostOperation[])[]): readonly number[] {
  const [first, ...others] = runs.map(textByRequest);
  const requests = new Set(others.flatMap((texts) => [...texts.keys()]).concat([...(first?.keys() ?? [])]));
  return [...requests]
    .filter((request) => others.some((texts) => texts.get(request) !== first?.get(request)))
    .sort((left, right) => left - right);
}

function textByRequest(operations: readonly HostOperation[]): ReadonlyMap<number, string> {
  const texts = new Map<number, string>();
  for (const operation of operations) {
    const { request } = operation;
    if (request !== undefined) {
      texts.set(request, `${texts.get(request) ?? ''}${formatOperation(operation)};`);
    }
  }
  return texts;
}

/** Leaves out a sync that follows another at once, in a request of several data writes. */
function withoutLateSyncs(operations: readonly HostOperation[]): readonly HostOperation[] {
  const writes = new Map<number, number>();
  for (const { op, request } of operations) {
    if (op === 'write' && request !== undefined) writes.set(request, (writes.get(request) ?? 0) + 1);
  }
  return operations.filter(({ op, request }, index) => {
    const before = operations[index - 1];
    const isSecond = op === 'sync' && before?.op === 'sync' && before.request === request;
    return !(isSecond && request !== undefined && (writes.get(request) ?? 0) > 1);
  });
}
