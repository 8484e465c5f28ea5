/**
 * Walks an image from the header down and counts how often each host cluster is referenced: what
 * its refcount ought to be. The order and the meaning of every finding are those of `qemu-img
 * check`.
 *
 * Invariants: without the scope `all` nothing is written; memory is bounded by the file's own
 * tables, whatever a damaged entry claims.
 */

import { alignUp } from '../../../core/alignment.ts';
import { emptyWordsEnd, viewOf } from '../../../core/bytes.ts';
import { hex } from '../../../core/error.ts';
import type { HostOffset } from '../../../core/offsets.ts';
import { allocatePages, allocatePagesToFill } from '../../../core/page-memory.ts';
import type { CheckOptions } from '../../check-report.ts';
import type { CheckFindings } from '../../check-findings.ts';
import type { CheckTarget } from './check-target.ts';
import { l1EntryOffset } from '../on-disk/l1-entry.ts';
import { compressedRangeAt } from '../on-disk/l2-entry.ts';
import { ENTRY_SIZE, HIGH, INCOMPATIBLE, LOW, TWO_32 } from '../on-disk/layout.ts';
import { scanRefcountBlocks } from './refcount-block-scan.ts';
import type { ReferenceCounts } from './reference-count.ts';
import { ReferenceRanges } from './reference-ranges.ts';
import { l1FaultOf } from '../snapshots/broken-snapshots.ts';
import { visitBitmaps } from '../bitmaps/bitmap-directory.ts';

/**
 * Bits that must be zero: 56 to 62 and 0 to 8 of an L1 entry, 56 to 61 and 1 to 8 of an L2 entry.
 */
const L1_RESERVED = { high: 0x7f00_0000, low: 0x1ff } as const;
const L2_RESERVED = { high: 0x3f00_0000, low: 0x1fe } as const;
/** Bytes of an L2 entry with subclusters: the second half holds 32 allocated and 32 zero bits. */
const EXTENDED_ENTRY_SIZE = 16;

/** Counts the references of the whole image; what breaks a rule goes to the findings. */
export async function scanReferences(
  target: CheckTarget,
  findings: CheckFindings,
  options: CheckOptions,
): Promise<ReferenceCounts> {
  const scan = new ReferenceScan(target, findings, options);
  return scan.run();
}

interface L1Place {
  readonly name: () => string;
  readonly offset: number;
  readonly entries: number;
  readonly isActive: boolean;
  /**
   * Of a broken snapshot that stays: what the file has of the table is counted, and the rest is no
   * finding.
   */
  readonly isKept?: boolean;
}

class ReferenceScan {
  readonly #ranges: ReferenceRanges;
  readonly #target: CheckTarget;
  readonly #findings: CheckFindings;
  readonly #options: CheckOptions;
  readonly #clusterSize: number;
  readonly #entrySize: number;
  readonly #hasDataFile: boolean;
  readonly #table: Uint8Array<ArrayBuffer>;
  readonly #view: DataView<ArrayBuffer>;
  /**
   * In clusters: where the next cluster of the mapping is if it is not fragmented; 0 before a
   * table's first.
   */
  #nextContiguous = 0;

  constructor(target: CheckTarget, findings: CheckFindings, options: CheckOptions) {
    const { geometry, header } = target.core;
    this.#target = target;
    this.#findings = findings;
    this.#options = options;
    this.#clusterSize = geometry.clusterSize;
    this.#entrySize = geometry.clusterSize / geometry.l2Entries;
    this.#hasDataFile = (header.values.incompatible & INCOMPATIBLE.externalDataFile) !== 0;
    this.#table = allocatePagesToFill(geometry.clusterSize);
    this.#view = viewOf(this.#table);
    this.#ranges = new ReferenceRanges(target.core, findings);
  }

  async run(): Promise<ReferenceCounts> {
    const { header, refcountTable: table } = this.#target.core;
    const { l1Offset, l1Entries } = header.values;
    this.#ranges.add(0, this.#clusterSize);
    const name = (): string => 'L1 table';
    await this.#scanL1({ name, offset: l1Offset, entries: l1Entries, isActive: true });
    await this.#scanSnapshots();
    this.#ranges.addTable(() => 'refcount table', { offset: table.offset, length: table.byteLength });
    await visitBitmaps(header, (offset, byteLength) => this.#ranges.add(offset, byteLength));
    await scanRefcountBlocks(this.#target.core, this.#ranges, this.#findings, this.#options);
    this.#findings.lostEnd = this.#ranges.lostEnd;
    return this.#ranges.counts;
  }

  /** What the snapshot table leads to, and the table itself. */
  async #scanSnapshots(): Promise<void> {
    const { snapshots, core } = this.#target;
    const { header } = core;
    const findings = this.#findings;
    const { length } = snapshots.list;
    if (length > 0 && this.#hasDataFile) {
      findings.corruption(() => `ERROR ${String(length)} snapshots in an image with a data file`);
    }
    for (const snapshot of snapshots.list) {
      const { id, name, l1Offset, l1Entries } = snapshot;
      const what = (): string => `ERROR snapshot ${id} (${name})`;
      const l1 = {
        name: (): string => `L1 table of snapshot ${id} (${name})`,
        offset: l1Offset,
        entries: l1Entries,
        isActive: false,
      };
      const known = this.#options.keepsSnapshots === true ? snapshots.faultOf(snapshot) : undefined;
      if (known !== undefined) {
        findings.hasLostTable = true;
        if (known === 'past-end') await this.#scanL1({ ...l1, isKept: true });
        continue;
      }
      const fault = l1FaultOf(snapshot, { clusterSize: this.#clusterSize, fileSize: this.#ranges.fileSize });
      if (fault === 'unaligned') {
        findings.hasLostTable = true;
        findings.corruption(() => `${what()} l1_offset=${hex(l1Offset)}: L1 table is not cluster aligned`);
      } else if (fault === 'too-long') {
        findings.hasLostTable = true;
        findings.corruption(() => `${what()} l1_size=${hex(l1Entries)}: L1 table is too large`);
      } else {
        await this.#scanL1(l1);
      }
    }
    this.#ranges.add(header.values.snapshotsOffset, snapshots.table.byteLength, 'table');
  }

  async #scanL1(l1: L1Place): Promise<void> {
    const { header } = this.#target.core;
    if (l1.entries === 0) return;
    const length = l1.entries * ENTRY_SIZE;
    if (l1.isKept === true) this.#ranges.add(l1.offset, Math.min(length, this.#ranges.fileSize - l1.offset));
    else this.#ranges.addTable(l1.name, { offset: l1.offset, length });
    // What is past the end of the file is zeroes.
    const entries = Math.min(l1.entries, Math.ceil((this.#ranges.fileSize - l1.offset) / ENTRY_SIZE));
    if (entries < l1.entries) this.#findings.hasLostTable = true;
    if (entries <= 0) return;
    const bytes = allocatePages(alignUp(entries * ENTRY_SIZE, header.device.requestAlignment));
    await header.device.read(l1.offset, bytes, 'l1-table');
    const view = viewOf(bytes);
    for (let index = 0; index < entries; index++) {
      index = emptyWordsEnd(view, index, entries);
      if (index === entries) break;
      const high = view.getUint32(index * ENTRY_SIZE);
      const low = view.getUint32(index * ENTRY_SIZE + 4);
      if ((high & L1_RESERVED.high) !== 0 || (low & L1_RESERVED.low) !== 0) {
        this.#findings.corruption(
          () => `ERROR found L1 entry with reserved bits set: ${entryText(high, low)}`,
        );
      }
      const offset = l1EntryOffset(view, index);
      this.#ranges.add(offset, this.#clusterSize);
      if (offset % this.#clusterSize !== 0) {
        this.#findings.corruption(
          () => `ERROR l2_offset=${hex(offset)}: Table is not cluster aligned; L1 entry corrupted`,
        );
      }
      // What is past the end of the file, or past what it could ever hold, is zeroes: nothing is
      // referenced there.
      if (offset + this.#clusterSize > this.#ranges.fileSize) this.#findings.hasTablePastEnd = true;
      if (offset < this.#ranges.fileSize) {
        const pending = header.device.read(offset, this.#table, 'l2-table');
        if (pending !== undefined) await pending;
        await this.#scanL2(offset, l1.isActive);
      }
      const turn = l1.isActive ? this.#options.onProgress?.('references', (index + 1) / entries) : undefined;
      if (turn !== undefined) await turn;
    }
  }

  /** Goes through the table just read. */
  async #scanL2(tableOffset: HostOffset, isActive: boolean): Promise<void> {
    const { l2Entries } = this.#target.core.geometry;
    // The first cluster of a table follows nothing, so it cannot be fragmented.
    this.#nextContiguous = 0;
    for (let index = 0; index < l2Entries; index++) {
      index = this.#scanEntries(index, isActive);
      if (index < l2Entries) await this.#scanOddEntry(tableOffset, index * this.#entrySize, isActive);
    }
  }

  /**
   * Counts plain entries from `first` on, which are nearly all there are: nothing is made or
   * awaited on the way, and halves are tested as integers, as the remainder of an offset would cost
   * more than all the rest.
   *
   * @returns the index of an entry that is anything else; the table's end if there is none.
   */
  #scanEntries(first: number, isActive: boolean): number {
    const { clusterBits, l2Entries } = this.#target.core.geometry;
    const view = this.#view;
    const { counts } = this.#ranges;
    const entrySize = this.#entrySize;
    const lastWhole = this.#ranges.fileSize / this.#clusterSize - 1;
    const unaligned = this.#clusterSize - 1;
    const clustersOfHigh = TWO_32 / this.#clusterSize;
    // With subclusters or a data file there is more to look at.
    if (entrySize !== ENTRY_SIZE || this.#hasDataFile) return first;
    let expected = this.#nextContiguous;
    let allocated = 0;
    let fragmented = 0;
    let index = first;
    for (; index < l2Entries; index++) {
      const high = view.getUint32(index * ENTRY_SIZE);
      const low = view.getUint32(index * ENTRY_SIZE + 4);
      if (high === 0 && (low & ~LOW.zero) === 0) {
        if (low === 0) index = emptyWordsEnd(view, index + 1, l2Entries) - 1;
        continue;
      }
      if ((high & ~(HIGH.copied | HIGH.offset)) !== 0 || (low & (unaligned & ~LOW.zero)) !== 0) break;
      const cluster = (high & HIGH.offset) * clustersOfHigh + (low >>> clusterBits);
      if (cluster === 0 || cluster > lastWhole || !counts.add(cluster)) break;
      allocated++;
      if (expected !== 0 && cluster !== expected) fragmented++;
      expected = cluster + 1;
    }
    this.#nextContiguous = expected;
    if (isActive) this.#findings.countAllocated(allocated, fragmented);
    return index;
  }

  /** Any entry, with all that may be wrong with it. */
  async #scanOddEntry(tableOffset: HostOffset, at: number, isActive: boolean): Promise<void> {
    const findings = this.#findings;
    const view = this.#view;
    const clusterSize = this.#clusterSize;
    const isExtended = this.#entrySize === EXTENDED_ENTRY_SIZE;
    const high = view.getUint32(at);
    const low = view.getUint32(at + 4);
    if ((high & HIGH.compressed) !== 0) {
      this.#scanCompressed(at, isActive);
      return;
    }
    if ((high & L2_RESERVED.high) !== 0 || (low & L2_RESERVED.low) !== 0) {
      findings.corruption(() => `ERROR found l2 entry with reserved bits set: ${entryText(high, low)}`);
    }
    const offset = (high & HIGH.offset) * TWO_32 + ((low & LOW.offset) >>> 0);
    const isZero = !isExtended && (low & LOW.zero) !== 0;
    if (offset === 0 && (isZero || !this.#hasDataFile || high < HIGH.copied)) {
      if (isExtended) this.#checkUnallocated(at);
      return;
    }
    if (isExtended && this.#hasContradiction(at)) {
      // Which of the two bits is right is unknown, so it is not repaired, and its cluster stays
      // referenced.
      findings.corruption(
        () =>
          `ERROR offset=${offset.toString(16)}: Allocated cluster has corrupted subcluster allocation bitmap`,
      );
    }
    if (offset % clusterSize !== 0) {
      const holdsData = isExtended ? view.getUint32(at + 12) !== 0 : !isZero;
      const what = `offset=${offset.toString(16)}: ${holdsData ? 'Data' : 'Preallocated'} cluster is not properly aligned; L2 entry corrupted.`;
      if (holdsData) findings.corruption(() => `ERROR ${what}`);
      else if (await this.#clearEntry(tableOffset, at, isActive, what)) return;
    }
    if (isActive) {
      const place = offset / clusterSize;
      findings.countAllocated(1, this.#nextContiguous !== 0 && place !== this.#nextContiguous ? 1 : 0);
      this.#nextContiguous = place + 1;
    }
    if (!this.#hasDataFile) this.#ranges.add(offset, clusterSize);
  }

  #scanCompressed(at: number, isActive: boolean): void {
    const findings = this.#findings;
    const { clusterBits } = this.#target.core.geometry;
    const high = this.#view.getUint32(at);
    const low = this.#view.getUint32(at + 4);
    const range = compressedRangeAt(this.#view, at / ENTRY_SIZE, clusterBits);
    if (high >= HIGH.copied) {
      findings.corruption(
        () =>
          `ERROR: coffset=${hex(range.hostOffset)}: copied flag must never be set for compressed clusters`,
      );
    }
    if (this.#hasDataFile) {
      findings.corruption(() => `ERROR compressed cluster with data file, entry=0x${entryText(high, low)}`);
      return;
    }
    if (this.#entrySize === EXTENDED_ENTRY_SIZE && !this.#isBitmapEmpty(at)) {
      findings.corruption(
        () =>
          `ERROR compressed cluster with non-zero subcluster allocation bitmap, entry=0x${entryText(high, low)}`,
      );
      return;
    }
    this.#ranges.add(range.hostOffset, range.length);
    if (isActive) findings.countCompressed();
  }

  #isBitmapEmpty(at: number): boolean {
    return this.#view.getUint32(at + 8) === 0 && this.#view.getUint32(at + 12) === 0;
  }

  /** Both the allocated and the zero bit of one subcluster are set. */
  #hasContradiction(at: number): boolean {
    return (this.#view.getUint32(at + 8) & this.#view.getUint32(at + 12)) !== 0;
  }

  #checkUnallocated(at: number): void {
    if (this.#view.getUint32(at + 12) === 0) return;
    this.#findings.corruption(() => 'ERROR: Unallocated cluster has non-zero subcluster allocation map');
  }

  /**
   * Makes an entry that holds no data read as zeroes; answers whether that was done.
   * Without the scope `all` it only counts a corruption.
   */
  async #clearEntry(tableOffset: HostOffset, at: number, isActive: boolean, what: string): Promise<boolean> {
    const { header, metadata } = this.#target.core;
    const findings = this.#findings;
    const repairs = this.#options.repair === 'all';
    findings.corruption(() => `${repairs ? 'Repairing' : 'ERROR'} ${what}`);
    if (!repairs) return false;
    const entry = this.#table.subarray(at, at + this.#entrySize);
    this.#view.setUint32(at, 0);
    // An extended entry keeps the zero bits of its subclusters, none of which is allocated.
    this.#view.setUint32(at + 4, this.#entrySize === EXTENDED_ENTRY_SIZE ? 0 : LOW.zero);
    const own = isActive ? 'l2-table' : undefined;
    if (metadata.overlap(tableOffset + at, this.#entrySize, own) !== undefined) {
      findings.checkError(() => 'ERROR: an L2 table overlaps other metadata and cannot be repaired');
      return false;
    }
    await header.device.write(tableOffset + at, entry, 'l2-table');
    await header.device.sync('repair');
    findings.corruptions--;
    findings.corruptionsFixed++;
    return true;
  }
}

/** An entry as 16 hexadecimal digits at most. */
function entryText(high: number, low: number): string {
  return ((BigInt(high) << 32n) | BigInt(low)).toString(16);
}
