/**
 * Chart: where the time of a guest request goes: host operations for data, for metadata, syncs, and
 * the rest, which is engine and harness. Shows whether the harness hides the difference between
 * formats.
 */

import type { TimeSplit } from '../../result/schema.ts';
import { microsecondsText } from '../numbers.ts';
import { TIME_PART_COLOURS } from '../palette.ts';
import type { ReportCells } from '../report-cells.ts';
import type { Chart, LegendEntry, Selected } from './chart.ts';
import { stackedBarsChart, type StackedBars } from './stacked-bars.ts';

const NS_PER_US = 1000;

const PARTS: readonly (LegendEntry & { readonly ns: (split: TimeSplit) => number })[] = [
  {
    name: 'syncs',
    colour: TIME_PART_COLOURS.syncs,
    ns: ({ syncNs }) => syncNs,
  },
  {
    name: 'metadata',
    colour: TIME_PART_COLOURS.metadata,
    ns: ({ metadataNs }) => metadataNs,
  },
  {
    name: 'data',
    colour: TIME_PART_COLOURS.data,
    ns: ({ dataNs }) => dataNs,
  },
  {
    name: 'harness',
    colour: TIME_PART_COLOURS.harness,
    ns: ({ harnessNs }) => harnessNs,
  },
];

const BARS: StackedBars = {
  id: 'split',
  title: 'Where request time goes',
  subtitle: 'From a separate pass that times each operation, which adds overhead: it provides no samples.',
  description:
    'Stacked bars: time per guest request in syncs, metadata, data and harness, for each format, in each cache mode',
  part: 'part',
  legend: PARTS.map(({ name, colour }) => ({ name, colour })),
  axisTitle: 'microseconds per request',
  axisFormat: ',~r',
  text: timeText,
  exact: timeText,
  partsOf: ({ record: { timeSplit } }) =>
    timeSplit && new Map(PARTS.map(({ name, ns }) => [name, ns(timeSplit) / timeSplit.requests / NS_PER_US])),
};

export function timeSplitChart(report: ReportCells, selected: Selected): Chart {
  return stackedBarsChart(report, selected, BARS);
}

function timeText(us: number): string {
  return microsecondsText(us * NS_PER_US);
}
