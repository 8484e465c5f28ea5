/**
 * A chart of rows that have names and a figure: bars or lines, with a colour and panels for two more
 * names. For studies, whose axes are any.
 *
 * Invariants: bars start at 0; a logarithmic scale has points in place of bars, as lengths mean
 * nothing there; names are in the order of the rows.
 */

import type { TopLevelSpec } from 'vega-lite';

import { renderChartSvg } from '../svg.ts';
import { VARIANT_COLOURS } from '../palette.ts';
import { CHART_CONFIG, type ChartRow } from './chart.ts';

export interface PlainRow {
  /** The bar, or the position on the horizontal axis of a line. */
  readonly name: string | number;
  readonly value: number;
  /** The value as it is written. */
  readonly text: string;
  readonly colour?: string;
  /** Of lines: what is drawn dashed from the second value on. */
  readonly dash?: string;
  readonly panel?: string;
}

export interface PlainChart {
  readonly title: string;
  readonly subtitle: string;
  readonly mark: 'bars' | 'line';
  readonly nameTitle: string;
  readonly valueTitle: string;
  readonly colourTitle: string;
  readonly scale: 'linear' | 'log';
  /** Ticks of values, as d3-format takes them. */
  readonly valueFormat: string;
  readonly rows: readonly PlainRow[];
}

/** Okabe and Ito, as the palette; in the order in which values come. */
const COLOURS = ['#2f78b7', '#d55e00', '#009e73', '#c2709f', '#d9b200', '#7d8794', '#6fb1e0', '#8f5d2c'];
const DASHES = [
  [1, 0],
  [6, 4],
  [2, 3],
] as const;
const WIDTH = 520;

/** SVG text, on white. */
export async function plainChartSvg(chart: PlainChart): Promise<string> {
  const rows = chart.rows.map((row): ChartRow => ({
    ...row,
    colour: row.colour ?? '',
    panel: row.panel ?? '',
  }));
  return renderChartSvg(plainSpec(chart), { rows });
}

function plainSpec(chart: PlainChart): TopLevelSpec {
  const { rows, title, subtitle } = chart;
  const panels = distinct(rows.map(({ panel = '' }) => panel));
  const body = chart.mark === 'bars' ? barBody(chart) : lineBody(chart);
  const shared = {
    $schema: 'https://vega.github.io/schema/vega-lite/v6.json',
    background: '#ffffff',
    padding: 12,
    config: CHART_CONFIG,
    title: { text: title, subtitle, anchor: 'start', offset: 10 },
    data: { name: 'rows' },
  } as const;
  if (panels.length < 2) return { ...shared, ...body } as TopLevelSpec;
  return {
    ...shared,
    facet: {
      row: {
        field: 'panel',
        type: 'nominal',
        sort: [...panels],
        header: { title: null, labelOrient: 'top', labelAnchor: 'start', labelAngle: 0 },
      },
    },
    spacing: 16,
    spec: body,
    // Runs of one study may differ much in length.
    resolve: isNumeric(rows) ? { scale: { x: 'independent' } } : {},
  } as TopLevelSpec;
}

function barBody(chart: PlainChart) {
  const { rows, nameTitle, scale } = chart;
  const names = distinct(rows.map(({ name }) => String(name)));
  const y = {
    field: 'name',
    type: 'nominal',
    sort: [...names],
    axis: { title: nameTitle, domain: false, ticks: false },
  };
  const offset = colours(rows).length < 2 ? {} : { yOffset: { field: 'colour', sort: [...colours(rows)] } };
  const x = valueAxis(chart);
  const isLog = scale === 'log';
  return {
    width: WIDTH,
    height: { step: colours(rows).length < 2 ? 24 : 18 },
    layer: [
      {
        mark: isLog ? { type: 'point', filled: true, size: 70 } : { type: 'bar' },
        encoding: { y, ...offset, x, color: colourOf(chart) },
      },
      {
        mark: { type: 'text', align: 'left', dx: isLog ? 9 : 5, fontSize: 11 },
        encoding: { y, ...offset, x, text: { field: 'text', type: 'nominal' } },
      },
      {
        // Nothing to see: the scale reaches past the bars, so that their figures fit.
        mark: { type: 'point', opacity: 0 },
        transform: [{ calculate: isLog ? 'datum.value * 2.5' : 'datum.value * 1.2', as: 'reach' }],
        encoding: { y, ...offset, x: { ...x, field: 'reach' } },
      },
    ],
  };
}

function lineBody(chart: PlainChart) {
  const { rows, nameTitle } = chart;
  const dashes = distinct(rows.map(({ dash = '' }) => dash));
  const names = distinct(rows.map(({ name }) => String(name)));
  const x = isNumeric(rows)
    ? { field: 'name', type: 'quantitative', axis: { title: nameTitle, domain: false } }
    : { field: 'name', type: 'ordinal', sort: [...names], axis: { title: nameTitle, labelAngle: 0 } };
  return {
    width: WIDTH,
    height: 240,
    mark: { type: 'line', point: !isNumeric(rows) },
    encoding: {
      x,
      y: valueAxis(chart),
      color: colourOf(chart),
      ...(dashes.length < 2
        ? {}
        : {
            strokeDash: {
              field: 'dash',
              type: 'nominal',
              sort: [...dashes],
              scale: { domain: [...dashes], range: dashes.map((_, index) => DASHES[index % DASHES.length]) },
              legend: { title: null, orient: 'bottom', symbolType: 'stroke', symbolStrokeColor: '#5b6575' },
            },
          }),
    },
  };
}

function valueAxis({ valueTitle, valueFormat, scale }: PlainChart) {
  return {
    field: 'value',
    type: 'quantitative',
    stack: null,
    scale: scale === 'log' ? { type: 'log', nice: true } : { zero: true },
    axis: { title: valueTitle, format: valueFormat, tickCount: 5, domain: false, ticks: false },
  };
}

function colourOf({ rows, colourTitle }: PlainChart) {
  const domain = colours(rows);
  const range = domain.map((name, index) => variantColourOf(name) ?? COLOURS[index % COLOURS.length]);
  const isOne = domain.length < 2;
  return {
    field: 'colour',
    type: 'nominal',
    scale: { domain: [...domain], range },
    legend: isOne ? null : { title: colourTitle, orient: 'bottom', columns: 4, labelLimit: 260 },
  };
}

/** Of a variant, or of the format or refcount mode that is a part of its name. */
function variantColourOf(name: string): string | undefined {
  const wanted = name.toLowerCase();
  return Object.entries(VARIANT_COLOURS).find(
    ([variant]) => variant.toLowerCase() === wanted || variant.split(' ').includes(name),
  )?.[1];
}

function isNumeric(rows: readonly PlainRow[]): boolean {
  return rows.every(({ name }) => typeof name === 'number');
}

function colours(rows: readonly PlainRow[]): readonly string[] {
  return distinct(rows.map(({ colour = '' }) => colour));
}

function distinct(texts: readonly string[]): readonly string[] {
  return [...new Set(texts)];
}
