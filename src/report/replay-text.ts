/**
 * What a replay is worth: how well it kept the times of its trace, and whether reads answered what
 * was written.
 */

import { groupedText } from '../core/number-text.ts';
import { cellName } from '../result/cell.ts';
import type { CellRecord, Fidelity, ResultRecord } from '../result/schema.ts';
import { modelName } from '../result/vocabulary.ts';
import { durationText } from './numbers.ts';

/** Below this share of requests on time, the device cannot keep the pace. */
const KEPT_SHARE = 0.95;

export interface FidelityColumn {
  readonly title: string;
  readonly numeric: boolean;
  readonly text: (record: CellRecord & { readonly fidelity: Fidelity }) => string;
}

/** A line for each cell that was timed by its trace. */
export const FIDELITY_COLUMNS: readonly FidelityColumn[] = [
  { title: 'Cell', numeric: false, text: ({ cell }) => timedCellName(cell) },
  { title: 'On time', numeric: true, text: ({ fidelity }) => onTimeText(fidelity) },
  { title: 'Late p50', numeric: true, text: ({ fidelity }) => durationText(fidelity.p50Ns) },
  { title: 'Late p99', numeric: true, text: ({ fidelity }) => durationText(fidelity.p99Ns) },
  { title: 'Most', numeric: true, text: ({ fidelity }) => durationText(fidelity.maxNs) },
  { title: 'Write p50', numeric: true, text: ({ latency }) => durationText(latency?.write?.p50Ns) },
  { title: 'Write p99', numeric: true, text: ({ latency }) => durationText(latency?.write?.p99Ns) },
];

/** A terminal has no room for all of them. */
export const TERMINAL_FIDELITY_COLUMNS: readonly FidelityColumn[] = FIDELITY_COLUMNS.filter(
  ({ title }) => title !== 'Write p50',
);

/** The columns of each cell that was timed by its trace. */
export function fidelityRows(
  { cells }: ResultRecord,
  columns: readonly FidelityColumn[],
): readonly (readonly string[])[] {
  return cells.flatMap((record) => {
    const { fidelity } = record;
    return fidelity === undefined ? [] : [columns.map(({ text }) => text({ ...record, fidelity }))];
  });
}

/** What the rows say, in a sentence; `undefined` of a result without. */
export function fidelityText({ cells }: ResultRecord): string | undefined {
  const timed = cells.flatMap(({ fidelity }) => (fidelity === undefined ? [] : [fidelity]));
  if (timed.length === 0) return undefined;
  const slow = timed.filter(({ requests, onTime }) => onTime < KEPT_SHARE * requests).length;
  const pace =
    slow === 0
      ? ''
      : ` In ${String(slow)} of ${String(timed.length)} cells the device cannot keep up with the trace.`;
  return `On time: issued at most 1 ms after it was due. Latencies count from when a request was due.${pace}`;
}

/** What was compared in all cells together; `undefined` of a result in which nothing was. */
export function verificationText({ cells }: ResultRecord): string | undefined {
  const verified = cells.flatMap(({ verification }) => (verification === undefined ? [] : [verification]));
  if (verified.length === 0) return undefined;
  let [reads, sectors, notCompared] = [0, 0, 0];
  for (const each of verified) {
    reads += each.reads;
    sectors += each.sectors;
    notCompared += each.notCompared;
  }
  const where = verified.length === 1 ? '' : ` in ${String(verified.length)} cells`;
  const rest = notCompared === 0 ? '' : `; ${groupedText(notCompared)} could not be verified`;
  return `Verified${where}: ${groupedText(reads)} reads, ${groupedText(sectors)} sectors as written${rest}.`;
}

/** `99.2 %` of the requests. Not all is not 100 %. */
function onTimeText({ requests, onTime }: Fidelity): string {
  return `${(Math.floor((1000 * onTime) / requests) / 10).toFixed(1)} %`;
}

/**
 * Without the timing, which all share or the setup shows; with the modelled device, on which the
 * figures depend most.
 */
function timedCellName(cell: CellRecord['cell']): string {
  const model = modelName(cell.device);
  const name = cellName(cell).replace(` · timing ${cell.timing ?? ''}`, '');
  return model === undefined ? name : `${name} · ${model}`;
}
