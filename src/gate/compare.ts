/**
 * The gate: exact comparison of a result's counts with the committed baseline.
 *
 * Invariants:
 * - A cell passes only if no leaf rose. A rise is not made good by a fall elsewhere: where counts
 *   moved on purpose, the baseline is accepted again.
 * - Measuring less never passes: a cell of the baseline that the result lacks fails, as does one
 *   whose workload asks for something else. A new cell is reported and passes.
 */

import { countingKey } from '../result/cell.ts';
import {
  guestCountsSchema,
  OPERATION_KINDS,
  type CountedCell,
  type GuestCounts,
  type OperationKind,
  type ResultRecord,
} from '../result/schema.ts';
import {
  PHASES,
  PURPOSES,
  SYNC_CAUSES,
  type Phase,
  type Purpose,
  type SyncCause,
} from '../result/vocabulary.ts';
import { COUNT_LEAVES, GATED_DEVICE, gatedCells, type Baseline, type BaselineCell } from './baseline.ts';

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
  readonly changes: readonly LeafChange[];
}

/** A cell whose workload asked for something else than in the baseline. */
export interface WorkloadChange {
  readonly cell: CountedCell;
  readonly changes: readonly {
    readonly field: keyof GuestCounts;
    readonly before: number;
    readonly after: number;
  }[];
}

/** A cell of the baseline that the result did not count. */
export interface MissingCell {
  readonly cell: CountedCell;
  readonly reason: string;
}

export interface GateVerdict {
  readonly passed: boolean;
  /** Cells in which at least one count rose. */
  readonly regressions: readonly CellChange[];
  /** Cells in which counts changed and none rose. */
  readonly improvements: readonly CellChange[];
  readonly workloadChanges: readonly WorkloadChange[];
  readonly missing: readonly MissingCell[];
  /** Cells that the baseline lacks. */
  readonly added: readonly CountedCell[];
  /** How many cells are exactly as in the baseline. */
  readonly equal: number;
}

/** Compares every cell counted on the memory device with the baseline, leaf by leaf. */
export function compareCounts(result: ResultRecord, baseline: Baseline): GateVerdict {
  const present = gatedCells(result);
  const known = new Set<string>();
  const regressions: CellChange[] = [];
  const improvements: CellChange[] = [];
  const workloadChanges: WorkloadChange[] = [];
  const missing: MissingCell[] = [];
  let equal = 0;
  for (const before of baseline.cells) {
    const key = countingKey(before.cell);
    known.add(key);
    const after = present.get(key);
    if (after === undefined) {
      missing.push({ cell: before.cell, reason: missingReason(result, key) });
      continue;
    }
    const guest = guestChanges(before.guest, after.guest);
    const changes = leafChanges(before, after);
    if (guest.length > 0) workloadChanges.push({ cell: before.cell, changes: guest });
    else if (changes.length === 0) equal++;
    else (changes.some(isWorse) ? regressions : improvements).push({ cell: before.cell, changes });
  }
  const added = [...present].filter(([key]) => !known.has(key)).map(([, { cell }]) => cell);
  const passed = regressions.length + workloadChanges.length + missing.length === 0;
  return { passed, regressions, improvements, workloadChanges, missing, added, equal };
}

/** Whether the change alone fails the gate. */
export function isWorse(change: LeafChange): boolean {
  return change.counted.kind !== 'elided' && change.after > change.before;
}

function leafChanges(before: BaselineCell, after: BaselineCell): readonly LeafChange[] {
  const changes: LeafChange[] = [];
  for (const leaf of COUNT_LEAVES) {
    const counts = { before: before.counts[leaf] ?? 0, after: after.counts[leaf] ?? 0 };
    if (counts.before !== counts.after) changes.push({ ...meaningOf(leaf), ...counts });
  }
  return changes;
}

function guestChanges(before: GuestCounts, after: GuestCounts): WorkloadChange['changes'] {
  return guestCountsSchema
    .keyof()
    .options.filter((field) => before[field] !== after[field])
    .map((field) => ({ field, before: before[field], after: after[field] }));
}

/** `run.writes.byPurpose.data.ops` → its parts. */
function meaningOf(leaf: string): Pick<LeafChange, 'phase' | 'counted'> {
  const [phaseName, kindName, , partName, unitName] = leaf.split('.');
  const phase = PHASES.find((candidate) => candidate === phaseName);
  const kind = OPERATION_KINDS.find((candidate) => candidate === kindName);
  const purpose = PURPOSES.find((candidate) => candidate === partName);
  const cause = SYNC_CAUSES.find((candidate) => candidate === partName);
  if (phase !== undefined && kind !== undefined && purpose !== undefined) {
    return { phase, counted: { kind, purpose, unit: unitName === 'bytes' ? 'bytes' : 'ops' } };
  }
  if (phase !== undefined && cause !== undefined) return { phase, counted: { kind: 'syncs', cause } };
  if (phase !== undefined) return { phase, counted: { kind: 'elided' } };
  throw new Error(`internal error: '${leaf}' is no leaf of the counts`);
}

function missingReason(result: ResultRecord, key: string): string {
  const record = result.cells.find(({ cell }) => countingKey(cell) === key);
  if (record === undefined) return 'not in the result';
  if (record.skipped !== null && record.counts === null) return `skipped: ${record.skipped}`;
  return `not counted on the ${GATED_DEVICE} device, but on ${record.countsDevice ?? 'none'}`;
}
