/**
 * What a reader of figures with guest discards must know: QEMU's programs differ in what becomes of
 * them.
 */

import type { CellRecord } from '../result/schema.ts';

/** One sentence, without its full stop; `undefined` where no discard reached a file. */
export function discardNote(records: Iterable<CellRecord>): string | undefined {
  for (const { cell, counts } of records) {
    if (cell.discard === undefined && (counts?.guest.discards ?? 0) > 0) {
      return (
        "Guest discards reach the file (discard=unmap, the default of qemu-io and qemu-nbd); a VM's drive " +
        'ignores them by default, which --discard ignore measures'
      );
    }
  }
  return undefined;
}
