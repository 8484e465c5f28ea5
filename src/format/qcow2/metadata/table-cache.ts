/**
 * A write-back cache of equally sized metadata tables (rules R4 to R7 in docs/qemu-rules.md).
 *
 * Invariants:
 * - A table that is acquired is not evicted before it is released as often.
 * - Before any table of this cache reaches the file, whatever the cache depends on is durable: the
 *   other cache it `depends` on, or the data that `dependOnSync` or `dependOnFile` is called for.
 * - Slots, probing, eviction and write-back order are QEMU's, since they decide which bytes are
 *   written when. The map from offset to slot only speeds up what the probe would find.
 *
 * Tables stay raw bytes in page-aligned memory, which O_DIRECT can write without a copy.
 */

import { alignDown, alignUp, isAligned } from '../../../core/alignment.ts';
import { viewOf } from '../../../core/bytes.ts';
import { Qcow2BenchError, assertInvariant, hex } from '../../../core/error.ts';
import type { HostOffset } from '../../../core/offsets.ts';
import { allocatePages } from '../../../core/page-memory.ts';
import { after, type MaybePromise, type Pending } from '../../../core/pending.ts';
import type { BlockDevice } from '../../../device/block-device.ts';
import type { Purpose, SyncCause } from '../../../device/purpose.ts';
import type { EnginePolicy } from '../../engine-policy.ts';
import { ReleaseOrder } from './release-order.ts';

/** Slots get their memory in batches of about this many bytes, when they are first used. */
const BATCH_BYTES = 65_536;

export interface TableCacheOptions {
  readonly device: BlockDevice;
  /** How many tables are held; at least 1. */
  readonly slots: number;
  /** Bytes of a table; every table's offset is a multiple of it. */
  readonly tableSize: number;
  readonly purpose: Purpose;
  /** The cause of a sync that the cache's dependency on another one forces. */
  readonly dependencyCause: SyncCause;
  /** As `EnginePolicy` has them. */
  readonly policy: Pick<EnginePolicy, 'syncsBetweenTables' | 'tableWriteUnit'>;
  /** Throws, or rejects, if a write of one table at this offset would damage other metadata. */
  readonly guardWrite: (offset: HostOffset, length: number) => undefined | Promise<never>;
}

export class TableCache {
  #slots: number;
  readonly tableSize: number;
  readonly #device: BlockDevice;
  readonly #purpose: Purpose;
  readonly #dependencyCause: SyncCause;
  readonly #syncsDependency: boolean;
  /** Bytes of a table that are written at least. */
  readonly #writeUnit: number;
  readonly #guardWrite: (offset: HostOffset, length: number) => undefined | Promise<never>;

  /** Offset of the table in each slot; −1 is an empty slot. */
  #offsets: Float64Array;
  #references: Int32Array;
  #dirty: Uint8Array;
  /** Of a dirty slot: bytes before and behind these two are in the file as they are here. */
  #changedFrom: Int32Array;
  #changedTo: Int32Array;
  #order: ReleaseOrder;
  readonly #bytes: Uint8Array<ArrayBuffer>[] = [];
  readonly #views: DataView<ArrayBuffer>[] = [];
  readonly #slotOf = new Map<number, number>();
  /** The slot that was found last. */
  #found = 0;
  #dirtyCount = 0;
  /** All dirty slots are between these two, both included. */
  #lowestDirty: number;
  #highestDirty = -1;

  #depends: TableCache | undefined;
  /** What the file is synced for before a table is written. */
  #syncFirst: SyncCause | undefined;
  /** Synced before that. */
  #dataFile: BlockDevice | undefined;

  constructor(options: TableCacheOptions) {
    this.#slots = options.slots;
    this.tableSize = options.tableSize;
    this.#device = options.device;
    this.#purpose = options.purpose;
    this.#dependencyCause = options.dependencyCause;
    this.#syncsDependency = options.policy.syncsBetweenTables;
    this.#writeUnit = Math.min(options.policy.tableWriteUnit ?? options.tableSize, options.tableSize);
    this.#guardWrite = options.guardWrite;
    this.#lowestDirty = options.slots;
    this.#offsets = new Float64Array(options.slots).fill(-1);
    this.#references = new Int32Array(options.slots);
    this.#dirty = new Uint8Array(options.slots);
    this.#changedFrom = new Int32Array(options.slots);
    this.#changedTo = new Int32Array(options.slots);
    this.#order = new ReleaseOrder(options.slots);
  }

  get slots(): number {
    return this.#slots;
  }

  /** Of the tables in the cache. */
  get byteLength(): number {
    return this.#slotOf.size * this.tableSize;
  }

  get hasDirtyTables(): boolean {
    return this.#dirtyCount > 0;
  }

  /** Takes a reference to the table at `offset`, reading it if need be; answers its slot. */
  acquire(offset: HostOffset): MaybePromise<number> {
    const slot = this.#find(offset);
    if (slot < 0) return this.#load(offset, true);
    this.#reference(slot);
    return slot;
  }

  /** As `acquire`, for a table that is about to be written whole: nothing is read. */
  acquireEmpty(offset: HostOffset): MaybePromise<number> {
    const slot = this.#find(offset);
    if (slot < 0) return this.#load(offset, false);
    this.#reference(slot);
    return slot;
  }

  /** As `acquire`, only if the table is in the cache; otherwise -1. */
  acquireCached(offset: HostOffset): number {
    const slot = this.#find(offset);
    if (slot >= 0) this.#reference(slot);
    return slot;
  }

  release(slot: number): void {
    const left = (this.#references[slot] ?? 0) - 1;
    assertInvariant(left >= 0, 'a table was released more often than acquired');
    this.#references[slot] = left;
    if (left === 0) this.#order.release(slot);
  }

  /** The bytes of an acquired slot's table. */
  bytes(slot: number): Uint8Array<ArrayBuffer> {
    return this.#bytes[slot] as Uint8Array<ArrayBuffer>;
  }

  /** A view over the bytes of an acquired slot's table. */
  view(slot: number): DataView<ArrayBuffer> {
    return this.#views[slot] as DataView<ArrayBuffer>;
  }

  /** The table has changed, or is about to: within these bytes, or anywhere. */
  markDirty(slot: number, from = 0, to = this.tableSize): void {
    if (this.#dirty[slot] === 1) {
      if (from < (this.#changedFrom[slot] as number)) this.#changedFrom[slot] = from;
      if (to > (this.#changedTo[slot] as number)) this.#changedTo[slot] = to;
      return;
    }
    this.#dirty[slot] = 1;
    this.#dirtyCount++;
    this.#changedFrom[slot] = from;
    this.#changedTo[slot] = to;
    if (slot < this.#lowestDirty) this.#lowestDirty = slot;
    if (slot > this.#highestDirty) this.#highestDirty = slot;
  }

  /**
   * Forgets the table at `offset` without writing it, if it is here: its cluster was freed. One
   * that is in use stays (only a corrupt image frees it).
   */
  forget(offset: HostOffset): void {
    const slot = this.#find(offset);
    if (slot < 0 || this.#references[slot] !== 0) return;
    this.#clean(slot);
    this.#slotOf.delete(offset);
    this.#offsets[slot] = -1;
    this.#order.forget(slot);
  }

  /**
   * Forgets every slice of the table of `length` bytes at `offset`, without writing: it was changed
   * in the file.
   */
  forgetTable(offset: HostOffset, length: number): void {
    for (let at = offset; at < offset + length; at += this.tableSize) this.forget(at);
  }

  /** Forgets all tables without writing them. */
  forgetAll(): void {
    for (const offset of [...this.#slotOf.keys()]) this.forget(offset);
  }

  /** Resets the cache to this many slots: nothing is dirty and no table is held. */
  reset(slots: number): void {
    assertInvariant(this.#dirtyCount === 0, 'a cache with dirty tables was reset');
    this.forgetAll();
    this.#bytes.length = 0;
    this.#views.length = 0;
    this.#slots = slots;
    this.#lowestDirty = slots;
    this.#highestDirty = -1;
    this.#offsets = new Float64Array(slots).fill(-1);
    this.#found = 0;
    this.#references = new Int32Array(slots);
    this.#dirty = new Uint8Array(slots);
    this.#changedFrom = new Int32Array(slots);
    this.#changedTo = new Int32Array(slots);
    this.#order = new ReleaseOrder(slots);
  }

  /** From now on, tables of `other` become durable before tables of this cache (R5). */
  setDependency(other: TableCache): Pending {
    if (other.#depends !== undefined || (this.#depends !== undefined && this.#depends !== other)) {
      return this.#replaceDependency(other);
    }
    this.#depends = other;
    return undefined;
  }

  /**
   * From now on, what was written to the file before becomes durable before tables of this cache.
   * Of two causes the first counts, but copied data before others: their sync is QEMU's own.
   */
  dependOnSync(cause: 'l2-after-cow' | 'l2-after-data'): void {
    if (this.#syncFirst === undefined || cause === 'l2-after-cow') this.#syncFirst = cause;
  }

  /** From now on, what was written to a data file becomes durable before tables of this cache. */
  dependOnFile(dataFile: BlockDevice): void {
    this.#dataFile = dataFile;
  }

  /** Makes durable now what `setDependency` said; nothing if that was done since. */
  settleDependency(cause: SyncCause): Pending {
    return this.#depends === undefined ? undefined : this.#satisfiedBy(this.#depends.flush(cause));
  }

  /** Writes every dirty table, in slot order; does not sync at the end. */
  writeBack(): Pending {
    return this.#writeBackFrom(this.#lowestDirty);
  }

  /** Writes every dirty table and syncs. */
  flush(cause: SyncCause): Pending {
    const pending = this.writeBack();
    return pending === undefined ? this.#sync(cause) : after(pending, this.#sync.bind(this, cause));
  }

  #sync(cause: SyncCause): Pending {
    return this.#device.sync(cause);
  }

  /** The slot of the table at `offset`, mostly the one that was found last; −1 if it is not here. */
  #find(offset: HostOffset): number {
    if (this.#offsets[this.#found] !== offset) {
      const slot = this.#slotOf.get(offset);
      if (slot === undefined) return -1;
      this.#found = slot;
    }
    return this.#found;
  }

  #reference(slot: number): void {
    this.#references[slot] = (this.#references[slot] ?? 0) + 1;
  }

  async #replaceDependency(other: TableCache): Promise<void> {
    if (other.#depends !== undefined) await other.#satisfyDependency(other.#depends);
    if (this.#depends !== undefined && this.#depends !== other) await this.#satisfyDependency(this.#depends);
    this.#depends = other;
  }

  #writeBackFrom(first: number): Pending {
    // Nothing dirties this cache while it is written: its users hold the image's metadata lock.
    for (let slot = first; this.#dirtyCount > 0 && slot <= this.#highestDirty; slot++) {
      if (this.#dirty[slot] === 0) continue;
      const pending = this.#writeSlot(slot);
      if (pending !== undefined) return after(pending, this.#writeBackFrom.bind(this, slot + 1));
    }
    this.#lowestDirty = this.#slots;
    this.#highestDirty = -1;
    return undefined;
  }

  #satisfyDependency(depends: TableCache): Pending {
    if (this.#syncsDependency) return this.#satisfiedBy(depends.flush(this.#dependencyCause));
    const pending = depends.writeBack();
    return pending === undefined ? this.#writtenBefore() : after(pending, this.#writtenBefore.bind(this));
  }

  /** The tables that this cache depends on are written, and may not be durable: data still have to be. */
  #writtenBefore(): Pending {
    this.#depends = undefined;
    return this.#syncData();
  }

  #syncData(): Pending {
    return this.#syncFirst === undefined ? undefined : this.#satisfiedBy(this.#device.sync(this.#syncFirst));
  }

  #satisfiedBy(pending: Pending): Pending {
    if (pending !== undefined) {
      return after(pending, this.#forgetDependency.bind(this));
    }
    this.#forgetDependency();
    return undefined;
  }

  #forgetDependency(): void {
    this.#depends = undefined;
    this.#syncFirst = undefined;
  }

  #writeSlot(slot: number): Pending {
    const pending = this.#makeDurableBefore();
    return pending === undefined ? this.#writeTable(slot) : after(pending, this.#writeTable.bind(this, slot));
  }

  /** What this cache depends on, before any of its tables reaches the file (R4). */
  #makeDurableBefore(): Pending {
    if (this.#dataFile !== undefined) return this.#makeDataDurable(this.#dataFile);
    if (this.#depends !== undefined) return this.#satisfyDependency(this.#depends);
    return this.#syncData();
  }

  async #makeDataDurable(dataFile: BlockDevice): Promise<void> {
    await dataFile.sync('l2-after-data');
    this.#dataFile = undefined;
    await this.#makeDurableBefore();
  }

  #writeTable(slot: number): Pending {
    const offset = this.#offsets[slot] as number;
    const guarded = this.#guardWrite(offset, this.tableSize);
    if (guarded !== undefined) return guarded;
    const from = this.#changedFrom[slot] as number;
    const to = this.#changedTo[slot] as number;
    // Unless this write succeeds, the table's content in the file is unknown.
    this.#changedFrom[slot] = 0;
    this.#changedTo[slot] = this.tableSize;
    const pending =
      this.#writeUnit === this.tableSize
        ? this.#device.write(offset, this.bytes(slot), this.#purpose, from, to)
        : this.#writeUnits(slot, from, to);
    if (pending !== undefined) {
      return after(pending, this.#clean.bind(this, slot));
    }
    this.#clean(slot);
    return undefined;
  }

  /** Writes the units of a table that hold the bytes between `from` and `to`. */
  #writeUnits(slot: number, from: number, to: number): Pending {
    const start = alignDown(from, this.#writeUnit);
    const bytes = this.bytes(slot).subarray(start, alignUp(to, this.#writeUnit));
    const offset = (this.#offsets[slot] as number) + start;
    return this.#device.write(offset, bytes, this.#purpose, from - start, to - start);
  }

  #clean(slot: number): void {
    if (this.#dirty[slot] === 1) {
      this.#dirty[slot] = 0;
      this.#dirtyCount--;
    }
  }

  async #load(offset: HostOffset, read: boolean): Promise<number> {
    if (offset === 0 || !isAligned(offset, this.tableSize)) {
      throw new Qcow2BenchError(
        'unaligned-table',
        `a ${this.#purpose} at ${hex(offset)} is not aligned to ${String(this.tableSize)} bytes; the image is corrupt`,
        { path: this.#device.path, offset },
      );
    }
    const slot = this.#victim(offset);
    if (this.#dirty[slot] === 1) await this.#writeSlot(slot);
    this.#slotOf.delete(this.#offsets[slot] as number);
    this.#offsets[slot] = -1;
    this.#ensureMemory(slot);
    if (read) {
      const pending = this.#device.read(offset, this.bytes(slot), this.#purpose);
      if (pending !== undefined) await pending;
    }
    this.#offsets[slot] = offset;
    this.#slotOf.set(offset, slot);
    this.#reference(slot);
    return slot;
  }

  /**
   * A slot that was never used, the first in probe order; or the least recently released one that
   * is not held (R6).
   */
  #victim(offset: HostOffset): number {
    const first = ((offset / this.tableSize) * 4) % this.#slots;
    for (let step = 0; step < this.#slots && this.#order.hasAbsent; step++) {
      const slot = (first + step) % this.#slots;
      if (this.#references[slot] === 0 && !this.#order.has(slot)) return slot;
    }
    let slot = this.#order.oldest();
    while (slot >= 0 && this.#references[slot] !== 0) slot = this.#order.next(slot);
    assertInvariant(slot >= 0, `all ${String(this.#slots)} slots of the ${this.#purpose} cache are in use`);
    return slot;
  }

  #ensureMemory(slot: number): void {
    if (this.#bytes[slot] !== undefined) return;
    const perBatch = Math.max(1, Math.floor(BATCH_BYTES / this.tableSize));
    const first = slot - (slot % perBatch);
    const count = Math.min(perBatch, this.#slots - first);
    const batch = allocatePages(count * this.tableSize);
    for (let index = 0; index < count; index++) {
      const bytes = batch.subarray(index * this.tableSize, (index + 1) * this.tableSize);
      this.#bytes[first + index] = bytes;
      this.#views[first + index] = viewOf(bytes);
    }
  }
}
