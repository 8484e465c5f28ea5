/**
 * The gate: comparison of a result's counts with the committed baseline, within limits.
 *
 * Invariants:
 * - A cell passes only if no metric leaves its limit. Without limits of the user no count may rise
 *   and no sync may be lost; a rise is not made good by a fall elsewhere: where counts moved on
 *   purpose, the baseline is accepted again.
 * - Measuring less never passes: a cell of the baseline that the result lacks fails, as does one
 *   whose workload asks for something else, or whose engine is another version and counts
 *   otherwise. A new cell is reported and passes.
 */

import {
  leafChanges,
  workloadChange,
  type CellChange,
  type LeafChange,
  type WorkloadChange,
} from '../compare/cell-counts.ts';
import type { CostsOf } from '../compare/first-request.ts';
import { changesBySubject, groupChanges, subjectKey, type ChangeGroup } from '../compare/change-groups.ts';
import { countingKey } from '../result/cell.ts';
import type { CountedCell, ResultRecord } from '../result/schema.ts';
import {
  engineOf,
  engineVersions,
  gatedCells,
  GATED_DEVICE,
  type Baseline,
  type BaselineCell,
} from './baseline.ts';
import { cpuBreaches, figureChanges, hardBreaches, type FigureChange, type HardBreach } from './figures.ts';
import { GateLimits, leavesLimit, type Limit } from './limits.ts';

/** Changes with one cause. */
export interface GateGroup extends ChangeGroup {
  /** Of its cells, those in which a metric leaves its limit; the gate fails if there is one. */
  readonly failing: readonly CountedCell[];
  /** The limit that is left, if it is one of the user's. */
  readonly limit: string | undefined;
}

/** An engine of another version than the baseline's. */
export interface EngineChange {
  readonly engine: string;
  readonly before: string;
  readonly after: string;
}

/** A cell of the baseline that the result did not count. */
export interface MissingCell {
  readonly cell: CountedCell;
  readonly reason: string;
}

export interface GateVerdict {
  readonly passed: boolean;
  /** All changes by cause, those that fail first. */
  readonly groups: readonly GateGroup[];
  /** Cells in which at least one metric left its limit. */
  readonly regressions: readonly CellChange[];
  /** Cells in which counts changed and none left its limit. */
  readonly improvements: readonly CellChange[];
  /** Derived figures and modelled times that changed and have a limit. */
  readonly figures: readonly FigureChange[];
  /** Counts above a hard limit, changed or not. */
  readonly aboveHardLimits: readonly HardBreach[];
  readonly workloadChanges: readonly WorkloadChange[];
  readonly engineChanges: readonly EngineChange[];
  /** Cells that changed and were run by another version of their engine. */
  readonly incomparable: readonly CellChange[];
  readonly missing: readonly MissingCell[];
  /** Cells that the baseline lacks. */
  readonly added: readonly CountedCell[];
  /** How many cells are exactly as in the baseline. */
  readonly equal: number;
}

/** Compares every cell that can be gated with the baseline, leaf by leaf. */
export function compareCounts(
  result: ResultRecord,
  baseline: Baseline,
  limits: GateLimits = new GateLimits(),
): GateVerdict {
  const present = gatedCells(result);
  const engineChanges = changedEngines(baseline, result);
  const known = new Set<string>();
  const changed: CellChange[] = [];
  const incomparable: CellChange[] = [];
  const workloadChanges: WorkloadChange[] = [];
  const missing: MissingCell[] = [];
  const pairs: (readonly [before: BaselineCell, after: BaselineCell])[] = [];
  let equal = 0;
  for (const before of baseline.cells) {
    const key = countingKey(before.cell);
    known.add(key);
    const after = present.get(key);
    if (after === undefined) {
      missing.push({ cell: before.cell, reason: missingReason(result, key) });
      continue;
    }
    const other = workloadChange(before, after);
    const changes = leafChanges(before, after);
    if (other !== undefined) workloadChanges.push({ ...other, cell: before.cell });
    else {
      pairs.push([before, after]);
      if (changes.length === 0) equal++;
      else {
        const isOther = engineChanges.some(({ engine }) => engine === engineOf(before.cell));
        (isOther ? incomparable : changed).push({ cell: before.cell, guest: after.guest, changes });
      }
    }
  }
  const costs = new Map(
    pairs.map(([before, after]) => [before.cell, { before: before.requests, after: after.requests }]),
  );
  const costsOf: CostsOf = (cell) => costs.get(cell) ?? { before: undefined, after: undefined };
  const breaches = new Map(changed.map((change) => [change.cell, breachesOf(change, limits)]));
  const figures = figureChanges(pairs, limits);
  const aboveHardLimits = limits.hasHardLimits
    ? [...hardBreaches([...present.values()], limits), ...cpuBreaches(result.cells, limits)]
    : [];
  const fails = ({ cell }: CellChange): boolean => (breaches.get(cell)?.size ?? 0) > 0;
  const regressions = changed.filter(fails);
  const failures = [
    regressions,
    incomparable,
    workloadChanges,
    missing,
    aboveHardLimits,
    figures.filter(({ isBreach }) => isBreach),
  ];
  return {
    passed: failures.every((list) => list.length === 0),
    groups: gateGroups([...changed, ...incomparable], breaches, costsOf),
    regressions,
    improvements: changed.filter((change) => !fails(change)),
    figures,
    aboveHardLimits,
    workloadChanges,
    engineChanges,
    incomparable,
    missing,
    added: [...present].filter(([key]) => !known.has(key)).map(([, { cell }]) => cell),
    equal,
  };
}

/** By subject: the limit that a cell leaves. */
type Breaches = ReadonlyMap<string, Limit>;

function breachesOf({ cell, changes }: CellChange, limits: GateLimits): Breaches {
  const breaches = new Map<string, Limit>();
  for (const { subject, kind, leaves } of changesBySubject(changes)) {
    for (const leaf of leaves) {
      const limit = limits.limitOf(cell, {
        of: 'count',
        phase: leaf.phase,
        kind: subject.kind,
        part: partOf(leaf),
        unit: 'unit' in leaf.counted ? leaf.counted.unit : 'ops',
        isLostSync: kind === 'lost-syncs' && leaf.after < leaf.before,
      });
      if (limit !== undefined && leavesLimit(leaf, limit)) breaches.set(subjectKey(subject), limit);
    }
  }
  return breaches;
}

function partOf({ counted }: LeafChange): string {
  if ('purpose' in counted) return counted.purpose;
  return 'cause' in counted ? counted.cause : '*';
}

function gateGroups(
  changes: readonly CellChange[],
  breaches: ReadonlyMap<CountedCell, Breaches>,
  costsOf: CostsOf,
): readonly GateGroup[] {
  const groups = groupChanges(changes, costsOf).map((group): GateGroup => {
    const keys = [group.lead, ...group.also].map(({ subject }) => subjectKey(subject));
    const left = (cell: CountedCell): Limit | undefined =>
      keys.map((key) => breaches.get(cell)?.get(key)).find((limit) => limit !== undefined);
    const failing = group.cells.map(({ cell }) => cell).filter((cell) => left(cell) !== undefined);
    const [first] = failing;
    return { ...group, failing, limit: first && left(first)?.text };
  });
  return groups.toSorted((a, b) => Number(b.failing.length > 0) - Number(a.failing.length > 0));
}

function changedEngines(baseline: Baseline, result: ResultRecord): readonly EngineChange[] {
  const present = engineVersions(result);
  return Object.entries(baseline.engines ?? {}).flatMap(([engine, before]) => {
    const after = present[engine];
    return after === undefined || after === before ? [] : [{ engine, before, after }];
  });
}

function missingReason(result: ResultRecord, key: string): string {
  const record = result.cells.find(({ cell }) => countingKey(cell) === key);
  if (record === undefined) return 'not in the result';
  if (record.skipped !== null && record.counts === null) return `skipped: ${record.skipped}`;
  return `not counted on the ${GATED_DEVICE} device, but on ${record.countsDevice ?? 'none'}`;
}
