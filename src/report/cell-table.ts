/** The table of all cells, a line each: what the page, the terminal and a reader's eye compare. */

import type { CellRecord } from '../result/schema.ts';
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
export function remarksOf({ skipped, fallbacks, counts, cell }: CellRecord): string {
  return [
    ...(skipped === null ? [] : [`skipped: ${skipped}`]),
    ...(cell.overlap === true && counts !== null ? [SAMPLED_COUNTS] : []),
    ...fallbacks,
  ].join('; ');
}
