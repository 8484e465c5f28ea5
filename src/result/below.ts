/**
 * Figures of what reached the device below a file system that was made for the samples.
 *
 * Invariant: they are samples, so each is the median with its interval, and a difference counts only
 * if the intervals leave one open between them.
 */

import { medianInterval, type Interval } from './bootstrap.ts';
import type { Below, CellRecord } from './schema.ts';
import { spreadOf } from './statistics.ts';

export const BELOW_FIGURES = [
  'guestFlushes',
  'deviceFlushes',
  'deviceWrites',
  'deviceBytes',
  'deviceReads',
  'deviceSeeks',
  'fragments',
] as const;
export type BelowFigure = (typeof BELOW_FIGURES)[number];

/** Per guest write, but for `fragments`, of which all are counted. */
const VALUES: Readonly<Record<BelowFigure, (below: Below) => number | undefined>> = {
  guestFlushes: ({ guestFlushes }) => guestFlushes,
  deviceFlushes: ({ flushes }) => flushes,
  deviceWrites: ({ writes }) => writes,
  deviceBytes: ({ writeBytes }) => writeBytes,
  deviceReads: ({ reads }) => reads,
  deviceSeeks: ({ seeks }) => seeks,
  fragments: ({ fragmentsAfter }) => fragmentsAfter,
};

/** The samples' values of a figure; those that do not have it are left out. */
function valuesOf({ timings }: Pick<CellRecord, 'timings'>, figure: BelowFigure): readonly number[] {
  return timings.flatMap(({ below }) => {
    const value = below === undefined ? undefined : VALUES[figure](below);
    if (below === undefined || value === undefined) return [];
    if (figure === 'fragments') return [value];
    return below.guestWrites === 0 ? [] : [value / below.guestWrites];
  });
}

/** The median over the samples; `null` without any. */
export function belowMedian(record: Pick<CellRecord, 'timings'>, figure: BelowFigure): number | null {
  return spreadOf(valuesOf(record, figure))?.median ?? null;
}

/** `undefined` of too few samples. */
export function belowInterval(
  record: Pick<CellRecord, 'timings'>,
  figure: BelowFigure,
): Interval | undefined {
  return medianInterval(valuesOf(record, figure));
}
