/**
 * Chart: how much longer than the reference a request takes, with the interval of that ratio, over
 * the band in which the reference compared with itself is. A mark whose interval keeps clear of the
 * band and of 1 is a difference.
 */

import type { TopLevelSpec } from 'vega-lite';

import { factorText, percentText } from '../numbers.ts';
import type { ReportCells } from '../report-cells.ts';
import { panelledSpec, variantAxis, variantColour, type Chart, type Selected } from './chart.ts';

const SELECTIONS = ['workload', 'setup'] as const;
const BAND_COLOUR = '#9aa3af';
/** How far right of the widest interval, as a factor, the scale goes, so that the number fits. */
const REACH = 1.25;

export function timeRatiosChart(report: ReportCells, selected: Selected): Chart {
  const rows = report.cells.flatMap(({ workload, variant, cache, setup, comparison }) => {
    if (comparison === undefined) return [];
    const { ratio, control, rounds, cliffsDelta, detectable, verdict } = comparison;
    return [
      {
        workload,
        variant,
        cache,
        setup,
        ratio: ratio.estimate,
        low: ratio.low,
        high: ratio.high,
        controlLow: control?.low ?? 1,
        controlHigh: control?.high ?? 1,
        label: factorText(ratio.estimate),
        range: `${factorText(ratio.low)} to ${factorText(ratio.high)}`,
        control: control === undefined ? '–' : `${factorText(control.low)} to ${factorText(control.high)}`,
        detectable: detectable === undefined ? '–' : percentText(detectable),
        effect: cliffsDelta.toFixed(2),
        rounds,
        verdict,
      },
    ];
  });
  return {
    id: 'ratios',
    title: 'Time against qcow2 with eager refcounts',
    subtitle:
      'Median ratio over the rounds with its 95 % interval. The grey band is the reference timed twice (A/A): the ratios to expect without any difference.',
    spec: timeRatiosSpec(report, selected),
    rows,
    selections: SELECTIONS,
  };
}

function timeRatiosSpec(report: ReportCells, selected: Selected): TopLevelSpec {
  // The reference has no row: it is the line at 1.
  const compared = new Set(report.cells.flatMap(({ variant, comparison }) => (comparison ? [variant] : [])));
  const variants = report.variants.filter((variant) => compared.has(variant));
  const y = variantAxis({ ...report, variants });
  const scale = { type: 'log', nice: false, padding: 12 } as const;
  const axis = { format: '.2~f', tickCount: 6, domain: false, ticks: false } as const;
  const x = {
    type: 'quantitative',
    scale,
    axis,
    title: 'time ÷ that of the reference (logarithmic)',
  } as const;
  const color = variantColour(report);
  return panelledSpec(report, selected, {
    dataset: 'ratios',
    description: 'Time of each format relative to the reference with its interval, in each cache mode',
    selections: SELECTIONS,
    calculated: [{ calculate: `datum.high * ${String(REACH)}`, as: 'reach' }],
    layer: [
      {
        mark: { type: 'rect', color: BAND_COLOUR, opacity: 0.3, tooltip: null },
        encoding: {
          x: { ...x, aggregate: 'min', field: 'controlLow' },
          x2: { aggregate: 'max', field: 'controlHigh' },
        },
      },
      {
        mark: { type: 'rule', color: BAND_COLOUR, strokeDash: [3, 3], tooltip: null },
        encoding: { x: { ...x, datum: 1 } },
      },
      {
        mark: { type: 'rule', strokeWidth: 2.5, tooltip: null },
        encoding: { y, color, x: { ...x, field: 'low' }, x2: { field: 'high' } },
      },
      {
        mark: { type: 'point', filled: true, size: 70, opacity: 1 },
        encoding: {
          y,
          color,
          x: { ...x, field: 'ratio' },
          tooltip: [
            { field: 'variant', title: 'format' },
            { field: 'cache' },
            { field: 'label', title: 'ratio' },
            { field: 'range', title: '95 % interval' },
            { field: 'control', title: 'A/A control' },
            { field: 'detectable', title: 'smallest detectable' },
            { field: 'rounds' },
            { field: 'verdict' },
          ],
        },
      },
      {
        mark: { type: 'text', align: 'left', dx: 8, tooltip: null },
        encoding: { y, x: { ...x, field: 'high' }, text: { field: 'label', type: 'nominal' } },
      },
      {
        mark: { type: 'point', opacity: 0, tooltip: null },
        encoding: { y, x: { ...x, field: 'reach' } },
      },
    ],
  });
}
