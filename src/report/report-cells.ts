/**
 * A result's cells as the report looks at them: workload × variant × cache mode, within a setup.
 *
 * Invariants:
 * - Within one setup no two cells share workload, variant and cache mode, so a chart has one mark
 *   for each.
 * - A setup names only what varies within the result; where nothing does, there is one setup, `''`.
 * - A cell is in every setup that differs from its own only in what its format does not have: raw,
 *   which has no clusters, is beside every cluster size.
 */

import { medianInterval, type Interval } from '../result/bootstrap.ts';
import { inFormat, SETUP_NAMES, setupTitle, variantName } from '../result/cell.ts';
import { comparisonsOf, type Comparison } from '../result/comparison.ts';
import { deriveFigures, type Figures } from '../result/derive.ts';
import type { CoordinateName } from '../result/coordinates.ts';
import type { Cell, CellRecord, ResultRecord } from '../result/schema.ts';
import { requestTimeNs, spreadOf, type Spread } from '../result/statistics.ts';
import { CACHE_MODES, modelName, type CacheMode, type Format } from '../result/vocabulary.ts';
import { VARIANT_COLOURS } from './palette.ts';

export interface ReportCell {
  readonly workload: string;
  readonly variant: string;
  readonly cache: CacheMode;
  readonly setup: string;
  readonly record: CellRecord;
  /** `undefined` if the cell was not counted. */
  readonly figures: Figures | undefined;
  /** Nanoseconds per guest request; `undefined` if the cell was not timed. */
  readonly requestTime: Spread | undefined;
  /** Of its median; `undefined` of few samples. */
  readonly interval: Interval | undefined;
  /**
   * With the reference of its group; `undefined` of the reference itself, and where there are few
   * samples.
   */
  readonly comparison: Comparison | undefined;
}

/** All that a report shows, and the order in which it shows it. */
export interface ReportCells {
  readonly cells: readonly ReportCell[];
  readonly workloads: readonly string[];
  readonly variants: readonly string[];
  readonly caches: readonly CacheMode[];
  /** The first is the one with the most cells: what summaries speak of. */
  readonly setups: readonly string[];
}

/** The coordinates within one setup. */
export interface CellPlace {
  readonly workload: string;
  readonly variant: string;
  readonly cache: CacheMode;
}

export function reportCells(result: Pick<ResultRecord, 'cells'>): ReportCells {
  const setups = setupsOf(result);
  const comparisons = new Map(comparisonsOf(result).map((comparison) => [comparison.record, comparison]));
  const unordered = result.cells.flatMap((record) => {
    const comparison = comparisons.get(record);
    const own = setups.filter((setup) => setup.has(record.cell));
    return own.map(({ title }) => reportCell(record, { setup: title, comparison }));
  });
  const cells = inOrder(unordered);
  const order = Object.keys(VARIANT_COLOURS);
  return {
    cells,
    workloads: distinct(cells.map(({ workload }) => workload)),
    variants: distinct(cells.map(({ variant }) => variant)).toSorted(
      (a, b) => order.indexOf(a) - order.indexOf(b),
    ),
    caches: CACHE_MODES.filter((mode) => cells.some(({ cache }) => cache === mode)),
    setups: byFrequency(cells.map(({ setup }) => setup)),
  };
}

/** The modelled devices that cells were timed on, in virtual time. */
export function modelsOf({ cells }: ReportCells): readonly string[] {
  const names = cells.map(({ record }) => modelName(record.cell.device));
  return distinct(names.filter((name) => name !== undefined));
}

/** The cell at a place, in the report's first setup unless another is named. */
export function cellAt(
  report: ReportCells,
  place: CellPlace,
  setup = report.setups[0],
): ReportCell | undefined {
  return report.cells.find(
    (cell) =>
      cell.workload === place.workload &&
      cell.variant === place.variant &&
      cell.cache === place.cache &&
      cell.setup === setup,
  );
}

function reportCell(
  record: CellRecord,
  { setup, comparison }: Pick<ReportCell, 'setup' | 'comparison'>,
): ReportCell {
  const { cell, counts, timings } = record;
  // A replay by the trace's times takes as long as the trace: that is no cost of the format.
  const times = cell.timing === undefined ? timings.map(requestTimeNs) : [];
  return {
    workload: cell.workload,
    variant: variantName(cell),
    cache: cell.cache,
    setup,
    record,
    figures: counts === null ? undefined : deriveFigures(counts),
    requestTime: spreadOf(times),
    interval: medianInterval(times),
    comparison,
  };
}

interface Setup {
  readonly title: string;
  /**
   * Whether the cell belongs to it: its format has what the setup says, as far as it can have it.
   */
  readonly has: (cell: Cell) => boolean;
}

/**
 * One for each combination of the coordinates in which cells differ that otherwise share a place.
 */
function setupsOf(result: Pick<ResultRecord, 'cells'>): readonly Setup[] {
  const names = varyingNames(result);
  const keyOf = (cell: Cell, format: Format): string =>
    JSON.stringify(names.map((name) => inFormat(name, cell[name], format)));
  const groups = Map.groupBy(result.cells, ({ cell }) => keyOf(cell, cell.format));
  const setups = [...groups.values()].flatMap((records) => {
    const [first] = records;
    if (first === undefined) return [];
    const has = (cell: Cell): boolean => keyOf(cell, cell.format) === keyOf(first.cell, cell.format);
    return [{ title: setupTitle(first.cell, names), own: records, has }];
  });
  // Where all cells are in other setups too, it is none: that of raw alone, for one, which is
  // beside each cluster size.
  const inOthers = ({ cell }: CellRecord): boolean => setups.filter(({ has }) => has(cell)).length > 1;
  return setups.filter(({ own }) => !own.every(inOthers));
}

/**
 * By workload, setup, cache mode and variant, each in the order in which the result first has them.
 */
function inOrder(cells: readonly ReportCell[]): readonly ReportCell[] {
  const ranks = (['workload', 'setup', 'cache', 'variant'] as const).map((part) => {
    const values = distinct(cells.map((cell) => cell[part]));
    return (cell: ReportCell): number => values.indexOf(cell[part]);
  });
  return cells.toSorted((a, b) => ranks.map((rank) => rank(a) - rank(b)).find((by) => by !== 0) ?? 0);
}

/** In the order of a title. */
function varyingNames(result: Pick<ResultRecord, 'cells'>): readonly CoordinateName[] {
  const places = Map.groupBy(result.cells, ({ cell }) =>
    JSON.stringify([cell.workload, cell.format, cell.refcounts, cell.cache]),
  );
  const groups = [...places.values()];
  return SETUP_NAMES.filter((name) =>
    groups.some((records) => distinct(records.map(({ cell }) => JSON.stringify(cell[name]))).length > 1),
  );
}

function distinct<T>(values: readonly T[]): T[] {
  return [...new Set(values)];
}

function byFrequency(values: readonly string[]): string[] {
  const counts = new Map<string, number>();
  for (const value of values) counts.set(value, (counts.get(value) ?? 0) + 1);
  return [...counts].toSorted(([, a], [, b]) => b - a).map(([value]) => value);
}
