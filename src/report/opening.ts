/**
 * The price of opening an image that was not closed: what stands between a crash and the first request.
 *
 * Invariant: cells are listed only where a cell of the same workload wrote on opening, so that formats that had
 * nothing to mend stand beside those that had.
 */

import { median } from 'simple-statistics';

import type { CellRecord, PhaseCounts, ResultRecord } from '../result/schema.ts';
import { variantName } from '../result/cell.ts';
import { bytesText, microsecondsText } from './numbers.ts';

export interface Opening {
  readonly workload: string;
  readonly variant: string;
  /** Operations, as counted; of `open` alone. */
  readonly reads: number;
  readonly readBytes: number;
  /** Writes, zero-ranges and holes. */
  readonly changes: number;
  readonly syncs: number;
  /** Nanoseconds; the median of the samples, if there are any. */
  readonly openNs: number | undefined;
}

/** The openings that a result tells of; empty for a result without a crash. */
export function openingsOf(result: ResultRecord): readonly Opening[] {
  const counted = result.cells.filter(({ counts }) => counts !== null);
  const mended = new Set(
    counted
      .filter(({ counts }) => counts !== null && changesOf(counts.open) > 0)
      .map(({ cell }) => cell.workload),
  );
  return counted.filter(({ cell }) => mended.has(cell.workload)).flatMap(openingOf);
}

export const OPENING_COLUMNS = [
  'Opening after a crash',
  'Format',
  'Reads',
  'Read',
  'Changes',
  'Syncs',
  'Time',
] as const;

/** The texts of a row, one for each of `OPENING_COLUMNS`. */
export function openingTexts(opening: Opening): readonly string[] {
  const { workload, variant, reads, readBytes, changes, syncs, openNs } = opening;
  return [
    workload,
    variant,
    String(reads),
    `${bytesText(readBytes)} B`,
    String(changes),
    String(syncs),
    microsecondsText(openNs),
  ];
}

function openingOf({ cell, counts, timings }: CellRecord): readonly Opening[] {
  if (counts === null) return [];
  const { open } = counts;
  return [
    {
      workload: cell.workload,
      variant: [variantName(cell), cell.cache, ...(cell.engine === 'builtin' ? [] : [cell.engine])].join(
        ', ',
      ),
      reads: open.reads.ops,
      readBytes: open.reads.bytes,
      changes: changesOf(open),
      syncs: open.syncs.ops,
      openNs: timings.length === 0 ? undefined : median(timings.map(({ openNs }) => openNs)),
    },
  ];
}

function changesOf({ writes, zeroRanges, punchHoles }: PhaseCounts): number {
  return writes.ops + zeroRanges.ops + punchHoles.ops;
}
