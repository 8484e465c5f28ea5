/**
 * Where a qcow2 file has what, for comparisons with another program's operations.
 *
 * Invariants:
 * - A guest cluster of a snapshot counts where the active tables have none: the disk itself is what
 *   is served.
 * - Clusters of a data file are not in the map: their host offsets are another file's.
 */

import type { BlockDevice } from '../../device/block-device.ts';
import { ClusterMap, readTable, type FileLayout } from '../file-layout.ts';
import { bitmapsExtension, readBitmapDirectory, readBitmapTable } from './bitmaps/bitmap-directory.ts';
import { HeaderStore } from './metadata/header-store.ts';
import { MetadataDevice } from './metadata/metadata-device.ts';
import { makeGeometry, type Geometry } from './on-disk/geometry.ts';
import { clusterTypeAt, hostOffsetAt } from './on-disk/l2-entry.ts';
import { ENTRY_SIZE } from './on-disk/layout.ts';
import { readHeader } from './open.ts';
import { readSnapshotTable } from './snapshots/snapshot-table.ts';

/** The device stays open. */
export async function readQcow2Layout(device: BlockDevice): Promise<FileLayout> {
  const values = await readHeader(device);
  const header = new HeaderStore(new MetadataDevice(device), values, true);
  const geometry = makeGeometry(values);
  const { clusterSize } = geometry;
  const map = new ClusterMap(clusterSize);
  map.addMetadata(0, 1, 'header');

  const refcountTableBytes = values.refcountTableClusters * clusterSize;
  map.addMetadata(values.refcountTableOffset, refcountTableBytes, 'refcount-table');
  const refcountTable = await readTable(device, values.refcountTableOffset, refcountTableBytes);
  for (let index = 0; index < refcountTable.byteLength / ENTRY_SIZE; index++) {
    const block = hostOffsetAt(refcountTable, index);
    if (block !== 0) map.addMetadata(block, clusterSize, 'refcount-block');
  }

  const { snapshots, byteLength } = await readSnapshotTable(header);
  map.addMetadata(values.snapshotsOffset, byteLength, 'snapshot-table');
  const mapped = new Set<number>();
  // The active tables first.
  for (const table of [values, ...snapshots]) {
    await addMapping({ device, geometry, hasDataFile: header.hasDataFile, map, mapped }, table);
  }
  await addBitmaps(header, map);
  return map;
}

interface MappingParts {
  readonly device: BlockDevice;
  readonly geometry: Geometry;
  readonly hasDataFile: boolean;
  readonly map: ClusterMap;
  /** Offsets of the L2 tables in the map: snapshots share them. */
  readonly mapped: Set<number>;
}

/** An L1 table, active or a snapshot's, and what it leads to. */
async function addMapping(
  { device, geometry, hasDataFile, map, mapped }: MappingParts,
  { l1Offset, l1Entries }: { readonly l1Offset: number; readonly l1Entries: number },
): Promise<void> {
  const { clusterSize, l2Entries, entryWords } = geometry;
  map.addMetadata(l1Offset, l1Entries * ENTRY_SIZE, 'l1-table');
  const l1Table = await readTable(device, l1Offset, l1Entries * ENTRY_SIZE);
  for (let l1Index = 0; l1Index < l1Entries; l1Index++) {
    const tableOffset = hostOffsetAt(l1Table, l1Index);
    if (tableOffset === 0 || mapped.has(tableOffset)) continue;
    mapped.add(tableOffset);
    map.addMetadata(tableOffset, clusterSize, 'l2-table');
    if (hasDataFile) continue;
    const l2Table = await readTable(device, tableOffset, clusterSize);
    for (let l2Index = 0; l2Index < l2Entries; l2Index++) {
      const word = l2Index * entryWords;
      const type = clusterTypeAt(l2Table, word);
      if (type !== 'normal' && type !== 'zero-allocated') continue;
      map.addGuestCluster(l1Index * l2Entries + l2Index, hostOffsetAt(l2Table, word));
    }
  }
}

/** Directory, tables and bits of the persistent bitmaps, if they are in step with the disk. */
async function addBitmaps(header: HeaderStore, map: ClusterMap): Promise<void> {
  const found = bitmapsExtension(header);
  if (found?.isConsistent !== true) return;
  const directory = await readBitmapDirectory(header, found.extension);
  map.addMetadata(directory.offset, directory.byteLength, 'bitmap');
  for (const entry of directory.entries) {
    map.addMetadata(entry.tableOffset, entry.tableEntries * ENTRY_SIZE, 'bitmap');
    for (const cluster of await readBitmapTable(header, entry)) {
      if (cluster.kind === 'stored') map.addMetadata(cluster.hostOffset, map.clusterSize, 'bitmap');
    }
  }
}
