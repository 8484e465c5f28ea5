/**
 * An open qcow2 image, versions 2 and 3, with eager or lazy refcounts.
 *
 * Invariants:
 * - Metadata is looked at and changed only with the metadata lock held; data is read and written
 *   without.
 * - A flush writes the L2 cache, then the refcount cache unless the dirty bit is set, then syncs
 *   (rule R3).
 * - After a close without error the dirty bit is clear and the refcounts in the file are right.
 */

import type { GuestOffset } from '../../core/offsets.ts';
import { after, type Pending } from '../../core/pending.ts';
import type { Purpose, SyncCause } from '../../device/purpose.ts';
import type { CheckOptions, CheckReport, RepairScope } from '../check-report.ts';
import type { BitmapChange, DiskImage, Format, ImageAmendment, MapOptions, Mapping } from '../disk-image.ts';
import { REFCOUNT_BITS, type ImageShape, type Preallocation, type RefcountMode } from '../image-shape.ts';
import { amendImage } from './amend.ts';
import { Bitmaps } from './bitmaps/bitmaps.ts';
import { checkImage } from './check/check.ts';
import { CompressedWriter } from './io/compressed-writer.ts';
import { DataWriter } from './io/data-writer.ts';
import { Discarder } from './io/discard.ts';
import type { Geometry } from './on-disk/geometry.ts';
import { GuestWriter } from './io/guest-writer.ts';
import type { HeaderStore } from './metadata/header-store.ts';
import type { ImageCore } from './metadata/image-core.ts';
import { INCOMPATIBLE } from './on-disk/layout.ts';
import type { L2Tables } from './metadata/l2-tables.ts';
import { preallocate, type ClusterLinker } from './preallocation.ts';
import { MAPPING_KIND, Reader } from './io/reader.ts';
import type { Refcounts } from './metadata/refcounts.ts';
import { dropAllClusters, resizeDisk, type ResizeCause } from './resize.ts';
import { Snapshots, type SnapshotsOptions } from './snapshots/snapshots.ts';
import { WriteMapper } from './io/write-mapper.ts';
import { ZeroRequests } from './io/zero-requests.ts';

export interface Qcow2ImageOptions {
  readonly snapshotTable: SnapshotsOptions['table'];
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
  readonly #core: ImageCore;
  readonly #readPurpose: Purpose;
  readonly #reader: Reader;
  readonly #writer: GuestWriter;
  readonly #compressor: CompressedWriter;
  readonly #linker: ClusterLinker;
  readonly #discarder: Discarder;
  readonly #zeroes: ZeroRequests;
  readonly #writeCaches = (): Pending => this.#core.writeCaches();
  #bitmaps: Bitmaps | undefined;

  constructor(core: ImageCore, { snapshotTable, readPurpose }: Qcow2ImageOptions) {
    const { header, geometry, tables, refcounts } = core;
    this.header = header;
    this.geometry = geometry;
    this.backing = core.backing;
    this.refcounts = refcounts;
    this.tables = tables;
    this.#core = core;
    this.#readPurpose = readPurpose;
    this.#reader = new Reader(core);
    const mapper = new WriteMapper(core);
    const writer = new DataWriter(core, mapper, this.#reader);
    this.#linker = { mapper, writer };
    this.#writer = new GuestWriter(core, mapper, writer);
    this.#compressor = new CompressedWriter(core, this.#writer);
    this.#discarder = new Discarder(core);
    this.#zeroes = new ZeroRequests(core, this, this.#discarder, this.#writer);
    this.snapshots = new Snapshots(core, {
      table: snapshotTable,
      resize: (virtualSize) => this.#resize(virtualSize, 'snapshot'),
      hasBitmaps: () => this.#bitmaps !== undefined,
    });
  }

  get refcountMode(): RefcountMode {
    return this.header.hasLazyRefcounts ? 'lazy' : 'eager';
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

  get metadataInMemory(): number {
    return this.#core.metadataInMemory;
  }

  get allocatingWrites(): number {
    return this.#writer.allocatingWrites + this.#compressor.clusters;
  }

  read(guestOffset: GuestOffset, target: Uint8Array): Pending {
    this.header.assertRunning();
    return this.#reader.read(guestOffset, target, this.#readPurpose);
  }

  write(guestOffset: GuestOffset, bytes: Uint8Array): Pending {
    this.header.assertRunning();
    this.#bitmaps?.mark(guestOffset, bytes.byteLength);
    return this.#writer.write(guestOffset, bytes);
  }

  /**
   * Gives every cluster of a disk of `virtualSize` bytes its place, before the header says how
   * large it is: for an image that is being made.
   */
  async preallocate(virtualSize: number, mode: Exclude<Preallocation, 'off'>): Promise<void> {
    await this.#core.lock.hold(async () => {
      await preallocate(this.#core, this.#linker, { from: 0, to: virtualSize }, mode);
      await this.#core.writeCaches();
    });
  }

  async writeCompressed(guestOffset: GuestOffset, bytes: Uint8Array): Promise<void> {
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
    guestOffset: GuestOffset,
    length: number,
    options: { readonly unmap: boolean },
  ): Promise<void> {
    this.header.assertRunning();
    this.#writer.noteRequest();
    this.#bitmaps?.mark(guestOffset, length);
    await this.#zeroes.writeZeroes(guestOffset, length, options.unmap);
  }

  async discard(guestOffset: GuestOffset, length: number): Promise<void> {
    this.header.assertRunning();
    this.#writer.noteRequest();
    this.#bitmaps?.mark(guestOffset, length);
    await this.#zeroes.discard(guestOffset, length);
  }

  flush(cause: SyncCause): Pending {
    this.header.assertRunning();
    this.#writer.noteRequest();
    const pending = this.#core.lock.hold(this.#writeCaches);
    return pending === undefined ? this.#syncFiles(cause) : after(pending, this.#syncFiles.bind(this, cause));
  }

  async map(guestOffset: GuestOffset, length: number, options?: MapOptions): Promise<Mapping> {
    const range = await this.#core.lock.hold(() => this.#reader.lookUpFar(guestOffset, length, options?.far));
    const kind = MAPPING_KIND[range.type];
    // Offset 0 is a place in a data file.
    const hasPlace = range.hostOffset > 0 || kind === 'data';
    const mapping = { kind, length: range.length, hostOffset: hasPlace ? range.hostOffset : undefined };
    return kind === 'data' && options?.seeHoles === true ? this.#asStored(mapping) : mapping;
  }

  /** As QEMU does, asks the file about data only where the refcounts show that it was preallocated. */
  async #asStored(mapping: Mapping): Promise<Mapping> {
    const { device, dataFile, lock, refcounts } = this.#core;
    try {
      await lock.hold(() => refcounts.scanOnce(device));
    } catch {
      // Damaged refcounts do not keep a disk from being read.
    }
    const file = dataFile ?? device;
    const { length, hostOffset } = mapping;
    if (!refcounts.isPreallocated || hostOffset === undefined) return mapping;
    if (hostOffset >= file.size()) return { kind: 'hole', length, hostOffset };
    const extent = file.extentAt(hostOffset);
    return { kind: extent.isData ? 'data' : 'hole', length: Math.min(length, extent.length), hostOffset };
  }

  /**
   * @throws Qcow2BenchError `qcow2-resize-needs-v3`, `qcow2-l1-too-large`,
   *   `resize-with-bitmap-in-use`
   */
  async resize(virtualSize: number, preallocation: Preallocation = 'off'): Promise<void> {
    this.header.assertRunning();
    await this.#core.lock.hold(() => this.#resize(virtualSize, 'l1-growth', preallocation));
  }

  /** @throws Qcow2BenchError `qcow2-lazy-needs-v3`, `amend-needs-v3` */
  async amend(change: ImageAmendment): Promise<void> {
    this.header.assertRunning();
    await this.#core.lock.hold(() => amendImage(this.#core, change));
  }

  /**
   * Checks refcounts and copied flags; repairs within `repair` if given. The image must be idle.
   */
  async check(repair?: RepairScope, options: Omit<CheckOptions, 'repair'> = {}): Promise<CheckReport> {
    const { header, refcounts, lock } = this.#core;
    const target = { core: this.#core, snapshots: this.snapshots };
    const report = await lock.hold(() => checkImage(target, { ...options, repair }));
    const isGood = report.corruptions === 0 && report.checkErrors === 0;
    if (repair !== undefined && isGood) {
      await this.#core.clearFeature(INCOMPATIBLE.dirty, 'repair');
      await this.#core.clearFeature(INCOMPATIBLE.corrupt, 'repair');
    } else if (repair !== undefined && header.isDirty && !header.isStopped) {
      // A flush holds refcounts back while the dirty bit is set, which it stays: what was repaired
      // follows it.
      await this.flush('repair');
      await lock.hold(() => refcounts.blockCache.writeBack());
    }
    return report;
  }

  /** Takes over the dirty bitmaps of an image that was just opened for writing. */
  async loadBitmaps(): Promise<void> {
    this.#bitmaps = await this.#core.lock.hold(() => Bitmaps.load(this.#core));
  }

  /**
   * QEMU writes the header first: after a crash the image would be over the new file, without the
   * clusters that were copied for it.
   */
  async changeBacking(
    backing: { readonly name: string; readonly format: Format } | undefined,
  ): Promise<void> {
    this.header.assertRunning();
    await this.flush('amend');
    await this.#core.lock.hold(() =>
      this.header.rewrite({ backingFile: backing?.name, backingFormat: backing?.format }),
    );
  }

  async makeEmpty(): Promise<void> {
    this.header.assertRunning();
    await this.#core.lock.hold(() => dropAllClusters(this.#core, this.#discarder));
  }

  /**
   * @throws Qcow2BenchError `bitmap-…` naming the rule, `too-many-bitmaps`,
   *   `qcow2-bitmaps-too-large`
   */
  async changeBitmap(change: BitmapChange): Promise<void> {
    this.header.assertRunning();
    this.#bitmaps ??= Bitmaps.none(this.#core);
    const bitmaps = this.#bitmaps;
    await this.#core.lock.hold(() => bitmaps.change(change));
  }

  async close(): Promise<void> {
    try {
      if (!this.header.readOnly && !this.header.isStopped) {
        await this.#closeTables();
      } else if (this.header.isStopped) {
        // Its tables stay as they are; the corrupt bit is made to last.
        await this.#core.device.sync('corrupt-bit');
      }
    } finally {
      await this.#core.device.close();
      await this.#core.dataFile?.close();
      await this.backing?.close();
    }
  }

  /**
   * Makes all that the image has in memory durable. Bitmaps that cannot be stored stay marked as in
   * use, and the dirty bit stays set; what else there is reaches the file all the same, and then
   * the error is reported.
   */
  async #closeTables(): Promise<void> {
    const cause = this.header.isDirty ? 'dirty-bit' : 'close';
    await this.#core.lock.hold(this.#writeCaches);
    // Here, other than at a flush, the image comes before its data file.
    await this.#core.device.sync(cause);
    let unstored: { readonly error: unknown } | undefined;
    try {
      await this.#core.lock.hold(() => this.#bitmaps?.store());
    } catch (error) {
      unstored = { error };
    }
    try {
      if (!this.header.isStopped) await this.#core.lock.hold(() => this.refcounts.blockCache.flush(cause));
      if (unstored === undefined) await this.#core.clearFeature(INCOMPATIBLE.dirty, 'dirty-bit');
      await this.#syncFiles('close');
    } catch (error) {
      unstored ??= { error };
    }
    if (unstored !== undefined) throw unstored.error;
  }

  async abandon(): Promise<void> {
    await this.#core.device.close();
    await this.#core.dataFile?.close();
    await this.backing?.abandon();
  }

  /** Makes both files durable, the data file first; one that has nothing new issues nothing. */
  #syncFiles(cause: SyncCause): Pending {
    const pending = this.#core.dataFile?.sync('data-file');
    return pending === undefined ? this.#syncImage(cause) : after(pending, this.#syncImage.bind(this, cause));
  }

  #syncImage(cause: SyncCause): Pending {
    return this.#core.sync(cause);
  }

  async #resize(
    virtualSize: number,
    cause: ResizeCause,
    preallocation: Preallocation = 'off',
  ): Promise<void> {
    const core = this.#core;
    this.#bitmaps?.refuseResize();
    await resizeDisk(core, virtualSize, {
      discarder: this.#discarder,
      cause,
      preallocation,
      reserve: (part, mode) => preallocate(core, this.#linker, part, mode),
      writeUnlocked: (guestOffset, bytes) => core.lock.pause(() => this.#writer.write(guestOffset, bytes)),
    });
    this.#bitmaps?.resize(virtualSize);
  }
}
