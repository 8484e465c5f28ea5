/**
 * What the gate compares beside counts: figures derived from them, where they have limits; modelled
 * times, which are deterministic; and hard limits, which hold for what did not change too.
 */

import { meaningOf, type CellCounts } from '../compare/cell-counts.ts';
import { Qcow2BenchError } from '../core/error.ts';
import { countedCell } from '../result/cell.ts';
import { deriveFigures, type Figures } from '../result/derive.ts';
import { spreadOf } from '../result/statistics.ts';
import {
  OPERATION_KINDS,
  type CellRecord,
  type CountedCell,
  type Counts,
  type OperationCounts,
  type PhaseCounts,
} from '../result/schema.ts';
import type { Phase } from '../result/vocabulary.ts';
import type { BaselineCell } from './baseline.ts';
import { CPU_METRIC, leavesLimit, type FigureName, type GateLimits } from './limits.ts';

export interface FigureChange {
  readonly cell: CountedCell;
  /** `figures.writeAmplification`, `modelled.model:nvme.elapsedNs`. */
  readonly name: string;
  readonly before: number;
  readonly after: number;
  readonly isBreach: boolean;
  /** As it was written. */
  readonly limit: string;
}

/** A count or figure above what a limit allows at most. */
export interface HardBreach {
  readonly cell: CountedCell;
  /** The leaf or the figure. */
  readonly name: string;
  readonly value: number;
  readonly most: number;
}

/** Figures with limits, and modelled times, that are not as in the baseline. */
export function figureChanges(
  pairs: readonly (readonly [before: BaselineCell, after: BaselineCell])[],
  limits: GateLimits,
): readonly FigureChange[] {
  const names = limits.figures;
  return pairs.flatMap(([before, after]) => {
    const values = [...derived(before, after, names), ...modelled(before, after)];
    return values.flatMap(({ name, ...change }): readonly FigureChange[] => {
      const limit = limits.limitOf(before.cell, { of: 'figure', name });
      if (limit === undefined || change.before === change.after) return [];
      return [
        { cell: before.cell, name, ...change, isBreach: leavesLimit(change, limit), limit: limit.text },
      ];
    });
  });
}

/** Everything of the cells that is above a hard limit. */
export function hardBreaches(cells: readonly BaselineCell[], limits: GateLimits): readonly HardBreach[] {
  return cells.flatMap((cell) => {
    const counts = Object.entries(cell.counts).map(([leaf, value]) => {
      const { phase, counted } = meaningOf(leaf);
      const part = 'purpose' in counted ? counted.purpose : 'cause' in counted ? counted.cause : '*';
      const unit = 'unit' in counted ? counted.unit : 'ops';
      return {
        name: leaf,
        value,
        metric: { of: 'count', phase, kind: counted.kind, part, unit, isLostSync: false } as const,
      };
    });
    const figures = [
      ...figuresOf(cell, limits.figures),
      ...Object.entries(cell.modelled ?? {}).map(named),
    ].map(({ name, value }) => ({ name, value, metric: { of: 'figure', name } as const }));
    return [...counts, ...figures].flatMap(({ name, value, metric }): readonly HardBreach[] => {
      const most = limits.limitOf(cell.cell, metric)?.most;
      return most === undefined || value <= most ? [] : [{ cell: cell.cell, name, value, most }];
    });
  });
}

/**
 * Cells whose median CPU time per request is above its limit.
 *
 * @throws Qcow2BenchError `gate-no-times` if cells have such a limit and none was timed.
 */
export function cpuBreaches(records: readonly CellRecord[], limits: GateLimits): readonly HardBreach[] {
  const limited = records.flatMap(({ cell, timings }) => {
    const most = limits.limitOf(countedCell(cell), { of: 'figure', name: CPU_METRIC })?.most;
    return most === undefined ? [] : [{ cell: countedCell(cell), timings, most }];
  });
  const found = limited.flatMap(({ cell, timings, most }) => {
    const times = timings.flatMap(({ requests, userNs, systemNs }) =>
      userNs === undefined || systemNs === undefined ? [] : [(userNs + systemNs) / requests],
    );
    const median = spreadOf(times)?.median;
    return median === undefined ? [] : [{ cell, name: CPU_METRIC, value: Math.round(median), most }];
  });
  if (limited.length > 0 && found.length === 0) {
    const message = `there is a limit for ${CPU_METRIC}, but no cell of the result was timed: run with --samples`;
    throw new Qcow2BenchError('gate-no-times', message);
  }
  return found.filter(({ value, most }) => value > most);
}

interface ValueChange {
  readonly name: string;
  readonly before: number;
  readonly after: number;
}

function derived(
  before: CellCounts,
  after: CellCounts,
  names: readonly FigureName[],
): readonly ValueChange[] {
  const values = new Map(figuresOf(after, names).map(({ name, value }) => [name, value]));
  return figuresOf(before, names).flatMap(({ name, value }) => {
    const own = values.get(name);
    return own === undefined ? [] : [{ name, before: value, after: own }];
  });
}

/** What only one of the two has is no change: a baseline need not have been timed on models. */
function modelled(before: BaselineCell, after: BaselineCell): readonly ValueChange[] {
  return Object.entries(before.modelled ?? {}).flatMap(([name, value]) => {
    const own = after.modelled?.[name];
    return own === undefined ? [] : [{ name: `modelled.${name}`, before: value, after: own }];
  });
}

function named([name, value]: readonly [string, number]): { readonly name: string; readonly value: number } {
  return { name: `modelled.${name}`, value };
}

function figuresOf(
  cell: CellCounts,
  names: readonly FigureName[],
): readonly { readonly name: FigureName; readonly value: number }[] {
  if (names.length === 0) return [];
  const figures = new Map<string, number | null>(
    Object.entries(deriveFigures(countsOf(cell)) satisfies Figures),
  );
  return names.flatMap((name) => {
    const value = figures.get(name.replace('figures.', '')) ?? null;
    return value === null ? [] : [{ name, value }];
  });
}

/** The counts with their sums, from the leaves. */
export function countsOf({ guest, counts }: CellCounts): Counts {
  const all = Object.entries(counts).map(([leaf, value]) => ({ ...meaningOf(leaf), value }));
  const phase = (name: Phase): PhaseCounts => {
    const leaves = all.filter(({ phase: own }) => own === name);
    const operations = OPERATION_KINDS.map((kind) => {
      const byPurpose: Record<string, { ops: number; bytes: number }> = {};
      let [ops, bytes] = [0, 0];
      for (const { counted, value } of leaves) {
        if (counted.kind !== kind || !('purpose' in counted)) continue;
        const share = (byPurpose[counted.purpose] ??= { ops: 0, bytes: 0 });
        share[counted.unit] += value;
        if (counted.unit === 'ops') ops += value;
        else bytes += value;
      }
      return [kind, { ops, bytes, byPurpose } satisfies OperationCounts] as const;
    });
    const byCause: Record<string, number> = {};
    let [ops, elided] = [0, 0];
    for (const { counted, value } of leaves) {
      if (counted.kind === 'elided') elided += value;
      if (counted.kind !== 'syncs') continue;
      byCause[counted.cause] = value;
      ops += value;
    }
    // One entry of each kind of operation.
    return {
      ...(Object.fromEntries(operations) as Omit<PhaseCounts, 'syncs'>),
      syncs: { ops, elided, byCause },
    };
  };
  return { guest, open: phase('open'), run: phase('run'), close: phase('close') };
}
