/**
 * Making the disk of an open image larger or smaller, because a user asks for it or a snapshot has
 * another size.
 *
 * Invariants:
 * - Larger: tables for the new part are there, and what a backing file has there is hidden, before
 *   the header says so.
 * - Smaller: the header says so last, when nothing leads to the lost part any more.
 * - The L1 table never gets smaller, as in QEMU; its entries past the disk are 0.
 * - The caller holds the metadata lock.
 */

import { alignUp, ceilDiv } from '../../core/alignment.ts';
import { Qcow2BenchError } from '../../core/error.ts';
import type { GuestOffset, HostOffset } from '../../core/offsets.ts';
import { formatSize } from '../../core/size.ts';
import type { Pending } from '../../core/pending.ts';
import type { SyncCause } from '../../device/purpose.ts';
import type { Preallocation } from '../image-shape.ts';
import { zeroBytes } from '../real-zeroes.ts';
import type { Discarder } from './io/discard.ts';
import { l1EntriesFor } from './on-disk/geometry.ts';
import { FIELD } from './on-disk/header.ts';
import type { HeaderStore } from './metadata/header-store.ts';
import type { ImageCore } from './metadata/image-core.ts';
import type { DiskPart } from './preallocation.ts';
import type { Refcounts } from './metadata/refcounts.ts';

export type ResizeCause = Extract<SyncCause, 'snapshot' | 'l1-growth'>;

export interface ResizeOptions {
  readonly discarder: Discarder;
  /** What its syncs are counted under. */
  readonly cause: ResizeCause;
  readonly preallocation: Preallocation;
  /** Takes space for a part of the disk before the header says the new size. */
  readonly reserve: (part: DiskPart, mode: Exclude<Preallocation, 'off'>) => Promise<void>;
  /** Writes guest bytes; called with the lock held, which it gives up meanwhile. */
  readonly writeUnlocked: (guestOffset: GuestOffset, bytes: Uint8Array) => Pending;
}

/** A resize in progress. */
interface Resize extends ResizeOptions {
  readonly core: ImageCore;
}

/**
 * @param virtualSize bytes, a multiple of 512
 * @throws Qcow2BenchError `qcow2-resize-needs-v3`: entries of a version 2 snapshot table need not
 *   say the disk's size; `qcow2-zero-flag-needs-v3`: the backing file is longer than the disk, and
 *   version 2 has no flag that hides it. Nothing is changed then.
 */
export async function resizeDisk(
  core: ImageCore,
  virtualSize: number,
  options: ResizeOptions,
): Promise<void> {
  const { header, dataFile } = core;
  const resize: Resize = { ...options, core };
  refuseUnhidden(resize, virtualSize);
  if (header.values.version < 3 && header.values.snapshotCount > 0) {
    throw new Qcow2BenchError(
      'qcow2-resize-needs-v3',
      'version 2 images with snapshots cannot be resized: their snapshots may not record a disk size',
      { path: header.device.path, offset: FIELD.version },
    );
  }
  if (virtualSize < header.values.virtualSize) await shrink(resize, virtualSize);
  else await extendOrUndo(resize, virtualSize);
  if (newSpace(resize, virtualSize) === 'off') await dataFile?.truncate(virtualSize, 'data');
  await header.moveVirtualSize(virtualSize, resize.cause);
  await renewCaches(resize, virtualSize);
}

/** As QEMU, goes on with empty caches of the sizes that the new disk asks for. */
async function renewCaches(resize: Resize, virtualSize: number): Promise<void> {
  const { tables, refcounts, cachesFor } = resize.core;
  const { l2Cache } = tables;
  await l2Cache.flush(resize.cause);
  await refcounts.blockCache.flush(resize.cause);
  const { l2Slots, l2SliceSize, refcountSlots } = cachesFor(virtualSize);
  // The slices of this opening stay, also where the new disk would be opened with smaller ones.
  l2Cache.reset(Math.max(2, Math.floor((l2Slots * l2SliceSize) / l2Cache.tableSize)));
  refcounts.blockCache.reset(refcountSlots);
}

/**
 * After a failure, such as a full disk, the image is as it was: no cluster leaks, and the file is
 * no longer than it has to be.
 */
async function extendOrUndo(resize: Resize, virtualSize: number): Promise<void> {
  const fileSize = resize.core.device.size();
  try {
    await extend(resize, virtualSize);
  } catch (error) {
    try {
      await undoExtend(resize, virtualSize, fileSize);
    } catch {
      // The first error is the one to report. What could not be undone are leaks, which a check
      // finds.
    }
    throw error;
  }
}

/**
 * Takes back what was made for the part behind the disk's end. The L1 table stays as long as it has
 * become.
 */
async function undoExtend(resize: Resize, virtualSize: number, fileSize: number): Promise<void> {
  const { core, discarder, cause } = resize;
  const { header, geometry, tables, refcounts, dataFile } = core;
  const { clusterSize, l2Coverage } = geometry;
  const old = header.values.virtualSize;
  if (header.isStopped) return;
  for (let start = alignUp(old, clusterSize); start < virtualSize;) {
    const end = Math.min(virtualSize, alignUp(start + 1, l2Coverage));
    // Where no table came about there is nothing to take back, and none is to be made.
    if (tables.tableOffset(Math.floor(start / l2Coverage)) !== 0) {
      await discarder.cutOff({ guestOffset: start, clusters: ceilDiv(end - start, clusterSize) });
    }
    start = end;
  }
  // No entry leads to clusters that the file is about to lose.
  await tables.l2Cache.flush(cause);
  await tables.shrink(l1EntriesFor(geometry, old));
  await dropUnusedBlocks(refcounts);
  await refcounts.blockCache.flush(cause);
  // What was there before stays, whatever the refcounts say.
  if (dataFile === undefined) await truncateFile(header, refcounts, fileSize);
  else await dataFile.truncate(old, 'data');
}

async function extend(resize: Resize, virtualSize: number): Promise<void> {
  const { header, geometry, tables } = resize.core;
  const space = newSpace(resize, virtualSize);
  const old = header.values.virtualSize;
  await tables.grow(l1EntriesFor(geometry, virtualSize), 'exact');
  if (space !== 'off') {
    await resize.reserve({ from: old, to: virtualSize, hidesBacking: isBackingLonger(resize.core) }, space);
  }
  await hideBacking(resize, virtualSize);
  if (space === 'off') return;
  // Tables that lead to space are there before the size that needs them.
  await resize.core.writeCaches();
}

/** A raw data file is the disk: all of it is mapped, also without preallocation. */
function newSpace({ preallocation, core }: Resize, virtualSize: number): Preallocation {
  const { header } = core;
  const mustMap = header.isDataFileRaw && virtualSize > header.values.virtualSize;
  return preallocation === 'off' && mustMap ? 'metadata' : preallocation;
}

/**
 * The new part in which data of the backing file has to be hidden; `undefined` if there is none.
 */
function hiddenPart(resize: Resize, virtualSize: number): HiddenPart | undefined {
  const { header, geometry, dataFile } = resize.core;
  const old = header.values.virtualSize;
  if (virtualSize <= old || !isBackingLonger(resize.core)) return undefined;
  const space = newSpace(resize, virtualSize);
  // The file grew by zeroes, and new clusters lead to all of them.
  if ((space === 'falloc' || space === 'full') && dataFile === undefined) return undefined;
  return { start: old, flagsFrom: Math.min(virtualSize, alignUp(old, geometry.subclusterSize)) };
}

function isBackingLonger({ header, backing }: ImageCore): boolean {
  return backing !== undefined && backing.virtualSize > header.values.virtualSize;
}

interface HiddenPart {
  /** Where written zeroes begin, the old end of the disk. */
  readonly start: number;
  /** Where zero flags begin, up to the new end. */
  readonly flagsFrom: number;
}

/** Zero flags came with version 3: in a version 2 image they make the L2 entry unreadable. */
function refuseUnhidden(resize: Resize, virtualSize: number): void {
  const { header } = resize.core;
  const hidden = hiddenPart(resize, virtualSize);
  if (header.values.version >= 3 || hidden === undefined || hidden.flagsFrom === virtualSize) return;
  throw new Qcow2BenchError(
    'qcow2-zero-flag-needs-v3',
    `the backing file is longer than the disk (${formatSize(hidden.start)}), and version 2 has no zero flag to hide its data in the added part: use preallocation falloc or full, or raise the version with amend --compat 1.1`,
    { path: header.device.path, offset: FIELD.version },
  );
}

/** What the backing file has behind the old end reads as zeroes. */
async function hideBacking(resize: Resize, virtualSize: number): Promise<void> {
  const { discarder, writeUnlocked } = resize;
  const { geometry } = resize.core;
  const hidden = hiddenPart(resize, virtualSize);
  if (hidden === undefined) return;
  const { start, flagsFrom } = hidden;
  if (geometry.entryWords === 2) {
    if (flagsFrom < virtualSize) await discarder.writeZeroesTo(flagsFrom, virtualSize, false);
  } else {
    const clusters = ceilDiv(virtualSize - flagsFrom, geometry.clusterSize);
    await discarder.writeZeroes({ guestOffset: flagsFrom, clusters }, false);
  }
  if (flagsFrom > start) await writeUnlocked(start, zeroBytes(flagsFrom - start));
}

async function shrink(resize: Resize, virtualSize: number): Promise<void> {
  const { core, discarder } = resize;
  const { header, geometry, tables, refcounts } = core;
  const { clusterSize } = geometry;
  const start = alignUp(virtualSize, clusterSize);
  const clusters = ceilDiv(header.values.virtualSize - start, clusterSize);
  if (clusters > 0) await discarder.cutOff({ guestOffset: start, clusters });
  await tables.shrink(l1EntriesFor(geometry, virtualSize));
  // QEMU may write them at the very end: after a crash entries lead to clusters that are not
  // counted any more, or past the end of the file, and no repair takes those away.
  if (tables.l2Cache.hasDirtyTables) await tables.l2Cache.flush(resize.cause);
  await dropUnusedBlocks(refcounts);
  await truncateFile(header, refcounts);
}

/** Gives up what the disk has in this image, and the file's end behind it; the size stays. */
export async function dropAllClusters(core: ImageCore, discarder: Discarder): Promise<void> {
  const { header, geometry, tables, refcounts } = core;
  const clusters = ceilDiv(header.values.virtualSize, geometry.clusterSize);
  if (clusters > 0) await discarder.cutOff({ guestOffset: 0, clusters });
  await tables.shrink(0);
  await dropUnusedBlocks(refcounts);
  await truncateFile(header, refcounts);
}

/** Refcount blocks that count nothing but themselves go. */
async function dropUnusedBlocks(refcounts: Refcounts): Promise<void> {
  const { table } = refcounts;
  const unused: number[] = [];
  for (let index = 0; index < table.entries; index++) {
    const offset = await table.checkedBlockOffset(index);
    if (offset !== 0 && (await isUnused(refcounts, index, offset))) unused.push(index);
  }
  await table.writeWithout(unused);
  refcounts.gatherDiscards();
  for (const index of unused) {
    await refcounts.freeBlock(table.blockOffset(index));
    table.forgetBlock(index);
  }
  await refcounts.processDiscards();
}

async function isUnused(refcounts: Refcounts, index: number, blockOffset: HostOffset): Promise<boolean> {
  const { geometry, blockCache, codec } = refcounts;
  const slot = await blockCache.acquire(blockOffset);
  const block = blockCache.view(slot);
  const own = blockOffset / geometry.clusterSize - index * geometry.refcountBlockEntries;
  let isEmpty = true;
  for (let entry = 0; isEmpty && entry < geometry.refcountBlockEntries; entry++) {
    isEmpty = entry === own || codec.get(block, entry) === 0;
  }
  blockCache.release(slot);
  return isEmpty;
}

/** Cuts the file behind the last cluster in use, but not below `sizeMin` bytes. */
async function truncateFile(header: HeaderStore, refcounts: Refcounts, sizeMin = 0): Promise<void> {
  const { clusterSize } = refcounts.geometry;
  const size = header.device.size();
  let end = ceilDiv(size, clusterSize);
  while (end > 0 && (await refcounts.get(end - 1)) === 0) end--;
  if (end === 0) await header.markCorruptAt('no host cluster is in use, not even the header', 0);
  const target = Math.max(sizeMin, end * clusterSize);
  if (target < size) await header.device.truncate(target, 'header');
}
