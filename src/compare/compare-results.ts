/**
 * Results compared: every one with the first.
 *
 * Invariants:
 * - Counts are exact, so any difference is one; only those of cells with overlapping host
 *   operations are samples, and are listed apart.
 * - A cell whose guest did something else is not compared, and is named.
 * - What only one of the results has is named, as is what was not counted.
 */

import type { CellRecord, CountedCell, Environment } from '../result/schema.ts';
import {
  cellCounts,
  leafChanges,
  workloadChange,
  type CellChange,
  type CellCounts,
  type WorkloadChange,
} from './cell-counts.ts';
import { groupChanges, type ChangeGroup } from './change-groups.ts';
import { matchCounted, type Distinction } from './matching.ts';
import { timeChanges, type TimeComparison } from './time-changes.ts';

/** One of the results that are compared. */
export interface Side {
  /** The file, or the value of the coordinate that splits one. */
  readonly name: string;
  /** `undefined` of a baseline. */
  readonly environment: Environment | undefined;
  /** Empty of a baseline. */
  readonly records: readonly CellRecord[];
  /** Counted cells. */
  readonly counted: readonly CellCounts[];
}

export interface NamedSide {
  readonly name: string;
  readonly cells: number;
  /** Versions of what ran the cells; `undefined` of a baseline. */
  readonly harness: string | undefined;
  readonly qemu: string | undefined;
  readonly date: string | undefined;
}

export interface CountsComparison {
  /** In what compared cells differ as a whole, such as the engine. */
  readonly distinctions: readonly Distinction[];
  /** Cells whose counts were compared, all together. */
  readonly compared: number;
  readonly equal: number;
  /** By cause; see `change-groups`. */
  readonly groups: readonly ChangeGroup[];
  readonly changed: readonly CellChange[];
  /** Changed too, but their counts vary from run to run. */
  readonly samples: readonly CellChange[];
  readonly workloadChanges: readonly WorkloadChange[];
  readonly onlyBefore: readonly CountedCell[];
  readonly onlyAfter: readonly CountedCell[];
}

export interface SideComparison {
  readonly before: NamedSide;
  readonly after: NamedSide;
  readonly counts: CountsComparison;
  readonly times: readonly TimeComparison[];
}

/** The side of a result. */
export function resultSide(
  name: string,
  { environment, cells }: { readonly environment: Environment; readonly cells: readonly CellRecord[] },
): Side {
  const counted = new Map<string, CellCounts>();
  for (const record of cells) {
    const counts = cellCounts(record);
    // A cell on several devices is counted once for each, alike.
    if (counts !== undefined) counted.set(JSON.stringify(counts.cell), counts);
  }
  return { name, environment, records: cells, counted: [...counted.values()] };
}

/** Every other side compared with the first. */
export function compareSides([first, ...others]: readonly Side[]): readonly SideComparison[] {
  if (first === undefined) return [];
  return others.map((other) => compareTwo(first, other));
}

function compareTwo(before: Side, after: Side): SideComparison {
  return {
    before: namedSide(before),
    after: namedSide(after),
    counts: compareCounted(before, after),
    times: timeChanges(before.records, after.records),
  };
}

function compareCounted(before: Side, after: Side): CountsComparison {
  const { pairs, onlyBefore, onlyAfter, distinctions } = matchCounted(
    before.counted,
    after.counted,
    ({ cell }) => cell,
  );
  const changed: CellChange[] = [];
  const samples: CellChange[] = [];
  const workloadChanges: WorkloadChange[] = [];
  for (const [old, own] of pairs) {
    const other = workloadChange(old, own);
    const changes = leafChanges(old, own);
    if (other !== undefined) workloadChanges.push(other);
    else if (changes.length > 0) {
      const isSample = own.cell.overlap === true || old.cell.overlap === true;
      (isSample ? samples : changed).push({ cell: own.cell, guest: own.guest, changes });
    }
  }
  const costs = new Map(pairs.map(([old, own]) => [own.cell, { before: old.requests, after: own.requests }]));
  return {
    distinctions,
    compared: pairs.length,
    equal: pairs.length - changed.length - samples.length - workloadChanges.length,
    groups: groupChanges(changed, (cell) => costs.get(cell) ?? { before: undefined, after: undefined }),
    changed,
    samples,
    workloadChanges,
    onlyBefore: onlyBefore.map(({ cell }) => cell),
    onlyAfter: onlyAfter.map(({ cell }) => cell),
  };
}

function namedSide({ name, environment, records, counted }: Side): NamedSide {
  return {
    name,
    cells: records.length > 0 ? records.length : counted.length,
    harness: environment?.harness,
    qemu: environment?.qemu,
    date: environment?.date,
  };
}
