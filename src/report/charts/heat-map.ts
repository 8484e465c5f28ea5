/**
 * Charts: the matrix, workload × variant in one cache mode, with the figure in each cell. Shade
 * follows the square root of the value, so that small figures still differ; numbers, not shades,
 * carry the exact message.
 */

import type { TopLevelSpec } from 'vega-lite';

import type { Figures } from '../../result/derive.ts';
import { factorText, rateText } from '../numbers.ts';
import { HEAT_COLOUR } from '../palette.ts';
import type { ReportCells } from '../report-cells.ts';
import { CHART_CONFIG, selectionFilter, selectionParams, type Chart, type Selected } from './chart.ts';

const SELECTIONS = ['cache', 'setup'] as const;
const ROW_HEIGHT = 30;
const LABEL_LINE = 14;
/** Thickest ink: dark text on a light page and light text on a dark one stay readable over it. */
const INK_MAX = 0.58;

interface HeatMap {
  readonly id: string;
  readonly title: string;
  readonly subtitle: string;
  readonly valueOf: (figures: Figures) => number | null;
  readonly text: (value: number) => string;
}

export function syncsMatrixChart(report: ReportCells, selected: Selected): Chart {
  return heatMapChart(report, selected, {
    id: 'matrix-syncs',
    title: 'Syncs per guest write',
    subtitle: 'Every workload and format.',
    valueOf: (figures) => figures.syncsPerWrite,
    text: rateText,
  });
}

export function amplificationMatrixChart(report: ReportCells, selected: Selected): Chart {
  return heatMapChart(report, selected, {
    id: 'matrix-amplification',
    title: 'Write amplification',
    subtitle: 'Bytes written ÷ guest bytes, without zero-ranges.',
    valueOf: (figures) => figures.writeAmplification,
    text: factorText,
  });
}

function heatMapChart(report: ReportCells, selected: Selected, map: HeatMap): Chart {
  const rows = report.cells.flatMap(({ workload, variant, cache, setup, figures }) => {
    const value = figures === undefined ? null : map.valueOf(figures);
    return value === null ? [] : [{ workload, variant, cache, setup, value, label: map.text(value) }];
  });
  return {
    id: map.id,
    title: map.title,
    subtitle: map.subtitle,
    spec: heatMapSpec(report, selected, map),
    rows,
    selections: SELECTIONS,
  };
}

function heatMapSpec(report: ReportCells, selected: Selected, map: HeatMap): TopLevelSpec {
  const x = {
    field: 'variant',
    type: 'nominal' as const,
    scale: { domain: [...report.variants], paddingInner: 0.03 },
    axis: {
      title: null,
      orient: 'top' as const,
      domain: false,
      ticks: false,
      labelAngle: 0,
      labelExpr: "split(datum.label, ' ')",
      // Lines after the first go down from it, so the first is lifted by one.
      labelLineHeight: LABEL_LINE,
      labelPadding: LABEL_LINE + 8,
    },
  };
  const y = {
    field: 'workload',
    type: 'nominal' as const,
    scale: { domain: [...report.workloads], paddingInner: 0.07 },
    axis: { title: null, domain: false, ticks: false, labelLimit: 170 },
  };
  return {
    $schema: 'https://vega.github.io/schema/vega-lite/v6.json',
    description: `Heat map: ${map.title}, workload by format, in one cache mode`,
    config: CHART_CONFIG,
    data: { name: map.id },
    params: selectionParams(SELECTIONS, selected),
    transform: [{ filter: selectionFilter(SELECTIONS) }],
    width: 'container',
    height: report.workloads.length * ROW_HEIGHT,
    autosize: { type: 'fit-x', contains: 'padding' },
    encoding: { x, y },
    layer: [
      {
        mark: { type: 'rect', color: HEAT_COLOUR, cornerRadius: 3 },
        encoding: {
          opacity: {
            field: 'value',
            type: 'quantitative',
            scale: { type: 'sqrt', domainMin: 0, range: [0.04, INK_MAX] },
            legend: null,
          },
          tooltip: [
            { field: 'workload' },
            { field: 'variant', title: 'format' },
            { field: 'cache' },
            { field: 'value', title: map.title, format: ',.6~r' },
          ],
        },
      },
      { mark: { type: 'text', tooltip: null }, encoding: { text: { field: 'label', type: 'nominal' } } },
    ],
  };
}
