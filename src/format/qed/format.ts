/** The facts of QED. */

import { alignUp, ceilDiv } from '../../core/alignment.ts';
import { LIMITS } from '../../core/limits.ts';
import { formatSize } from '../../core/size.ts';
import type { ClusteredDisk, FormatFacts } from '../format-facts.ts';
import { tooLargeText } from '../size-limits.ts';
import {
  CLUSTER_SIZE_MAX,
  CLUSTER_SIZE_MIN,
  qedGeometry,
  TABLE_CLUSTERS_DEFAULT,
  virtualSizeMax,
} from './geometry.ts';

export const qedFormat: FormatFacts = {
  title: 'QED',
  meaning: 'two-level cluster tables, no refcounts',
  lacks: 'refcounts',
  magic: [0x51, 0x45, 0x44, 0x00],
  contents: 'metadata',
  clusterSizes: { min: CLUSTER_SIZE_MIN, max: CLUSTER_SIZE_MAX },
  refcountModes: [],
  backing: 'plain',
  shape: [],
  cacheSizes: [],
  hasDiscardNoUnref: false,
  hasPolicies: true,
  hasCompression: false,
  hasSnapshots: false,
  hasCheck: true,
  zeroing: 'never',
  requestNs: 5000,
  // The need-check bit.
  isInUse: (header) => ((header[16] ?? 0) & 2) !== 0,
  unmappable,
  fullFileSize,
  loadEngine: async () => (await import('./engine.ts')).QED_ENGINE,
};

/** Of images made here and by qemu-img. */
function unmappable({ virtualSize, clusterSize }: ClusteredDisk): string | undefined {
  const tableClusters = TABLE_CLUSTERS_DEFAULT;
  const geometry = qedGeometry({ clusterSize, tableClusters, headerClusters: 1 });
  if (geometry.tableSize > LIMITS.l1TableBytes) {
    return (
      `qed tables of ${formatSize(geometry.tableSize)} (${String(tableClusters)} clusters of ${formatSize(clusterSize)}) ` +
      `exceed the limit of ${formatSize(LIMITS.l1TableBytes)}`
    );
  }
  const sizeMax = virtualSizeMax(geometry);
  return virtualSize > sizeMax ? tooLargeText('qed', { virtualSize, sizeMax, clusterSize }) : undefined;
}

/** The header, the L1 table, an L2 table for each part of the disk, and the data. */
function fullFileSize({ virtualSize, clusterSize }: ClusteredDisk): number {
  const tableClusters = TABLE_CLUSTERS_DEFAULT;
  const { tableSize, bytesPerL2Table } = qedGeometry({ clusterSize, tableClusters, headerClusters: 1 });
  const tables = 1 + ceilDiv(virtualSize, bytesPerL2Table);
  return clusterSize + tables * tableSize + alignUp(virtualSize, clusterSize);
}
