/**
 * The codec of L1 entries (qcow2 specification, "Cluster mapping").
 *
 *   63      62 ────── 56   55 ─────────────── 9   8 ────── 0
 *   copied  reserved       offset of L2 table     reserved
 */

import { ENTRY_SIZE, HIGH, LOW, TWO_32 } from './layout.ts';

/** Host offset of the L2 table, flags and reserved bits masked; 0 if there is none. */
export function l1EntryOffset(table: DataView, index: number): number {
  const high = table.getUint32(index * ENTRY_SIZE) & HIGH.offset;
  return high * TWO_32 + ((table.getUint32(index * ENTRY_SIZE + 4) & LOW.offset) >>> 0);
}
