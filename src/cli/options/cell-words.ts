/**
 * The command that runs one cell again: what a verdict names so that a reader sees its host
 * operations.
 */

import { CACHE_SIZE_OPTIONS, type CacheSizes } from '../../format/cache-sizes.ts';
import type { CountedCell } from '../../result/schema.ts';
import { OPTION_OF_SHAPE } from './layout-options.ts';

const RUNNABLE: readonly string[] = ['builtin', 'qemu'];

/**
 * The words after the program's name; `undefined` of a cell that options cannot describe, such as
 * one with a trace fitted to another size or of an engine that was ingested.
 */
export function cellWords(cell: CountedCell): readonly string[] | undefined {
  if (cell.remap !== undefined || cell.flushPolicy !== undefined) return undefined;
  if (!RUNNABLE.includes(cell.engine)) return undefined;
  const { image, backingDepth, payload, like, discard, overlap } = cell;
  const options: Readonly<Record<string, unknown>> = {
    workload: cell.workload,
    engine: cell.engine === 'builtin' ? undefined : cell.engine,
    format: cell.format,
    refcounts: cell.refcounts ?? undefined,
    cache: cell.cache,
    'cluster-size': cell.clusterSize === 65_536 ? undefined : (cell.clusterSize ?? undefined),
    'queue-depth': cell.queueDepth === 1 ? undefined : cell.queueDepth,
    overlap: overlap === true ? 'on' : undefined,
    'backing-depth': backingDepth,
    payload,
    discard,
    like,
    image,
    ...shapeWords(cell),
    ...cacheWords(cell.caches),
  };
  const words = Object.entries(options).flatMap(([name, value]) =>
    value === undefined ? [] : [`--${name}`, valueText(value)],
  );
  return ['run', ...words, '--samples', '0', '--host-log', 'ops.jsonl'];
}

function shapeWords({ shape = {} }: CountedCell): Readonly<Record<string, unknown>> {
  const entries = Object.entries(shape) as readonly (readonly [keyof typeof OPTION_OF_SHAPE, unknown])[];
  return Object.fromEntries(entries.map(([name, value]) => [OPTION_OF_SHAPE[name], value]));
}

function cacheWords(caches: CacheSizes = {}): Readonly<Record<string, unknown>> {
  const entries = Object.entries(caches) as readonly (readonly [keyof CacheSizes, unknown])[];
  return Object.fromEntries(entries.map(([name, value]) => [CACHE_SIZE_OPTIONS[name], value]));
}

function valueText(value: unknown): string {
  if (typeof value === 'boolean') return value ? 'on' : 'off';
  return String(value);
}
