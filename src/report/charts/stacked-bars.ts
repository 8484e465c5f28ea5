/**
 * Stacked bars of what one guest write costs: a row a variant, a panel a cache mode, all on one scale, the sum
 * written at the end of each bar. The scale is linear: stacked parts mean nothing on another.
 */

import type { TopLevelSpec } from 'vega-lite';

import type { ReportCell, ReportCells } from '../report-cells.ts';
import {
  cachePanels,
  CHART_CONFIG,
  selectionFilter,
  selectionParams,
  variantAxis,
  type ChartRow,
  type LegendEntry,
  type Selected,
} from './chart.ts';

export interface StackedBarsOptions {
  readonly report: ReportCells;
  readonly selected: Selected;
  /** Name of the data set. */
  readonly dataset: string;
  /** What the parts of a bar are, e.g. `cause`. */
  readonly part: string;
  readonly legend: readonly LegendEntry[];
  readonly axisTitle: string;
  readonly description: string;
  /** Format of the horizontal axis, as d3-format takes it. */
  readonly axisFormat: string;
  /** Whether the picture holds its own legend and title; a page has them beside it. */
  readonly standalone?: { readonly title: string; readonly subtitle: string } | undefined;
}

export const BAR_SELECTIONS = ['workload', 'setup'] as const;
const PANEL_WIDTH = 560;
const BAR_STEP = 24;

export function stackedBarsSpec(options: StackedBarsOptions): TopLevelSpec {
  const { report, part, legend, standalone } = options;
  const y = variantAxis(report);
  const x = {
    field: 'value',
    type: 'quantitative',
    title: options.axisTitle,
    axis: { format: options.axisFormat, tickCount: 5, domain: false, ticks: false },
  } as const;
  const colour = {
    field: part,
    type: 'nominal',
    scale: { domain: legend.map(({ name }) => name), range: legend.map(({ colour }) => colour) },
    legend: standalone === undefined ? null : { title: null, orient: 'bottom', columns: 3, labelLimit: 200 },
  } as const;
  return {
    $schema: 'https://vega.github.io/schema/vega-lite/v6.json',
    description: options.description,
    ...(standalone === undefined ? {} : { title: titleOf(standalone) }),
    config: standalone === undefined ? CHART_CONFIG : { ...CHART_CONFIG, background: '#ffffff', padding: 20 },
    data: { name: options.dataset },
    params: selectionParams(BAR_SELECTIONS, options.selected),
    transform: [{ filter: selectionFilter(BAR_SELECTIONS) }],
    facet: cachePanels(report),
    spacing: 14,
    spec: {
      width: PANEL_WIDTH,
      height: { step: BAR_STEP },
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
              { field: 'exact', title: options.axisTitle },
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
    },
    resolve: { scale: { x: 'shared', y: 'shared' }, axis: { x: 'shared' } },
  };
}

/** How far past the longest bar the scale goes. */
const REACH = 1.25;

/** The rows of one cell: a row a part, or one empty row so that a bar of nothing is still named. */
export function barRows(
  cell: ReportCell,
  parts: ReadonlyMap<string, number>,
  options: {
    readonly part: string;
    readonly legend: readonly LegendEntry[];
    readonly text: (value: number) => string;
    readonly exact: (value: number) => string;
  },
): ChartRow[] {
  const names = options.legend.map(({ name }) => name);
  const total = [...parts.values()].reduce((sum, value) => sum + value, 0);
  const place = { workload: cell.workload, setup: cell.setup, cache: cell.cache, variant: cell.variant };
  const shared = { total, reach: total * REACH, label: options.text(total) };
  const entries = parts.size === 0 ? [[names[0] ?? '', 0] as const] : [...parts];
  return entries.map(([name, value]) => ({
    ...place,
    [options.part]: name,
    value,
    exact: options.exact(value),
    order: names.indexOf(name),
    ...shared,
  }));
}

function titleOf(text: { readonly title: string; readonly subtitle: string }) {
  return { text: text.title, subtitle: text.subtitle, anchor: 'start', frame: 'group', offset: 16 } as const;
}
