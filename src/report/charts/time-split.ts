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
import { stackedBarsChart, type StackedBars, type StackedBarsOptions } from './stacked-bars.ts';

const NS_PER_US = 1000;

const PARTS: readonly (LegendEntry & { readonly ns: (split: TimeSplit) => number })[] = [
  {
    name: 'syncs',
    colour: TIME_PART_COLOURS.syncs,
    meaning: 'waiting for the device',
    ns: ({ syncNs }) => syncNs,
  },
  {
    name: 'metadata',
    colour: TIME_PART_COLOURS.metadata,
    meaning: 'reading and writing tables',
    ns: ({ metadataNs }) => metadataNs,
  },
  {
    name: 'data',
    colour: TIME_PART_COLOURS.data,
    meaning: 'guest data and its fill',
    ns: ({ dataNs }) => dataNs,
  },
  {
    name: 'harness',
    colour: TIME_PART_COLOURS.harness,
    meaning: 'the engine and the harness',
    ns: ({ harnessNs }) => harnessNs,
  },
];

const BARS: StackedBars = {
  id: 'split',
  title: 'Where request time goes',
  subtitle: 'From a separate pass that times each operation, which adds overhead: it provides no samples.',
  description:
    'Stacked bars: time per guest request in syncs, metadata, data and harness, for each format, in each cache mode',
  part: { field: 'part', title: 'Spent in' },
  legend: PARTS.map(({ name, colour, meaning }) => ({ name, colour, meaning })),
  axisTitle: 'microseconds per request',
  axisFormat: ',~r',
  valueTitle: 'Time per request',
  text: timeText,
  exact: timeText,
  partsOf: ({ record: { timeSplit } }) =>
    timeSplit && new Map(PARTS.map(({ name, ns }) => [name, ns(timeSplit) / timeSplit.requests / NS_PER_US])),
};

export function timeSplitChart(
  report: ReportCells,
  selected: Selected,
  options: StackedBarsOptions = {},
): Chart {
  return stackedBarsChart(report, selected, BARS, options);
}

function timeText(us: number): string {
  return microsecondsText(us * NS_PER_US);
}
