/** How large the file of a qcow2 image gets at most, from its geometry alone. */

import { ceilDiv } from '../../../core/alignment.ts';
import type { ClusteredDisk } from '../../format-facts.ts';
import { hasDataFile } from '../../image-shape.ts';
import { geometryOf } from './geometry.ts';
import { ENTRY_SIZE } from './layout.ts';

/**
 * Bytes of an image file that holds every cluster of the disk, without snapshots and bitmaps, as
 * `qemu-img measure` counts them: one header cluster, L1 and L2 tables, data, refcounts. Data in an
 * external file is not counted.
 */
export function fullFileSize({ virtualSize, clusterSize, shape }: ClusteredDisk): number {
  const geometry = geometryOf(clusterSize, shape);
  const entriesPerCluster = clusterSize / ENTRY_SIZE;
  const dataClusters = ceilDiv(virtualSize, clusterSize);
  const l2Tables = ceilDiv(dataClusters, geometry.l2Entries);
  const l1Clusters = ceilDiv(l2Tables, entriesPerCluster);
  const stored = hasDataFile(shape) ? 0 : dataClusters;
  const counted = 1 + l1Clusters + l2Tables + stored;
  // Refcounts count themselves: their number is what no longer changes when they are added.
  let blocks = 0;
  let tables = 0;
  for (let before = -1; before !== blocks + tables;) {
    before = blocks + tables;
    blocks = ceilDiv(counted + before, geometry.refcountBlockEntries);
    tables = ceilDiv(blocks, entriesPerCluster);
  }
  return (counted + blocks + tables) * clusterSize;
}
