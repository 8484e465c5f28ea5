/**
 * The identity and the names of a cell.
 *
 * Invariant: `cellKey` is injective: two cells have the same key exactly if all their coordinates agree,
 * whatever characters a workload's name has.
 */

import { formatSize } from '../core/size.ts';
import type { Cell } from './schema.ts';
import type { Format, RefcountMode } from './vocabulary.ts';

/** A string that identifies the cell within a result. */
export function cellKey(cell: Cell): string {
  return JSON.stringify([countingKey(cell), cell.device]);
}

/**
 * A string that identifies what the cell *counts*: all coordinates but the device that times were taken on,
 * which no count depends on.
 */
export function countingKey(cell: Omit<Cell, 'device'>): string {
  return JSON.stringify([
    cell.workload,
    cell.cache,
    cell.format,
    cell.refcounts,
    cell.clusterSize,
    cell.queueDepth,
    cell.backing ?? null,
    cell.payload ?? 'pattern',
    cell.engine,
  ]);
}

/** The name of a format with its refcount mode, as people say it: `raw`, `qcow2 eager`, `qcow2 lazy`, `QED`. */
export function variantName(options: {
  readonly format: Format;
  readonly refcounts: RefcountMode | null;
}): string {
  const base = options.format === 'qed' ? 'QED' : options.format;
  return options.refcounts === null ? base : `${base} ${options.refcounts}`;
}

/** One line that names the cell to a reader, the usual coordinates left out. */
export function cellName(cell: Omit<Cell, 'device'>): string {
  const parts = [cell.workload, variantName(cell), cell.cache, setupName(cell)];
  return parts.filter((part) => part !== '').join(' · ');
}

/** What sets a cell apart beside workload, variant and cache mode: `64KiB · depth 1`. */
export function setupName(cell: Omit<Cell, 'device'>): string {
  const parts: string[] = [];
  if (cell.clusterSize !== null) parts.push(formatSize(cell.clusterSize));
  parts.push(`depth ${String(cell.queueDepth)}`);
  if (cell.backing !== undefined) parts.push(`backing ${cell.backing}`);
  if (cell.payload !== undefined && cell.payload !== 'pattern') parts.push(`payload ${cell.payload}`);
  if (cell.engine !== 'builtin') parts.push(cell.engine);
  return parts.join(' · ');
}
