/**
 * The figures that a study compares: each with its unit in words, how it is written, and how it is
 * taken from what is known of a cell.
 *
 * Invariant: a figure that was not taken is `null`, never 0.
 */

import { humanSize } from '../core/size.ts';
import { BELOW_FIGURES, belowInterval, belowMedian, type BelowFigure } from '../result/below.ts';
import type { Interval } from '../result/bootstrap.ts';
import { deriveFigures } from '../result/derive.ts';
import type { CellRecord, Counts, Timing } from '../result/schema.ts';
import { requestTimeNs, spreadOf } from '../result/statistics.ts';
import { METADATA_PURPOSES, modelDevice } from '../result/vocabulary.ts';
import { bytesText, durationText, factorText, percentText, rateText } from '../report/numbers.ts';

/** What was found of the crash states of a cell. */
export interface CrashFigures {
  /** States that were tried. */
  readonly states: number;
  /** States that differ from each other. */
  readonly distinct: number;
  /** Of those tried, states that break a promise. */
  readonly violations: number;
  /** States whose every finding has a name in QEMU's own design. */
  readonly hazards: number;
  /** Whether every subset of whole operations was tried. */
  readonly isExhausted: boolean;
}

/** All that is known of one counting cell. */
export interface CellFacts {
  /** One for each device that it was timed on; all have the same counts. */
  readonly records: readonly CellRecord[];
  readonly crash?: CrashFigures | undefined;
}

export interface Figure {
  /** With its unit: `syncs per guest write`. */
  readonly title: string;
  /** At the head of a column. */
  readonly short: string;
  readonly text: (value: number | null) => string;
  readonly valueOf: (facts: CellFacts) => number | null;
  /** Samples, of which a difference has to be shown; exact if absent. */
  readonly isSampled?: true;
  /** Of samples that are not compared round by round; `undefined` if they are too few. */
  readonly intervalOf?: (facts: CellFacts) => Interval | undefined;
}

export const FIGURE_NAMES = [
  'syncs',
  'bytes',
  'metadataBytes',
  'fillBytes',
  'zeroRangeBytes',
  'amplification',
  'metadataReads',
  'metadataReadBytes',
  'hostReads',
  'openReadBytes',
  'metadataInMemory',
  'allocatedStart',
  'allocatedMost',
  'allocatedEnd',
  'fileEnd',
  'states',
  'violations',
  'hazards',
  'lostShare',
  ...BELOW_FIGURES,
  'time',
] as const;
type FigureName = (typeof FIGURE_NAMES)[number];

const FIGURES: Readonly<Record<FigureName, Figure>> = {
  syncs: counted(
    'syncs per guest write',
    'Syncs/write',
    rateText,
    (counts) => deriveFigures(counts).syncsPerWrite,
  ),
  bytes: counted(
    'bytes written per guest write',
    'B/write',
    bytesText,
    (counts) => deriveFigures(counts).bytesPerWrite,
  ),
  metadataBytes: counted(
    'bytes of metadata per guest write',
    'Meta. B/write',
    bytesText,
    (counts) => deriveFigures(counts).metadataBytesPerWrite,
  ),
  fillBytes: counted(
    'bytes of fill per guest write',
    'Fill B/write',
    bytesText,
    (counts) => deriveFigures(counts).fillBytesPerWrite,
  ),
  zeroRangeBytes: counted(
    'bytes zeroed by the file system per guest write',
    'Zeroed B/write',
    bytesText,
    (counts) => perWrite(counts, counts.run.zeroRanges.bytes + counts.close.zeroRanges.bytes),
  ),
  amplification: counted(
    'bytes written ÷ bytes of guest writes',
    'Amplif.',
    factorText,
    (counts) => deriveFigures(counts).writeAmplification,
  ),
  metadataReads: counted('reads of metadata per guest request', 'Meta. reads', rateText, (counts) =>
    perRequest(counts, readMetadata(counts, 'ops')),
  ),
  metadataReadBytes: counted(
    'bytes of metadata read per guest request',
    'Meta. read B',
    bytesText,
    (counts) => perRequest(counts, readMetadata(counts, 'bytes')),
  ),
  hostReads: counted('host reads per guest request', 'Host reads', rateText, (counts) =>
    perRequest(counts, counts.run.reads.ops),
  ),
  openReadBytes: counted(
    'bytes read to open the image',
    'Open reads',
    sizeText,
    (counts) => counts.open.reads.bytes,
  ),
  metadataInMemory: {
    title: 'metadata in memory after the last request',
    short: 'In memory',
    text: sizeText,
    valueOf: ({ records }) =>
      records.find((record) => record.metadataInMemory !== undefined)?.metadataInMemory ?? null,
  },
  allocatedStart: grown(
    'space allocated before the first request',
    'At start',
    (points) => points[0]?.allocatedBytes,
  ),
  allocatedMost: grown('space allocated at most', 'At most', (points) =>
    Math.max(...points.map(({ allocatedBytes }) => allocatedBytes)),
  ),
  allocatedEnd: grown('space allocated at the end', 'At end', (points) => points.at(-1)?.allocatedBytes),
  fileEnd: grown('length of the file at the end', 'File', (points) => points.at(-1)?.fileBytes),
  states: crashed('crash states tried', 'States', bytesText, ({ states }) => states),
  violations: crashed(
    'crash states that break a promise',
    'Violations',
    bytesText,
    ({ violations }) => violations,
  ),
  hazards: crashed(
    'crash states with a hazard that QEMU has too',
    'Hazards',
    bytesText,
    ({ hazards }) => hazards,
  ),
  lostShare: crashed(
    'of the crash states lose data of a completed flush or write',
    'Lost',
    (value) => (value === null ? NONE : percentText(value)),
    ({ violations, states }) => (states === 0 ? null : violations / states),
  ),
  guestFlushes: below('guest flushes per guest write', 'Guest flushes', rateText, 'guestFlushes'),
  deviceFlushes: below('flushes of the device per guest write', 'Flushes', rateText, 'deviceFlushes'),
  deviceWrites: below('writes of the device per guest write', 'Writes', rateText, 'deviceWrites'),
  deviceBytes: below('bytes written to the device per guest write', 'Device B', bytesText, 'deviceBytes'),
  deviceReads: below('reads of the device per guest write', 'Reads', rateText, 'deviceReads'),
  deviceSeeks: below('seeks of the device per guest write', 'Seeks', rateText, 'deviceSeeks'),
  fragments: below('fragments of the image at the end', 'Fragments', bytesText, 'fragments'),
  time: { ...timed('file'), title: 'per request on this machine', short: 'Time', isSampled: true },
};

const NONE = '–';
const MODELLED = /^(time|open):([a-z0-9-]+)$/;

/**
 * By name; `time:MODEL` is the time per request on a modelled device, `open:MODEL` that of opening the
 * image. Both are exact.
 */
export function figureOf(name: string): Figure | undefined {
  const [, kind, model] = MODELLED.exec(name) ?? [];
  if (model !== undefined) {
    return kind === 'time'
      ? { ...timed(modelDevice(model)), title: `per request on the model ${model}`, short: model }
      : {
          ...timed(modelDevice(model), ({ openNs }) => openNs),
          title: `to open the image on the model ${model}`,
          short: `Open, ${model}`,
        };
  }
  return Object.entries(FIGURES).find(([each]) => each === name)?.[1];
}

function counted(
  title: string,
  short: string,
  text: (value: number | null) => string,
  valueOf: (counts: Counts) => number | null,
): Figure {
  return {
    title,
    short,
    text,
    valueOf: ({ records }) => {
      const counts = records.find((record) => record.counts !== null)?.counts;
      return counts === undefined || counts === null ? null : valueOf(counts);
    },
  };
}

function grown(
  title: string,
  short: string,
  valueOf: (points: NonNullable<CellRecord['growth']>) => number | undefined,
): Figure {
  return {
    title,
    short,
    text: sizeText,
    valueOf: ({ records }) => {
      const growth = records.find((record) => record.growth !== undefined)?.growth;
      return growth === undefined || growth.length === 0 ? null : (valueOf(growth) ?? null);
    },
  };
}

function crashed(
  title: string,
  short: string,
  text: (value: number | null) => string,
  valueOf: (crash: CrashFigures) => number | null,
): Figure {
  return { title, short, text, valueOf: ({ crash }) => (crash === undefined ? null : valueOf(crash)) };
}

/** Of the device below a file system that was made for the samples. */
function below(
  title: string,
  short: string,
  text: (value: number | null) => string,
  name: BelowFigure,
): Figure {
  const sampled = ({ records }: CellFacts): Pick<CellRecord, 'timings'> =>
    records.find(({ timings }) => timings.some((timing) => timing.below !== undefined)) ?? { timings: [] };
  return {
    title,
    short,
    text,
    valueOf: (facts) => belowMedian(sampled(facts), name),
    isSampled: true,
    intervalOf: (facts) => belowInterval(sampled(facts), name),
  };
}

function timed(
  device: string,
  timeOf: (timing: Timing) => number = requestTimeNs,
): Pick<Figure, 'text' | 'valueOf'> {
  return {
    text: (value) => durationText(value ?? undefined),
    valueOf: ({ records }) => {
      const record = records.find(({ cell }) => cell.device === device);
      return spreadOf((record?.timings ?? []).map(timeOf))?.median ?? null;
    },
  };
}

function sizeText(value: number | null): string {
  return value === null ? NONE : humanSize(value);
}

function perWrite({ guest }: Counts, value: number): number | null {
  return guest.writes === 0 ? null : value / guest.writes;
}

function readMetadata({ run }: Counts, part: 'ops' | 'bytes'): number {
  return METADATA_PURPOSES.reduce((sum, purpose) => sum + (run.reads.byPurpose[purpose]?.[part] ?? 0), 0);
}

function perRequest({ guest }: Counts, value: number): number | null {
  const requests = guest.reads + guest.writes;
  return requests === 0 ? null : value / requests;
}
