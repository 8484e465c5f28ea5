/**
 * The exact counts of a cell, leaf by leaf, and what changed between two of them.
 *
 * Invariant: only leaves that are no sums of others: totals equal their parts (the result's schema
 * checks it), so comparing the parts is complete.
 */

import { countedCell } from '../result/cell.ts';
import type { RequestCosts } from '../result/request-costs.ts';
import { leafValue, schemaLeaves, type LeafPath } from '../result/leaves.ts';
import {
  countsSchema,
  guestCountsSchema,
  OPERATION_KINDS,
  type CellRecord,
  type CountedCell,
  type Counts,
  type GuestCounts,
  type OperationKind,
} from '../result/schema.ts';
import {
  PHASES,
  PURPOSES,
  SYNC_CAUSES,
  type Phase,
  type Purpose,
  type SyncCause,
} from '../result/vocabulary.ts';

/** A cell with what its guest did and what that cost. */
export interface CellCounts {
  readonly cell: CountedCell;
  /** What the workload asked for; if this differs, the costs are not comparable. */
  readonly guest: GuestCounts;
  /** Leaf name (`run.syncs.byCause.writethrough`) → count; a leaf that is absent is 0. */
  readonly counts: Readonly<Record<string, number>>;
  /** What the guest asked for, and what each request cost; absent of older records. */
  readonly requests?: RequestCosts | undefined;
}

/** What one leaf counts. */
export type Counted =
  | { readonly kind: OperationKind; readonly purpose: Purpose; readonly unit: 'ops' | 'bytes' }
  | { readonly kind: 'syncs'; readonly cause: SyncCause }
  /** Flushes that needed no sync: a change is reported, but is neither better nor worse. */
  | { readonly kind: 'elided' };

export interface LeafChange {
  readonly phase: Phase;
  readonly counted: Counted;
  readonly before: number;
  readonly after: number;
}

/** A cell with at least one changed leaf. */
export interface CellChange {
  readonly cell: CountedCell;
  readonly guest: GuestCounts;
  readonly changes: readonly LeafChange[];
}

/** A cell whose workload asked for something else than before. */
export interface WorkloadChange {
  readonly cell: CountedCell;
  /** Empty if as many requests of each kind are others. */
  readonly changes: readonly {
    readonly field: keyof GuestCounts;
    readonly before: number;
    readonly after: number;
  }[];
}

/** Leaves of the counts that are no sums of others. */
export const COUNT_LEAVES: readonly string[] = schemaLeaves(countsSchema)
  .filter((path) => isPhasePath(path) && isFinest(path))
  .map((path) => path.join('.'));

/** `undefined` if the cell was not counted. */
export function cellCounts({ cell, counts, requests }: CellRecord): CellCounts | undefined {
  if (counts === null) return undefined;
  const own = { cell: countedCell(cell), guest: counts.guest, counts: finestCounts(counts) };
  return requests === undefined ? own : { ...own, requests };
}

/** The leaves that differ, in the order of the schema. */
export function leafChanges(before: CellCounts, after: CellCounts): readonly LeafChange[] {
  const changes: LeafChange[] = [];
  for (const leaf of COUNT_LEAVES) {
    const counts = { before: before.counts[leaf] ?? 0, after: after.counts[leaf] ?? 0 };
    if (counts.before !== counts.after) changes.push({ ...meaningOf(leaf), ...counts });
  }
  return changes;
}

/** What the guest did that differs; `undefined` if it did the same. */
export function workloadChange(before: CellCounts, after: CellCounts): WorkloadChange | undefined {
  const changes = guestChanges(before.guest, after.guest);
  const [old, own] = [before.requests?.digest, after.requests?.digest];
  const isOther = old !== undefined && own !== undefined && old !== own;
  return changes.length > 0 || isOther ? { cell: after.cell, changes } : undefined;
}

function guestChanges(before: GuestCounts, after: GuestCounts): WorkloadChange['changes'] {
  return guestCountsSchema
    .keyof()
    .options.filter((field) => before[field] !== after[field])
    .map((field) => ({ field, before: before[field], after: after[field] }));
}

/** Whether the change costs more than before. */
export function isWorse({ counted, before, after }: LeafChange): boolean {
  return counted.kind !== 'elided' && after > before;
}

/** `run.writes.byPurpose.data.ops` → its parts. */
export function meaningOf(leaf: string): Pick<LeafChange, 'phase' | 'counted'> {
  const [phaseName, kindName, , partName, unitName] = leaf.split('.');
  const phase = PHASES.find((candidate) => candidate === phaseName);
  const kind = OPERATION_KINDS.find((candidate) => candidate === kindName);
  const purpose = PURPOSES.find((candidate) => candidate === partName);
  const cause = SYNC_CAUSES.find((candidate) => candidate === partName);
  if (phase !== undefined && kind !== undefined && purpose !== undefined) {
    return { phase, counted: { kind, purpose, unit: unitName === 'bytes' ? 'bytes' : 'ops' } };
  }
  if (phase !== undefined && kindName === 'syncs' && cause !== undefined) {
    return { phase, counted: { kind: 'syncs', cause } };
  }
  if (phase !== undefined && kindName === 'syncs') return { phase, counted: { kind: 'elided' } };
  throw new Error(`internal error: '${leaf}' is no leaf of the counts`);
}

function finestCounts(counts: Counts): Record<string, number> {
  const leaves: Record<string, number> = {};
  for (const leaf of COUNT_LEAVES) {
    const value = leafValue(counts, leaf.split('.'));
    if (typeof value === 'number' && value !== 0) leaves[leaf] = value;
  }
  return leaves;
}

function isPhasePath(path: LeafPath): boolean {
  return PHASES.some((phase) => phase === path[0]);
}

function isFinest(path: LeafPath): boolean {
  return path[2] === 'byPurpose' || path[2] === 'byCause' || path[2] === 'elided';
}
