/**
 * An open qcow2 image, versions 2 and 3, with eager or lazy refcounts.
 *
 * Invariants:
 * - Metadata is looked at and changed only with the metadata lock held; data is read and written without.
 * - A flush writes the L2 cache, then the refcount cache unless the dirty bit is set, then syncs (rule R3).
 * - After a close without error the dirty bit is clear and the refcounts in the file are right.
 */

import { Mutex } from '../../core/mutex.ts';
import type { BlockDevice, Pending } from '../../device/block-device.ts';
import type { Purpose, SyncCause } from '../../device/purpose.ts';
import type { CheckOptions, CheckReport, RepairScope } from '../check-report.ts';
import type { DiskImage, MapOptions, Mapping } from '../disk-image.ts';
import type { DiscardMode } from '../image-options.ts';
import { REFCOUNT_BITS, type ImageShape, type Preallocation } from '../image-shape.ts';
import { TableCache } from '../table-cache.ts';
import { WriteMapper } from './allocation.ts';
import type { CacheGeometry } from './cache-geometry.ts';
import { Bitmaps } from './bitmaps.ts';
import { checkImage } from './check.ts';
import { CompressedWriter } from './compressed-writer.ts';
import { DataWriter } from './data-writer.ts';
import { Discarder } from './discard.ts';
import { DiscardQueue } from './discard-queue.ts';
import type { Geometry } from './geometry.ts';
import { GuestWriter } from './guest-writer.ts';
import type { HeaderStore } from './header-store.ts';
import { INCOMPATIBLE } from './layout.ts';
import { L2Tables } from './l2-tables.ts';
import type { MetadataDevice } from './metadata-device.ts';
import { tableGuard, type MetadataMap } from './metadata-map.ts';
import { preallocate, type PreallocationOptions } from './preallocation.ts';
import { MAPPING_KIND, Reader } from './reader.ts';
import type { RefcountTable } from './refcount-table.ts';
import { Refcounts } from './refcounts.ts';
import { resizeDisk, type ResizeCause, type ResizeOptions } from './resize.ts';
import { Snapshots, type SnapshotsOptions } from './snapshots.ts';
import { ZeroRequests } from './zero-requests.ts';

export interface Qcow2ImageOptions {
  readonly device: BlockDevice;
  /** The file that guest data lies in, if that is not the image. */
  readonly dataDevice: BlockDevice | undefined;
  /** The same file, as the header store and the tables use it. */
  readonly metadataDevice: MetadataDevice;
  readonly header: HeaderStore;
  readonly geometry: Geometry;
  /** The caches that a disk of so many bytes gets. */
  readonly cachesFor: (virtualSize: number) => CacheGeometry;
  readonly metadata: MetadataMap;
  readonly refcountTable: RefcountTable;
  readonly snapshotTable: SnapshotsOptions['table'];
  readonly backing: DiskImage | undefined;
  readonly lazyRefcounts: boolean;
  readonly discard: DiscardMode | undefined;
  readonly readPurpose: Purpose;
}

export class Qcow2Image implements DiskImage {
  readonly format = 'qcow2';
  readonly header: HeaderStore;
  readonly geometry: Geometry;
  readonly backing: DiskImage | undefined;
  readonly refcounts: Refcounts;
  readonly tables: L2Tables;
  readonly snapshots: Snapshots;
  readonly #device: BlockDevice;
  readonly #dataDevice: BlockDevice | undefined;
  readonly #readPurpose: Purpose;
  readonly #refcountTable: RefcountTable;
  readonly #metadata: MetadataMap;
  readonly #reader: Reader;
  readonly #writer: GuestWriter;
  readonly #compressor: CompressedWriter;
  readonly #preallocation: PreallocationOptions;
  readonly #discarder: Discarder;
  readonly #zeroes: ZeroRequests;
  readonly #cachesFor: (virtualSize: number) => CacheGeometry;
  #bitmaps: Bitmaps | undefined;
  readonly #lock = new Mutex();

  constructor(options: Qcow2ImageOptions) {
    const { metadataDevice, header, geometry, metadata, backing } = options;
    const caches = options.cachesFor(header.values.virtualSize);
    this.#cachesFor = options.cachesFor;
    const { device, dataDevice } = options;
    const guestFile = dataDevice ?? device;
    this.#dataDevice = dataDevice;
    this.header = header;
    this.geometry = geometry;
    this.backing = backing;
    this.#device = device;
    this.#readPurpose = options.readPurpose;
    this.#refcountTable = options.refcountTable;
    this.#metadata = metadata;
    const lock = (): undefined | Promise<void> => this.#lock.acquire();
    const unlock = (): void => {
      this.#lock.release();
    };

    const l2Cache = new TableCache({
      device: metadataDevice,
      slots: caches.l2Slots,
      tableSize: caches.l2SliceSize,
      purpose: 'l2-table',
      dependencyCause: 'l2-after-refcount',
      guardWrite: tableGuard(header, metadata, 'l2-table'),
    });
    const blockCache = new TableCache({
      device: metadataDevice,
      slots: caches.refcountSlots,
      tableSize: geometry.clusterSize,
      purpose: 'refcount-block',
      dependencyCause: 'refcount-after-l2',
      guardWrite: tableGuard(header, metadata, 'refcount-block'),
    });
    const discards = new DiscardQueue(device);
    this.refcounts = new Refcounts({
      header,
      geometry,
      table: options.refcountTable,
      blockCache,
      l2Cache,
      discards,
    });
    this.tables = new L2Tables({ header, geometry, caches, l2Cache, refcounts: this.refcounts, metadata });
    this.#reader = new Reader({
      device: guestFile,
      header,
      geometry,
      tables: this.tables,
      backing,
      lock,
      unlock,
    });
    const mapper = new WriteMapper({
      header,
      geometry,
      tables: this.tables,
      refcounts: this.refcounts,
      waitUnlocked: async (ready) => {
        unlock();
        await ready;
        const pending = lock();
        if (pending !== undefined) await pending;
      },
    });
    const writer = new DataWriter({
      device: guestFile,
      header,
      geometry,
      virtualSize: () => header.values.virtualSize,
      backing,
      tables: this.tables,
      refcounts: this.refcounts,
      metadata,
      mapper,
      lazyRefcounts: options.lazyRefcounts,
      readOld: (guestOffset, target) => this.#reader.read(guestOffset, target, 'cow'),
      lock,
      unlock,
    });
    this.#writer = new GuestWriter({ metadataDevice, mapper, writer, lock: this.#lock });
    this.#compressor = new CompressedWriter({
      device,
      header,
      geometry,
      tables: this.tables,
      refcounts: this.refcounts,
      metadata,
      writePlain: (guestOffset, bytes) => this.#writer.write(guestOffset, bytes),
      locked: (work) => this.#locked(work),
    });
    this.#preallocation = {
      geometry,
      tables: this.tables,
      refcounts: this.refcounts,
      mapper,
      writer,
      dataDevice: guestFile,
      hasDataFile: dataDevice !== undefined,
    };
    this.#discarder = new Discarder({
      geometry,
      version: header.values.version,
      virtualSize: () => header.values.virtualSize,
      hasBacking: backing !== undefined,
      tables: this.tables,
      refcounts: this.refcounts,
      dataFile: dataDevice,
      passThrough: options.discard !== 'ignore',
    });
    this.#zeroes = new ZeroRequests({
      image: this,
      header,
      geometry,
      dataDevice,
      discarder: this.#discarder,
      lookThroughOnce: () => this.refcounts.lookThroughOnce(device.size()),
      write: (guestOffset, bytes) => this.#writer.write(guestOffset, bytes),
      locked: (work) => this.#locked(work),
    });
    const { refcounts, tables } = this;
    this.snapshots = new Snapshots({
      header,
      geometry,
      tables,
      refcounts,
      metadata,
      table: options.snapshotTable,
      resize: (virtualSize) => this.#resize(virtualSize, 'snapshot'),
      hasBitmaps: () => this.#bitmaps !== undefined,
      flush: () => this.#flushLocked('snapshot'),
      locked: (work) => this.#locked(work),
    });
  }

  get virtualSize(): number {
    return this.header.values.virtualSize;
  }

  get clusterSize(): number {
    return this.geometry.clusterSize;
  }

  get shape(): ImageShape {
    const { version, refcountOrder, compressionType } = this.header.values;
    const dataFile = this.header.isDataFileRaw ? 'raw' : 'plain';
    return {
      compat: version === 2 ? '0.10' : '1.1',
      refcountBits: REFCOUNT_BITS[refcountOrder],
      extendedL2: this.geometry.entryWords === 2,
      compressionType,
      dataFile: this.header.hasDataFile ? dataFile : 'none',
    };
  }

  get allocatingWrites(): number {
    return this.#writer.allocatingWrites + this.#compressor.clusters;
  }

  read(guestOffset: number, target: Uint8Array): Pending {
    this.header.assertRunning();
    return this.#reader.read(guestOffset, target, this.#readPurpose);
  }

  write(guestOffset: number, bytes: Uint8Array): Pending {
    this.header.assertRunning();
    this.#bitmaps?.mark(guestOffset, bytes.byteLength);
    return this.#writer.write(guestOffset, bytes);
  }

  /**
   * Gives every cluster of a disk of `virtualSize` bytes its place, before the header says how large it is: for an
   * image that is being made.
   */
  async preallocate(virtualSize: number, mode: Exclude<Preallocation, 'off'>): Promise<void> {
    await this.#locked(async () => {
      await preallocate(this.#preallocation, { from: 0, to: virtualSize }, mode);
      await this.#writeCaches();
    });
  }

  async writeCompressed(guestOffset: number, bytes: Uint8Array): Promise<void> {
    this.header.assertRunning();
    this.#writer.noteRequest();
    this.#bitmaps?.mark(guestOffset, bytes.byteLength);
    await this.#compressor.write(guestOffset, bytes);
  }

  async endCompressedWrites(): Promise<void> {
    this.header.assertRunning();
    await this.#compressor.alignFileEnd();
  }

  async writeZeroes(
    guestOffset: number,
    length: number,
    options: { readonly unmap: boolean },
  ): Promise<void> {
    this.header.assertRunning();
    this.#writer.noteRequest();
    this.#bitmaps?.mark(guestOffset, length);
    await this.#zeroes.writeZeroes(guestOffset, length, options.unmap);
  }

  async discard(guestOffset: number, length: number): Promise<void> {
    this.header.assertRunning();
    this.#writer.noteRequest();
    this.#bitmaps?.mark(guestOffset, length);
    await this.#zeroes.discard(guestOffset, length);
  }

  flush(cause: SyncCause): Pending {
    this.header.assertRunning();
    this.#writer.noteRequest();
    const turn = this.#lock.acquire();
    if (turn !== undefined) return this.#flushInTurn(turn, cause);
    let pending: Pending;
    try {
      pending = this.#writeCaches();
    } catch (error) {
      this.#lock.release();
      throw error;
    }
    if (pending !== undefined) return this.#flushAfter(pending, cause);
    this.#lock.release();
    return this.#syncFiles(cause);
  }

  async map(guestOffset: number, length: number, options?: MapOptions): Promise<Mapping> {
    const range = await this.#locked(() => this.#reader.lookUpFar(guestOffset, length, options?.far));
    const kind = MAPPING_KIND[range.type];
    // Offset 0 is a place in a data file.
    const hasPlace = range.hostOffset > 0 || kind === 'data';
    return { kind, length: range.length, hostOffset: hasPlace ? range.hostOffset : undefined };
  }

  /** @throws Qcow2BenchError `qcow2-resize-needs-v3`, `qcow2-l1-too-large` */
  async resize(virtualSize: number, preallocation: Preallocation = 'off'): Promise<void> {
    this.header.assertRunning();
    await this.#locked(() => this.#resize(virtualSize, 'l1-growth', preallocation));
  }

  /** Checks refcounts and copied flags; repairs within `repair` if given. The image must be idle. */
  async check(repair?: RepairScope, options: Omit<CheckOptions, 'repair'> = {}): Promise<CheckReport> {
    const { header, geometry, refcounts, tables, snapshots } = this;
    const [table, metadata] = [this.#refcountTable, this.#metadata];
    const target = { header, geometry, table, refcounts, tables, metadata, snapshots };
    const report = await this.#locked(() => checkImage(target, { ...options, repair }));
    const isGood = report.corruptions === 0 && report.checkErrors === 0;
    if (repair !== undefined && isGood) {
      await this.#clearFeature(INCOMPATIBLE.dirty, 'repair');
      await this.#clearFeature(INCOMPATIBLE.corrupt, 'repair');
    } else if (repair !== undefined && header.isDirty && !header.isStopped) {
      // A flush holds refcounts back while the dirty bit is set, which it stays: what was mended follows it.
      await this.flush('repair');
      await this.#locked(() => refcounts.blockCache.writeBack());
    }
    return report;
  }

  /** Takes over the dirty bitmaps of an image that was just opened for writing. */
  async loadBitmaps(): Promise<void> {
    const { header, geometry, refcounts } = this;
    const flush = (): Promise<void> => this.#flushLocked('bitmap');
    const parts = { header, geometry, refcounts, metadata: this.#metadata, flush };
    this.#bitmaps = await this.#locked(() => Bitmaps.load(parts));
  }

  async close(): Promise<void> {
    try {
      if (!this.header.readOnly && !this.header.isStopped) {
        await this.#closeTables();
      } else if (this.header.isStopped) {
        // Its tables stay as they are; the corrupt bit is made to last.
        await this.#device.sync('corrupt-bit');
      }
    } finally {
      await this.#device.close();
      await this.#dataDevice?.close();
      await this.backing?.close();
    }
  }

  /**
   * Makes all that the image has in memory durable. Bitmaps that cannot be stored stay marked as in use, and the dirty
   * bit stays set; what else there is reaches the file all the same, and then the error is told.
   */
  async #closeTables(): Promise<void> {
    const cause = this.header.isDirty ? 'dirty-bit' : 'close';
    await this.#locked(() => this.#writeCaches());
    // Here, other than at a flush, the image comes before its data file.
    await this.#device.sync(cause);
    let unstored: { readonly error: unknown } | undefined;
    try {
      await this.#locked(() => this.#bitmaps?.store());
    } catch (error) {
      unstored = { error };
    }
    try {
      if (!this.header.isStopped) await this.#locked(() => this.refcounts.blockCache.flush(cause));
      if (unstored === undefined) await this.#clearFeature(INCOMPATIBLE.dirty, 'dirty-bit');
      await this.#syncFiles('close');
    } catch (error) {
      unstored ??= { error };
    }
    if (unstored !== undefined) throw unstored.error;
  }

  async abandon(): Promise<void> {
    await this.#device.close();
    await this.#dataDevice?.close();
    await this.backing?.abandon();
  }

  /** Makes both files durable, the data file first; one that has nothing new issues nothing. */
  #syncFiles(cause: SyncCause): Pending {
    const pending = this.#dataDevice?.sync('data-file');
    return pending === undefined ? this.#device.sync(cause) : this.#syncAfter(pending, cause);
  }

  async #syncAfter(pending: Promise<void>, cause: SyncCause): Promise<void> {
    await pending;
    await this.#device.sync(cause);
  }

  async #flushInTurn(turn: Promise<void>, cause: SyncCause): Promise<void> {
    await turn;
    try {
      await this.#writeCaches();
    } finally {
      this.#lock.release();
    }
    await this.#syncFiles(cause);
  }

  /** With the lock held, which is released when the caches are written. */
  async #flushAfter(pending: Promise<void>, cause: SyncCause): Promise<void> {
    try {
      await pending;
    } finally {
      this.#lock.release();
    }
    await this.#syncFiles(cause);
  }

  async #flushLocked(cause: SyncCause): Promise<void> {
    await this.#writeCaches();
    await this.#device.sync(cause);
  }

  async #resize(
    virtualSize: number,
    cause: ResizeCause,
    preallocation: Preallocation = 'off',
  ): Promise<void> {
    const { header, geometry, tables, refcounts, backing } = this;
    const [discarder, cachesFor, dataDevice] = [this.#discarder, this.#cachesFor, this.#dataDevice];
    const writeUnlocked = (guestOffset: number, bytes: Uint8Array): Pending =>
      this.#writeUnlocked(guestOffset, bytes);
    const parts = { header, geometry, tables, refcounts, backing, discarder, cachesFor, writeUnlocked };
    const reserve: ResizeOptions['reserve'] = (part, mode) => preallocate(this.#preallocation, part, mode);
    await resizeDisk({ ...parts, cause, dataDevice, preallocation, reserve }, virtualSize);
    this.#bitmaps?.resize(virtualSize);
  }

  async #writeUnlocked(guestOffset: number, bytes: Uint8Array): Promise<void> {
    this.#lock.release();
    try {
      await this.#writer.write(guestOffset, bytes);
    } finally {
      const pending = this.#lock.acquire();
      if (pending !== undefined) await pending;
    }
  }

  #writeCaches(): Pending {
    const pending = this.tables.l2Cache.writeBack();
    return pending === undefined ? this.#writeRefcounts() : this.#writeRefcountsAfter(pending);
  }

  async #writeRefcountsAfter(pending: Promise<void>): Promise<void> {
    await pending;
    await this.#writeRefcounts();
  }

  /** While the dirty bit is set, refcounts in the file need not be right (R3). */
  #writeRefcounts(): Pending {
    return this.header.isDirty ? undefined : this.refcounts.blockCache.writeBack();
  }

  /** Clears an incompatible feature bit after everything it vouches for is durable. */
  async #clearFeature(bit: number, cause: SyncCause): Promise<void> {
    const { incompatible } = this.header.values;
    if ((incompatible & bit) === 0) return;
    await this.#locked(async () => {
      await this.tables.l2Cache.writeBack();
      await this.refcounts.blockCache.writeBack();
      await this.#device.sync(cause);
      await this.header.rewrite({ incompatible: incompatible & ~bit });
    });
  }

  async #locked<T>(work: () => T | Promise<T>): Promise<T> {
    const pending = this.#lock.acquire();
    if (pending !== undefined) await pending;
    try {
      return await work();
    } finally {
      this.#lock.release();
    }
  }
}
