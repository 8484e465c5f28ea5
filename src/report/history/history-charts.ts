/**
 * A history as pictures: times with their levels between changes, and counts of the cells that
 * changed. A panel per series, one below another, commits from left to right.
 *
 * Invariants: commits are at equal distances, in the order of the history; each panel has a scale
 * of its own that begins at 0, as lengths are compared within a panel only.
 */

import type { TopLevelSpec } from 'vega-lite';

import { withVisibleText } from '../../core/visible-text.ts';
import type { CommitPlace, HistoryRecord, TimeRecord } from '../../history/record.ts';
import { CHART_CONFIG, type ChartRow } from '../charts/chart.ts';
import { renderChartSvg } from '../svg.ts';
import type { HistoryChart } from './output-names.ts';
import { commitText } from './history-text.ts';

/** A picture with more is no picture. */
const PANELS_MAX = 24;
const WIDTH = 620;
const HEIGHT = 70;
const LINE_COLOUR = '#2f78b7';
const LEVEL_COLOUR = '#d55e00';
const MUTED_COLOUR = '#5b6575';

/** SVG text by name; one without series is left out. */
export async function historyCharts(history: HistoryRecord): Promise<ReadonlyMap<HistoryChart, string>> {
  const record = withVisibleText(history);
  const charts = new Map<HistoryChart, string>();
  const pictures = [
    [
      'history-times',
      'Time per request, in µs',
      'line: each commit; bar: level between changes',
      timeRows(record),
    ],
    [
      'history-counts',
      'Host operations and syncs of cells that changed',
      'exact counts of each commit',
      countRows(record),
    ],
  ] as const;
  for (const [name, title, subtitle, rows] of pictures) {
    if (rows.length > 0) charts.set(name, await renderChartSvg(spec(rows, title, subtitle), { rows }));
  }
  return charts;
}

/** A panel per cell, with all its environments: cells with changes first. */
function timeRows(record: HistoryRecord): readonly ChartRow[] {
  const panels = [...Map.groupBy(record.times, ({ name }) => name)];
  const changesOf = (series: readonly TimeRecord[]): number =>
    series.reduce((sum, { changes }) => sum + changes.length, 0);
  const shown = panels.toSorted(([, a], [, b]) => changesOf(b) - changesOf(a)).slice(0, PANELS_MAX);
  const orderOf = commitOrder(shown.flatMap(([, series]) => series.flatMap(({ points }) => points)));
  return shown.flatMap(([panel, series]) =>
    series.flatMap(({ environment, points, changes }) =>
      points.map((point, at): ChartRow => {
        const next = changes.find(({ index }) => index > at);
        const last = changes.findLast(({ index }) => index <= at);
        const level = next?.beforeNs ?? last?.afterNs;
        return {
          panel,
          environment,
          segment: `${String(environment)} ${String(last?.index ?? 0)}`,
          at: orderOf(point),
          value: point.medianNs / 1000,
          level: level === undefined ? null : level / 1000,
          change: last?.index === at ? commitText(point.commit) : null,
          begin: at === 0 && environment > 0 ? `environment ${String(environment + 1)}` : null,
        };
      }),
    ),
  );
}

/** Figures that changed. */
function countRows({ counts }: HistoryRecord): readonly ChartRow[] {
  const panels = counts.flatMap(({ name, points }) =>
    (['syncs', 'operations'] as const).flatMap((figure) => {
      const isSame = points.every((point) => point[figure] === points[0]?.[figure]);
      return isSame ? [] : [{ panel: `${name}: ${figure}`, points, figure }];
    }),
  );
  const shown = panels.slice(0, PANELS_MAX);
  const orderOf = commitOrder(shown.flatMap(({ points }) => points));
  return shown.flatMap(({ panel, points, figure }) =>
    points.map((point, at): ChartRow => {
      const before = points[at - 1]?.[figure];
      return {
        panel,
        environment: 0,
        segment: '',
        at: orderOf(point),
        value: point[figure],
        level: null,
        change: before === undefined || before === point[figure] ? null : commitText(point.commit),
        begin: null,
      };
    }),
  );
}

/** The position of a commit among all that are shown. */
function commitOrder(points: readonly CommitPlace[]): (point: CommitPlace) => number {
  const lines = [...new Map(points.map(({ line, date }) => [line, date]))];
  const sorted = lines.toSorted(([a, one], [b, other]) => Date.parse(one) - Date.parse(other) || a - b);
  const order = new Map(sorted.map(([line], at) => [line, at + 1]));
  return ({ line }) => order.get(line) ?? 0;
}

function spec(rows: readonly ChartRow[], title: string, subtitle: string): TopLevelSpec {
  const panels = [...new Set(rows.map(({ panel }) => panel))];
  const x = {
    field: 'at',
    type: 'quantitative',
    scale: { nice: false },
    axis: { title: 'commit, oldest first', format: 'd', tickMinStep: 1, grid: false },
  } as const;
  const axis = { title: null, tickCount: 3, domain: false, ticks: false } as const;
  const y = { type: 'quantitative', scale: { zero: true, nice: true }, axis } as const;
  return {
    $schema: 'https://vega.github.io/schema/vega-lite/v6.json',
    background: '#ffffff',
    padding: 16,
    config: CHART_CONFIG,
    title: { text: title, subtitle, anchor: 'start', offset: 12 },
    data: { name: 'rows' },
    facet: {
      row: {
        field: 'panel',
        type: 'nominal',
        sort: panels,
        header: { title: null, labelOrient: 'top', labelAnchor: 'start', labelAngle: 0 },
      },
    },
    spacing: 18,
    spec: {
      width: WIDTH,
      height: HEIGHT,
      layer: [
        {
          mark: {
            type: 'line',
            color: LINE_COLOUR,
            strokeWidth: 1.5,
            point: { color: LINE_COLOUR, size: 14 },
          },
          encoding: { x, y: { ...y, field: 'value' }, detail: { field: 'environment' } },
        },
        {
          transform: [{ filter: 'datum.level !== null' }],
          mark: { type: 'line', color: LEVEL_COLOUR, strokeWidth: 3, opacity: 0.7 },
          encoding: { x, y: { ...y, field: 'level' }, detail: { field: 'segment' } },
        },
        {
          transform: [{ filter: 'datum.change !== null' }],
          mark: { type: 'text', align: 'left', dx: 4, dy: -6, color: LEVEL_COLOUR, fontSize: 11 },
          encoding: { x, y: { ...y, field: 'value' }, text: { field: 'change', type: 'nominal' } },
        },
        {
          transform: [{ filter: 'datum.begin !== null' }],
          mark: { type: 'text', align: 'left', dy: 12, color: MUTED_COLOUR, fontSize: 11 },
          encoding: { x, y: { ...y, field: 'value' }, text: { field: 'begin', type: 'nominal' } },
        },
      ],
    },
    resolve: { scale: { y: 'independent', x: 'shared' }, axis: { x: 'shared' } },
  } as TopLevelSpec;
}
