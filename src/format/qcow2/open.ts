/**
 * Opening a qcow2 image: header, tables, backing file, and the repair that a dirty image needs
 * before it is written again.
 *
 * Invariants: a refused image is left as it was; a dirty one is repaired before the first guest
 * request, or the opening fails and the dirty bit stays.
 */

import { alignUp } from '../../core/alignment.ts';
import { viewOf } from '../../core/bytes.ts';
import { Qcow2BenchError, hex } from '../../core/error.ts';
import { allocatePages } from '../../core/page-memory.ts';
import type { BlockDevice } from '../../device/block-device.ts';
import { isFormat } from '../../core/format-name.ts';
import { countOf } from '../../core/number-text.ts';
import type { DiskImage } from '../disk-image.ts';
import { enginePolicy } from '../engine-policy.ts';
import type { BackingReference, OpenOptions } from '../image-options.ts';
import { l1FaultOf } from './snapshots/broken-snapshots.ts';
import { cacheGeometry } from './metadata/cache-geometry.ts';
import { cutOffText, isCutOff, l1TableOf, refcountTableOf } from './on-disk/file-end.ts';
import { makeGeometry } from './on-disk/geometry.ts';
import { FIELD, parseHeader, type OpenPurpose, type Qcow2Header } from './on-disk/header.ts';
import { HeaderStore } from './metadata/header-store.ts';
import { ImageCore } from './metadata/image-core.ts';
import { CLUSTER_BITS_MAX, CLUSTER_BITS_MIN, ENTRY_SIZE } from './on-disk/layout.ts';
import { MetadataDevice } from './metadata/metadata-device.ts';
import { MetadataMap } from './metadata/metadata-map.ts';
import { Qcow2Image } from './qcow2-image.ts';
import { RefcountTable } from './metadata/refcount-table.ts';
import { readSnapshotTable, type SnapshotTable } from './snapshots/snapshot-table.ts';

/** Opens an image; repairs it first if it is dirty and opened for writing. */
export async function openQcow2(
  options: OpenOptions,
  purpose: OpenPurpose = options.forCheck === true ? 'check' : 'use',
): Promise<Qcow2Image> {
  const { device, readOnly } = options;
  let backing: DiskImage | undefined;
  let dataFile: BlockDevice | undefined;
  try {
    const values = await readHeader(device, purpose);
    if (options.forCheck !== true) checkTablePlaces(values, device);
    const metadataDevice = new MetadataDevice(device);
    const header = new HeaderStore(metadataDevice, values, readOnly);
    if (header.isCorrupt && !readOnly && options.forCheck !== true) {
      throw new Qcow2BenchError(
        'qcow2-marked-corrupt',
        'the image is marked corrupt and can only be opened read-only; run check --repair all',
        { path: device.path, offset: FIELD.incompatible },
      );
    }
    if (values.backingFile !== undefined) {
      backing = await options.openBacking(backingReference(values.backingFile, values.backingFormat));
    }
    if (header.hasDataFile) {
      dataFile = openDataFile(options, values);
    }
    const image = await assemble(options, { metadataDevice, header, backing, dataFile });
    if (!readOnly && options.forCheck !== true) await prepareForWriting(image);
    return image;
  } catch (error) {
    await dataFile?.close();
    await backing?.abandon();
    throw error;
  }
}

/** Reads and parses the header cluster. */
export async function readHeader(device: BlockDevice, purpose: OpenPurpose = 'use'): Promise<Qcow2Header> {
  const size = device.size();
  const read = async (length: number): Promise<Uint8Array> => {
    const bytes = allocatePages(Math.max(1, alignUp(length, device.requestAlignment)));
    await device.read(0, bytes, 'header');
    return bytes.subarray(0, length);
  };
  const start = await read(Math.min(size, 512));
  const clusterBits =
    start.byteLength >= FIELD.clusterBits + 4 ? viewOf(start).getUint32(FIELD.clusterBits) : 0;
  const isPlausible = clusterBits >= CLUSTER_BITS_MIN && clusterBits <= CLUSTER_BITS_MAX;
  const cluster = isPlausible ? await read(Math.min(size, 2 ** clusterBits)) : start;
  return parseHeader(cluster, device.path, purpose);
}

function openDataFile(options: OpenOptions, values: Qcow2Header): BlockDevice {
  if (options.openDataFile !== undefined) return options.openDataFile(values.dataFile);
  throw new Qcow2BenchError(
    'qcow2-data-file',
    'the image has an external data file, which is not opened here',
    {
      path: options.device.path,
      offset: FIELD.incompatible,
    },
  );
}

/**
 * A table on the header, or that the file's end cuts off, would be read as something else or as
 * empty.
 */
function checkTablePlaces(values: Qcow2Header, device: BlockDevice): void {
  const fileSize = device.size();
  for (const table of [refcountTableOf(values), l1TableOf(values)]) {
    const { name, offset, length, field } = table;
    if (length === 0) continue;
    if (offset === 0) {
      const message = `the ${name} has the offset 0, where the header is; the image is corrupt`;
      throw new Qcow2BenchError('qcow2-table-on-header', message, { path: device.path, offset: field });
    }
    if (!isCutOff(table, fileSize)) continue;
    const wayOut = 'restore a complete copy, or try to save data with check --repair all';
    if (offset >= fileSize) {
      const message = `the ${name} at ${hex(offset)} is past the end of the file (${hex(fileSize)}); the file is truncated or corrupt: ${wayOut}`;
      throw new Qcow2BenchError('qcow2-table-past-end', message, { path: device.path, offset: field });
    }
    throw new Qcow2BenchError(
      'image-cut-off',
      `the ${name} ${cutOffText(table, fileSize)}: the file is truncated; ${wayOut}`,
      { path: device.path, offset: fileSize },
    );
  }
}

function backingReference(name: string, format: string | undefined): BackingReference {
  if (format === undefined || format === '') return { name, format: undefined };
  return isFormat(format) ? { name, format } : { name, format: undefined, otherFormat: format };
}

interface OpenParts {
  readonly metadataDevice: MetadataDevice;
  readonly header: HeaderStore;
  readonly backing: DiskImage | undefined;
  readonly dataFile: BlockDevice | undefined;
}

async function assemble(options: OpenOptions, parts: OpenParts): Promise<Qcow2Image> {
  const { metadataDevice, header, backing, dataFile } = parts;
  const { values } = header;
  const geometry = makeGeometry(values);
  const metadata = new MetadataMap(geometry.clusterSize);
  const refcountTable = await RefcountTable.load(header, geometry, metadata);
  // A check reads the snapshot table itself: what is wrong with it is its finding, and a repair may
  // repair it.
  const snapshotTable = options.forCheck === true ? undefined : await loadSnapshotTable(header, metadata);
  const wantsLazy = options.refcounts === undefined ? header.hasLazyRefcounts : options.refcounts === 'lazy';
  if (wantsLazy && values.version < 3) {
    throw new Qcow2BenchError('qcow2-lazy-needs-v3', 'lazy refcounts need version 3 of the format', {
      path: options.device.path,
      offset: FIELD.version,
    });
  }
  if (options.discardNoUnref === true && values.version < 3) {
    throw new Qcow2BenchError(
      'qcow2-no-unref-needs-v3',
      'discard-no-unref needs version 3 of the format, which has a zero flag; leave the option out',
      { path: options.device.path, offset: FIELD.version },
    );
  }
  const core = new ImageCore({
    device: options.device,
    dataFile,
    metadataDevice,
    header,
    geometry,
    cachesFor: (virtualSize) => cacheGeometry(geometry, virtualSize, options.caches),
    metadata,
    refcountTable,
    backing,
    lazyRefcounts: wantsLazy,
    discard: options.discard,
    discardNoUnref: options.discardNoUnref,
    policy: enginePolicy(options.policy),
  });
  const image = new Qcow2Image(core, { snapshotTable, readPurpose: options.readPurpose });
  await image.tables.load();
  return image;
}

/**
 * A snapshot whose L1 table is broken stays in the list: the disk and other snapshots do not need
 * it.
 */
async function loadSnapshotTable(header: HeaderStore, metadata: MetadataMap): Promise<SnapshotTable> {
  const table = await readSnapshotTable(header, 'use');
  if (table.byteLength > 0) metadata.add(header.values.snapshotsOffset, table.byteLength, 'snapshot-table');
  const clusterSize = 2 ** header.values.clusterBits;
  const file = { clusterSize, fileSize: header.device.size() };
  for (const snapshot of table.snapshots) {
    const { l1Offset, l1Entries } = snapshot;
    if (l1Entries === 0 || l1FaultOf(snapshot, file) !== undefined) continue;
    metadata.add(l1Offset, l1Entries * ENTRY_SIZE, 'l1-table');
  }
  return table;
}

/**
 * What must happen before the first guest write: autoclear features go, a dirty image is repaired.
 */
async function prepareForWriting(image: Qcow2Image): Promise<void> {
  const { header } = image;
  await image.loadBitmaps();
  await header.dropStaleFeatures();
  if (!header.isDirty) return;
  const report = await image.check('all', { keepsSnapshots: true });
  if (report.corruptions > 0 || report.checkErrors > 0) {
    throw new Qcow2BenchError(
      'qcow2-repair-failed',
      `the image was not closed cleanly and could not be repaired: ${countOf(report.corruptions, 'corruption')} and ${countOf(report.checkErrors, 'error')} remain; the dirty bit stays set`,
      { path: header.device.path },
    );
  }
}
