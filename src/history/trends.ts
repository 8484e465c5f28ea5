/**
 * What changed over a history: counts commit by commit, times where their distribution changes, and
 * environments.
 *
 * Invariants:
 * - Counts are exact: every difference is a change, of the commit of its entry. Cells that changed
 *   in one way are one group, as in `compare` and in the gate.
 * - Counts of a cell on real files (of QEMU, of another engine, on an image of the user) may depend
 *   on the environment: if no earlier entry has the environment, the change is laid to that.
 * - Times are compared within one environment only. An environment that was not seen before is an
 *   event of its own, and no regression.
 */

import { compareSides, type CountsComparison } from '../compare/compare-results.ts';
import type { CellCounts } from '../compare/cell-counts.ts';
import { cellKey, countingKey } from '../result/cell.ts';
import { changePoints, type ChangePoint } from '../result/change-points.ts';
import type { Cell, CountedCell } from '../result/schema.ts';
import { environmentChanges, type EnvironmentFacts } from './environment-facts.ts';
import type { HistoryEntry } from './history.ts';

export interface Trends {
  readonly entries: readonly HistoryEntry[];
  readonly environments: number;
  /** Entries in which something changed, in order; the first entry is none. */
  readonly events: readonly HistoryEvent[];
  /** By cell, in the order in which cells came; of each environment. */
  readonly times: readonly TimeSeries[];
  /** By cell, in the order in which cells came. */
  readonly counts: readonly CountSeries[];
  /** Cells that an earlier entry counted, and none of the newest commit. */
  readonly gone: readonly CountedCell[];
}

export interface HistoryEvent {
  readonly entry: HistoryEntry;
  /** Of the commit; `undefined` if no count of a known cell changed. */
  readonly counts: CountsComparison | undefined;
  /** Where the environment is new too, and may be the cause. */
  readonly countsOfEnvironment: CountsComparison | undefined;
  /** What differs from the entry before; empty if the environment was seen before. */
  readonly environment: readonly string[];
  /** Cells that no earlier entry counted. */
  readonly added: readonly CountedCell[];
}

export interface TimeSeries {
  readonly cell: Cell;
  readonly environment: EnvironmentFacts;
  readonly points: readonly TimePoint[];
  /** The index is of `points`. */
  readonly changes: readonly ChangePoint[];
}

export interface TimePoint {
  readonly entry: HistoryEntry;
  /** Per request. */
  readonly medianNs: number;
}

export interface CountSeries {
  readonly cell: CountedCell;
  readonly points: readonly { readonly entry: HistoryEntry; readonly counts: CellCounts }[];
}

export interface TrendOptions {
  /** Share from which on a change of time is reported. */
  readonly change?: number | undefined;
}

export function trendsOf(entries: readonly HistoryEntry[], { change }: TrendOptions = {}): Trends {
  return {
    entries,
    environments: new Set(entries.map((entry) => entry.environmentKey)).size,
    events: eventsOf(entries),
    times: timeSeries(entries).map((series) => ({
      ...series,
      changes: changePoints(
        series.points.map(({ medianNs }) => medianNs),
        change === undefined ? {} : { change },
      ),
    })),
    counts: countSeries(entries),
    gone: goneCells(entries),
  };
}

function eventsOf(entries: readonly HistoryEntry[]): readonly HistoryEvent[] {
  const latest = new Map<string, CellCounts>();
  const environments = new Set<string>();
  return entries.flatMap((entry, at): HistoryEvent[] => {
    const own = pairsOf(entry, latest);
    const previous = entries[at - 1];
    const isSeen = environments.has(entry.environmentKey);
    environments.add(entry.environmentKey);
    const event: HistoryEvent = {
      entry,
      counts: changedCounts(own.commit),
      countsOfEnvironment: changedCounts(own.environment),
      environment:
        isSeen || previous === undefined ? [] : environmentChanges(previous.environment, entry.environment),
      added: previous === undefined ? [] : own.added,
    };
    const { counts, countsOfEnvironment, environment, added } = event;
    const isEvent =
      counts !== undefined || countsOfEnvironment !== undefined || environment.length + added.length > 0;
    return isEvent ? [event] : [];
  });
}

type Pair = readonly [before: CellCounts, after: CellCounts];

/** The cells of an entry with their counts before, which are replaced by the new ones. */
function pairsOf(
  { counted, environmentKey }: HistoryEntry,
  latest: Map<string, CellCounts>,
): {
  readonly commit: readonly Pair[];
  readonly environment: readonly Pair[];
  readonly added: readonly CountedCell[];
} {
  const commit: Pair[] = [];
  const environment: Pair[] = [];
  const added: CountedCell[] = [];
  for (const counts of counted) {
    const { cell } = counts;
    const key = countingKey(cell);
    const ownKey = isOfMachine(cell) ? `${key} ${environmentKey}` : key;
    const own = latest.get(ownKey);
    const other = own ?? latest.get(key);
    if (own !== undefined) commit.push([own, counts]);
    else if (other !== undefined) environment.push([other, counts]);
    else added.push(cell);
    latest.set(key, counts);
    latest.set(ownKey, counts);
  }
  return { commit, environment, added };
}

/** Whether the counts of a cell may depend on the machine: all that are not taken in memory. */
function isOfMachine({ engine, image }: CountedCell): boolean {
  return engine !== 'builtin' || image !== undefined;
}

/** `undefined` if nothing changed. */
function changedCounts(pairs: readonly Pair[]): CountsComparison | undefined {
  const [comparison] = compareSides(
    ([0, 1] as const).map((side) => ({
      name: '',
      environment: undefined,
      records: [],
      counted: pairs.map((pair) => pair[side]),
    })),
  );
  return comparison === undefined || comparison.counts.equal === pairs.length ? undefined : comparison.counts;
}

function timeSeries(entries: readonly HistoryEntry[]): readonly Omit<TimeSeries, 'changes'>[] {
  const series = new Map<string, Omit<TimeSeries, 'changes' | 'points'> & { readonly points: TimePoint[] }>();
  for (const entry of entries) {
    for (const { cell, medianNs } of entry.timed) {
      const key = `${cellKey(cell)} ${entry.environmentKey}`;
      const own = series.get(key) ?? { cell, environment: entry.environment, points: [] };
      own.points.push({ entry, medianNs });
      series.set(key, own);
    }
  }
  return [...series.values()];
}

function countSeries(entries: readonly HistoryEntry[]): readonly CountSeries[] {
  const series = new Map<string, { cell: CountedCell; points: CountSeries['points'][number][] }>();
  for (const entry of entries) {
    for (const counts of entry.counted) {
      const key = countingKey(counts.cell);
      const own = series.get(key) ?? { cell: counts.cell, points: [] };
      own.points.push({ entry, counts });
      series.set(key, own);
    }
  }
  return [...series.values()];
}

function goneCells(entries: readonly HistoryEntry[]): readonly CountedCell[] {
  const newest = entries.at(-1)?.commit;
  const present = new Set(
    entries
      .filter(({ commit }) => commit === newest)
      .flatMap(({ counted }) => counted.map(({ cell }) => countingKey(cell))),
  );
  const all = new Map(
    entries.flatMap(({ counted }) => counted.map(({ cell }) => [countingKey(cell), cell] as const)),
  );
  return [...all].flatMap(([key, cell]) => (present.has(key) ? [] : [cell]));
}
