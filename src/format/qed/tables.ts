/**
 * The two levels of tables: the first held whole, the second in a cache that is written through.
 *
 *      entry (u64, little-endian):  0 unallocated · 1 zero cluster (second level only) · else a host offset
 *
 * Invariants:
 * - The cache holds no dirty entry but in the moment between changing one and the write that
 *   follows. A table in that moment is pinned (`writing`): evicting it would let another request
 *   read the old one from the file.
 * - A table is read once however many requests want it at a time.
 * - Like QEMU's, the cache has 50 tables and drops the one that came first; where 50 would take
 *   more memory than `CACHE_BYTES_MAX`, as many as fit.
 */

import { alignDown, alignUp, SECTOR_SIZE } from '../../core/alignment.ts';
import { emptyWordsEnd, readU64le, viewOf, writeU64le } from '../../core/bytes.ts';
import { hex, Qcow2BenchError } from '../../core/error.ts';
import type { HostOffset } from '../../core/offsets.ts';
import { allocatePages, allocatePagesToFill } from '../../core/page-memory.ts';
import type { Pending } from '../../core/pending.ts';
import type { BlockDevice } from '../../device/block-device.ts';
import { ENTRY_SIZE, type QedGeometry } from './geometry.ts';
import type { HostSpace } from './host-space.ts';

export const ENTRY_UNALLOCATED = 0;
export const ENTRY_ZERO = 1;

const CACHE_TABLES = 50;
const CACHE_BYTES_MAX = 128 * 1024 * 1024;

export interface L2Table {
  /** Which entry of the first level points to it. */
  readonly l1Index: number;
  readonly hostOffset: HostOffset;
  readonly bytes: Uint8Array;
  readonly view: DataView;
  /** Changed in memory and on its way to the file. */
  writing: boolean;
}

export interface QedTablesOptions {
  readonly device: BlockDevice;
  readonly geometry: QedGeometry;
  readonly space: HostSpace;
  readonly l1Offset: number;
}

export class QedTables {
  readonly #device: BlockDevice;
  readonly #geometry: QedGeometry;
  readonly #space: HostSpace;
  readonly #l1Offset: number;
  readonly #l1: Uint8Array;
  readonly #l1View: DataView;
  readonly #cache = new Map<number, L2Table>();
  readonly #cacheSize: number;
  readonly #loading = new Map<number, Promise<void>>();
  /** The table that was asked for last: most requests want it again. */
  #last: L2Table | undefined;

  constructor(options: QedTablesOptions) {
    const { tableSize } = options.geometry;
    this.#device = options.device;
    this.#geometry = options.geometry;
    this.#space = options.space;
    this.#l1Offset = options.l1Offset;
    this.#l1 = allocatePages(tableSize);
    this.#l1View = viewOf(this.#l1);
    this.#cacheSize = Math.min(CACHE_TABLES, Math.floor(CACHE_BYTES_MAX / tableSize));
  }

  /** Of both levels, in memory. */
  get byteLength(): number {
    const { tableSize } = this.#geometry;
    return (1 + this.#cache.size) * tableSize;
  }

  /** Reads the first level; to be done before anything else. */
  loadL1(): Pending {
    return this.#device.read(this.#l1Offset, this.#l1, 'l1-table');
  }

  /**
   * Host offset of the second-level table, 0 if there is none, `undefined` if it is 2^53 or more.
   */
  l1Entry(l1Index: number): number | undefined {
    return readU64le(this.#l1View, l1Index * ENTRY_SIZE);
  }

  /** The first index from `first` on whose entry is not 0; the end of the table if there is none. */
  nextL1Entry(first: number): number {
    return emptyWordsEnd(this.#l1View, first, this.#geometry.entriesPerTable);
  }

  /** Changes the first level in memory; `writeL1Entry` or `writeL1` has to follow. */
  setL1Entry(l1Index: number, hostOffset: HostOffset): void {
    writeU64le(this.#l1View, l1Index * ENTRY_SIZE, hostOffset);
  }

  /** Writes the sector of the first level that holds the entry. */
  writeL1Entry(l1Index: number): Pending {
    const from = alignDown(l1Index * ENTRY_SIZE, SECTOR_SIZE);
    const sector = this.#l1.subarray(from, from + SECTOR_SIZE);
    return this.#device.write(this.#l1Offset + from, sector, 'l1-table');
  }

  /** Writes the whole first level. */
  writeL1(): Pending {
    return this.#device.write(this.#l1Offset, this.#l1, 'l1-table');
  }

  /** The table behind a first-level entry that is not 0, if it is in memory; else `load` it. */
  cached(l1Index: number): L2Table | undefined {
    if (this.#last?.l1Index === l1Index) return this.#last;
    const table = this.#cache.get(l1Index);
    if (table !== undefined) this.#last = table;
    return table;
  }

  /**
   * Reads the table into the cache. With many requests in flight it may be gone again when the
   * promise is resolved: ask `cached` again.
   *
   * @throws Qcow2BenchError `qed-bad-table-offset` if the entry cannot be the offset of a table.
   */
  load(l1Index: number): Pending {
    const started = this.#loading.get(l1Index);
    if (started !== undefined) return started;
    const hostOffset = this.l1Entry(l1Index);
    if (hostOffset === undefined || !this.#space.holdsTable(hostOffset)) {
      throw new Qcow2BenchError(
        'qed-bad-table-offset',
        `first-level entry ${String(l1Index)} is ${hostOffset === undefined ? '2^53 or more' : hex(hostOffset)}: it must point to a table within the file (which ends at ${hex(this.#space.end)}); repair the image with check --repair all`,
        { path: this.#device.path, offset: this.#l1Offset + l1Index * ENTRY_SIZE },
      );
    }
    const table = this.#tableIn(allocatePagesToFill(this.#geometry.tableSize), { l1Index, hostOffset });
    const pending = this.#device.read(hostOffset, table.bytes, 'l2-table');
    if (pending === undefined) {
      this.add(table);
      return undefined;
    }
    const loading = this.#finishLoad(table, pending);
    this.#loading.set(l1Index, loading);
    return loading;
  }

  /**
   * A new table, all unallocated, in clusters of its own; not yet in the first level or the cache.
   */
  create(l1Index: number): L2Table {
    const hostOffset = this.#space.allocate(this.#geometry.tableClusters);
    return this.#tableIn(allocatePages(this.#geometry.tableSize), { l1Index, hostOffset });
  }

  /** Puts a table that is in the file into the cache. */
  add(table: L2Table): void {
    this.#evict();
    this.#cache.set(table.l1Index, table);
    this.#last = table;
  }

  /** Forgets a table that could not be linked: its first-level entry is empty again. */
  drop(table: L2Table): void {
    this.setL1Entry(table.l1Index, ENTRY_UNALLOCATED);
    this.#cache.delete(table.l1Index);
    if (this.#last === table) this.#last = undefined;
  }

  /** Writes the whole table. */
  writeTable(table: L2Table): Pending {
    return this.#device.write(table.hostOffset, table.bytes, 'l2-table');
  }

  /** Writes the sectors that hold the entries. */
  writeEntries(table: L2Table, entries: { readonly first: number; readonly count: number }): Pending {
    const from = alignDown(entries.first * ENTRY_SIZE, SECTOR_SIZE);
    const to = alignUp((entries.first + entries.count) * ENTRY_SIZE, SECTOR_SIZE);
    return this.#device.write(table.hostOffset + from, table.bytes.subarray(from, to), 'l2-table');
  }

  async #finishLoad(table: L2Table, pending: Promise<void>): Promise<void> {
    try {
      await pending;
      this.add(table);
    } finally {
      this.#loading.delete(table.l1Index);
    }
  }

  #tableIn(
    bytes: Uint8Array,
    { l1Index, hostOffset }: { readonly l1Index: number; readonly hostOffset: HostOffset },
  ): L2Table {
    return { l1Index, hostOffset, bytes, view: viewOf(bytes), writing: false };
  }

  #evict(): void {
    if (this.#cache.size < this.#cacheSize) return;
    for (const [l1Index, table] of this.#cache) {
      if (table.writing) continue;
      this.#cache.delete(l1Index);
      if (this.#last === table) this.#last = undefined;
      return;
    }
  }
}
