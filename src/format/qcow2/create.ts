/**
 * Creating a qcow2 image with the bytes that `qemu-img create` of QEMU 7.2 makes.
 *
 *   cluster 0 header · 1 refcount table · 2 refcount block · from 3 on the L1 table
 *
 * A disk of size 0 is laid down first and then grown by the engine itself, so that small clusters,
 * whose L1 table needs refcount blocks of its own, come out right without a second allocator.
 */

import { viewOf, writeU64be } from '../../core/bytes.ts';
import { assertInvariant, Qcow2BenchError } from '../../core/error.ts';
import { allocatePages } from '../../core/page-memory.ts';
import type { Pending } from '../../core/pending.ts';
import { DeviceFilter } from '../../device/filter.ts';
import type { CreateOptions } from '../image-options.ts';
import { extendEmptyFile } from '../empty-file.ts';
import { SHAPE_DEFAULTS } from '../image-shape.ts';
import { geometryOf, l1EntriesFor } from './on-disk/geometry.ts';
import { serializeHeader } from './on-disk/header-writer.ts';
import type { Qcow2Header } from './on-disk/header.ts';
import { AUTOCLEAR, COMPATIBLE, INCOMPATIBLE } from './on-disk/layout.ts';
import { DEFAULT_CLUSTER_SIZE, impossibleLayout } from './on-disk/layout-rules.ts';
import { openQcow2 } from './open.ts';

/** Writes an empty image over whatever the device held; the caller syncs and closes it. */
export async function createQcow2(options: CreateOptions): Promise<void> {
  const { device, virtualSize, backingFile, dataFile } = options;
  const { clusterSize: chosenSize = DEFAULT_CLUSTER_SIZE, shape = {} } = options;
  const broken = impossibleLayout(options);
  if (broken !== undefined) throw new Qcow2BenchError(broken.code, broken.message);
  assertInvariant(
    (dataFile !== undefined) === ((shape.dataFile ?? 'none') !== 'none'),
    'a data file without its shape',
  );
  const geometry = geometryOf(chosenSize, shape);
  const { clusterBits, clusterSize, refcountOrder } = geometry;
  const { compressionType = SHAPE_DEFAULTS.compressionType, preallocation = SHAPE_DEFAULTS.preallocation } =
    shape;
  const header: Qcow2Header = {
    version: shape.compat === '0.10' ? 2 : 3,
    backingFile: undefined,
    backingFormat: undefined,
    dataFile: dataFile?.name,
    clusterBits,
    virtualSize: 0,
    l1Entries: 0,
    l1Offset: 0,
    refcountTableOffset: clusterSize,
    refcountTableClusters: 1,
    snapshotCount: 0,
    snapshotsOffset: 0,
    incompatible:
      (compressionType === 'zlib' ? 0 : INCOMPATIBLE.compressionType) |
      (shape.extendedL2 === true ? INCOMPATIBLE.extendedL2 : 0) |
      (dataFile === undefined ? 0 : INCOMPATIBLE.externalDataFile),
    compatible: options.refcounts === 'lazy' ? BigInt(COMPATIBLE.lazyRefcounts) : 0n,
    autoclear: shape.dataFile === 'raw' ? BigInt(AUTOCLEAR.rawExternalData) : 0n,
    refcountOrder,
    compressionType,
    unknownFields: new Uint8Array(0),
    otherExtensions: [],
  };

  await device.truncate(0, 'header');
  await dataFile?.device.truncate(0, 'data');
  await device.write(0, serializeHeader(header, device.path), 'header');
  // The table and a block that counts nothing yet, in one write.
  const tables = allocatePages(2 * clusterSize);
  writeU64be(viewOf(tables), 0, 2 * clusterSize);
  await device.write(clusterSize, tables, 'refcount-table');

  const image = await openQcow2({
    device: new KeptOpen(device),
    readOnly: false,
    openBacking: () => Promise.reject(new Error('an image without a backing file asked for one')),
    openDataFile: dataFile === undefined ? undefined : () => new KeptOpen(dataFile.device),
    readPurpose: 'data',
    refcounts: options.refcounts ?? 'eager',
  });
  // Header, table and block.
  await image.refcounts.allocate(3);
  await image.header.rewrite({});
  await image.tables.grow(l1EntriesFor(geometry, virtualSize), 'exact');
  // A raw data file must be readable without the tables, so all clusters are allocated from the
  // start.
  const mode = preallocation === 'off' && shape.dataFile === 'raw' ? 'metadata' : preallocation;
  if (mode !== 'off') await image.preallocate(virtualSize, mode);
  else if (dataFile !== undefined) await extendEmptyFile(dataFile.device, virtualSize, 'hole');
  await image.header.moveVirtualSize(virtualSize, 'l1-growth');
  if (backingFile !== undefined) {
    await image.header.rewrite({ backingFile: backingFile.name, backingFormat: backingFile.format });
  }
  await image.close();
}

/** A device whose `close` is left to somebody else. */
class KeptOpen extends DeviceFilter {
  override close(): Pending {
    return undefined;
  }
}
