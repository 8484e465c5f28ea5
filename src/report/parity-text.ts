/** How a cell that QEMU ran compares with the builtin engine, in lines for a terminal. */

import { cellName } from '../result/cell.ts';
import type { CellRecord, Parity } from '../result/schema.ts';

/** One line if both engines did the same, more where they differ; none for a cell that QEMU did not run. */
export function parityText({ cell, parity }: CellRecord): readonly string[] {
  if (parity === undefined) return [];
  const { verdict, operations, finalBytes, guestData, difference, qemu, exceptions = [] } = parity;
  const about = `${cellName(cell)}: parity: `;
  const counted = `${operations.toLocaleString('en')} operations`;
  if (verdict === 'identical') {
    return [`${about}identical (${[counted, ...allowanceText(parity)].join('; ')})`];
  }
  const named = exceptions.includes('qed-zero-over-backing')
    ? [
        `  ${counted} are identical. QEMU lost zeroes over a backing file, a defect that is not copied`,
        '  (qed-zero-over-backing in docs/qemu-rules.md)',
      ]
    : [];
  const versus = `${about}different from QEMU ${qemu}`;
  if (difference !== undefined) {
    return [versus, ...named, ...difference.split('\n').map((line) => `  ${line}`)];
  }
  const bytes = finalBytes === 'identical' ? '' : ', but the images end with other bytes';
  const reads = guestData === 'different' ? ', but the guest reads other bytes' : '';
  return [`${versus}: ${counted} are identical${bytes}${reads}`];
}

/** What was allowed for. */
function allowanceText({ exceptions = [], leftOutRequests }: Parity): readonly string[] {
  const texts: string[] = [];
  if (leftOutRequests !== undefined) {
    const requests = leftOutRequests === 1 ? '1 request' : `${String(leftOutRequests)} requests`;
    texts.push(`without ${requests} in which runs of QEMU differ`);
  } else if (exceptions.includes('varying-order') || exceptions.includes('late-extent')) {
    texts.push('in one of the orders of QEMU, which vary');
  }
  if (exceptions.includes('raw-direct-over-hole')) {
    texts.push('padded to 4 KiB, as QEMU does over a file that begins with a hole');
  }
  return texts;
}
