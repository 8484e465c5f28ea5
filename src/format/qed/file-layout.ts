/** Where a QED file has what, for comparisons with another program's operations. */

import { readU64le } from '../../core/bytes.ts';
import type { BlockDevice } from '../../device/block-device.ts';
import { ClusterMap, readTable, type FileLayout } from '../file-layout.ts';
import { ENTRY_SIZE } from './geometry.ts';
import { HEADER_SIZE, parseQedHeader } from './header.ts';
import { ENTRY_ZERO } from './tables.ts';

/** The device stays open. */
export async function readQedLayout(device: BlockDevice): Promise<FileLayout> {
  const fields = new Uint8Array(HEADER_SIZE);
  await device.read(0, fields, 'header');
  const { geometry, l1Offset } = parseQedHeader(fields, { path: device.path, size: device.size() });
  const { clusterSize, tableSize, entriesPerTable } = geometry;
  const map = new ClusterMap(clusterSize);
  map.addMetadata(0, geometry.headerSize, 'header');
  map.addMetadata(l1Offset, tableSize, 'l1-table');
  const l1Table = await readTable(device, l1Offset, tableSize);
  for (let l1Index = 0; l1Index < entriesPerTable; l1Index++) {
    const tableOffset = readU64le(l1Table, l1Index * ENTRY_SIZE) ?? 0;
    if (tableOffset === 0) continue;
    map.addMetadata(tableOffset, tableSize, 'l2-table');
    const l2Table = await readTable(device, tableOffset, tableSize);
    for (let l2Index = 0; l2Index < entriesPerTable; l2Index++) {
      const hostOffset = readU64le(l2Table, l2Index * ENTRY_SIZE) ?? 0;
      if (hostOffset > ENTRY_ZERO) map.addGuestCluster(l1Index * entriesPerTable + l2Index, hostOffset);
    }
  }
  return map;
}
