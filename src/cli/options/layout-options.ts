/**
 * The options that say how an image is laid out (`create`, and every command that makes one) and how it is opened
 * (every command that serves one): one table each, for all commands.
 *
 * A matrix takes one value of each: they hold for all of its cells whose format has them.
 */

import type { InferredOptionTypes } from 'yargs';

import { givenSizes, type CacheSizes } from '../../format/cache-sizes.ts';
import type { Format } from '../../format/disk-image.ts';
import { DISCARD_MODES } from '../../format/image-options.ts';
import {
  COMPAT_LEVELS,
  COMPRESSION_TYPES,
  DATA_FILES,
  PREALLOCATIONS,
  REFCOUNT_BITS,
  SHAPE_RULES,
  type ImageShape,
} from '../../format/image-shape.ts';
import { flag, inGroup, optional, preset } from './option-kinds.ts';
import { choice, numberOf, size } from './option-values.ts';
import { UsageError } from '../terminal/usage-error.ts';

export const SHAPE_OPTIONS = inGroup('Image, where it is made:', {
  compat: optional('qcow2: 0.10 (version 2) or 1.1 (default)', choice('compat', COMPAT_LEVELS)),
  'refcount-bits': optional(
    'qcow2: width of a refcount, 1 to 64; default 16',
    numberOf('refcount-bits', REFCOUNT_BITS),
  ),
  'extended-l2': flag('qcow2: clusters of 32 subclusters, allocated and zeroed apart'),
  'compression-type': optional(
    'qcow2: of clusters that are written compressed, zlib (default) or zstd',
    choice('compression-type', COMPRESSION_TYPES),
  ),
  preallocation: optional(
    'off (default), metadata (qcow2), falloc or full',
    choice('preallocation', PREALLOCATIONS),
  ),
  'data-file': optional(
    'qcow2: guest data in a file of its own, plain, or raw (readable as a raw image)',
    choice('data-file', DATA_FILES),
  ),
});

const CACHE_SIZE_OPTIONS = inGroup('Metadata caches of qcow2, as in QEMU:', {
  'cache-size': optional('Of both together: 1MiB …', size('cache-size')),
  'l2-cache-size': optional('Default: what the disk needs, at most 32MiB', size('l2-cache-size')),
  'refcount-cache-size': optional('Default: 4 clusters', size('refcount-cache-size')),
  'l2-cache-entry-size': optional(
    'Of a slice of an L2 table; default: a cluster, or 4KiB if the cache is too small for the disk',
    size('l2-cache-entry-size'),
  ),
});

export const OPENING_OPTIONS = {
  ...CACHE_SIZE_OPTIONS,
  ...inGroup('Image, as it is opened:', {
    discard: preset(
      "Guest discards: unmap (QEMU's tools) or ignore (a VM's drive)",
      choice('discard', DISCARD_MODES),
      'unmap',
    ),
  }),
} as const;

export type ShapeArgs = InferredOptionTypes<typeof SHAPE_OPTIONS>;
export type CacheSizeArgs = InferredOptionTypes<typeof CACHE_SIZE_OPTIONS>;
export type OpeningArgs = InferredOptionTypes<typeof OPENING_OPTIONS>;

/** Which option each property comes from. */
const OPTION_OF: Readonly<Record<keyof ImageShape, keyof typeof SHAPE_OPTIONS>> = {
  compat: 'compat',
  refcountBits: 'refcount-bits',
  extendedL2: 'extended-l2',
  compressionType: 'compression-type',
  preallocation: 'preallocation',
  dataFile: 'data-file',
};

/** The names of those that were given. */
export function givenShapeOptions(args: ShapeArgs): readonly string[] {
  return Object.values(OPTION_OF).filter((option) => args[option] !== undefined && args[option] !== false);
}

/** Those that were given, with the properties they set. */
export function givenShape(args: ShapeArgs): readonly {
  readonly option: string;
  readonly property: keyof ImageShape;
  readonly value: string | number | boolean;
}[] {
  return Object.entries(OPTION_OF).flatMap(([property, option]) => {
    const value = args[option];
    if (value === undefined || value === false) return [];
    return [{ option, property: property as keyof ImageShape, value }];
  });
}

/** @throws UsageError for an option that none of the formats has. */
export function imageShape(args: ShapeArgs, formats: readonly Format[]): ImageShape {
  const shape: ImageShape = {
    compat: args.compat,
    refcountBits: args['refcount-bits'],
    extendedL2: args['extended-l2'] || undefined,
    compressionType: args['compression-type'],
    preallocation: args.preallocation,
    dataFile: args['data-file'],
  };
  for (const [property, { formats: having }] of Object.entries(SHAPE_RULES)) {
    const key = property as keyof ImageShape;
    if (shape[key] === undefined || formats.some((format) => having.includes(format))) continue;
    throw new UsageError(`--${OPTION_OF[key]}: ${formats.join(', ')} has none; ${having.join(', ')} has`);
  }
  return shape;
}

/** @throws UsageError if sizes were given and none of the formats has such caches. */
export function cacheSizes(args: CacheSizeArgs, formats: readonly Format[]): CacheSizes | undefined {
  const sizes = givenSizes({
    cacheSize: args['cache-size'],
    l2CacheSize: args['l2-cache-size'],
    refcountCacheSize: args['refcount-cache-size'],
    l2CacheEntrySize: args['l2-cache-entry-size'],
  });
  if (sizes !== undefined && !formats.includes('qcow2')) {
    throw new UsageError(`sizes of metadata caches: ${formats.join(', ')} has none; qcow2 has`);
  }
  return sizes;
}
