/**
 * The price of opening an image that was not closed: what is between a crash and the first request.
 *
 * Invariant: cells are listed only where a cell of the same workload wrote on opening, so that
 * formats that had nothing to repair are listed with those that had.
 */

import { countOf } from '../core/number-text.ts';
import { median } from 'simple-statistics';

import type { CellRecord, PhaseCounts, ResultRecord } from '../result/schema.ts';
import { variantName } from '../result/cell.ts';
import { FORMAT_FACTS, formatsWith } from '../result/vocabulary.ts';
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

/** The openings that a result reports; empty for a result without a crash. */
export function openingsOf(result: Pick<ResultRecord, 'cells'>): readonly Opening[] {
  const repaired = workloadsAfterCrash(result.cells);
  return result.cells.filter(({ cell }) => repaired.has(cell.workload)).flatMap(openingOf);
}

/**
 * Workloads on images that were not closed: opening them changed something, in one format or
 * another.
 */
export function workloadsAfterCrash(records: readonly CellRecord[]): ReadonlySet<string> {
  return new Set(
    records
      .filter(({ counts }) => counts !== null && changesOf(counts.open) > 0)
      .map(({ cell }) => cell.workload),
  );
}

/** Other formats that may need a repair before the first request. */
const REPAIRED_TITLES = formatsWith(
  ({ hasCheck, refcountModes }) => hasCheck && refcountModes.length === 0,
).map((format) => FORMAT_FACTS[format].title);

/**
 * What the dearest opening of qcow2 with lazy refcounts cost, and QED's beside it; `undefined` if
 * there is none.
 */
export function openingSentence(records: readonly CellRecord[]): string | undefined {
  const openings = openingsOf({ cells: records });
  const dearest = openings
    .filter(({ variant, changes }) => variant.startsWith('qcow2 lazy, ') && changes > 0)
    .toSorted((a, b) => b.readBytes - a.readBytes)[0];
  if (dearest === undefined) return undefined;
  const { workload, variant } = dearest;
  const besideIt = (format: string): Opening | undefined =>
    openings.find(
      (one) => one.workload === workload && one.variant === variant.replace('qcow2 lazy', format),
    );
  const eager = besideIt('qcow2 eager');
  const others = [
    ...REPAIRED_TITLES.map((title) => {
      const opening = besideIt(title);
      return opening === undefined ? '' : `; ${title} reads ${bytesText(opening.readBytes)}`;
    }),
    eager === undefined
      ? ''
      : `; with eager refcounts ${eager.changes > 0 ? 'a repair is needed too' : 'nothing needs repair'}`,
  ];
  return (
    `Before the first request after a crash, qcow2 with lazy refcounts reads ${bytesText(dearest.readBytes)} bytes ` +
    `and makes ${countOf(dearest.changes, 'change')} and ${countOf(dearest.syncs, 'sync')} ` +
    `(${workload}, cache=${variant.split(', ')[1] ?? ''})${others.join('')}.`
  );
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
