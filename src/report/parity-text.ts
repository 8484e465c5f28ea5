/** How a cell that QEMU ran compares with the builtin engine, in lines for a terminal. */

import { cellName } from '../result/cell.ts';
import type { CellRecord } from '../result/schema.ts';

/** One line if both engines did the same, more where they differ; none for a cell that QEMU did not run. */
export function parityText({ cell, parity }: CellRecord): readonly string[] {
  if (parity === undefined) return [];
  const { verdict, operations, finalBytes, difference, qemu } = parity;
  const about = `${cellName(cell)}: parity: `;
  if (verdict === 'identical') return [`${about}identical (${operations.toLocaleString('en')} operations)`];
  const versus = `${about}different from QEMU ${qemu}`;
  if (difference !== undefined) return [versus, ...difference.split('\n').map((line) => `  ${line}`)];
  const bytes = finalBytes === 'identical' ? '' : ', but the images end with other bytes';
  return [`${versus}: ${operations.toLocaleString('en')} operations are identical${bytes}`];
}
