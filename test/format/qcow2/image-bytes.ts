/** qcow2 images as arrays of bytes: made, opened, patched. */

import { alignUp } from '../../../src/core/alignment.ts';
import { viewOf } from '../../../src/core/bytes.ts';
import type { BlockDevice } from '../../../src/device/block-device.ts';
import { MemoryDevice } from '../../../src/device/memory-device.ts';
import { SyncElision } from '../../../src/device/sync-elision.ts';
import { WriteLog } from '../../../src/device/write-log.ts';
import type { CreateOptions, OpenOptions } from '../../../src/format/image-options.ts';
import {
  BITMAP_FLAG,
  encodeBitmapEntries,
  encodeBitmapsExtension,
  type BitmapEntry,
} from '../../../src/format/qcow2/bitmaps/bitmap-directory.ts';
import { createQcow2 } from '../../../src/format/qcow2/create.ts';
import { FIELD } from '../../../src/format/qcow2/on-disk/header.ts';
import { AUTOCLEAR } from '../../../src/format/qcow2/on-disk/layout.ts';
import { openQcow2 } from '../../../src/format/qcow2/open.ts';
import type { Qcow2Image } from '../../../src/format/qcow2/qcow2-image.ts';

export interface OpenedImage {
  readonly image: Qcow2Image;
  readonly device: MemoryDevice;
  /** Every change of the file since it was opened. */
  readonly log: WriteLog;
}

export interface OpenBytesOptions extends Partial<Omit<OpenOptions, 'device'>> {
  /** Put between the log and the engine. */
  readonly wrap?: (device: BlockDevice) => BlockDevice;
}

/** Opens the image that `bytes` are. */
export async function openBytes(bytes: Uint8Array, options: OpenBytesOptions = {}): Promise<OpenedImage> {
  const device = new MemoryDevice();
  device.write(0, bytes, 'data');
  const log = new WriteLog(device);
  const { wrap, ...rest } = options;
  const image = await openQcow2({
    readOnly: false,
    readPurpose: 'data',
    openBacking: () => Promise.reject(new Error('test bug: this image was to have no backing file')),
    ...rest,
    device: new SyncElision(wrap === undefined ? log : wrap(log)),
  });
  return { image, device, log };
}

/** The bytes of a new image. */
export async function newImage(options: Omit<CreateOptions, 'device'>): Promise<Uint8Array<ArrayBuffer>> {
  const device = new MemoryDevice();
  await createQcow2({ ...options, device });
  return device.contents();
}

export interface ImageWithBitmaps {
  readonly bytes: Uint8Array<ArrayBuffer>;
  /** Of the extension's data. */
  readonly extension: number;
  readonly directory: number;
  readonly tables: readonly number[];
}

/**
 * Gives a new image enabled bitmaps of these names without a bit set, of 64 KiB a bit and one
 * cluster at most.
 */
export async function withBitmaps(bytes: Uint8Array, names: readonly string[]): Promise<ImageWithBitmaps> {
  const { image, device } = await openBytes(bytes);
  const { header, geometry, refcounts } = image;
  const offset = await refcounts.allocate(1);
  const entries: BitmapEntry[] = [];
  for (const name of names) {
    const tableOffset = await refcounts.allocate(1);
    device.write(tableOffset, new Uint8Array(geometry.clusterSize), 'bitmap');
    const nameBytes = Buffer.from(name);
    entries.push({
      name,
      nameBytes,
      granularityBits: 16,
      flags: BITMAP_FLAG.auto,
      tableOffset,
      tableEntries: 1,
    });
  }
  const directory = encodeBitmapEntries(entries);
  device.write(offset, directory, 'bitmap');
  const found = encodeBitmapsExtension({ offset, byteLength: directory.byteLength, entries });
  await header.rewrite({
    autoclear: BigInt(AUTOCLEAR.bitmaps),
    otherExtensions: [...header.values.otherExtensions, found],
  });
  await image.close();
  const contents = device.contents();
  const extension = Buffer.from(contents).indexOf(found.data);
  return { bytes: contents, extension, directory: offset, tables: entries.map((entry) => entry.tableOffset) };
}

/**
 * A copy of `bytes` with big-endian fields overwritten: byte offset → value, as wide as the key's
 * suffix says.
 */
export function patched(bytes: Uint8Array, ...patches: readonly Patch[]): Uint8Array<ArrayBuffer> {
  const end = Math.max(bytes.byteLength, ...patches.map(({ at }) => at + 8));
  const copy = new Uint8Array(patches.some(({ at }) => at >= bytes.byteLength) ? end : bytes.byteLength);
  copy.set(bytes);
  const view = new DataView(copy.buffer);
  for (const { at, u32, u64 } of patches) {
    if (u32 !== undefined) view.setUint32(at, u32);
    if (u64 !== undefined) view.setBigUint64(at, u64);
  }
  return copy;
}

/**
 * Adds a cluster with a snapshot table of one entry, of the active L1 table; `patches` are relative
 * to the entry.
 */
export function withSnapshot(bytes: Uint8Array, ...patches: readonly Patch[]): Uint8Array<ArrayBuffer> {
  const view = viewOf(bytes);
  const clusterSize = 2 ** view.getUint32(FIELD.clusterBits);
  const table = alignUp(bytes.byteLength, clusterSize);
  const grown = new Uint8Array(table + clusterSize);
  grown.set(bytes);
  return patched(
    grown,
    { at: FIELD.snapshotCount, u32: 1 },
    { at: FIELD.snapshotsOffset, u64: BigInt(table) },
    { at: table, u64: view.getBigUint64(FIELD.l1Offset) },
    ...patches.map((patch) => ({ ...patch, at: patch.at + table })),
  );
}

export interface Patch {
  readonly at: number;
  readonly u32?: number;
  readonly u64?: bigint;
}

/** The check's counts that matter, for comparing. */
export async function damageOf(image: Qcow2Image) {
  const { corruptions, leaks, checkErrors } = await image.check();
  return { corruptions, leaks, checkErrors };
}

export const NO_DAMAGE = { corruptions: 0, leaks: 0, checkErrors: 0 };
