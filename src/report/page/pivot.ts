/**
 * Cells laid out in rows, columns and panels, each by an axis.
 *
 * Invariants:
 * - A slot has one cell: every other axis that varies is held at one value, which the page shows and
 *   lets the reader choose. Nothing is averaged.
 * - A cell whose format does not have an axis is in every row, column or panel of it, and is held at
 *   every value.
 */

import { NOT_APPLICABLE, type PageAxis } from '../page-format.ts';

/** The cells of a page by their axes. */
export interface PlacedCells {
  readonly axes: readonly PageAxis[];
  /** Of each axis, the positions of the cells among its values. */
  readonly places: readonly (readonly number[])[];
}

/** Names of axes; `''` for none. */
export interface Dimensions {
  readonly rows: string;
  readonly columns: string;
  readonly panels: string;
}

export interface HeldAxis {
  readonly axis: PageAxis;
  readonly choices: readonly string[];
  readonly value: string;
}

export interface PivotRow {
  readonly name: string;
  /** A cell for each column, if there is one. */
  readonly cells: readonly (number | undefined)[];
}

export interface PivotPanel {
  readonly name: string;
  readonly rows: readonly PivotRow[];
}

export interface Pivot {
  readonly columns: readonly string[];
  readonly panels: readonly PivotPanel[];
  readonly held: readonly HeldAxis[];
  /** All that are shown, each once. */
  readonly cells: readonly number[];
}

/**
 * @param among the cells to lay out.
 * @param hold values of axes, by name, that the reader has chosen.
 * @param preferred a cell whose values are held where nothing is chosen.
 */
export function pivotOf(
  placed: PlacedCells,
  among: readonly number[],
  dimensions: Dimensions,
  {
    hold,
    preferred,
  }: { readonly hold: Readonly<Record<string, string>>; readonly preferred: number | undefined },
): Pivot {
  const used = [dimensions.rows, dimensions.columns, dimensions.panels];
  const others = [...placed.axes.entries()].filter(
    ([, { name, isHidden }]) => !isHidden && !used.includes(name),
  );
  let left = among;
  const held: HeldAxis[] = [];
  for (const [index, axis] of others) {
    const places = placed.places[index] ?? [];
    const present = positionsOf(places, left);
    if (present.length < 2) continue;
    const choices = present.map((position) => axis.values[position] ?? '');
    const own = preferred === undefined ? undefined : axis.values[places[preferred] ?? NOT_APPLICABLE];
    const value =
      [hold[axis.name], own].find((each) => each !== undefined && choices.includes(each)) ?? choices[0] ?? '';
    held.push({ axis, choices, value });
    const position = axis.values.indexOf(value);
    left = left.filter((cell) => places[cell] === position || places[cell] === NOT_APPLICABLE);
  }
  const [rows, columns, panels] = used.map((name) => lineOf(placed, name, left));
  const cellAt = (...lines: readonly (Line | undefined)[]): number | undefined =>
    left.find((cell) => lines.every((line) => line === undefined || line.has(cell)));
  const shown = (panels ?? [ALL]).map((panel) => ({
    name: panel.name,
    rows: (rows ?? [ALL])
      .map((row) => ({
        name: row.name,
        cells: (columns ?? [ALL]).map((column) => cellAt(panel, row, column)),
      }))
      .filter(({ cells }) => cells.some((cell) => cell !== undefined)),
  }));
  return {
    columns: (columns ?? [ALL]).map(({ name }) => name),
    panels: shown.filter((panel) => panel.rows.length > 0),
    held,
    cells: [...new Set(shown.flatMap((panel) => panel.rows.flatMap((row) => row.cells)))].filter(
      (cell) => cell !== undefined,
    ),
  };
}

/** Rows, columns and panels to begin with: formats in each cache mode, as far as they vary. */
export function firstDimensions({ axes, places }: PlacedCells): Dimensions {
  const varying = axes.filter(
    ({ name, isHidden, values }, index) =>
      !isHidden && name !== 'workload' && values.length > 1 && new Set(places[index]).size > 1,
  );
  const names = ['variant', 'cache', ...varying.map(({ name }) => name)].filter((name) =>
    varying.some((axis) => axis.name === name),
  );
  const [rows = 'workload', panels = ''] = [...new Set(names)];
  return { rows, columns: '', panels };
}

/** A row, column or panel. */
interface Line {
  readonly name: string;
  readonly has: (cell: number) => boolean;
}

const ALL: Line = { name: '', has: () => true };

/** `undefined` where no axis is chosen. */
function lineOf(
  { axes, places }: PlacedCells,
  name: string,
  among: readonly number[],
): readonly Line[] | undefined {
  const index = axes.findIndex((axis) => axis.name === name);
  const [axis, own] = [axes[index], places[index]];
  if (axis === undefined || own === undefined) return undefined;
  const present = positionsOf(own, among);
  // Only cells that do not have it.
  if (present.length === 0) return [ALL];
  return present.map((position) => ({
    name: axis.values[position] ?? '',
    has: (cell) => own[cell] === position || own[cell] === NOT_APPLICABLE,
  }));
}

/** The positions that the cells have, in the order of the axis. */
function positionsOf(places: readonly number[], among: readonly number[]): readonly number[] {
  const present = new Set(among.map((cell) => places[cell] ?? NOT_APPLICABLE));
  present.delete(NOT_APPLICABLE);
  return [...present].toSorted((a, b) => a - b);
}
