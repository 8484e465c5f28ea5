/**
 * Stacked bars of what one guest write costs: a row a variant, a panel a cache mode, all on one
 * scale, the sum written at the end of each bar. The scale is linear: stacked parts mean nothing on
 * another.
 */

import type { TopLevelSpec } from 'vega-lite';

import type { ReportCell, ReportCells } from '../report-cells.ts';
import {
  CHART_CONFIG,
  panelledSpec,
  variantAxis,
  type Chart,
  type ChartRow,
  type LegendEntry,
  type Selected,
} from './chart.ts';

export interface StackedBars {
  readonly id: string;
  readonly title: string;
  readonly subtitle: string;
  readonly description: string;
  /** What the parts of a bar are, such as `cause`: a field of the rows. */
  readonly part: string;
  /** All parts that there can be, in the order in which they are stacked. */
  readonly legend: readonly LegendEntry[];
  readonly axisTitle: string;
  /** Format of the horizontal axis, as d3-format takes it. */
  readonly axisFormat: string;
  /** The sum at the end of a bar in words, and the value of a part. */
  readonly text: (value: number) => string;
  readonly exact: (value: number) => string;
  /** The parts of a cell's bar by their names in the legend; nothing for a cell that has no bar. */
  readonly partsOf: (cell: ReportCell) => ReadonlyMap<string, number> | undefined;
}

const SELECTIONS = ['workload', 'setup'] as const;
/** How far past the longest bar the scale goes. */
const REACH = 1.25;

/** The chart of `bars`; its legend holds the parts that some cell has. */
export function stackedBarsChart(report: ReportCells, selected: Selected, bars: StackedBars): Chart {
  const drawn = report.cells.flatMap((cell) => {
    const parts = bars.partsOf(cell);
    return parts === undefined ? [] : [{ cell, parts }];
  });
  const seen = new Set(drawn.flatMap(({ parts }) => [...parts.keys()]));
  const legend = bars.legend.filter(({ name }) => seen.has(name));
  const { id, title, subtitle } = bars;
  return {
    id,
    title,
    subtitle,
    spec: stackedBarsSpec(report, selected, { ...bars, legend }),
    rows: drawn.flatMap(({ cell, parts }) => barRows(cell, parts, { ...bars, legend })),
    selections: SELECTIONS,
  };
}

function stackedBarsSpec(report: ReportCells, selected: Selected, bars: StackedBars): TopLevelSpec {
  const { legend, part } = bars;
  const y = variantAxis(report);
  const x = {
    field: 'value',
    type: 'quantitative',
    title: bars.axisTitle,
    axis: { format: bars.axisFormat, tickCount: 5, domain: false, ticks: false },
  } as const;
  const colour = {
    field: part,
    type: 'nominal',
    scale: { domain: legend.map(({ name }) => name), range: legend.map(({ colour }) => colour) },
    legend: { title: null, orient: 'bottom', columns: 3, labelLimit: 200 },
  } as const;
  const spec = panelledSpec(report, selected, {
    dataset: bars.id,
    description: bars.description,
    selections: SELECTIONS,
    layer: [
      {
        mark: { type: 'bar', height: { band: 0.72 } },
        encoding: {
          y,
          x: { ...x, stack: 'zero' },
          color: colour,
          order: { field: 'order', type: 'quantitative' },
          tooltip: [
            { field: 'variant', title: 'format' },
            { field: 'cache', title: 'cache' },
            { field: part },
            { field: 'exact', title: bars.axisTitle },
            { field: 'label', title: 'sum of all parts' },
          ],
        },
      },
      {
        mark: { type: 'text', align: 'left', dx: 6 },
        encoding: {
          y,
          x: { field: 'total', aggregate: 'max', type: 'quantitative' },
          text: { field: 'label', type: 'nominal' },
        },
      },
      {
        // Nothing to see: makes the scale reach past the bars, so that their sums fit.
        mark: { type: 'point', opacity: 0, tooltip: null },
        encoding: { y, x: { field: 'reach', aggregate: 'max', type: 'quantitative' } },
      },
    ],
  });
  return {
    ...spec,
    title: {
      text: bars.title,
      subtitle: `Workload ${selected.workload}`,
      anchor: 'start',
      frame: 'group',
      offset: 16,
    },
    config: { ...CHART_CONFIG, background: '#ffffff', padding: 20 },
  };
}

/** The rows of one cell: a row a part, or one empty row so that a bar of nothing is still named. */
function barRows(cell: ReportCell, parts: ReadonlyMap<string, number>, bars: StackedBars): ChartRow[] {
  const names = bars.legend.map(({ name }) => name);
  const total = [...parts.values()].reduce((sum, value) => sum + value, 0);
  const place = { workload: cell.workload, setup: cell.setup, cache: cell.cache, variant: cell.variant };
  const shared = { total, reach: total * REACH, label: bars.text(total) };
  const entries = parts.size === 0 ? [[names[0] ?? '', 0] as const] : [...parts];
  return entries.map(([name, value]) => ({
    ...place,
    [bars.part]: name,
    value,
    exact: bars.exact(value),
    order: names.indexOf(name),
    ...shared,
  }));
}
