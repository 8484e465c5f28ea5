/**
 * A history as one record, from which every output is rendered: terminal, Markdown, charts, JSON.
 *
 * Invariant: it holds sentences and figures, and no text of a renderer; names are unescaped.
 */

import type { ChangeGroup } from '../compare/change-groups.ts';
import { beforeAfterText, cellsText, changeText, differenceText } from '../compare/change-text.ts';
import type { CountsComparison } from '../compare/compare-results.ts';
import type { CellCounts } from '../compare/cell-counts.ts';
import { firstRequestText } from '../compare/first-request.ts';
import type { ChangeKind } from '../compare/subject-change.ts';
import { namesAmong } from '../result/cell.ts';
import type { Cell, CountedCell } from '../result/schema.ts';
import { environmentKey, type EnvironmentFacts } from './environment-facts.ts';
import type { HistoryEntry } from './history.ts';
import type { CountSeries, HistoryEvent, TimeSeries, Trends } from './trends.ts';

export interface CommitPlace {
  readonly commit: string;
  /** ISO 8601. */
  readonly date: string;
  /** Of the file, from 1. */
  readonly line: number;
}

export interface HistoryRecord {
  readonly file: string;
  readonly commits: number;
  readonly lines: number;
  /** Dates of the first and the last entry. */
  readonly from: string | undefined;
  readonly to: string | undefined;
  readonly cells: number;
  /** Counted cells whose counts are the same in all commits. */
  readonly unchanged: number;
  readonly environments: readonly EnvironmentFacts[];
  readonly events: readonly EventRecord[];
  readonly times: readonly TimeRecord[];
  /** Only of cells whose counts changed. */
  readonly counts: readonly CountRecord[];
  /** Cells of an earlier commit that the newest did not count. */
  readonly gone: readonly string[];
}

export interface EventRecord extends CommitPlace {
  /** Version of the program, if it is another than before. */
  readonly harness: string | undefined;
  /** What differs from the environment before; empty if it is known. */
  readonly environment: readonly string[];
  readonly changes: readonly ChangeRecord[];
  /** Names of cells that no commit before counted. */
  readonly added: readonly string[];
  /** Names of cells whose workload is another: their counts are not compared. */
  readonly otherWorkload: readonly string[];
}

export interface ChangeRecord {
  readonly kind: ChangeKind;
  /** Whether the environment changed too, on which the counts of these cells may depend. */
  readonly isOfEnvironment: boolean;
  /** `+1.00 sync per allocating write, l2-after-cow (…), in 8 of 40 cells; first: …, request 17`. */
  readonly sentence: string;
  /** What changed in the same cells. */
  readonly details: readonly string[];
  readonly cells: readonly { readonly name: string; readonly text: string }[];
  readonly firstRequest: string | undefined;
}

export interface TimeRecord {
  readonly name: string;
  /** Index into the environments. */
  readonly environment: number;
  readonly points: readonly (CommitPlace & { readonly medianNs: number })[];
  readonly changes: readonly TimeChange[];
}

export interface TimeChange extends CommitPlace {
  /** Of the points. */
  readonly index: number;
  /** Medians up to here, and from here on. */
  readonly beforeNs: number;
  readonly afterNs: number;
  readonly pValue: number;
}

export interface CountRecord {
  readonly name: string;
  readonly points: readonly (CommitPlace & { readonly syncs: number; readonly operations: number })[];
}

export function historyRecord(trends: Trends, file: string): HistoryRecord {
  const { entries, counts } = trends;
  const nameOf = namesAmong(counts.map(({ cell }) => cell));
  const environments = new Map(entries.map((entry) => [entry.environmentKey, entry.environment]));
  const changed = counts.map((series) => countRecord(series, nameOf)).filter(isChanged);
  const harnesses = new Map(entries.map((entry, at) => [entry, entries[at - 1]?.harness]));
  return {
    file,
    commits: new Set(entries.map(({ commit }) => commit)).size,
    lines: entries.length,
    from: entries[0]?.date,
    to: entries.at(-1)?.date,
    cells: counts.length,
    unchanged: counts.filter(isConstant).length,
    environments: [...environments.values()],
    events: trends.events.map((event) => eventRecord(event, { nameOf, before: harnesses.get(event.entry) })),
    times: timeRecords(trends.times, [...environments.keys()]),
    counts: changed,
    gone: trends.gone.map(nameOf),
  };
}

type NameCell = (cell: CountedCell) => string;

function placeOf({ commit, date, line }: HistoryEntry): CommitPlace {
  return { commit, date, line };
}

function eventRecord(
  { entry, counts, countsOfEnvironment, environment, added }: HistoryEvent,
  { nameOf, before }: { readonly nameOf: NameCell; readonly before: string | undefined },
): EventRecord {
  const all = [counts, countsOfEnvironment].filter((each) => each !== undefined);
  return {
    ...placeOf(entry),
    harness: before === undefined || before === entry.harness ? undefined : entry.harness,
    environment,
    changes: [
      ...changeRecords(counts, { nameOf, isOfEnvironment: false }),
      ...changeRecords(countsOfEnvironment, { nameOf, isOfEnvironment: true }),
    ],
    added: added.map(nameOf),
    otherWorkload: all.flatMap(({ workloadChanges }) => workloadChanges.map(({ cell }) => nameOf(cell))),
  };
}

function changeRecords(
  counts: CountsComparison | undefined,
  { nameOf, isOfEnvironment }: { readonly nameOf: NameCell; readonly isOfEnvironment: boolean },
): readonly ChangeRecord[] {
  if (counts === undefined) return [];
  return counts.groups.map((group) => ({
    kind: group.lead.kind,
    isOfEnvironment,
    sentence: sentenceOf(group, counts.compared, nameOf),
    details: group.also.map(changeText),
    cells: group.cells.map(({ cell, change: { ops, bytes } }) => {
      const [amounts, unit] = ops.before === ops.after ? [bytes, ' B'] : [ops, ''];
      return { name: nameOf(cell), text: `${beforeAfterText(amounts)}${unit}  ${differenceText(amounts)}` };
    }),
    firstRequest: group.first && firstRequestText(group.first),
  }));
}

/** As the gate has it. */
function sentenceOf({ lead, cells, first }: ChangeGroup, compared: number, nameOf: NameCell): string {
  const [cell] = cells;
  const request = first === undefined ? '' : `, request ${String(first.request)}`;
  const name = cell === undefined ? 'none' : nameOf(cell.cell);
  return `${changeText(lead)}, ${cellsText(cells.length, compared)}; first: ${name}${request}`;
}

function timeRecords(times: readonly TimeSeries[], environments: readonly string[]): readonly TimeRecord[] {
  const nameOf = namesAmong(times.map(({ cell }) => cell));
  const devices = new Set(times.map(({ cell }) => cell.device));
  const nameWithDevice = (cell: Cell): string =>
    devices.size > 1 ? `${nameOf(cell)} · ${cell.device}` : nameOf(cell);
  return times.map(({ cell, environment, points, changes }) => ({
    name: nameWithDevice(cell),
    environment: environments.indexOf(environmentKey(environment)),
    points: points.map(({ entry, medianNs }) => ({ ...placeOf(entry), medianNs })),
    changes: changes.flatMap(({ index, before, after, pValue }) => {
      const point = points[index];
      if (point === undefined) return [];
      return [{ ...placeOf(point.entry), index, beforeNs: before, afterNs: after, pValue }];
    }),
  }));
}

function countRecord({ cell, points }: CountSeries, nameOf: NameCell): CountRecord {
  return {
    name: nameOf(cell),
    points: points.map(({ entry, counts }) => ({ ...placeOf(entry), ...totalsOf(counts) })),
  };
}

/** Over all phases; elided syncs are no operations. */
function totalsOf({ counts }: CellCounts): { readonly syncs: number; readonly operations: number } {
  let [syncs, operations] = [0, 0];
  for (const [leaf, count] of Object.entries(counts)) {
    if (leaf.includes('.syncs.byCause.')) syncs += count;
    else if (leaf.endsWith('.ops')) operations += count;
  }
  return { syncs, operations };
}

function isChanged({ points }: CountRecord): boolean {
  const [first] = points;
  return points.some(({ syncs, operations }) => syncs !== first?.syncs || operations !== first.operations);
}

function isConstant({ points }: CountSeries): boolean {
  return new Set(points.map(({ counts }) => JSON.stringify(counts.counts))).size === 1;
}
