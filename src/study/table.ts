/**
 * The cells of a study as rows: one for each counting cell, whatever devices it was timed on, and
 * for each file system that was made for it.
 *
 * Invariants: rows are in the order of the result; two rows differ in an axis, a skipped cell is no
 * row and has its reason in `skipped`.
 */

import { cellName, countingKey } from '../result/cell.ts';
import { compareRecords, comparisonGroup } from '../result/comparison.ts';
import type { Cell, CellRecord, ResultRecord } from '../result/schema.ts';
import { axisValue, NO_VALUE, varyingAxes } from './axes.ts';
import { figureOf, type CellFacts, type CrashFigures, type Figure } from './figures.ts';

export interface StudyRow extends CellFacts {
  readonly cell: Cell;
}

export interface StudyTable {
  readonly rows: readonly StudyRow[];
  /** Axes on which rows differ. */
  readonly varying: readonly string[];
  /** What was not run, and why. */
  readonly skipped: readonly { readonly cell: string; readonly reason: string }[];
  /** Devices that cells were timed on. */
  readonly devices: readonly string[];
  /** Cells that were timed twice in each round, by their group. */
  readonly controlled: ReadonlyMap<string, CellRecord>;
}

/** @param crashes by `countingKey`. */
export function studyTable(
  result: ResultRecord,
  crashes: ReadonlyMap<string, CrashFigures> = new Map(),
): StudyTable {
  const counted = result.cells.filter(({ counts }) => counts !== null);
  const places = Map.groupBy(counted, ({ cell }) => JSON.stringify([countingKey(cell), cell.hostFs]));
  const rows = [...places.values()].flatMap((records): StudyRow[] => {
    const [first] = records;
    if (first === undefined) return [];
    return [{ cell: first.cell, records, crash: crashes.get(countingKey(first.cell)) }];
  });
  const skipped = result.cells.flatMap(({ cell, skipped: reason }) =>
    reason === null ? [] : [{ cell: cellName(cell), reason }],
  );
  const timed = result.cells.filter(({ timings }) => timings.length > 0);
  return {
    rows,
    varying: varyingAxes(rows.map(({ cell }) => cell)),
    skipped: [...new Map(skipped.map((each) => [JSON.stringify(each), each])).values()],
    devices: [...new Set(timed.map(({ cell }) => cell.device))],
    controlled: new Map(
      timed
        .filter(({ control = [] }) => control.length > 0)
        .map((record) => [comparisonGroup(record.cell), record]),
    ),
  };
}

/** Values of each axis that rows are to have; any of several, and none that begins with `!`. */
export type Where = Readonly<Partial<Record<string, readonly string[]>>>;

export function rowsWhere(rows: readonly StudyRow[], where: Where): readonly StudyRow[] {
  const wanted = Object.entries(where);
  return rows.filter(({ cell }) =>
    wanted.every(([axis, values = []]) => isWanted(axisValue(cell, axis), values)),
  );
}

function isWanted(value: string, values: readonly string[]): boolean {
  if (values.includes(`!${value}`)) return false;
  const named = values.filter((each) => !each.startsWith('!'));
  return named.length === 0 || named.includes(value);
}

/** The distinct values of an axis, in the order of the rows. */
export function valuesOn(rows: readonly StudyRow[], axis: string): readonly string[] {
  return [...new Set(rows.map(({ cell }) => axisValue(cell, axis)))];
}

/** Rows by what they share: all axes of `names`, as one text each. */
export function groupedBy(
  rows: readonly StudyRow[],
  names: readonly string[],
): ReadonlyMap<string, readonly StudyRow[]> {
  return Map.groupBy(rows, ({ cell }) => JSON.stringify(names.map((axis) => axisValue(cell, axis))));
}

/** The values of a row on the axes, as a reader names them; the workload first. */
export function placeText({ cell }: StudyRow, axes: readonly string[]): string {
  return axes
    .map((axis) => valueText(axis, axisValue(cell, axis)))
    .filter((text) => text !== '')
    .join(', ');
}

/** A value as it is read outside a column that has the name of its axis. */
export function valueText(axis: string, value: string): string {
  if (value === NO_VALUE) return '';
  switch (axis) {
    case 'workload':
    case 'variant':
    case 'format':
    case 'payload':
      return value;
    case 'cache':
      return `cache=${value}`;
    case 'host-fs':
      return `on ${value}`;
    case 'refcounts':
      return `${value} refcounts`;
    case 'backing-depth':
      return value === '1' ? '1 layer' : `${value} layers`;
    default:
      return `${axis} ${value}`;
  }
}

export type Verdict = 'less' | 'more' | 'same' | 'unknown';

/** A figure of a row, by name; `null` if it was not taken. */
export function figureIn(row: StudyRow, figure: Figure): number | null {
  return figure.valueOf(row);
}

/**
 * Whether a figure of `row` is less or more than that of `other`. Exact figures that a reader cannot
 * distinguish are the same; of times the samples have to show it.
 */
export function compareRows(
  { controlled }: StudyTable,
  { row, other, figure }: { readonly row: StudyRow; readonly other: StudyRow; readonly figure: Figure },
): Verdict {
  const [own, its] = [figureIn(row, figure), figureIn(other, figure)];
  if (own === null || its === null) return 'unknown';
  if (figure.intervalOf !== undefined) return intervalVerdict(row, other, figure);
  if (figure.isSampled === true) return sampledVerdict(row, other, controlled);
  if (figure.text(own) === figure.text(its)) return 'same';
  return own < its ? 'less' : 'more';
}

function intervalVerdict(row: StudyRow, other: StudyRow, { intervalOf, text }: Figure): Verdict {
  const [own, its] = [intervalOf?.(row), intervalOf?.(other)];
  if (own === undefined || its === undefined) return 'unknown';
  if (text(own.estimate) === text(its.estimate)) return 'same';
  if (own.high < its.low) return 'less';
  return own.low > its.high ? 'more' : 'same';
}

function sampledVerdict(row: StudyRow, other: StudyRow, controlled: StudyTable['controlled']): Verdict {
  const onFile = ({ records }: StudyRow): CellRecord | undefined =>
    records.find(({ cell }) => cell.device === 'file');
  const [own, its] = [onFile(row), onFile(other)];
  if (own === undefined || its === undefined) return 'unknown';
  const comparison = compareRecords(own, its, controlled.get(comparisonGroup(its.cell)) ?? its);
  switch (comparison?.verdict) {
    case undefined:
      return 'unknown';
    case 'faster':
      return 'less';
    case 'slower':
      return 'more';
    case 'no difference shown':
      return 'same';
  }
}

/** @throws of an unknown name, which the schema of studies refuses. */
export function requiredFigure(name: string): Figure {
  const figure = figureOf(name);
  if (figure === undefined) throw new Error(`internal error: no figure '${name}'`);
  return figure;
}
