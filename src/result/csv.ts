/**
 * Results as CSV: one row a cell, one column a leaf of the schema, in its order, named by its path
 * (`counts.run.syncs.byCause.writethrough`).
 *
 * Invariants: the columns are the same for every result. Timing samples are summed up as n, min,
 * median and max. A purpose or cause that never came is 0; what was not counted or not timed is
 * empty.
 */

import { stringify } from 'csv-stringify/sync';

import { leafValue, schemaLeaves, type LeafPath } from './leaves.ts';
import { cellRecordSchema, type CellRecord, type ResultRecord, type Timing } from './schema.ts';
import { requestTimeNs, spreadOf, type Spread } from './statistics.ts';

type Value = string | number | null;

interface Column {
  readonly header: string;
  readonly valueOf: (record: CellRecord) => Value;
}

/** The CSV text of a result: header line, then a line a cell, ended by line feeds. */
export function resultCsv(result: ResultRecord): string {
  const rows = result.cells.map((record) => COLUMNS.map((column) => column.valueOf(record)));
  // A workload's name may begin with '=': a spreadsheet must not take it for a formula.
  return stringify([csvHeader(), ...rows], { escape_formulas: true });
}

/** The names of the columns. */
export function csvHeader(): string[] {
  return COLUMNS.map((column) => column.header);
}

const SPREAD_FIELDS = ['n', 'min', 'median', 'max'] as const;

const TIMED_QUANTITIES: readonly (readonly [string, (timing: Timing) => number | undefined])[] = [
  ['nsPerRequest', requestTimeNs],
  ['elapsedNs', (timing) => timing.elapsedNs],
  ['openNs', (timing) => timing.openNs],
  ['closeNs', (timing) => timing.closeNs],
  ['userNs', (timing) => timing.userNs],
  ['systemNs', (timing) => timing.systemNs],
  ['preemptions', (timing) => timing.preemptions],
  ['below.flushes', ({ below }) => below?.flushes],
  ['below.writes', ({ below }) => below?.writes],
  ['below.writeBytes', ({ below }) => below?.writeBytes],
  ['below.fragmentsAfter', ({ below }) => below?.fragmentsAfter],
];

const COLUMNS: readonly Column[] = schemaLeaves(cellRecordSchema).flatMap((path) => columnsOf(path));

function columnsOf(path: LeafPath): readonly Column[] {
  const header = path.join('.');
  if (header === 'timings') return timingColumns();
  if (header === 'control') return controlColumns();
  // A curve: it has no place in a row.
  if (header === 'growth') return [];
  const counted = path[0] === 'counts';
  const valueOf = (record: CellRecord): Value => {
    if (counted && record.counts === null) return null;
    return textOf(leafValue(record, path) ?? (counted ? 0 : null));
  };
  return [{ header, valueOf }];
}

function timingColumns(): readonly Column[] {
  return TIMED_QUANTITIES.flatMap(([quantity, pick]) =>
    SPREAD_FIELDS.map((field) => ({
      header: `timings.${quantity}.${field}`,
      valueOf: (record: CellRecord): Value => spread(record, pick)?.[field] ?? null,
    })),
  );
}

/** Of the control only what it is compared by. */
function controlColumns(): readonly Column[] {
  return SPREAD_FIELDS.map((field) => ({
    header: `control.nsPerRequest.${field}`,
    valueOf: ({ control = [] }): Value => spreadOf(control.map(requestTimeNs))?.[field] ?? null,
  }));
}

function spread(record: CellRecord, pick: (timing: Timing) => number | undefined): Spread | undefined {
  return spreadOf(record.timings.map(pick).filter((value) => value !== undefined));
}

function textOf(value: unknown): Value {
  if (value === null || typeof value === 'number' || typeof value === 'string') return value;
  return Array.isArray(value) ? value.join('; ') : JSON.stringify(value);
}
