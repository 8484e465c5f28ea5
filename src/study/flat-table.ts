/**
 * The cells of a study one by one, each with its place and every figure of the study: for CSV and
 * JSON.
 *
 * Invariant: figures are in their plain units (bytes, nanoseconds, shares); what was not taken is
 * `null`, and empty in CSV.
 */

import { stringify } from 'csv-stringify/sync';

import { modelName } from '../result/vocabulary.ts';
import { axisValue } from './axes.ts';
import type { Study } from './schema.ts';
import { figureIn, requiredFigure, type StudyRow, type StudyTable } from './table.ts';

/** The first column, by which a CSV file is recognised. */
export const STUDY_COLUMN = 'study';

/** A line for each cell, after a line of titles. */
export function studyCsv(study: Study, table: StudyTable): string {
  const [axes, figures] = [axesOf(table), figuresOf(study, table)];
  const lines = table.rows.map((row) => [
    study.name,
    ...axes.map((axis) => axisValue(row.cell, axis)),
    ...figures.map((name) => figureIn(row, requiredFigure(name))),
  ]);
  // A workload's name may begin with '=': a spreadsheet must not take it for a formula.
  return stringify([[STUDY_COLUMN, ...axes, ...figures], ...lines], { escape_formulas: true });
}

export interface FlatCell {
  readonly axes: Readonly<Record<string, string>>;
  readonly figures: Readonly<Record<string, number | null>>;
}

export function studyCells(study: Study, table: StudyTable): readonly FlatCell[] {
  const [axes, figures] = [axesOf(table), figuresOf(study, table)];
  return table.rows.map((row: StudyRow) => ({
    axes: Object.fromEntries(axes.map((axis) => [axis, axisValue(row.cell, axis)])),
    figures: Object.fromEntries(figures.map((name) => [name, figureIn(row, requiredFigure(name))])),
  }));
}

function axesOf({ varying }: StudyTable): readonly string[] {
  return ['workload', ...varying.filter((axis) => axis !== 'workload')];
}

function figuresOf({ table, answer }: Study, { devices }: StudyTable): readonly string[] {
  const timed = devices.map((device) => {
    const model = modelName(device);
    return model === undefined ? 'time' : `time:${model}`;
  });
  const named = answer.flatMap((rule) => ('figure' in rule ? [rule.figure] : []));
  return [...new Set([...table.figures, ...named, ...timed])];
}
