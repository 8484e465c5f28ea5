/** What a replay is worth: how well it kept the times of its trace, and whether reads answered what was written. */

import { cellName } from '../result/cell.ts';
import type { CellRecord, Fidelity } from '../result/schema.ts';
import { modelName } from '../result/vocabulary.ts';
import { groupedText, microsecondsText } from './numbers.ts';

/** Below this share of requests on time, the device cannot keep the pace. */
const KEPT_SHARE = 0.95;

/** Whether most requests were issued when they were due. */
export function keptPace({ requests, onTime }: Fidelity): boolean {
  return onTime >= KEPT_SHARE * requests;
}

/** `99.2 %` of the requests. */
export function onTimeText({ requests, onTime }: Fidelity): string {
  // Not all is not 100 %.
  const percent = Math.floor((1000 * onTime) / requests) / 10;
  return `${percent.toFixed(1)} %`;
}

/** One sentence a cell that was timed by its trace or verified; none for any other. */
export function replayTexts({ cell, fidelity, verification, latency }: CellRecord): readonly string[] {
  const model = modelName(cell.device);
  const about = `${cellName(cell)}${model === undefined ? '' : ` · ${model}`}: `;
  const texts: string[] = [];
  if (fidelity !== undefined) {
    const { p50Ns, p99Ns, maxNs } = fidelity;
    const write = latency?.write;
    const writes =
      write === undefined
        ? ''
        : `; writes took ${microsecondsText(write.p50Ns)} (p50), ${microsecondsText(write.p99Ns)} (p99) from when they were due`;
    const pace = keptPace(fidelity) ? '' : '; the device does not keep the pace of the trace';
    texts.push(
      `${about}${onTimeText(fidelity)} of the requests on time, late by ${microsecondsText(p50Ns)} (p50), ` +
        `${microsecondsText(p99Ns)} (p99), ${microsecondsText(maxNs)} (most)${writes}${pace}.`,
    );
  }
  if (verification !== undefined) {
    const { reads, sectors, notCompared } = verification;
    const rest = notCompared === 0 ? '' : `; ${groupedText(notCompared)} could not be told`;
    texts.push(
      `${about}verified: ${groupedText(reads)} reads, ${groupedText(sectors)} sectors as written${rest}.`,
    );
  }
  return texts;
}
