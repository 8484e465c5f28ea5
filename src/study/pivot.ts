/**
 * The table of a study: its rows by some axes, and a column for each figure, or for each value of an
 * axis.
 *
 * Invariant: every cell of the study is in the table; axes that vary and that the study does not name
 * become further columns of names.
 */

import { rangeText } from '../report/numbers.ts';
import { axisValue } from './axes.ts';
import type { Study } from './schema.ts';
import { figureIn, groupedBy, requiredFigure, valuesOn, type StudyRow, type StudyTable } from './table.ts';

export interface Pivot {
  /** What all columns of figures are, if they are one figure. */
  readonly caption: string | undefined;
  /** Titles: those of names first. */
  readonly head: readonly string[];
  /** How many of the columns are names; the others are figures. */
  readonly names: number;
  readonly lines: readonly PivotLine[];
}

export interface PivotLine {
  readonly names: readonly string[];
  readonly texts: readonly string[];
  /** Of the first figure's columns, for a picture of them. */
  readonly values: readonly (number | null)[];
}

/** Axes that say nothing beyond others. */
const IMPLIED: Readonly<Record<string, readonly string[]>> = {
  variant: ['format', 'refcounts'],
};

export function pivotOf({ table }: Pick<Study, 'table'>, study: StudyTable): Pivot {
  const { rows, columns, figures: names } = table;
  const figures = names
    .map(requiredFigure)
    .filter((figure) => study.rows.some((row) => figureIn(row, figure) !== null));
  const named = new Set([...rows, ...(columns === undefined ? [] : [columns])]);
  const implied = new Set([...named].flatMap((axis) => IMPLIED[axis] ?? []));
  const rest = study.varying.filter((axis) => !named.has(axis) && !implied.has(axis));
  const shown = [
    ...rows.filter((axis) => axis === rows[0] || valuesOn(study.rows, axis).length > 1),
    ...rest,
  ];
  const across = columns === undefined ? [''] : valuesOn(study.rows, columns);
  const cells = figures.flatMap((figure) => across.map((value) => ({ figure, value })));
  const isOne = figures.length === 1 && columns !== undefined;
  const caption = isOne ? `${capital(figures[0]?.title ?? '')}, by ${columns}` : undefined;
  return {
    caption,
    head: [
      ...shown,
      ...cells.map(({ figure, value }) =>
        [isOne ? '' : figure.short, value].filter((text) => text !== '').join(' '),
      ),
    ],
    names: shown.length,
    lines: [...groupedBy(study.rows, shown).values()].flatMap((group) => {
      const [first] = group;
      if (first === undefined) return [];
      const rowAt = (value: string): StudyRow | undefined =>
        columns === undefined ? first : group.find(({ cell }) => axisValue(cell, columns) === value);
      const found = cells.map(({ value }) => rowAt(value));
      const values = cells.map(({ figure }, index) => {
        const row = found[index];
        return row === undefined ? null : figureIn(row, figure);
      });
      return [
        {
          names: shown.map((axis) => axisValue(first.cell, axis)),
          texts: cells.map(({ figure }, index) => {
            const [row, value] = [found[index], values[index] ?? null];
            return row === undefined || value === null
              ? '–'
              : rangeText(value, figure.intervalOf?.(row), figure.text);
          }),
          values: values.slice(0, across.length),
        },
      ];
    }),
  };
}

function capital(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1);
}
