/**
 * How the cells that QEMU ran compare with the builtin engine: all of them in a line, then those of
 * which there is more to say.
 */

import { countOf } from '../core/number-text.ts';
import { cellName } from '../result/cell.ts';
import type { CellRecord, Parity, ResultRecord } from '../result/schema.ts';

export interface ParityTexts {
  /**
   * `48 of 48 cells identical to QEMU 7.2.22 (28,312 operations)`; `undefined` of a result that
   * QEMU has no part in.
   */
  readonly summary: string | undefined;
  /** The cells with exceptions, one line each, or one for many that have the same. */
  readonly exceptions: readonly string[];
  /** Those that differ: a line that says so, and the operations around the difference. */
  readonly differences: readonly ParityDifference[];
}

export interface ParityDifference {
  readonly verdict: string;
  readonly details: readonly string[];
}

interface Judged {
  readonly name: string;
  readonly parity: Parity;
}

export function parityTexts({ cells }: Pick<ResultRecord, 'cells'>): ParityTexts {
  const judged = cells.flatMap(({ cell, parity }: CellRecord): readonly Judged[] =>
    parity === undefined ? [] : [{ name: cellName(cell), parity }],
  );
  const identical = judged.filter(({ parity }) => parity.verdict === 'identical');
  return {
    summary: judged.length === 0 ? undefined : summaryOf(judged, identical),
    exceptions: exceptionTexts(identical),
    differences: judged.filter(({ parity }) => parity.verdict === 'different').map(differenceOf),
  };
}

function summaryOf(judged: readonly Judged[], identical: readonly Judged[]): string {
  const versions = [...new Set(judged.map(({ parity }) => parity.qemu))];
  const operations = identical.reduce((sum, { parity }) => sum + parity.operations, 0);
  const share = `${String(identical.length)} of ${countOf(judged.length, 'cell')}`;
  return `${share} identical to QEMU ${versions.join(', ')} (${countOf(operations, 'operation')})`;
}

/** More cells than this with the same exception are counted, not named: the record names them. */
const NAMED_MAX = 4;

function exceptionTexts(identical: readonly Judged[]): readonly string[] {
  const groups = Map.groupBy(identical, ({ parity }) => allowanceText(parity));
  return [...groups].flatMap(([text, cells]) => {
    if (text === undefined) return [];
    if (cells.length > NAMED_MAX) return [`${countOf(cells.length, 'cell')}: ${text}`];
    return cells.map(({ name }) => `${name}: ${text}`);
  });
}

function differenceOf({ name, parity }: Judged): ParityDifference {
  const { operations, finalBytes, guestData, difference, qemu, exceptions = [] } = parity;
  const counted = countOf(operations, 'operation');
  const named = exceptions.includes('qed-zero-over-backing')
    ? [
        `${counted} are identical. QEMU lost zeroes over a backing file, a bug that is not reproduced`,
        '(qed-zero-over-backing in docs/qemu-rules.md)',
      ]
    : [];
  const verdict = `${name}: parity: different from QEMU ${qemu}`;
  if (difference !== undefined) return { verdict, details: [...named, ...difference.split('\n')] };
  const bytes = finalBytes === 'identical' ? '' : ', but the images end with different bytes';
  const reads = guestData === 'different' ? ', but the guest reads different bytes' : '';
  return { verdict: `${verdict}: ${counted} are identical${bytes}${reads}`, details: [] };
}

/** What was allowed for. */
function allowanceText({ exceptions = [], leftOutRequests }: Parity): string | undefined {
  const texts: string[] = [];
  if (leftOutRequests !== undefined) {
    texts.push(`without ${countOf(leftOutRequests, 'request')} in which runs of QEMU differ`);
  } else if (exceptions.includes('varying-order') || exceptions.includes('late-extent')) {
    texts.push("in one of QEMU's varying orders");
  }
  if (exceptions.includes('raw-direct-over-hole')) {
    texts.push('padded to 4 KiB, as QEMU does over a file that begins with a hole');
  }
  return texts.length === 0 ? undefined : texts.join('; ');
}
