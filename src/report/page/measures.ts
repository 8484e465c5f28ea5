/** What a chart of cells can show: a figure of each, with its parts, and how it is written. */

import { CAUSE_MEANINGS, PURPOSE_MEANINGS } from '../../result/vocabulary.ts';
import { bytesText, factorText, microsecondsText, rateText } from '../numbers.ts';
import type { FigureName, PageData } from '../page-format.ts';
import { CAUSE_COLOURS, PURPOSE_COLOURS, TIME_PART_COLOURS } from '../palette.ts';

export interface Part {
  readonly name: string;
  readonly meaning: string;
  readonly colour: string;
  readonly values: readonly number[];
}

export interface Measure {
  readonly id: string;
  readonly title: string;
  readonly subtitle: string;
  /** Of the axis. */
  readonly unit: string;
  /** Bars from 0; `times`: samples and their median; `ratio`: an estimate with its interval. */
  readonly mark: 'bars' | 'times' | 'ratio';
  readonly parts: readonly Part[];
  /** `undefined` if the cell has none. */
  readonly value: (cell: number) => number | undefined;
  readonly text: (value: number) => string;
}

const TIME_MEANINGS = {
  syncs: 'waiting for the device',
  metadata: 'reading and writing tables',
  data: 'guest data and its fill',
  harness: 'the engine and the harness',
} as const;

/** Those of which the page has a value, in the order in which it shows them. */
export function measuresOf(data: PageData): readonly Measure[] {
  const figure = (name: FigureName) => (cell: number) => data.figures[name][cell] ?? undefined;
  const causes = partsOf(data.causes, CAUSE_COLOURS, CAUSE_MEANINGS);
  const purposes = partsOf(data.purposes, PURPOSE_COLOURS, PURPOSE_MEANINGS);
  const split = partsOf(data.split, TIME_PART_COLOURS, TIME_MEANINGS);
  const sum = (parts: readonly Part[]) => (cell: number) =>
    parts.reduce((total, { values }) => total + (values[cell] ?? 0), 0);
  const all: readonly Measure[] = [
    {
      id: 'syncs',
      title: 'Syncs per guest write, by cause',
      subtitle: 'From the first request to the end of close. Exact.',
      unit: 'syncs per guest write',
      mark: 'bars',
      parts: causes,
      value: figure('syncsPerWrite'),
      text: rateText,
    },
    {
      id: 'bytes',
      title: 'Metadata and fill bytes per guest write, by purpose',
      subtitle:
        'Written in addition to guest data; zero-ranges transfer nothing and are not included. Exact.',
      unit: 'bytes per guest write',
      mark: 'bars',
      parts: purposes,
      value: (cell) => (figure('bytesPerWrite')(cell) === undefined ? undefined : sum(purposes)(cell)),
      text: bytesText,
    },
    {
      id: 'amplification',
      title: 'Write amplification',
      subtitle: 'Bytes written ÷ guest bytes, without zero-ranges. Exact.',
      unit: 'bytes written ÷ guest bytes',
      mark: 'bars',
      parts: [],
      value: figure('writeAmplification'),
      text: factorText,
    },
    {
      id: 'reads',
      title: 'Host reads per guest read',
      subtitle: 'Of workloads that only read. Exact.',
      unit: 'host reads per guest read',
      mark: 'bars',
      parts: [],
      value: figure('readsPerRead'),
      text: rateText,
    },
    {
      id: 'times',
      title: 'Time per guest request',
      subtitle: 'Points are samples, the bar is the 95 % interval of the median, the line the median.',
      unit: 'time per request (logarithmic)',
      mark: 'times',
      parts: [],
      value: figure('timeNs'),
      text: microsecondsText,
    },
    {
      id: 'ratios',
      title: 'Time against the reference',
      subtitle:
        'Median ratio over the rounds with its 95 % interval. The grey band is the reference timed twice (A/A): the ratios to expect without any difference.',
      unit: 'time ÷ that of the reference (logarithmic)',
      mark: 'ratio',
      parts: [],
      value: (cell) => data.ratios[cell]?.estimate,
      text: factorText,
    },
    {
      id: 'split',
      title: 'Where request time goes',
      subtitle:
        'From a separate pass that times each operation, which adds overhead: it provides no samples.',
      unit: 'time per request',
      mark: 'bars',
      parts: split,
      value: (cell) => sum(split)(cell) || undefined,
      text: microsecondsText,
    },
    {
      id: 'p99',
      title: '99 % of the writes take at most',
      subtitle: 'Latency of guest writes.',
      unit: 'latency',
      mark: 'bars',
      parts: [],
      value: figure('p99Ns'),
      text: microsecondsText,
    },
  ];
  const cells = [...data.names.keys()];
  return all.filter(({ value }) => cells.some((cell) => value(cell) !== undefined));
}

function partsOf(
  columns: Readonly<Record<string, readonly number[]>>,
  colours: Readonly<Record<string, string>>,
  meanings: Readonly<Record<string, string>>,
): readonly Part[] {
  const order = Object.keys(colours);
  return Object.entries(columns)
    .toSorted(([a], [b]) => order.indexOf(a) - order.indexOf(b))
    .map(([name, values]) => ({
      name,
      meaning: meanings[name] ?? '',
      colour: colours[name] ?? '#7d8794',
      values,
    }));
}
