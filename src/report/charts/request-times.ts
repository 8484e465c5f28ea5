/**
 * Chart: time per guest request with its spread: every sample as a point, the quartiles as a bar,
 * the median as a line and a number. The scale is logarithmic, for a sync costs a hundred times
 * what a buffered write does.
 */

import type { TopLevelSpec } from 'vega-lite';

import { requestTimeNs } from '../../result/statistics.ts';
import { modelName } from '../../result/vocabulary.ts';
import { microsecondsText } from '../numbers.ts';
import { modelsOf, type ReportCells } from '../report-cells.ts';
import { panelledSpec, variantAxis, variantColour, type Chart, type Selected } from './chart.ts';

const SELECTIONS = ['workload', 'setup'] as const;
const NS_PER_US = 1000;
/** Grid lines at powers of ten are plain, those between are faint. */
const POWER_OF_TEN = 'abs(log(datum.value) / LN10 - round(log(datum.value) / LN10)) < 0.001';
/**
 * How far right of the largest sample, as a factor, the scale goes, so that the median's number
 * fits.
 */
const REACH = 2.2;

export function requestTimesChart(report: ReportCells, selected: Selected): Chart {
  const rows = report.cells.flatMap(({ workload, variant, cache, setup, record, requestTime: spread }) => {
    if (spread === undefined) return [];
    const quartiles = {
      median: spread.median / NS_PER_US,
      q1: spread.q1 / NS_PER_US,
      q3: spread.q3 / NS_PER_US,
    };
    const place = { workload, variant, cache, setup };
    const texts = {
      label: microsecondsText(spread.median),
      range: `${microsecondsText(spread.q1)} to ${microsecondsText(spread.q3)}`,
      max: spread.max / NS_PER_US,
      n: spread.n,
    };
    return record.timings.map((timing) => ({
      ...place,
      round: timing.round,
      value: requestTimeNs(timing) / NS_PER_US,
      ...quartiles,
      ...texts,
    }));
  });
  return {
    id: 'times',
    title: 'Time per guest request',
    subtitle: `${originText(report)}; points are samples, bars span the first to third quartile, lines are medians.`,
    spec: requestTimesSpec(report, selected),
    rows,
    selections: SELECTIONS,
  };
}

/** Where the times come from: they are not all of this machine. */
function originText(report: ReportCells): string {
  const models = modelsOf(report).join(', ');
  if (models === '') return 'Samples on this machine and file system';
  const isAllModelled = report.cells.every(
    ({ record, requestTime }) => requestTime === undefined || modelName(record.cell.device) !== undefined,
  );
  return isAllModelled
    ? `Virtual times on modelled devices (${models}), not of this machine`
    : `Samples on this machine and file system; virtual time for modelled devices (${models})`;
}

function requestTimesSpec(report: ReportCells, selected: Selected): TopLevelSpec {
  const y = variantAxis(report);
  const scale = { type: 'log', nice: false, padding: 12 } as const;
  const axis = {
    format: ',~r',
    tickCount: 6,
    domain: false,
    ticks: false,
    gridOpacity: { condition: { test: POWER_OF_TEN, value: 1 }, value: 0.3 },
  } as const;
  const x = { type: 'quantitative', scale, axis, title: 'microseconds per request (logarithmic)' } as const;
  const color = variantColour(report);
  return panelledSpec(report, selected, {
    dataset: 'times',
    description:
      'Points, quartile bars and medians: time per guest request for each format, in each cache mode',
    selections: SELECTIONS,
    calculated: [{ calculate: `datum.max * ${String(REACH)}`, as: 'reach' }],
    layer: [
      {
        mark: { type: 'bar', height: { band: 0.62 }, opacity: 0.28, tooltip: null },
        encoding: {
          y,
          color,
          x: { ...x, aggregate: 'min', field: 'q1' },
          x2: { aggregate: 'max', field: 'q3' },
        },
      },
      {
        mark: { type: 'point', filled: true, size: 22, opacity: 0.55 },
        encoding: {
          y,
          color,
          x: { ...x, field: 'value' },
          tooltip: [
            { field: 'variant', title: 'format' },
            { field: 'cache' },
            { field: 'round' },
            { field: 'value', title: 'µs per request', format: ',.2f' },
            { field: 'label', title: 'median' },
            { field: 'range', title: 'quartiles' },
          ],
        },
      },
      {
        mark: { type: 'tick', thickness: 2.5, height: { band: 0.62 }, tooltip: null },
        encoding: { y, color, x: { ...x, aggregate: 'min', field: 'median' } },
      },
      {
        mark: { type: 'text', align: 'left', dx: 10, tooltip: null },
        encoding: {
          y,
          x: { ...x, aggregate: 'max', field: 'max' },
          text: { field: 'label', type: 'nominal' },
        },
      },
      {
        mark: { type: 'point', opacity: 0, tooltip: null },
        encoding: { y, x: { ...x, aggregate: 'max', field: 'reach' } },
      },
    ],
  });
}
