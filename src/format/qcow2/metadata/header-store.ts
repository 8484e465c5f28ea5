/**
 * The header of an open image: its present values and every way in which they reach the file.
 *
 * Invariants: a value changes in memory as soon as the file took it, and not before: a failed write
 * leaves both as they were, a failed sync leaves both changed. A rewrite puts the whole header
 * cluster, as QEMU does, a field update only its bytes.
 */

import { writeU64be, viewOf } from '../../../core/bytes.ts';
import { assertInvariant, Qcow2BenchError } from '../../../core/error.ts';
import type { HostOffset } from '../../../core/offsets.ts';
import { allocatePages } from '../../../core/page-memory.ts';
import type { BlockDevice } from '../../../device/block-device.ts';
import { AUTOCLEAR, COMPATIBLE, INCOMPATIBLE } from '../on-disk/layout.ts';
import { EXTENSION } from '../on-disk/header-extensions.ts';
import { serializeHeader } from '../on-disk/header-writer.ts';
import { FIELD, type Qcow2Header } from '../on-disk/header.ts';

export class HeaderStore {
  readonly device: BlockDevice;
  readonly readOnly: boolean;
  #values: Qcow2Header;
  #stopped = false;

  constructor(device: BlockDevice, values: Qcow2Header, readOnly: boolean) {
    this.device = device;
    this.readOnly = readOnly;
    this.#values = values;
  }

  get values(): Qcow2Header {
    return this.#values;
  }

  /**
   * The refcounts in the file may be stale: lazy refcounts were written to, and the image not
   * closed.
   */
  get isDirty(): boolean {
    return (this.#values.incompatible & INCOMPATIBLE.dirty) !== 0;
  }

  get isCorrupt(): boolean {
    return (this.#values.incompatible & INCOMPATIBLE.corrupt) !== 0;
  }

  /** Guest data is in a file of its own, at its guest offsets; there are no refcounts for it. */
  get hasDataFile(): boolean {
    return (this.#values.incompatible & INCOMPATIBLE.externalDataFile) !== 0;
  }

  /** The data file is kept such that it can be read as a raw image. */
  get isDataFileRaw(): boolean {
    return this.hasDataFile && (this.#values.autoclear & BigInt(AUTOCLEAR.rawExternalData)) !== 0n;
  }

  get hasLazyRefcounts(): boolean {
    return (this.#values.compatible & BigInt(COMPATIBLE.lazyRefcounts)) !== 0n;
  }

  /** Sets the dirty bit durably before refcounts may lag behind. Does nothing if it is set. */
  async markDirty(): Promise<void> {
    if (this.isDirty) return;
    const incompatible = this.#values.incompatible | INCOMPATIBLE.dirty;
    const field = allocatePages(8);
    writeU64be(viewOf(field), 0, incompatible);
    await this.device.write(FIELD.incompatible, field, 'header');
    await this.device.sync('dirty-bit');
    // Only now: until the bit is durable, L2 entries have to wait for their refcounts.
    this.#values = { ...this.#values, incompatible };
  }

  /**
   * Stops the image after metadata was found to be damaged: nothing more is written through it, and
   * the corrupt bit keeps others from writing.
   *
   * @throws always: Qcow2BenchError `qcow2-corrupt` with `what` as its message
   */
  async markCorruptAt(what: string, offset: HostOffset): Promise<never> {
    const message = `${what}; the image is corrupt and was closed for writing`;
    return this.markCorrupt(
      new Qcow2BenchError('qcow2-corrupt', message, { path: this.device.path, offset }),
    );
  }

  /**
   * As `markCorruptAt`, for damage with a code of its own that even a read can find: an image that
   * is open read-only is neither marked nor stopped.
   *
   * @throws always: `error`
   */
  async markCorrupt(error: Qcow2BenchError): Promise<never> {
    if (!this.readOnly) {
      const isKnown = this.#stopped || this.isCorrupt;
      this.#stopped = true;
      // Version 2 has no such bit: its header is written all the same, as QEMU does.
      const bit = this.#values.version < 3 ? 0 : INCOMPATIBLE.corrupt;
      if (!isKnown) await this.rewrite({ incompatible: this.#values.incompatible | bit });
    }
    throw error;
  }

  /** @throws Qcow2BenchError `qcow2-corrupt` if the image was stopped */
  assertRunning(): void {
    if (this.#stopped) {
      throw new Qcow2BenchError(
        'qcow2-corrupt',
        'the image was closed for writing because its metadata is corrupt',
        {
          path: this.device.path,
        },
      );
    }
  }

  get isStopped(): boolean {
    return this.#stopped;
  }

  /** Writes the whole header cluster with `changes`; no sync. */
  async rewrite(changes: Partial<Qcow2Header>): Promise<void> {
    const values = { ...this.#values, ...changes };
    const cluster = serializeHeader(values, this.device.path);
    await this.device.write(0, cluster, 'header');
    this.#values = values;
  }

  /**
   * Clears autoclear features that are not known here, and drops bitmaps that another program did
   * not keep in step with the disk: what blocks the first write. No sync.
   */
  async dropStaleFeatures(): Promise<void> {
    const { autoclear, otherExtensions } = this.#values;
    const kept = autoclear & BigInt(AUTOCLEAR.bitmaps | AUTOCLEAR.rawExternalData);
    const hasBitmaps = otherExtensions.some(({ type }) => type === EXTENSION.bitmaps);
    const areStale = hasBitmaps && (autoclear & BigInt(AUTOCLEAR.bitmaps)) === 0n;
    if (kept === autoclear && !areStale) return;
    await this.rewrite({
      autoclear: kept,
      otherExtensions: areStale
        ? otherExtensions.filter(({ type }) => type !== EXTENSION.bitmaps)
        : otherExtensions,
    });
  }

  /** Puts the virtual size into its field and syncs. */
  async moveVirtualSize(virtualSize: number, cause: 'l1-growth' | 'snapshot'): Promise<void> {
    const field = allocatePages(8);
    writeU64be(viewOf(field), 0, virtualSize);
    await this.device.write(FIELD.virtualSize, field, 'header');
    this.#values = { ...this.#values, virtualSize };
    await this.device.sync(cause);
  }

  /**
   * Points the header to another L1 table: 12 bytes at 36. The caller syncs, once it points there
   * too.
   */
  async moveL1Table(l1Offset: number, l1Entries: number): Promise<void> {
    const fields = allocatePages(12);
    viewOf(fields).setUint32(0, l1Entries);
    writeU64be(viewOf(fields), 4, l1Offset);
    await this.device.write(FIELD.l1Entries, fields, 'header');
    this.#values = { ...this.#values, l1Entries, l1Offset };
  }

  /**
   * Points the header to another refcount table: 12 bytes at 48. The caller syncs, once it points
   * there too.
   */
  async moveRefcountTable(refcountTableOffset: number, refcountTableClusters: number): Promise<void> {
    const fields = allocatePages(12);
    writeU64be(viewOf(fields), 0, refcountTableOffset);
    viewOf(fields).setUint32(8, refcountTableClusters);
    await this.device.write(FIELD.refcountTableOffset, fields, 'header');
    this.#values = { ...this.#values, refcountTableOffset, refcountTableClusters };
  }

  /** Follows the tables of a snapshot, in memory alone. */
  show(snapshot: { readonly l1Offset: number; readonly l1Entries: number; readonly diskSize: number }): void {
    const { l1Offset, l1Entries, diskSize } = snapshot;
    assertInvariant(this.readOnly, 'an image that shows a snapshot is open read-only');
    this.#values = { ...this.#values, l1Offset, l1Entries, virtualSize: diskSize };
  }

  /** Points the header to another snapshot table: 12 bytes at 60. The caller syncs. */
  async moveSnapshotTable(snapshotsOffset: number, snapshotCount: number): Promise<void> {
    const fields = allocatePages(12);
    viewOf(fields).setUint32(0, snapshotCount);
    writeU64be(viewOf(fields), 4, snapshotsOffset);
    await this.device.write(FIELD.snapshotCount, fields, 'header');
    this.#values = { ...this.#values, snapshotsOffset, snapshotCount };
  }
}
