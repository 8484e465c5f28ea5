/**
 * References of a check as ranges of bytes of the file.
 *
 * Invariants: a range that reaches past the end of the file by a cluster or more is a finding and counts nowhere: it is
 * no cluster's. After a crash, clusters behind the end count as far as an L2 table maps.
 */

import { alignUp } from '../../core/alignment.ts';
import { hex } from '../../core/error.ts';
import type { CheckFindings } from '../check-findings.ts';
import type { CheckOptions } from '../check-report.ts';
import type { CheckTarget } from './check-target.ts';
import { ReferenceCounts } from './reference-count.ts';

/** A file is so many sectors long to QEMU, and what is missing of the last one is zeroes. */
const SECTOR_SIZE = 512;

export class ReferenceRanges {
  readonly counts: ReferenceCounts;
  readonly #findings: CheckFindings;
  readonly #clusterSize: number;
  /** Bytes: a reference that reaches so far past the file's end, or farther, is not counted. */
  readonly #pastEndMax: number;
  #fileSize: number;

  constructor(target: CheckTarget, findings: CheckFindings, { afterCrash }: CheckOptions) {
    const { geometry, header } = target;
    this.#findings = findings;
    this.#clusterSize = geometry.clusterSize;
    this.#pastEndMax = geometry.clusterSize * (afterCrash === true ? geometry.l2Entries : 1);
    this.#fileSize = alignUp(header.device.size(), SECTOR_SIZE);
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
    this.#fileSize = alignUp(fileSize, SECTOR_SIZE);
    this.counts.growTo(Math.ceil(fileSize / this.#clusterSize));
  }

  /** Counts every cluster that the range touches once more. */
  add(offset: number, length: number): void {
    if (length <= 0) return;
    if (offset + length - this.#fileSize >= this.#pastEndMax) {
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

  #addOne(cluster: number): void {
    if (this.counts.add(cluster)) return;
    this.#findings.corruption(
      () =>
        `ERROR: overflow cluster offset=${hex(cluster * this.#clusterSize)}: more references than a refcount of this width can say; copy the image with wider refcounts`,
    );
  }
}
