/**
 * The moments of a recording at which a crash can leave most: just before a sync is done, and at
 * the end. All that could be left a moment earlier is among the states of that one, with the
 * operations in between lost.
 *
 * Invariants:
 * - What is durable at a moment is in `base`; each pending operation may have reached the file, or
 *   a part of it, or not.
 * - A sync makes durable what was done when it was issued, in its own file, or one operation of it.
 *   What a failed one was to cover stays pending for good.
 * - An operation that is durable and later than a pending one in the same place is not in `base`
 *   but listed with the pending ones, as settled: it is always there, above the earlier one.
 */

import type { PageFiles } from './pages.ts';
import { applyOperation } from './layers.ts';
import type { Operation, Recording, Sync } from './recording.ts';

export interface PendingOperation {
  readonly operation: Operation;
  /** Index in the recording. */
  readonly index: number;
  readonly isSettled: boolean;
}

export interface Epoch {
  /** From 0. */
  readonly number: number;
  /** The crash is just before this event. */
  readonly at: number;
  /** What is durable; valid until the next epoch is taken. */
  readonly base: PageFiles;
  /** In the order in which they were issued. */
  readonly pending: readonly PendingOperation[];
  /** The sync that the crash is before; `undefined` at the end. */
  readonly sync: Sync | undefined;
}

/** The epochs in their order. */
export function* epochsOf({
  base: start,
  operations,
  syncs,
  endsAt,
}: Recording): Generator<Epoch, undefined> {
  const base = start.clone();
  let pending: PendingOperation[] = [];
  const dropped = new Set<number>();
  let next = 0;
  let number = 0;
  const issueUntil = (at: number): void => {
    for (; next < operations.length; next++) {
      const operation = operations[next] as Operation;
      if (operation.issuedAt >= at) return;
      pending.push({ operation, index: next, isSettled: false });
    }
  };
  for (const sync of syncs.toSorted((a, b) => a.doneAt - b.doneAt)) {
    const at = Math.min(sync.doneAt, endsAt);
    issueUntil(at);
    yield { number: number++, at, base, pending, sync };
    if (sync.doneAt > endsAt) continue;
    const isCovered = ({ operation, index }: PendingOperation): boolean =>
      operation.file === sync.file &&
      operation.doneAt < sync.issuedAt &&
      (sync.only ?? index) === index &&
      !dropped.has(index);
    if (sync.failed) for (const each of pending) if (isCovered(each)) dropped.add(each.index);
    if (!sync.failed) pending = settled(base, pending, isCovered);
  }
  issueUntil(Infinity);
  yield { number, at: endsAt, base, pending, sync: undefined };
  return undefined;
}

/** Puts into `base` what is covered now; answers what is pending still. */
function settled(
  base: PageFiles,
  pending: readonly PendingOperation[],
  isCovered: (each: PendingOperation) => boolean,
): PendingOperation[] {
  const left: PendingOperation[] = [];
  for (const each of pending) {
    const isDurable = each.isSettled || isCovered(each);
    if (isDurable && !left.some(({ operation }) => touch(operation, each.operation))) {
      applyOperation(base, each.operation);
    } else left.push(isDurable === each.isSettled ? each : { ...each, isSettled: true });
  }
  return left;
}

function touch(a: Operation, b: Operation): boolean {
  if (a.file !== b.file) return false;
  if (a.op === 'truncate' || b.op === 'truncate') return true;
  return a.offset < b.offset + b.length && b.offset < a.offset + a.length;
}
