/**
 * The gate: exact comparison of a result's counts with the committed baseline.
 *
 * Invariants:
 * - A cell passes only if no leaf rose. A rise is not made good by a fall elsewhere: where counts
 *   moved on purpose, the baseline is accepted again.
 * - Measuring less never passes: a cell of the baseline that the result lacks fails, as does one
 *   whose workload asks for something else. A new cell is reported and passes.
 */

import {
  guestChanges,
  isWorse,
  leafChanges,
  type CellChange,
  type WorkloadChange,
} from '../compare/cell-counts.ts';
import { countingKey } from '../result/cell.ts';
import type { CountedCell, ResultRecord } from '../result/schema.ts';
import { GATED_DEVICE, gatedCells, type Baseline } from './baseline.ts';

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
    else {
      const change = { cell: before.cell, guest: after.guest, changes };
      (changes.some(isWorse) ? regressions : improvements).push(change);
    }
  }
  const added = [...present].filter(([key]) => !known.has(key)).map(([, { cell }]) => cell);
  const passed = regressions.length + workloadChanges.length + missing.length === 0;
  return { passed, regressions, improvements, workloadChanges, missing, added, equal };
}

function missingReason(result: ResultRecord, key: string): string {
  const record = result.cells.find(({ cell }) => countingKey(cell) === key);
  if (record === undefined) return 'not in the result';
  if (record.skipped !== null && record.counts === null) return `skipped: ${record.skipped}`;
  return `not counted on the ${GATED_DEVICE} device, but on ${record.countsDevice ?? 'none'}`;
}
