/**
 * What a check has found: counts with the meaning that `qemu-img check` gives them, and messages.
 *
 * Invariant: messages are bounded; counts are not.
 */

import type { CheckReport } from '../check-report.ts';

const MESSAGES_MAX = 20;

export class CheckFindings {
  corruptions = 0;
  leaks = 0;
  checkErrors = 0;
  corruptionsFixed = 0;
  leaksFixed = 0;
  /** The refcount structures cannot be mended entry by entry. */
  needsRebuild = false;
  imageEndOffset = 0;
  allocatedClusters = 0;
  fragmentedClusters = 0;
  compressedClusters = 0;
  #nextContiguous = 0;
  readonly #messages: string[] = [];
  #dropped = 0;

  corruption(message: string): void {
    this.corruptions++;
    this.#say(message);
  }

  leak(message: string): void {
    this.leaks++;
    this.#say(message);
  }

  repaired(message: string): void {
    this.#say(message);
  }

  /** A new L2 table begins: its first cluster follows nothing, so it cannot be fragmented. */
  beginTable(): void {
    this.#nextContiguous = 0;
  }

  /** Counts a cluster of the active mapping, in guest order. */
  countCluster(kind: 'allocated' | 'compressed', hostOffset: number, clusterSize: number): void {
    this.allocatedClusters++;
    if (kind === 'compressed') {
      // Compressed clusters are fragmented by nature.
      this.compressedClusters++;
      this.fragmentedClusters++;
      return;
    }
    if (this.#nextContiguous !== 0 && hostOffset !== this.#nextContiguous) this.fragmentedClusters++;
    this.#nextContiguous = hostOffset + clusterSize;
  }

  report(totalClusters: number): CheckReport {
    return {
      corruptions: this.corruptions,
      leaks: this.leaks,
      checkErrors: this.checkErrors,
      corruptionsFixed: this.corruptionsFixed,
      leaksFixed: this.leaksFixed,
      imageEndOffset: this.imageEndOffset,
      totalClusters,
      allocatedClusters: this.allocatedClusters,
      fragmentedClusters: this.fragmentedClusters,
      compressedClusters: this.compressedClusters,
      messages: this.#messages,
      messagesDropped: this.#dropped,
    };
  }

  #say(message: string): void {
    if (this.#messages.length < MESSAGES_MAX) this.#messages.push(message);
    else this.#dropped++;
  }
}
