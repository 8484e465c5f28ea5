/** A price of a crash for the first lazy cell of a result that has an eager one. */

import type { RepairPrice } from '../../src/report/repair-price.ts';
import { cellKey } from '../../src/result/cell.ts';
import type { ResultRecord } from '../../src/result/schema.ts';

/** Without the cell that it is compared with. */
export const REPAIRED: Omit<RepairPrice, 'eager'> = {
  guestWrites: 300,
  savedSyncs: 1,
  readBytes: 461_312,
  changes: 8,
  syncs: 4,
  readBytesPerByte: 1 / 4096,
  onDevices: [
    { device: 'hdd-7200', savedNs: 12_000_000, repairNs: 170_000_000, nsPerByte: 0.049636 },
    { device: 'nvme-plp', savedNs: 0, repairNs: 500_000, nsPerByte: 0.0001 },
  ],
};

/** By `cellKey`. */
export function repairsOf({ cells }: ResultRecord): ReadonlyMap<string, RepairPrice> {
  const lazy = cells.find(({ cell }) => cell.refcounts === 'lazy');
  if (lazy === undefined) throw new Error('no lazy cell');
  const eager = cellKey({ ...lazy.cell, refcounts: 'eager' });
  return new Map([[cellKey(lazy.cell), { ...REPAIRED, eager }]]);
}
