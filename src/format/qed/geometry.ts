/**
 * Where things are in a QED image: the arithmetic of clusters and two-level tables, and the limits
 * of the format (QED specification, "Header" and "Tables").
 *
 * Invariants: the cluster size is a power of two, so that dividing offsets below 2^53 by it is
 * exact; a table is `tableClusters` clusters of 8-byte entries; both levels have tables of the same
 * size.
 */

export const CLUSTER_SIZE_MIN = 4096;
export const CLUSTER_SIZE_MAX = 64 * 1024 * 1024;
export const CLUSTER_SIZE_DEFAULT = 65_536;
export const TABLE_CLUSTERS_MAX = 16;
export const TABLE_CLUSTERS_DEFAULT = 4;
/** Bytes of one table entry, a little-endian host offset. */
export const ENTRY_SIZE = 8;

export interface QedGeometry {
  /** Bytes. */
  readonly clusterSize: number;
  /** Clusters of one table, first or second level. */
  readonly tableClusters: number;
  /** Bytes of one table. */
  readonly tableSize: number;
  readonly entriesPerTable: number;
  /** Guest bytes that one second-level table maps. */
  readonly bytesPerL2Table: number;
  /** Bytes before the first cluster that may hold a table or data. */
  readonly headerSize: number;
}

export function qedGeometry(sizes: {
  readonly clusterSize: number;
  readonly tableClusters: number;
  readonly headerClusters: number;
}): QedGeometry {
  const { clusterSize, tableClusters } = sizes;
  const tableSize = clusterSize * tableClusters;
  const entriesPerTable = tableSize / ENTRY_SIZE;
  return {
    clusterSize,
    tableClusters,
    tableSize,
    entriesPerTable,
    bytesPerL2Table: entriesPerTable * clusterSize,
    headerSize: sizes.headerClusters * clusterSize,
  };
}

/** The largest disk the two levels can map, in bytes; never more than 2^53 − 1. */
export function virtualSizeMax(geometry: QedGeometry): number {
  return Math.min(geometry.bytesPerL2Table * geometry.entriesPerTable, Number.MAX_SAFE_INTEGER);
}
