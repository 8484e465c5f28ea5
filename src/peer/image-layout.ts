/**
 * The layout of an image file, read with our codecs while no process has it open. Returns the kind
 * of metadata at a host offset, and which guest byte a host byte holds.
 *
 * Invariants:
 * - Only the codecs of the formats are used, none of the code that serves requests: what is said
 *   about another program's operations does not lean on the engine that they are compared with.
 * - Memory is taken for tables that the file has room for, each bounded by its format's header.
 * - A guest cluster of a snapshot counts where the active tables have none: the disk itself is what
 *   is served.
 * - Clusters of a data file are not in the map: their host offsets are another file's.
 */

import { readU64le, viewOf } from '../core/bytes.ts';
import type { BlockDevice } from '../device/block-device.ts';
import type { Purpose } from '../device/purpose.ts';
import type { Format } from '../format/disk-image.ts';
import {
  bitmapsExtension,
  readBitmapDirectory,
  readBitmapTable,
} from '../format/qcow2/bitmaps/bitmap-directory.ts';
import { makeGeometry, type Geometry } from '../format/qcow2/on-disk/geometry.ts';
import { HeaderStore } from '../format/qcow2/metadata/header-store.ts';
import { clusterTypeAt, hostOffsetAt } from '../format/qcow2/on-disk/l2-entry.ts';
import { ENTRY_SIZE } from '../format/qcow2/on-disk/layout.ts';
import { MetadataDevice } from '../format/qcow2/metadata/metadata-device.ts';
import { readHeader } from '../format/qcow2/open.ts';
import { readSnapshotTable } from '../format/qcow2/snapshots/snapshot-table.ts';
import { HEADER_SIZE, parseQedHeader } from '../format/qed/header.ts';
import { ENTRY_ZERO } from '../format/qed/tables.ts';

export interface ImageLayout {
  /**
   * Bytes of the unit in which host space changes hands; for raw any one, as guest and host are the
   * same.
   */
  readonly clusterSize: number;
  /** The metadata at a host offset, in bytes; `undefined` where there is none. */
  metadataAt(hostOffset: number): Purpose | undefined;
  /** The guest offset of the byte at a host offset; `undefined` where no guest cluster is. */
  guestOffsetAt(hostOffset: number): number | undefined;
}

const RAW_UNIT = 65_536;

/**
 * Reads the layout of an image; the device stays open.
 *
 * @throws Qcow2BenchError of the format, if the file is no image of it.
 */
export async function readImageLayout(device: BlockDevice, format: Format): Promise<ImageLayout> {
  switch (format) {
    case 'raw':
      return {
        clusterSize: RAW_UNIT,
        metadataAt: () => undefined,
        guestOffsetAt: (hostOffset) => hostOffset,
      };
    case 'qcow2':
      return readQcow2(device);
    case 'qed':
      return readQed(device);
  }
}

class ClusterMap implements ImageLayout {
  readonly clusterSize: number;
  readonly #metadata = new Map<number, Purpose>();
  /** Guest cluster by host cluster. */
  readonly #guestClusters = new Map<number, number>();

  constructor(clusterSize: number) {
    this.clusterSize = clusterSize;
  }

  metadataAt(hostOffset: number): Purpose | undefined {
    return this.#metadata.get(Math.floor(hostOffset / this.clusterSize));
  }

  guestOffsetAt(hostOffset: number): number | undefined {
    const guestCluster = this.#guestClusters.get(Math.floor(hostOffset / this.clusterSize));
    return guestCluster === undefined
      ? undefined
      : guestCluster * this.clusterSize + (hostOffset % this.clusterSize);
  }

  addMetadata(hostOffset: number, length: number, purpose: Purpose): void {
    for (let at = hostOffset; at < hostOffset + length; at += this.clusterSize) {
      this.#metadata.set(at / this.clusterSize, purpose);
    }
  }

  /** Does nothing where a guest cluster is already. */
  addGuestCluster(guestCluster: number, hostOffset: number): void {
    const hostCluster = Math.floor(hostOffset / this.clusterSize);
    if (!this.#guestClusters.has(hostCluster)) this.#guestClusters.set(hostCluster, guestCluster);
  }
}

async function readQcow2(device: BlockDevice): Promise<ImageLayout> {
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

async function readQed(device: BlockDevice): Promise<ImageLayout> {
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

async function readTable(device: BlockDevice, offset: number, length: number): Promise<DataView> {
  const bytes = new Uint8Array(length);
  await device.read(offset, bytes, 'l2-table');
  return viewOf(bytes);
}
