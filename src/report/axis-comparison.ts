/**
 * What one axis of a result does to the cost of a guest write: cells that differ in its value
 * alone, compared in a sentence.
 *
 * Invariants: only counted cells are compared, and only where all other coordinates agree; figures
 * that a reader cannot distinguish are one.
 */

import { CACHE_AXIS, FORMAT_AXIS, varyingAxes, type Axis } from '../result/axes.ts';
import { bytesText, rateText } from './numbers.ts';
import type { ReportCell, ReportCells } from './report-cells.ts';

export interface AxisComparison {
  readonly axis: Axis;
  /** One for each value, in the order of the result. */
  readonly cells: readonly ComparedCell[];
  /** What the cells share: workload, format, cache mode, and the other axes that vary. */
  readonly place: string;
}

export interface ComparedCell {
  readonly cell: ReportCell;
  /** The value on the axis, in words. */
  readonly value: string;
  /** Per guest write. */
  readonly syncs: number;
  readonly bytes: number;
}

/** A sentence with more values names the cheapest and the dearest. */
const VALUES_MAX = 6;

/**
 * One comparison for each axis that varies in the counted cells, where some cells differ in it
 * alone.
 */
export function axisComparisons(report: ReportCells): readonly AxisComparison[] {
  const cells = countedCells(report);
  const axes = varyingAxes(cells.map(({ cell }) => cell.record.cell));
  return axes.flatMap((axis) => {
    const shared = [...new Set([FORMAT_AXIS, CACHE_AXIS, ...axes])].filter((other) => other !== axis);
    // A format without clusters is compared within every setup, as the report lists it.
    const placeOf = ({ workload, setup, record: { cell } }: ReportCell): readonly string[] =>
      axis === FORMAT_AXIS
        ? [workload, CACHE_AXIS.textOf(cell), setup]
        : [workload, ...shared.map(({ textOf }) => textOf(cell))];
    const among = axis === FORMAT_AXIS ? cells : eachOnce(cells);
    const groups = Map.groupBy(among, ({ cell }) =>
      placeOf(cell)
        .filter((text) => text !== '')
        .join(', '),
    );
    const comparisons = [...groups].map(([place, group]): AxisComparison => {
      // Cells that differ in where they were timed have the same counts.
      const values = Map.groupBy(group, ({ cell }) => axis.textOf(cell.record.cell));
      const compared = [...values].flatMap(([value, [first]]) =>
        first === undefined ? [] : [{ ...first, value }],
      );
      return { axis, cells: compared, place };
    });
    const best = comparisons.filter((each) => each.cells.length > 1).toSorted(byWeight)[0];
    return best === undefined ? [] : [best];
  });
}

/** What a guest write costs with each value, without the place: for a list of points. */
export function costText({ cells }: AxisComparison): string {
  const texts = cells.map(({ syncs, bytes }) => ({ syncs: rateText(syncs), bytes: bytesText(bytes) }));
  const [first] = texts;
  const hasSameSyncs = texts.every(({ syncs }) => syncs === first?.syncs);
  const hasSameBytes = texts.every(({ bytes }) => bytes === first?.bytes);
  const valueOf = (index: number): string => cells[index]?.value ?? '';
  if (first === undefined) return '';
  if (hasSameSyncs && hasSameBytes) {
    const values = listed(cells.map(({ value }) => value));
    return `${first.syncs} syncs and ${first.bytes} bytes with each of ${values}`;
  }
  const shown = cells.length <= VALUES_MAX ? [...cells.keys()] : extremes(cells);
  const parts = shown.map((index) => {
    const { syncs = '', bytes = '' } = texts[index] ?? {};
    const figures = hasSameSyncs
      ? `${bytes} bytes`
      : hasSameBytes
        ? `${syncs} syncs`
        : `${syncs} syncs and ${bytes} bytes`;
    return `${figures} with ${valueOf(index)}`;
  });
  const range = shown.length < cells.length ? ` (the extremes of ${String(cells.length)} values)` : '';
  const same = hasSameSyncs
    ? `; ${first.syncs} syncs with each`
    : hasSameBytes
      ? `; ${first.bytes} bytes with each`
      : '';
  return `${listed(parts)}${range}${same}`;
}

/** Counted cells by what a guest write costs, the dearest first. */
export function byCost(report: ReportCells): readonly ComparedCell[] {
  return eachOnce(countedCells(report))
    .map((each) => ({ ...each, value: each.cell.variant }))
    .toSorted((a, b) => b.syncs - a.syncs || b.bytes - a.bytes);
}

type CountedCell = Omit<ComparedCell, 'value'>;

/** What a peer did is in its verdicts. */
function countedCells(report: ReportCells): readonly CountedCell[] {
  const all = report.cells.flatMap((cell): readonly CountedCell[] => {
    const { syncsPerWrite: syncs, bytesPerWrite: bytes } = cell.figures ?? {};
    if (syncs === undefined || syncs === null || bytes === undefined || bytes === null) return [];
    return [{ cell, syncs, bytes }];
  });
  const own = all.filter(({ cell }) => cell.record.cell.engine === 'builtin');
  return own.length > 0 ? own : all;
}

/** A cell without clusters is in several setups, and is one. */
function eachOnce(cells: readonly CountedCell[]): readonly CountedCell[] {
  return [...new Map(cells.map((each) => [each.cell.record, each])).values()];
}

/** The comparison that shows most: all values, without a backing file, the largest difference. */
function byWeight(a: AxisComparison, b: AxisComparison): number {
  const weigh = ({ cells }: AxisComparison): readonly number[] => [
    cells.length,
    cells.every(({ cell }) => cell.record.cell.backing === undefined) ? 1 : 0,
    Math.round(spread(cells.map(({ syncs }) => syncs)) * 100),
    spread(cells.map(({ bytes }) => bytes)),
  ];
  const [left, right] = [weigh(a), weigh(b)];
  return left.map((weight, index) => (right[index] ?? 0) - weight).find((by) => by !== 0) ?? 0;
}

function spread(values: readonly number[]): number {
  return Math.max(...values) - Math.min(...values);
}

/** The indices of the cheapest and the dearest, by syncs and then by bytes. */
function extremes(cells: readonly ComparedCell[]): readonly number[] {
  const order = [...cells.keys()].toSorted((a, b) => {
    const [x, y] = [cells[a], cells[b]];
    return x === undefined || y === undefined ? 0 : x.syncs - y.syncs || x.bytes - y.bytes;
  });
  return [order[0] ?? 0, order.at(-1) ?? 0];
}

/** `a`, `a and b`, `a, b and c`. */
function listed(texts: readonly string[]): string {
  const last = texts.at(-1) ?? '';
  return texts.length < 2 ? last : `${texts.slice(0, -1).join(', ')} and ${last}`;
}
