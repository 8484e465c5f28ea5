/** The facts of qcow2. */

import { Qcow2BenchError } from '../../core/error.ts';
import { LIMITS } from '../../core/limits.ts';
import type { CacheSizes } from '../cache-sizes.ts';
import type { ClusteredDisk, FormatFacts } from '../format-facts.ts';
import { REFCOUNT_MODES } from '../image-shape.ts';
import { tooLargeText } from '../size-limits.ts';
import { cacheGeometry } from './metadata/cache-geometry.ts';
import { fullFileSize } from './on-disk/full-size.ts';
import { geometryOf } from './on-disk/geometry.ts';
import { impossibleLayout } from './on-disk/layout-rules.ts';
import { CLUSTER_BITS_MAX, CLUSTER_BITS_MIN, ENTRY_SIZE, INCOMPATIBLE } from './on-disk/layout.ts';

export const qcow2Format: FormatFacts = {
  title: 'qcow2',
  meaning: 'two-level cluster tables, a refcount for every cluster',
  magic: [0x51, 0x46, 0x49, 0xfb],
  contents: 'metadata',
  clusterSizes: { min: 2 ** CLUSTER_BITS_MIN, max: 2 ** CLUSTER_BITS_MAX },
  refcountModes: REFCOUNT_MODES,
  backing: 'any',
  shape: ['compat', 'refcountBits', 'extendedL2', 'compressionType', 'preallocation', 'dataFile'],
  cacheSizes: ['cacheSize', 'l2CacheSize', 'refcountCacheSize', 'l2CacheEntrySize'],
  hasDiscardNoUnref: true,
  hasPolicies: true,
  hasCompression: true,
  hasSnapshots: true,
  hasCheck: true,
  zeroing: 'on-allocation',
  requestNs: 4000,
  // Version 3; the dirty bit is in the lowest byte of the incompatible features.
  isInUse: (header) => header[7] === 3 && ((header[79] ?? 0) & INCOMPATIBLE.dirty) !== 0,
  impossible: impossibleLayout,
  unmappable,
  unsupportedCaches,
  fullFileSize,
  loadEngine: async () => (await import('./engine.ts')).QCOW2_ENGINE,
};

function unmappable({ virtualSize, clusterSize, shape }: ClusteredDisk): string | undefined {
  const sizeMax = (LIMITS.l1TableBytes / ENTRY_SIZE) * geometryOf(clusterSize, shape).l2Coverage;
  return virtualSize > sizeMax ? tooLargeText('qcow2', { virtualSize, sizeMax, clusterSize }) : undefined;
}

function unsupportedCaches(
  sizes: CacheSizes,
  { virtualSize, clusterSize, shape }: ClusteredDisk,
): string | undefined {
  try {
    cacheGeometry(geometryOf(clusterSize, shape), virtualSize, sizes);
    return undefined;
  } catch (error) {
    if (error instanceof Qcow2BenchError) return error.message;
    throw error;
  }
}
