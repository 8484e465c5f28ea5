/**
 * Rows that are alike but for one axis: what a sentence compares, and what it calls their place.
 *
 * Invariant: a row that has no value on an axis is at every place of it.
 */

import { axisValue, NO_VALUE } from './axes.ts';
import type { Figure } from './figures.ts';
import type { RuleOf } from './schema.ts';
import {
  figureIn,
  groupedBy,
  placeText,
  rowsWhere,
  valuesOn,
  type StudyRow,
  type StudyTable,
} from './table.ts';

export interface Scope {
  readonly table: StudyTable;
  readonly rows: readonly StudyRow[];
}

export interface Pair {
  readonly from: StudyRow;
  readonly to: StudyRow;
  readonly place: string;
}

/** Rows that differ in nothing but the axis, and in what one of the two does not have. */
export function pairsOf(
  { axis, from, to, per }: Pick<RuleOf<'change'>, 'axis' | 'from' | 'to' | 'per'>,
  { table, rows }: Scope,
): readonly Pair[] {
  const shared = placeAxes(axis, table);
  const named = shared.filter((each) => !per.includes(each) && valuesOn(rows, each).length > 1);
  const [ones, others] = [rowsWhere(rows, { [axis]: [from] }), rowsWhere(rows, { [axis]: [to] })];
  return ones.flatMap((one) =>
    others
      .filter((other) => isSamePlace(one, other, shared))
      .map((other) => ({ from: one, to: other, place: placeText(other, named) })),
  );
}

export function isSamePlace(one: StudyRow, other: StudyRow, axes: readonly string[]): boolean {
  return axes.every((axis) => {
    const values = [axisValue(one.cell, axis), axisValue(other.cell, axis)];
    return values[0] === values[1] || values.includes(NO_VALUE);
  });
}

/** Format, refcounts, and both in one, are three names of the same. */
function placeAxes(axis: string, { varying }: StudyTable): readonly string[] {
  const names = varying.filter((each) => each !== axis);
  switch (axis) {
    case 'variant':
      return names.filter((each) => each !== 'format' && each !== 'refcounts');
    case 'format':
    case 'refcounts':
      return varying.includes('variant')
        ? [...names.filter((each) => each !== 'variant'), axis === 'format' ? 'refcounts' : 'format']
        : names;
    default:
      return names;
  }
}

export interface Place {
  readonly name: string;
  /** One for each value, with the figure; in the order of the axis. */
  readonly cells: readonly { readonly row: StudyRow; readonly on: string; readonly value: number }[];
}

/** Rows by all but the axis; only places with several values. */
export function placesOf(
  { axis, per }: { readonly axis: string; readonly per: readonly string[] },
  figure: Figure,
  { table, rows }: Scope,
): readonly Place[] {
  const shared = placeAxes(axis, table);
  const named = shared.filter((each) => !per.includes(each) && valuesOn(rows, each).length > 1);
  return [...groupedBy(rows, shared).values()].flatMap((group): Place[] => {
    const [first] = group;
    const cells = group.flatMap((row) => {
      const value = figureIn(row, figure);
      return value === null ? [] : [{ row, on: axisValue(row.cell, axis), value }];
    });
    if (first === undefined || cells.length < 2) return [];
    return [{ name: placeText(first, named), cells }];
  });
}
