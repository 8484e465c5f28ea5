/** What reached the device below the file systems that were made for the samples, a line each cell. */

import { belowInterval, belowMedian, type BelowFigure } from '../result/below.ts';
import { variantName } from '../result/cell.ts';
import type { CellRecord, ResultRecord } from '../result/schema.ts';
import { bytesText, rangeText, rateText } from './numbers.ts';

const COLUMNS = [
  'Below the file system',
  'Format',
  'On',
  'Flushes/write',
  'Writes/write',
  'B/write',
  'Fragments',
] as const;
const SEEKS = 'Seeks/write';

export interface BelowTable {
  readonly columns: readonly string[];
  /** A text for each column; none for a result without such cells. */
  readonly rows: readonly (readonly string[])[];
}

export const BELOW_NOTE =
  'Flushes, writes and bytes that reached the device below the file system, per guest write, and in how many pieces the image is then. They are samples: medians, with the 95 % interval in parentheses where it has a width. Times of these cells are of a loop device, not of a disk.';

/** With seeks where requests were traced. */
export function belowTable({ cells }: Pick<ResultRecord, 'cells'>): BelowTable {
  const isTraced = cells.some(({ timings }) => timings.some(({ below }) => below?.seeks !== undefined));
  const rows = cells.flatMap((record) => {
    const { cell, timings } = record;
    if (cell.hostFs === undefined || timings.every(({ below }) => below === undefined)) return [];
    const { shape } = cell;
    const prefix = shape?.preallocation === undefined ? '' : `, ${shape.preallocation}`;
    return [
      [
        cell.workload,
        `${variantName(cell)}${prefix}, ${cell.cache}`,
        cell.hostFs,
        figureText(record, 'deviceFlushes', rateText),
        figureText(record, 'deviceWrites', rateText),
        figureText(record, 'deviceBytes', bytesText),
        figureText(record, 'fragments', bytesText),
        ...(isTraced ? [figureText(record, 'deviceSeeks', rateText)] : []),
      ],
    ];
  });
  return { columns: isTraced ? [...COLUMNS, SEEKS] : COLUMNS, rows };
}

function figureText(record: CellRecord, figure: BelowFigure, text: (value: number | null) => string): string {
  return rangeText(belowMedian(record, figure), belowInterval(record, figure), text);
}
