/** The table of all cells, a line each: what the page, the terminal and a reader's eye compare. */

import type { Latency } from '../result/schema.ts';
import { bytesText, factorText, microsecondsText, plusMinusText, rateText } from './numbers.ts';
import type { ReportCell } from './report-cells.ts';

export interface CellTableColumn {
  readonly title: string;
  readonly numeric: boolean;
  readonly text: (cell: ReportCell) => string;
}

export const CELL_COLUMNS: readonly CellTableColumn[] = [
  { title: 'Workload', numeric: false, text: ({ workload }) => workload },
  { title: 'Cache', numeric: false, text: ({ cache }) => cache },
  { title: 'Format', numeric: false, text: ({ variant }) => variant },
  { title: 'Syncs/write', numeric: true, text: ({ figures }) => rateText(figures?.syncsPerWrite) },
  {
    title: 'Meta. B/write',
    numeric: true,
    text: ({ figures }) => bytesText(figures?.metadataBytesPerWrite),
  },
  { title: 'Amplif.', numeric: true, text: ({ figures }) => factorText(figures?.writeAmplification) },
  {
    title: 'Median/req.',
    numeric: true,
    text: ({ requestTime, interval }) =>
      `${microsecondsText(requestTime?.median)}${interval === undefined ? '' : ` ${plusMinusText(interval)}`}`,
  },
  { title: 'Time ratio', numeric: true, text: ratioOf },
];

/** Of cells without writes, which the other columns say nothing about. */
export const READ_COLUMNS: readonly CellTableColumn[] = [
  { title: 'Host reads/read', numeric: true, text: (cell) => rateText(perRead(cell, ({ ops }) => ops)) },
  { title: 'Host B/read', numeric: true, text: (cell) => bytesText(perRead(cell, ({ bytes }) => bytes)) },
];

function perRead(
  { record: { counts } }: ReportCell,
  pick: (reads: { readonly ops: number; readonly bytes: number }) => number,
): number | undefined {
  if (counts === null || counts.guest.writes > 0 || counts.guest.reads === 0) return undefined;
  return pick(counts.run.reads) / counts.guest.reads;
}

/** Columns that only the page has room for. */
export const WIDE_COLUMNS: readonly CellTableColumn[] = [
  ...CELL_COLUMNS.slice(0, 4),
  {
    title: 'Syncs/alloc. write',
    numeric: true,
    text: ({ figures }) => rateText(figures?.syncsPerAllocatingWrite),
  },
  ...CELL_COLUMNS.slice(4, 5),
  { title: 'Fill B/write', numeric: true, text: ({ figures }) => bytesText(figures?.fillBytesPerWrite) },
  ...CELL_COLUMNS.slice(5, 6),
  { title: 'Zeroed', numeric: true, text: ({ figures }) => factorText(figures?.zeroRangeAmplification) },
  ...CELL_COLUMNS.slice(6),
  latencyColumn('p50', ({ p50Ns }) => p50Ns),
  latencyColumn('p99', ({ p99Ns }) => p99Ns),
  latencyColumn('p99.9', ({ p999Ns }) => p999Ns),
  latencyColumn('Max', ({ maxNs }) => maxNs),
];

/** Of guest writes; the other kinds of request are in the result. */
function latencyColumn(title: string, pick: (latency: Latency) => number): CellTableColumn {
  return {
    title: `${title} write`,
    numeric: true,
    text: ({ record }) => {
      const latency = record.latency?.write;
      return microsecondsText(latency === undefined ? undefined : pick(latency));
    },
  };
}

/** Time against the reference; `≈` where the samples show no difference. */
function ratioOf({ comparison }: ReportCell): string {
  if (comparison === undefined) return '';
  const { ratio, verdict } = comparison;
  return `${verdict === 'no difference shown' ? '≈ ' : ''}${factorText(ratio.estimate)}`;
}

const SAMPLED_COUNTS = 'counts are one sample: concurrent host operations (--overlap) vary from run to run';

/**
 * What a reader must know of a cell beside its figures: why it was skipped, which fallbacks it
 * took.
 */
export function remarksOf(cell: ReportCell): string {
  const { skipped, fallbacks, counts } = cell.record;
  return [
    ...(skipped === null ? [] : [`skipped: ${skipped}`]),
    ...(cell.record.cell.overlap === true && counts !== null ? [SAMPLED_COUNTS] : []),
    ...fallbacks,
  ].join('; ');
}
