/** What an image says of itself, read without opening any other file and without writing anything. */

import type { BlockDevice } from '../device/block-device.ts';
import type { BackingReference, RefcountMode } from '../format/image-options.ts';
import type { CompressionType } from '../format/image-shape.ts';
import { INCOMPATIBLE } from '../format/qcow2/layout.ts';
import type { Snapshot } from '../format/qcow2/snapshot-table.ts';
import { HEADER_SIZE, parseQedHeader } from '../format/qed/header.ts';
import { detectFormat } from './detect-format.ts';
import type { ImagePlace } from './host-image.ts';
import { openLoneQcow2, openLoneQed } from './lone-image.ts';

interface CommonInfo {
  readonly path: string;
  /** Bytes the guest sees. */
  readonly virtualSize: number;
  /** Bytes of the file, holes included. */
  readonly fileSize: number;
}

interface ClusteredInfo extends CommonInfo {
  /** Bytes. */
  readonly clusterSize: number;
  /** It was not closed cleanly: the next opening for writing repairs it. */
  readonly isDirty: boolean;
  /** As stored. */
  readonly backing: BackingReference | undefined;
}

export interface RawInfo extends CommonInfo {
  readonly format: 'raw';
}

export interface Qcow2Info extends ClusteredInfo {
  readonly format: 'qcow2';
  readonly version: 2 | 3;
  readonly refcounts: RefcountMode;
  readonly refcountBits: number;
  /** Clusters of 32 subclusters. */
  readonly hasExtendedL2: boolean;
  readonly compressionType: CompressionType;
  /** Guest data lies in this file, as stored; `isRaw`: it can be read as a raw image. */
  readonly dataFile: { readonly name: string | undefined; readonly isRaw: boolean } | undefined;
  /** A write was stopped because it would have damaged the metadata. */
  readonly isCorrupt: boolean;
  readonly snapshots: readonly Snapshot[];
}

export interface QedInfo extends ClusteredInfo {
  readonly format: 'qed';
  /** Bytes of one table, first or second level. */
  readonly tableSize: number;
}

/** Of every format what it has. */
export type ImageInfo = RawInfo | Qcow2Info | QedInfo;

/**
 * Reads an image's facts; its format is told from its first bytes.
 *
 * @throws Qcow2BenchError `file-missing`, `host-open-failed`, `image-cut-off`, or what opening its format throws.
 */
export async function readImageInfo({ storage, name }: ImagePlace): Promise<ImageInfo> {
  const device = storage.open(name, { readOnly: true });
  const format = await detectFormat(device);
  switch (format) {
    case 'raw':
      return rawInfo(device);
    case 'qcow2':
      return qcow2Info(device);
    case 'qed':
      return qedInfo(device);
  }
}

async function rawInfo(device: BlockDevice): Promise<RawInfo> {
  const fileSize = device.size();
  await device.close();
  return { format: 'raw', path: device.path, virtualSize: fileSize, fileSize };
}

async function qcow2Info(device: BlockDevice): Promise<Qcow2Info> {
  const fileSize = device.size();
  const { image, backing } = await openLoneQcow2({ device, readOnly: true });
  const { values, hasLazyRefcounts, isDirty, hasDataFile, isDataFileRaw } = image.header;
  await image.abandon();
  return {
    format: 'qcow2',
    path: device.path,
    virtualSize: values.virtualSize,
    fileSize,
    clusterSize: 2 ** values.clusterBits,
    isDirty,
    backing,
    version: values.version,
    refcounts: hasLazyRefcounts ? 'lazy' : 'eager',
    refcountBits: 2 ** values.refcountOrder,
    hasExtendedL2: (values.incompatible & INCOMPATIBLE.extendedL2) !== 0,
    compressionType: values.compressionType,
    dataFile: hasDataFile ? { name: values.dataFile, isRaw: isDataFileRaw } : undefined,
    isCorrupt: (values.incompatible & INCOMPATIBLE.corrupt) !== 0,
    snapshots: image.snapshots.list,
  };
}

async function qedInfo(device: BlockDevice): Promise<QedInfo> {
  const fileSize = device.size();
  const fields = new Uint8Array(HEADER_SIZE);
  await device.read(0, fields, 'header');
  const { image, backing } = await openLoneQed({ device, readOnly: true });
  await image.abandon();
  const { geometry, needCheck, virtualSize } = parseQedHeader(fields, { path: device.path, size: fileSize });
  const { clusterSize, tableSize } = geometry;
  const { path } = device;
  return { format: 'qed', path, virtualSize, fileSize, clusterSize, isDirty: needCheck, backing, tableSize };
}
