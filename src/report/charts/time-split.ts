/**
 * Chart: where the time of a guest request goes: host operations for data, for metadata, syncs, and the rest,
 * which is engine and harness. Shows whether the harness hides the difference between formats.
 */

import type { TimeSplit } from '../../result/schema.ts';
import { microsecondsText } from '../numbers.ts';
import { TIME_PART_COLOURS } from '../palette.ts';
import type { ReportCells } from '../report-cells.ts';
import { VARIANT_GUTTER, type Chart, type LegendEntry, type Selected } from './chart.ts';
import { BAR_SELECTIONS, barRows, stackedBarsSpec } from './stacked-bars.ts';

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
    meaning: 'guest data and the fill around it',
    ns: ({ dataNs }) => dataNs,
  },
  {
    name: 'harness',
    colour: TIME_PART_COLOURS.harness,
    meaning: 'the engine and what drives it',
    ns: ({ harnessNs }) => harnessNs,
  },
];

export function timeSplitChart(report: ReportCells, selected: Selected): Chart {
  const legend = PARTS.map(({ name, colour, meaning }) => ({ name, colour, meaning }));
  const text = (us: number): string => microsecondsText(us * NS_PER_US);
  return {
    id: 'split',
    title: 'Where the time of a request goes',
    subtitle:
      'From a pass of its own, timed operation by operation, which costs a little: no sample is taken from it.',
    spec: stackedBarsSpec({
      report,
      selected,
      dataset: 'split',
      part: 'part',
      legend,
      axisTitle: 'microseconds per request',
      axisFormat: ',~r',
      description:
        'Stacked bars: time per guest request in syncs, metadata, data and harness, for each format, in each cache mode',
    }),
    rows: report.cells.flatMap((cell) => {
      const { timeSplit } = cell.record;
      if (timeSplit === undefined) return [];
      const parts = new Map(
        PARTS.map(({ name, ns }) => [name, ns(timeSplit) / timeSplit.requests / NS_PER_US]),
      );
      return barRows(cell, parts, { part: 'part', legend, text, exact: text });
    }),
    selections: BAR_SELECTIONS,
    columns: [
      { field: 'cache', title: 'Cache mode' },
      { field: 'variant', title: 'Format' },
      { field: 'part', title: 'Spent in' },
      { field: 'exact', title: 'Time per request' },
    ],
    legend,
    gutter: VARIANT_GUTTER,
  };
}
