/**
 * The identity and the names of a cell.
 *
 * Invariant: `cellKey` is injective: two cells have the same key exactly if all their coordinates agree,
 * whatever characters a workload's name has.
 */

import { basename } from 'node:path';

import { formatSize } from '../core/size.ts';
import type { Cell } from './schema.ts';
import {
  CACHE_SIZE_OPTIONS,
  type CacheSizes,
  type Format,
  type ImageShape,
  type RefcountMode,
} from './vocabulary.ts';

/** A string that identifies the cell within a result. */
export function cellKey(cell: Cell): string {
  const timing = cell.timing === undefined ? [] : [cell.timing];
  return JSON.stringify([countingKey(cell), cell.device, ...timing]);
}

/**
 * A string that identifies what the cell *counts*: all coordinates but the device that times were taken on and when
 * its requests were due, which no count depends on.
 */
export function countingKey(cell: Omit<Cell, 'device' | 'timing'>): string {
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
    ...(cell.overlap === undefined ? [] : ['overlap']),
    ...(cell.shape === undefined ? [] : [{ shape: sortedEntries(cell.shape) }]),
    ...(cell.caches === undefined ? [] : [{ caches: sortedEntries(cell.caches) }]),
    ...(cell.discard === undefined ? [] : [{ discard: cell.discard }]),
    ...(cell.flushPolicy === undefined ? [] : [{ flushPolicy: cell.flushPolicy }]),
    ...(cell.remap === undefined ? [] : [{ remap: cell.remap }]),
    ...(cell.image === undefined ? [] : [{ image: cell.image }]),
  ]);
}

/** In an order that does not depend on how the object was made. */
function sortedEntries(part: object): readonly (readonly [string, unknown])[] {
  const entries: readonly (readonly [string, unknown])[] = Object.entries(part);
  return entries.toSorted(([a], [b]) => (a < b ? -1 : 1));
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
  if (cell.overlap === true) parts.push('overlap');
  if (cell.backing !== undefined) parts.push(`backing ${cell.backing}`);
  if (cell.payload !== undefined && cell.payload !== 'pattern') parts.push(`payload ${cell.payload}`);
  parts.push(...shapeWords(cell.shape), ...cacheWords(cell.caches));
  if (cell.discard !== undefined) parts.push(`discard ${cell.discard}`);
  if (cell.image !== undefined) parts.push(`image ${basename(cell.image)}`);
  parts.push(...replayWords(cell));
  if (cell.engine !== 'builtin') parts.push(cell.engine);
  return parts.join(' · ');
}

/** What is not the default of an image's shape, in words. */
export function shapeWords(shape: ImageShape | undefined): readonly string[] {
  if (shape === undefined) return [];
  const parts: string[] = [];
  if (shape.compat !== undefined) parts.push(`compat ${shape.compat}`);
  if (shape.refcountBits !== undefined) parts.push(`${String(shape.refcountBits)}-bit refcounts`);
  if (shape.extendedL2 === true) parts.push('extended L2');
  if (shape.compressionType !== undefined) parts.push(`compression ${shape.compressionType}`);
  if (shape.preallocation !== undefined) parts.push(`preallocation ${shape.preallocation}`);
  if (shape.dataFile !== undefined) parts.push(`${shape.dataFile} data file`);
  return parts;
}

/** The sizes of metadata caches that were given, in words. */
export function cacheWords(caches: CacheSizes | undefined): readonly string[] {
  if (caches === undefined) return [];
  const names = CACHE_SIZE_OPTIONS;
  const parts: readonly (readonly [string, number | undefined])[] = [
    [names.cacheSize, caches.cacheSize],
    [names.l2CacheSize, caches.l2CacheSize],
    [names.refcountCacheSize, caches.refcountCacheSize],
    [names.l2CacheEntrySize, caches.l2CacheEntrySize],
  ];
  return parts.flatMap(([name, size]) => (size === undefined ? [] : [`${name} ${formatSize(size)}`]));
}

/** How a trace was replayed, as far as it was not as it is and as fast as possible, in words. */
export function replayWords({
  flushPolicy,
  remap,
  timing,
}: Pick<Cell, 'flushPolicy' | 'remap' | 'timing'>): readonly string[] {
  return [
    ...(flushPolicy === undefined ? [] : [`flush policy ${flushPolicy}`]),
    ...(remap === undefined ? [] : [`remap ${remap}`]),
    ...(timing === undefined ? [] : [`timing ${timing}`]),
  ];
}
