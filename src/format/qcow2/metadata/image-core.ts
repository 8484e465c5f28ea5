/**
 * What all parts of an open image work on: its files, header, tables, refcounts, and the lock that
 * guards them. `open` builds it once; reader, writers, discards, snapshots, bitmaps, resize and
 * check take it.
 *
 * Invariants:
 * - Metadata is looked at and changed only with `lock` held; guest data is read and written without
 *   it.
 * - The caches write L2 tables before refcounts, and refcounts only while the dirty bit is clear
 *   (rule R3).
 */

import { Mutex } from '../../../core/mutex.ts';
import { after, type Pending } from '../../../core/pending.ts';
import type { BlockDevice } from '../../../device/block-device.ts';
import type { SyncCause } from '../../../device/purpose.ts';
import type { DiskImage } from '../../disk-image.ts';
import type { EnginePolicy } from '../../engine-policy.ts';
import type { DiscardMode } from '../../image-options.ts';
import { TableCache } from './table-cache.ts';
import type { CacheGeometry } from './cache-geometry.ts';
import { DiscardQueue } from './discard-queue.ts';
import type { Geometry } from '../on-disk/geometry.ts';
import type { HeaderStore } from './header-store.ts';
import { L2Tables } from './l2-tables.ts';
import type { MetadataDevice } from './metadata-device.ts';
import { tableGuard, type MetadataMap } from './metadata-map.ts';
import type { RefcountTable } from './refcount-table.ts';
import { Refcounts } from './refcounts.ts';
import type { UnlinkedClusters } from './unlinked-clusters.ts';

export interface ImageParts {
  /** The image file. */
  readonly device: BlockDevice;
  /** The external data file, if there is one. */
  readonly dataFile: BlockDevice | undefined;
  /** The image file, as the header store and the tables use it. */
  readonly metadataDevice: MetadataDevice;
  readonly header: HeaderStore;
  readonly geometry: Geometry;
  /** The caches that a disk of so many bytes gets. */
  readonly cachesFor: (virtualSize: number) => CacheGeometry;
  readonly metadata: MetadataMap;
  readonly refcountTable: RefcountTable;
  readonly backing: DiskImage | undefined;
  /** Whether this opening postpones refcounts. */
  readonly lazyRefcounts: boolean;
  readonly discard: DiscardMode | undefined;
  readonly discardNoUnref: boolean | undefined;
  readonly policy: EnginePolicy;
}

export class ImageCore {
  readonly device: BlockDevice;
  readonly dataFile: BlockDevice | undefined;
  /** The file that holds guest data. */
  readonly guestFile: BlockDevice;
  readonly metadataDevice: MetadataDevice;
  readonly header: HeaderStore;
  readonly geometry: Geometry;
  readonly cachesFor: (virtualSize: number) => CacheGeometry;
  readonly metadata: MetadataMap;
  readonly refcountTable: RefcountTable;
  readonly refcounts: Refcounts;
  readonly tables: L2Tables;
  readonly backing: DiskImage | undefined;
  readonly lazyRefcounts: boolean;
  /** Whether discarded clusters are given back to the file system. */
  readonly passesDiscards: boolean;
  /** Whether clusters keep their place when the guest discards them. */
  readonly keepsDiscarded: boolean;
  readonly policy: EnginePolicy;
  readonly lock = new Mutex();

  constructor(parts: ImageParts) {
    const { device, metadataDevice, header, geometry, metadata, refcountTable } = parts;
    this.device = device;
    this.dataFile = parts.dataFile;
    this.guestFile = parts.dataFile ?? device;
    this.metadataDevice = metadataDevice;
    this.header = header;
    this.geometry = geometry;
    this.cachesFor = parts.cachesFor;
    this.metadata = metadata;
    this.refcountTable = refcountTable;
    this.backing = parts.backing;
    this.lazyRefcounts = parts.lazyRefcounts;
    this.passesDiscards = parts.discard !== 'ignore';
    this.keepsDiscarded = parts.discardNoUnref === true;
    this.policy = parts.policy;

    const caches = parts.cachesFor(header.values.virtualSize);
    const l2Cache = new TableCache({
      device: metadataDevice,
      slots: caches.l2Slots,
      tableSize: caches.l2SliceSize,
      purpose: 'l2-table',
      dependencyCause: 'l2-after-refcount',
      policy: parts.policy,
      guardWrite: tableGuard(header, metadata, 'l2-table'),
    });
    const blockCache = new TableCache({
      device: metadataDevice,
      slots: caches.refcountSlots,
      tableSize: geometry.clusterSize,
      purpose: 'refcount-block',
      dependencyCause: 'refcount-after-l2',
      policy: parts.policy,
      guardWrite: tableGuard(header, metadata, 'refcount-block'),
    });
    const discards = new DiscardQueue(device);
    const { syncsUnlinkBeforeReuse } = parts.policy;
    const table = refcountTable;
    this.refcounts = new Refcounts({
      header,
      geometry,
      table,
      blockCache,
      l2Cache,
      discards,
      syncsUnlinkBeforeReuse,
    });
    this.tables = new L2Tables({ header, geometry, caches, l2Cache, refcounts: this.refcounts, metadata });
  }

  /** Bytes of the guest's disk. */
  get virtualSize(): number {
    return this.header.values.virtualSize;
  }

  /** Bytes of tables in memory: those of the first level, and what of the second is cached. */
  get metadataInMemory(): number {
    const { tables, refcounts, refcountTable } = this;
    return tables.byteLength + refcountTable.byteLength + refcounts.blockCache.byteLength;
  }

  /** Writes the tables that changed; the lock is held. */
  writeCaches(): Pending {
    const pending = this.tables.l2Cache.writeBack();
    return pending === undefined ? this.#writeRefcounts() : after(pending, this.#writeRefcounts.bind(this));
  }

  /** Writes the tables that changed and syncs the image file; the lock is held. */
  async flush(cause: SyncCause): Promise<void> {
    await this.writeCaches();
    await this.sync(cause);
  }

  /** Syncs the image file: what was written of the tables is durable then. */
  sync(cause: SyncCause): Pending {
    const { unlinked } = this.refcounts;
    if (unlinked === undefined) return this.device.sync(cause);
    return this.#syncOrdered(cause, unlinked);
  }

  /**
   * Clears an incompatible feature bit, once all that it vouches for is durable. Takes the lock.
   */
  async clearFeature(bit: number, cause: SyncCause): Promise<void> {
    const { header, lock, tables, refcounts, device } = this;
    const { incompatible } = header.values;
    if ((incompatible & bit) === 0) return;
    await lock.hold(async () => {
      await tables.l2Cache.writeBack();
      await refcounts.blockCache.writeBack();
      await device.sync(cause);
      await header.rewrite({ incompatible: incompatible & ~bit });
    });
  }

  async #syncOrdered(cause: SyncCause, unlinked: UnlinkedClusters): Promise<void> {
    const { generation } = unlinked;
    await this.device.sync(cause);
    unlinked.noteDurable(generation);
  }

  /** While the dirty bit is set, refcounts in the file need not be right (R3). */
  #writeRefcounts(): Pending {
    this.refcounts.unlinked?.noteWritten();
    return this.header.isDirty ? undefined : this.refcounts.blockCache.writeBack();
  }
}
