/**
 * Information about an image, read without opening any other file and without writing; and of every
 * image of a backing chain, each opened alone and only where the rules of the chain allow it.
 */

import type { BlockDevice } from '../device/block-device.ts';
import { backingPlace, contentsOf, unopenedFile, type BackingPolicy } from '../format/backing-chain.ts';
import type { Format } from '../format/disk-image.ts';
import type { BackingReference, RefcountMode } from '../format/image-options.ts';
import type { CompressionType } from '../format/image-shape.ts';
import {
  BITMAP_FLAG,
  bitmapsExtension,
  readBitmapDirectory,
} from '../format/qcow2/bitmaps/bitmap-directory.ts';
import type { HeaderStore } from '../format/qcow2/metadata/header-store.ts';
import { INCOMPATIBLE } from '../format/qcow2/on-disk/layout.ts';
import type { Snapshot } from '../format/qcow2/snapshots/snapshot-table.ts';
import { HEADER_SIZE, parseQedHeader } from '../format/qed/header.ts';
import { formatOfPlace } from './detect-format.ts';
import { HOST_FILES, hostImage, lockOf, type ImagePlace } from './host-image.ts';
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
  /** Guest data is in this file, as stored; `isRaw`: it can be read as a raw image. */
  readonly dataFile: { readonly name: string | undefined; readonly isRaw: boolean } | undefined;
  /** A write was stopped because it would have damaged the metadata. */
  readonly isCorrupt: boolean;
  readonly snapshots: readonly Snapshot[];
  /** Persistent dirty bitmaps that are in step with the disk. */
  readonly bitmaps: readonly BitmapInfo[];
}

export interface BitmapInfo {
  readonly name: string;
  /** Guest bytes per bit. */
  readonly granularity: number;
  /** It was open for writing when a program died: what it says is not to be trusted. */
  readonly isInUse: boolean;
  /** It follows writes as soon as the image is opened. */
  readonly isAuto: boolean;
}

export interface QedInfo extends ClusteredInfo {
  readonly format: 'qed';
  /** Bytes of one table, first or second level. */
  readonly tableSize: number;
}

/** Of every format what it has. */
export type ImageInfo = RawInfo | Qcow2Info | QedInfo;

export interface ReadInfoOptions {
  /** Default: detected from the first bytes. */
  readonly format?: Format | undefined;
  /** Read images although other processes may be writing to them. Default false. */
  readonly forceShare?: boolean | undefined;
}

/**
 * Reads an image's facts.
 *
 * @throws Qcow2BenchError `file-missing`, `image-locked`, `host-open-failed`, `image-cut-off`, or
 *   what opening its format throws.
 */
export async function readImageInfo(place: ImagePlace, options: ReadInfoOptions = {}): Promise<ImageInfo> {
  const format = options.format ?? (await formatOfPlace(place));
  const lock = lockOf({ contents: contentsOf(format), readOnly: true }, options.forceShare);
  const device = place.storage.open(place.name, { readOnly: true, lock });
  switch (format) {
    case 'raw':
      return rawInfo(device);
    case 'qcow2':
      return qcow2Info(device);
    case 'qed':
      return qedInfo(device);
  }
}

/**
 * Reads the facts of an image of the host and of all that it is backed by, from the top down; paths
 * are as the user or the overlay names them.
 *
 * @throws Qcow2BenchError of the first image that cannot be read, or that the rules of the chain do
 *   not let be opened: see `readImageInfo` and `backingOpener`.
 */
export async function readChainInfo(
  options: ReadInfoOptions & {
    readonly path: string;
    readonly backing?: BackingPolicy | undefined;
  },
): Promise<readonly ImageInfo[]> {
  const { path, format, forceShare, backing: policy = {} } = options;
  const chain: [string, ...string[]] = [path];
  const infos = [await infoAt(path, { format, forceShare })];
  for (;;) {
    const info = infos.at(-1);
    if (info === undefined || info.format === 'raw' || info.backing === undefined) return infos;
    const next = backingPlace({ files: HOST_FILES, policy, name: path }, chain, info.backing);
    chain.push(next.name);
    const overlay = info.path;
    infos.push(
      await infoAt(next.name, { format: next.format, forceShare }).catch((error: unknown) => {
        throw unopenedFile(error, { name: next.name, role: 'backing', overlay });
      }),
    );
  }
}

async function infoAt(path: string, options: ReadInfoOptions): Promise<ImageInfo> {
  return { ...(await readImageInfo(hostImage(path), options)), path };
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
  const bitmaps = await bitmapsOf(image.header).finally(() => image.abandon());
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
    bitmaps,
  };
}

async function bitmapsOf(header: HeaderStore): Promise<readonly BitmapInfo[]> {
  const found = bitmapsExtension(header);
  if (found?.isConsistent !== true) return [];
  const { entries } = await readBitmapDirectory(header, found.extension);
  return entries.map(({ name, granularityBits, flags }) => ({
    name,
    granularity: 2 ** granularityBits,
    isInUse: (flags & BITMAP_FLAG.inUse) !== 0,
    isAuto: (flags & BITMAP_FLAG.auto) !== 0,
  }));
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
