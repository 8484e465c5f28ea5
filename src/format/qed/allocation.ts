/**
 * One allocating write: a run of guest clusters that have no place in the file gets one, at its
 * end.
 *
 * The order of host operations is QEMU's (measured with 7.2), each arrow one step below:
 *
 *      need-check bit, if there is no backing file and it is clear:  header read → header write
 *        (→ sync, with a policy that orders the mark)
 *      → fill before the guest's bytes → fill behind them → the guest's bytes
 *      → with a backing file: sync, so that no table points to data a crash could take
 *      → second-level entries: their sectors;
 *        or a new table: all of it, entries included → sync → the first-level sector
 *
 * Writing zeroes to whole clusters takes no space and fills nothing: only the table steps remain.
 *
 * Invariants:
 * - One runs at a time; the caller of `run` holds the image's turn. So one set of fields and one
 *   fill buffer serve all, and nothing is allocated per write.
 * - Tables in memory never say more than a crash-free file: if a table write fails, the entries are
 *   taken back. (The clusters taken stay unused: a leak, never a double use.)
 * - What an overwritten *zero* cluster held is zeroes. QEMU 7.2 fills it up from the backing file
 *   instead, so that old data comes back; the operations are the same here, the bytes are not.
 */

import { ceilDiv } from '../../core/alignment.ts';
import { writeU64le } from '../../core/bytes.ts';
import { assertInvariant } from '../../core/error.ts';
import type { GuestOffset, HostOffset } from '../../core/offsets.ts';
import { allocatePages } from '../../core/page-memory.ts';
import type { Pending } from '../../core/pending.ts';
import type { BlockDevice } from '../../device/block-device.ts';
import { readFromBacking } from '../backing-read.ts';
import type { DiskImage } from '../disk-image.ts';
import type { EnginePolicy } from '../engine-policy.ts';
import { zeroBytes } from '../real-zeroes.ts';
import type { ClusterKind, ClusterRun } from './cluster-run.ts';
import { ENTRY_SIZE, type QedGeometry } from './geometry.ts';
import type { QedHeaderFile } from './header-file.ts';
import type { HostSpace } from './host-space.ts';
import { ENTRY_UNALLOCATED, ENTRY_ZERO, type L2Table, type QedTables } from './tables.ts';

export interface AllocationOptions {
  readonly device: BlockDevice;
  readonly geometry: QedGeometry;
  readonly space: HostSpace;
  readonly tables: QedTables;
  readonly header: QedHeaderFile;
  readonly backing: DiskImage | undefined;
  readonly policy: EnginePolicy;
}

type Step =
  | 'read-header'
  | 'mark-need-check'
  | 'sync-mark'
  | 'marked'
  | 'read-head'
  | 'write-head'
  | 'read-tail'
  | 'write-tail'
  | 'write-data'
  | 'sync-data'
  | 'find-table'
  | 'link'
  | 'sync-table'
  | 'link-table'
  | 'finish'
  | 'done';

export class Allocation {
  readonly #device: BlockDevice;
  readonly #geometry: QedGeometry;
  readonly #space: HostSpace;
  readonly #tables: QedTables;
  readonly #header: QedHeaderFile;
  readonly #backing: DiskImage | undefined;
  readonly #syncsMark: boolean;

  // The write in flight.
  #step: Step = 'done';
  #guestOffset: GuestOffset = 0;
  #length = 0;
  #clusters = 0;
  /** Bytes before and behind the guest's in the run's first and last cluster. */
  #headLength = 0;
  #tailLength = 0;
  #l1Index = 0;
  #l2Index = 0;
  /** `undefined` makes zero clusters. */
  #bytes: Uint8Array | undefined;
  #kind: ClusterKind = 'unallocated';
  /** Where the run's first cluster goes; `ENTRY_ZERO` for zero clusters. */
  #hostOffset: HostOffset = 0;
  #table: L2Table | undefined;
  /** What a fill reads from the backing file. */
  #fill: Uint8Array | undefined;

  constructor(options: AllocationOptions) {
    this.#device = options.device;
    this.#geometry = options.geometry;
    this.#space = options.space;
    this.#tables = options.tables;
    this.#header = options.header;
    this.#backing = options.backing;
    this.#syncsMark = options.policy.syncsMarkBeforeLink;
  }

  /**
   * Allocates and writes the run just found, which is no `data`.
   *
   * @param bytes as many as the run is long; `undefined` makes the run's clusters, which must be
   *   whole, zero clusters.
   */
  run(guestOffset: GuestOffset, bytes: Uint8Array | undefined, found: ClusterRun): Pending {
    assertInvariant(this.#step === 'done', 'one allocating write at a time');
    if (bytes === undefined && found.kind === 'zero') return undefined;
    this.#place(guestOffset, found.length);
    this.#bytes = bytes;
    this.#kind = found.kind;
    this.#hostOffset = bytes === undefined ? ENTRY_ZERO : this.#space.allocate(this.#clusters);
    const mark = this.#backing === undefined && !this.#header.needCheck;
    this.#step = mark ? 'read-header' : this.#afterMark();
    return this.#runSteps();
  }

  #place(guestOffset: GuestOffset, length: number): void {
    const { bytesPerL2Table, clusterSize } = this.#geometry;
    this.#guestOffset = guestOffset;
    this.#length = length;
    this.#l1Index = Math.floor(guestOffset / bytesPerL2Table);
    const offsetInTable = guestOffset - this.#l1Index * bytesPerL2Table;
    this.#l2Index = Math.floor(offsetInTable / clusterSize);
    this.#headLength = offsetInTable - this.#l2Index * clusterSize;
    this.#clusters = ceilDiv(this.#headLength + length, clusterSize);
    this.#tailLength = this.#clusters * clusterSize - this.#headLength - length;
  }

  #runSteps(): Pending {
    try {
      while (this.#step !== 'done') {
        const pending = this.#perform(this.#step);
        if (pending !== undefined) return this.#resume(pending);
      }
    } catch (error) {
      this.#takeBack();
      throw error;
    }
    return undefined;
  }

  async #resume(pending: Promise<void>): Promise<void> {
    try {
      await pending;
    } catch (error) {
      this.#takeBack();
      throw error;
    }
    await this.#runSteps();
  }

  /** Starts a step's operation, having set which step follows. */
  #perform(step: Exclude<Step, 'done'>): Pending {
    switch (step) {
      case 'read-header':
        this.#step = 'mark-need-check';
        return this.#header.readSector();
      case 'mark-need-check':
        this.#step = this.#syncsMark ? 'sync-mark' : 'marked';
        return this.#header.writeSector(true);
      case 'sync-mark':
        this.#step = 'marked';
        return this.#device.sync('mark-before-link');
      case 'marked':
        this.#header.settle(true);
        this.#step = this.#afterMark();
        return undefined;
      case 'read-head':
        this.#step = 'write-head';
        return this.#readFill(this.#guestOffset - this.#headLength, this.#headLength);
      case 'write-head':
        this.#step = 'read-tail';
        return this.#writeFill(this.#hostOffset, this.#headLength);
      case 'read-tail':
        this.#step = 'write-tail';
        return this.#readFill(this.#guestOffset + this.#length, this.#tailLength);
      case 'write-tail':
        this.#step = 'write-data';
        return this.#writeFill(this.#hostOffset + this.#headLength + this.#length, this.#tailLength);
      case 'write-data':
        this.#step = this.#backing === undefined ? 'find-table' : 'sync-data';
        return this.#writeData();
      case 'sync-data':
        this.#step = 'find-table';
        return this.#device.sync('l2-after-cow');
      case 'find-table':
        return this.#findTable();
      case 'link':
        return this.#link();
      case 'sync-table':
        this.#step = 'link-table';
        return this.#device.sync('l2-table-growth');
      case 'link-table':
        return this.#linkTable();
      case 'finish':
        return this.#finish();
    }
  }

  #afterMark(): Step {
    return this.#bytes === undefined ? 'find-table' : 'read-head';
  }

  #fillsFromBacking(): boolean {
    return this.#backing !== undefined && this.#kind !== 'zero';
  }

  #readFill(guestOffset: GuestOffset, length: number): Pending {
    if (length === 0 || !this.#fillsFromBacking()) return undefined;
    this.#fill ??= allocatePages(this.#geometry.clusterSize);
    return readFromBacking(this.#backing, guestOffset, this.#fill.subarray(0, length));
  }

  #writeFill(hostOffset: HostOffset, length: number): Pending {
    if (length === 0) return undefined;
    const read = this.#fillsFromBacking() ? this.#fill?.subarray(0, length) : undefined;
    return this.#device.write(hostOffset, read ?? zeroBytes(length), 'cow');
  }

  #writeData(): Pending {
    if (this.#bytes === undefined) return undefined;
    return this.#device.write(this.#hostOffset + this.#headLength, this.#bytes, 'data');
  }

  /** Repeats itself until the table is there: while data was written it may have left the cache. */
  #findTable(): Pending {
    const l1Index = this.#l1Index;
    this.#table = this.#kind === 'no-table' ? this.#tables.create(l1Index) : this.#tables.cached(l1Index);
    if (this.#table === undefined) return this.#tables.load(l1Index);
    this.#step = 'link';
    return undefined;
  }

  #link(): Pending {
    const table = this.#heldTable();
    table.writing = true;
    const isZero = this.#hostOffset === ENTRY_ZERO;
    this.#setEntries(this.#hostOffset, isZero ? 0 : this.#geometry.clusterSize);
    if (this.#kind === 'no-table') {
      this.#step = 'sync-table';
      return this.#tables.writeTable(table);
    }
    this.#step = 'finish';
    return this.#tables.writeEntries(table, { first: this.#l2Index, count: this.#clusters });
  }

  #linkTable(): Pending {
    const table = this.#heldTable();
    this.#tables.setL1Entry(table.l1Index, table.hostOffset);
    // Before the write, so that the table is in memory before its new entry is visible.
    this.#tables.add(table);
    this.#step = 'finish';
    return this.#tables.writeL1Entry(table.l1Index);
  }

  #finish(): Pending {
    this.#heldTable().writing = false;
    this.#table = undefined;
    this.#bytes = undefined;
    this.#step = 'done';
    return undefined;
  }

  #heldTable(): L2Table {
    assertInvariant(this.#table !== undefined, 'a table to link the clusters into');
    return this.#table;
  }

  #setEntries(first: number, step: number): void {
    const { view } = this.#heldTable();
    for (let n = 0; n < this.#clusters; n++) {
      writeU64le(view, (this.#l2Index + n) * ENTRY_SIZE, first + n * step);
    }
  }

  /** After a failure: the tables in memory become what they were. */
  #takeBack(): void {
    const table = this.#table;
    if (table?.writing === true) {
      this.#setEntries(this.#kind === 'zero' ? ENTRY_ZERO : ENTRY_UNALLOCATED, 0);
      if (this.#kind === 'no-table') this.#tables.drop(table);
      table.writing = false;
    }
    this.#table = undefined;
    this.#bytes = undefined;
    this.#step = 'done';
  }
}
