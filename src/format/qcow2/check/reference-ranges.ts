/**
 * References of a check as ranges of bytes of the file.
 *
 * Invariants: a range that reaches past the end of the file by a cluster or more is a finding and
 * counts nowhere: it is no cluster's. How far such ranges reach is kept, by windows, for a repair
 * that gives the file its length again; the windows take bounded memory, whatever a damaged entry
 * claims.
 */

import { alignUp, SECTOR_SIZE } from '../../../core/alignment.ts';
import { hex } from '../../../core/error.ts';
import type { HostCluster } from '../../../core/offsets.ts';
import type { CheckFindings } from '../../check-findings.ts';
import type { ImageCore } from '../metadata/image-core.ts';
import { cutOffText, isCutOff, type TableBytes } from '../on-disk/file-end.ts';
import { ReferenceCounts } from './reference-count.ts';

/**
 * References past the end belong to a lost tail if no gap between them is larger than a window: at
 * least so many bytes.
 */
const WINDOW_MIN = 64 * 1024 * 1024;
/** Windows past the end of the file that are looked at: 4 TiB at least. */
const WINDOWS_MAX = 65_536;

export class ReferenceRanges {
  readonly counts: ReferenceCounts;
  readonly #findings: CheckFindings;
  readonly #clusterSize: number;
  /** Bytes: what an L2 table maps, or more. */
  readonly #windowSize: number;
  /** By window: where the last range in it ends that is past the end of the file, in bytes. */
  readonly #pastEnd = new Map<number, number>();
  #isPassed = false;
  /** Bytes, to the byte. */
  #exactSize: number;
  #fileSize: number;

  constructor(core: ImageCore, findings: CheckFindings) {
    const { geometry, header } = core;
    this.#findings = findings;
    this.#clusterSize = geometry.clusterSize;
    this.#windowSize = Math.max(WINDOW_MIN, geometry.clusterSize * geometry.l2Entries);
    this.#exactSize = header.device.size();
    this.#fileSize = alignUp(this.#exactSize, SECTOR_SIZE);
    this.counts = new ReferenceCounts({
      refcountOrder: geometry.refcountOrder,
      refcountMax: geometry.refcountMax,
      fileClusters: Math.ceil(this.#fileSize / geometry.clusterSize),
    });
  }

  /** Bytes, in whole sectors. */
  get fileSize(): number {
    return this.#fileSize;
  }

  /** Takes in that the file has grown. */
  growTo(fileSize: number): void {
    this.#exactSize = fileSize;
    this.#fileSize = alignUp(fileSize, SECTOR_SIZE);
    this.counts.growTo(Math.ceil(fileSize / this.#clusterSize));
  }

  /**
   * Where the lost tail of the file ended, in bytes, as far as ranges past the end show it: 0 if
   * all are too far away. Undefined if no range leads past the end.
   */
  get lostEnd(): number | undefined {
    if (!this.#isPassed) return undefined;
    const first = Math.floor(this.#fileSize / this.#windowSize);
    let end = this.#pastEnd.get(first) ?? 0;
    for (let window = first + 1; ; window++) {
      const windowEnd = this.#pastEnd.get(window);
      if (windowEnd === undefined) return alignUp(end, this.#clusterSize);
      end = Math.max(end, windowEnd);
    }
  }

  /**
   * Counts the clusters of a table that the header or a snapshot leads to: one that the end of the
   * file cuts off is a finding however little of it is lost.
   */
  addTable(name: () => string, table: TableBytes): void {
    const { offset, length } = table;
    const fileSize = this.#exactSize;
    // One that is cut off by more is the finding of any range.
    if (!this.#isFarPastEnd(offset, length) && isCutOff(table, fileSize)) {
      this.#findings.corruption(() => `ERROR the ${name()} ${cutOffText(table, fileSize)}`);
    }
    this.add(offset, length, 'table');
  }

  /**
   * Counts every cluster that the range touches once more.
   *
   * @param from an entry, or the table position in the header or a snapshot: the file does not
   *   become longer for that
   */
  add(offset: number, length: number, from: 'entry' | 'table' = 'entry'): void {
    if (length <= 0) return;
    if (this.#isFarPastEnd(offset, length)) {
      if (from === 'entry') this.#noteLost(offset, length);
      this.#findings.corruption(
        () =>
          `ERROR: counting reference for region exceeding the end of the file by one cluster or more: offset ${hex(offset)} size ${hex(length)}`,
      );
      return;
    }
    const last = Math.floor((offset + length - 1) / this.#clusterSize);
    for (let cluster = Math.floor(offset / this.#clusterSize); cluster <= last; cluster++) {
      this.#addOne(cluster);
    }
  }

  #isFarPastEnd(offset: number, length: number): boolean {
    return offset + length - this.#fileSize >= this.#clusterSize;
  }

  /** Notes that an entry leads past the end of the file. */
  #noteLost(offset: number, length: number): void {
    this.#isPassed = true;
    const size = this.#windowSize;
    const end = offset + length;
    const last = Math.floor((end - 1) / size);
    if (last - Math.floor(this.#fileSize / size) > WINDOWS_MAX) return;
    for (let window = Math.floor(Math.max(offset, this.#fileSize) / size); window <= last; window++) {
      this.#pastEnd.set(window, Math.max(this.#pastEnd.get(window) ?? 0, Math.min(end, (window + 1) * size)));
    }
  }

  #addOne(cluster: HostCluster): void {
    if (this.counts.add(cluster)) return;
    this.#findings.corruption(
      () =>
        `ERROR: overflow cluster offset=${hex(cluster * this.#clusterSize)}: more references than a refcount of this width can hold; copy the image with wider refcounts`,
    );
  }
}
