/**
 * The two levels of mapping tables: the L1 table in memory, L2 tables by slices through the cache.
 *
 * Invariants:
 * - L1 entries in memory equal those in the file; an L2 table is durable before the L1 entry points
 *   to it.
 * - A slice handed out for writing belongs to an L2 table that only the active L1 table uses.
 * - The caller holds the metadata lock and releases every slice that it acquires.
 */

import { ceilDiv, alignDown, isAligned, remainder } from '../../../core/alignment.ts';
import { emptyWordsEnd, viewOf, writeU64be } from '../../../core/bytes.ts';
import { Qcow2BenchError, assertInvariant, hex } from '../../../core/error.ts';
import { LIMITS } from '../../../core/limits.ts';
import type { GuestOffset, HostOffset } from '../../../core/offsets.ts';
import { allocatePages } from '../../../core/page-memory.ts';
import { zeroOrWrite } from '../../real-zeroes.ts';
import type { TableCache } from './table-cache.ts';
import type { CacheGeometry } from './cache-geometry.ts';
import type { Geometry } from '../on-disk/geometry.ts';
import type { HeaderStore } from './header-store.ts';
import { ENTRY_SIZE, HIGH, LOW, TWO_32 } from '../on-disk/layout.ts';
import type { MetadataMap } from './metadata-map.ts';
import type { Refcounts } from './refcounts.ts';

export interface L2TablesOptions {
  readonly header: HeaderStore;
  readonly geometry: Geometry;
  readonly caches: CacheGeometry;
  readonly l2Cache: TableCache;
  readonly refcounts: Refcounts;
  readonly metadata: MetadataMap;
}

export class L2Tables {
  readonly l2Cache: TableCache;
  readonly sliceEntries: number;
  readonly #header: HeaderStore;
  readonly #geometry: Geometry;
  readonly #sliceSize: number;
  readonly #refcounts: Refcounts;
  readonly #metadata: MetadataMap;
  /** Host offset of each L2 table; 0 where there is none. */
  #tables = new Float64Array(0);
  /** 1 where the L2 table has a refcount of exactly one. */
  #copied = new Uint8Array(0);

  constructor(options: L2TablesOptions) {
    this.l2Cache = options.l2Cache;
    this.sliceEntries = options.caches.l2SliceEntries;
    this.#header = options.header;
    this.#geometry = options.geometry;
    this.#sliceSize = options.caches.l2SliceSize;
    this.#refcounts = options.refcounts;
    this.#metadata = options.metadata;
  }

  /** Of the L1 table and of what is cached of L2 tables. */
  get byteLength(): number {
    return this.l1Entries * ENTRY_SIZE + this.l2Cache.byteLength;
  }

  /** Reads the L1 table that the header points to. */
  async load(): Promise<void> {
    const { l1Offset, l1Entries } = this.#header.values;
    this.#tables = new Float64Array(l1Entries);
    this.#copied = new Uint8Array(l1Entries);
    if (l1Entries === 0) return;
    const bytes = allocatePages(l1Entries * ENTRY_SIZE);
    // Only an image that is opened for a check may have its table past the end of the file: it
    // reads as zeroes.
    if (l1Offset < this.#header.device.size()) await this.#header.device.read(l1Offset, bytes, 'l1-table');
    this.#metadata.add(l1Offset, bytes.byteLength, 'l1-table');
    this.#decode(bytes);
  }

  /** The L1 table as the file has it: offsets with their copied flags. */
  encodeL1(): Uint8Array<ArrayBuffer> {
    const bytes = allocatePages(Math.max(1, this.l1Entries * ENTRY_SIZE)).subarray(
      0,
      this.l1Entries * ENTRY_SIZE,
    );
    this.#encode(bytes, 0, this.l1Entries);
    return bytes;
  }

  /** Takes over entries that were put into the file by somebody else, as many as there are. */
  adoptL1(bytes: Uint8Array): void {
    for (const offset of this.#tables) {
      if (offset !== 0) this.#metadata.remove(offset, this.#geometry.clusterSize, 'l2-table');
    }
    this.#decode(bytes);
  }

  get l1Entries(): number {
    return this.#tables.length;
  }

  /** Host offset of L2 table `l1Index`; 0 if there is none. */
  tableOffset(l1Index: number): HostOffset {
    return this.#tables[l1Index] ?? 0;
  }

  /** The first index from `first` on that has an L2 table; the number of entries if none has. */
  nextTable(first: number): number {
    const tables = this.#tables;
    let index = first;
    while (tables[index] === 0) index++;
    return index;
  }

  isTableCopied(l1Index: number): boolean {
    return this.#copied[l1Index] === 1;
  }

  /** Index into its slice of the entry that maps `guestOffset`. */
  indexInSlice(guestOffset: GuestOffset): number {
    return remainder(Math.floor(guestOffset / this.#geometry.clusterSize), this.sliceEntries);
  }

  /** Guest bytes from `guestOffset` to the end of what its slice maps. */
  bytesToSliceEnd(guestOffset: GuestOffset): number {
    const coverage = this.sliceEntries * this.#geometry.clusterSize;
    return coverage - remainder(guestOffset, coverage);
  }

  /** Guest bytes from `guestOffset` on, at most `length`, that no L2 table maps. */
  bytesWithoutTable(guestOffset: GuestOffset, length: number): number {
    const { clusterSize, l2Entries } = this.#geometry;
    const coverage = l2Entries * clusterSize;
    const end = guestOffset + length;
    let index = this.#l1Index(guestOffset);
    while (index * coverage < end && this.tableOffset(index) === 0) index++;
    return Math.max(0, Math.min(end, index * coverage) - guestOffset);
  }

  /** The slice that maps `guestOffset`, for reading; -1 if there is no L2 table. */
  acquire(guestOffset: GuestOffset): number | Promise<number> {
    const table = this.tableOffset(this.#l1Index(guestOffset));
    if (table === 0) return -1;
    if (!this.#isSound(table)) return this.#stop(table, guestOffset);
    return this.l2Cache.acquire(table + this.#sliceOffset(guestOffset));
  }

  /**
   * The slice that maps `guestOffset`, for writing: its L2 table is allocated or copied first if
   * need be.
   */
  acquireForWriting(guestOffset: GuestOffset): number | Promise<number> {
    const l1Index = this.#l1Index(guestOffset);
    if (this.#copied[l1Index] !== 1) return this.#acquireNewTable(guestOffset, l1Index);
    const table: HostOffset = this.#tables[l1Index] as number;
    if (!this.#isSound(table)) return this.#stop(table, guestOffset);
    return this.l2Cache.acquire(table + this.#sliceOffset(guestOffset));
  }

  /** `count` entries of an acquired slice change, from entry `first` on. */
  markEntries(slot: number, first: number, count: number): void {
    const entrySize = this.#geometry.entryWords * ENTRY_SIZE;
    this.l2Cache.markDirty(slot, first * entrySize, (first + count) * entrySize);
  }

  view(slot: number): DataView<ArrayBuffer> {
    return this.l2Cache.view(slot);
  }

  release(slot: number): void {
    this.l2Cache.release(slot);
  }

  /**
   * Replaces the L1 table by one of at least `entries` entries; by half as much again at a time, or
   * by exactly so many.
   */
  async grow(entries: number, size: 'exact' | 'with-spare'): Promise<void> {
    const { clusterSize } = this.#geometry;
    const old = { offset: this.#header.values.l1Offset, entries: this.l1Entries };
    let target = entries;
    if (size === 'with-spare') {
      for (target = Math.max(1, old.entries); target < entries;) target = ceilDiv(target * 3, 2);
    }
    if (target <= old.entries) return;
    if (target * ENTRY_SIZE > LIMITS.l1TableBytes) {
      throw new Qcow2BenchError(
        'qcow2-l1-too-large',
        `the disk needs an L1 table above 32 MiB; use a larger cluster size than ${String(clusterSize)} bytes`,
        { path: this.#header.device.path },
      );
    }
    const offset = await this.#refcounts.allocate(ceilDiv(target * ENTRY_SIZE, clusterSize));
    await this.#refcounts.blockCache.flush('l1-growth');
    const bytes = allocatePages(target * ENTRY_SIZE);
    const kind = this.#metadata.overlap(offset, bytes.byteLength, undefined);
    if (kind !== undefined) {
      await this.#header.markCorruptAt(`a new L1 table would overwrite the ${kind}`, offset);
    }
    this.#encode(bytes, 0, old.entries);
    await this.#header.device.write(offset, bytes, 'l1-table');
    await this.#header.device.sync('l1-growth');
    await this.#header.moveL1Table(offset, target);
    const [tables, copied] = [this.#tables, this.#copied];
    this.#tables = new Float64Array(target);
    this.#copied = new Uint8Array(target);
    this.#tables.set(tables);
    this.#copied.set(copied);
    this.#metadata.add(offset, bytes.byteLength, 'l1-table');
    await this.#header.device.sync('l1-growth');
    if (old.entries === 0) return;
    this.#metadata.remove(old.offset, old.entries * ENTRY_SIZE, 'l1-table');
    await this.#refcounts.free(old.offset, old.entries * ENTRY_SIZE, 'keep');
  }

  /**
   * Drops the L2 tables from entry `entries` on: their entries go durably, then their clusters are
   * free.
   */
  async shrink(entries: number): Promise<void> {
    const count = this.l1Entries - entries;
    if (count <= 0) return;
    const { device, values } = this.#header;
    const [offset, length] = [values.l1Offset + entries * ENTRY_SIZE, count * ENTRY_SIZE];
    await zeroOrWrite(device, offset, length, { purpose: 'l1-table', mayUnmap: false });
    await device.sync('snapshot');
    for (let l1Index = this.l1Entries - 1; l1Index >= entries; l1Index--) {
      const table = this.tableOffset(l1Index);
      if (table === 0) continue;
      this.#tables[l1Index] = 0;
      this.#copied[l1Index] = 0;
      this.#metadata.remove(table, this.#geometry.clusterSize, 'l2-table');
      await this.#refcounts.free(table, this.#geometry.clusterSize, 'discard');
    }
  }

  /**
   * Corrects an L1 entry's copied flag, durably; reserved bits that are set in it are other damage,
   * and stay.
   */
  async repairCopiedFlag(l1Index: number, copied: boolean): Promise<void> {
    const { device, values } = this.#header;
    const bytes = allocatePages(ENTRY_SIZE);
    const at = values.l1Offset + l1Index * ENTRY_SIZE;
    await device.read(at, bytes, 'l1-table');
    const high = viewOf(bytes).getUint32(0);
    viewOf(bytes).setUint32(0, copied ? (high | HIGH.copied) >>> 0 : high & ~HIGH.copied);
    await device.write(at, bytes, 'l1-table');
    this.#copied[l1Index] = copied ? 1 : 0;
    await device.sync('repair');
  }

  #l1Index(guestOffset: GuestOffset): number {
    return Math.floor(guestOffset / this.#geometry.l2Coverage);
  }

  #sliceOffset(guestOffset: GuestOffset): number {
    const l2Index = Math.floor(
      remainder(guestOffset, this.#geometry.l2Coverage) / this.#geometry.clusterSize,
    );
    return Math.floor(l2Index / this.sliceEntries) * this.#sliceSize;
  }

  /** Whether an L2 table can be there. */
  #isSound(offset: HostOffset): boolean {
    return isAligned(offset, this.#geometry.clusterSize) && Number.isSafeInteger(offset);
  }

  /** An offset that is not aligned stops the image, one above 2^53 − 1 is refused. */
  #stop(offset: HostOffset, guestOffset: GuestOffset): Promise<never> {
    const l1Index = this.#l1Index(guestOffset);
    const place = {
      path: this.#header.device.path,
      offset: this.#header.values.l1Offset + l1Index * ENTRY_SIZE,
    };
    const what = `L1 entry ${String(l1Index)} points to ${hex(offset)}`;
    if (isAligned(offset, this.#geometry.clusterSize)) {
      throw new Qcow2BenchError('qcow2-offset-too-large', `${what}, above 2^53 − 1`, place);
    }
    const message = `${what}, which is not a multiple of the cluster size`;
    return this.#header.markCorrupt(new Qcow2BenchError('qcow2-unaligned-l2-table', message, place));
  }

  async #acquireNewTable(guestOffset: GuestOffset, l1Index: number): Promise<number> {
    if (l1Index >= this.l1Entries) await this.grow(l1Index + 1, 'with-spare');
    const old: HostOffset = this.#tables[l1Index] as number;
    if (!this.#isSound(old)) await this.#stop(old, guestOffset);
    await this.#allocateTable(l1Index, old);
    if (old !== 0) await this.#refcounts.free(old, this.#geometry.clusterSize, 'keep');
    return this.l2Cache.acquire((this.#tables[l1Index] as number) + this.#sliceOffset(guestOffset));
  }

  /**
   * A new L2 table, empty or the copy of a shared one: refcount durable, table durable, then the L1
   * entry.
   */
  async #allocateTable(l1Index: number, old: HostOffset): Promise<void> {
    const { clusterSize } = this.#geometry;
    const offset = await this.#refcounts.allocate(1);
    if (offset === 0) {
      await this.#header.markCorruptAt(
        'the header cluster has refcount 0 and would be allocated for an L2 table',
        0,
      );
    }
    try {
      await this.#refcounts.blockCache.flush('l2-table-growth');
      for (let at = 0; at < clusterSize; at += this.#sliceSize) {
        const slot = await this.l2Cache.acquireEmpty(offset + at);
        try {
          if (old === 0) this.l2Cache.bytes(slot).fill(0);
          else await this.#copySlice(old + at, slot);
          this.l2Cache.markDirty(slot);
        } finally {
          this.l2Cache.release(slot);
        }
      }
      await this.l2Cache.flush('l2-table-growth');
      this.#tables[l1Index] = offset;
      this.#copied[l1Index] = 1;
      await this.#writeL1Entry(l1Index);
    } catch (error) {
      this.#tables[l1Index] = old;
      this.#copied[l1Index] = 0;
      this.l2Cache.forgetTable(offset, clusterSize);
      await this.#refcounts.free(offset, clusterSize, 'discard');
      throw error;
    }
    this.#metadata.add(offset, clusterSize, 'l2-table');
    if (old !== 0) this.#metadata.remove(old, clusterSize, 'l2-table');
    // If this fails, the file points to the table nevertheless: its cluster must not be given to
    // anybody else.
    await this.#header.device.sync('l2-table-growth');
  }

  async #copySlice(from: HostOffset, toSlot: number): Promise<void> {
    const fromSlot = await this.l2Cache.acquire(from);
    this.l2Cache.bytes(toSlot).set(this.l2Cache.bytes(fromSlot));
    this.l2Cache.release(fromSlot);
  }

  /** Writes one entry, or the whole aligned block of entries that the file's alignment asks for. */
  async #writeL1Entry(l1Index: number): Promise<void> {
    const { device, values } = this.#header;
    const bytes = allocatePages(
      Math.max(ENTRY_SIZE, Math.min(device.requestAlignment, this.#geometry.clusterSize)),
    );
    const first = alignDown(l1Index, bytes.byteLength / ENTRY_SIZE);
    this.#encode(bytes, first, Math.min(bytes.byteLength / ENTRY_SIZE, this.l1Entries - first));
    assertInvariant(values.l1Offset > 0, 'an L1 entry was written before its table exists');
    await device.write(values.l1Offset + first * ENTRY_SIZE, bytes, 'l1-table');
  }

  #decode(bytes: Uint8Array): void {
    const view = viewOf(bytes);
    const { l1Entries } = this;
    this.#tables.fill(0);
    this.#copied.fill(0);
    for (let index = 0; index < l1Entries; index++) {
      index = emptyWordsEnd(view, index, l1Entries);
      if (index === l1Entries) break;
      const high = view.getUint32(index * ENTRY_SIZE);
      const low = view.getUint32(index * ENTRY_SIZE + 4);
      const offset = (high & HIGH.offset) * TWO_32 + ((low & LOW.offset) >>> 0);
      this.#tables[index] = offset;
      this.#copied[index] = high >= HIGH.copied ? 1 : 0;
      if (offset !== 0) this.#metadata.add(offset, this.#geometry.clusterSize, 'l2-table');
    }
  }

  #encode(bytes: Uint8Array, first: number, count: number): void {
    const view = viewOf(bytes);
    for (let index = 0; index < count; index++) {
      writeU64be(view, index * ENTRY_SIZE, this.#tables[first + index] as number);
      if (this.#copied[first + index] === 1) {
        view.setUint32(index * ENTRY_SIZE, (view.getUint32(index * ENTRY_SIZE) | HIGH.copied) >>> 0);
      }
    }
  }
}
