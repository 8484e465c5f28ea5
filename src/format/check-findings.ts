/**
 * What a check has found: counts with the meaning that `qemu-img check` gives them, and the
 * findings in words.
 *
 * Invariants: counts are exact; of each kind at most `DETAILS_MAX` texts are kept, and no unused
 * text is formatted (a big dirty image has millions of findings).
 */

import type { CheckReport, DetailSink, FindingKind } from './check-report.ts';

/** Findings of a kind that are kept in words. */
const DETAILS_MAX = 20;

export class CheckFindings {
  corruptions = 0;
  leaks = 0;
  checkErrors = 0;
  corruptionsFixed = 0;
  leaksFixed = 0;
  /** The refcount structures cannot be repaired entry by entry. */
  needsRebuild = false;
  /** A table that leads to clusters could not be read: what nothing else leads to may be its. */
  hasLostTable = false;
  /**
   * An L2 table is past the end of the file, in whole or in part: what it led to is lost if the
   * file is lengthened.
   */
  hasTablePastEnd = false;
  /**
   * Bytes: how long the file was before its tail was lost, as far as references show it; undefined
   * if none lead past the end.
   */
  lostEnd: number | undefined = undefined;
  imageEndOffset = 0;
  allocatedClusters = 0;
  fragmentedClusters = 0;
  compressedClusters = 0;
  readonly #details: { readonly kind: FindingKind; readonly text: string }[] = [];
  readonly #said: Record<FindingKind, number> = { corruption: 0, leak: 0, repair: 0, 'check-error': 0 };
  readonly #sink: DetailSink | undefined;

  /** @param sink gets every finding in words, as it is found. */
  constructor(sink: DetailSink | undefined) {
    this.#sink = sink;
  }

  corruption(text: () => string): void {
    this.corruptions++;
    this.say('corruption', text);
  }

  leak(text: () => string): void {
    this.leaks++;
    this.say('leak', text);
  }

  checkError(text: () => string): void {
    this.checkErrors++;
    this.say('check-error', text);
  }

  /** Reports something that is counted elsewhere. */
  say(kind: FindingKind, text: () => string): void {
    if (this.#said[kind]++ >= DETAILS_MAX && this.#sink === undefined) return;
    const detail = text();
    this.#sink?.(kind, detail);
    if (this.#said[kind] <= DETAILS_MAX) this.#details.push({ kind, text: detail });
  }

  /** Counts a compressed cluster of the active mapping; those are fragmented by nature. */
  countCompressed(): void {
    this.allocatedClusters++;
    this.compressedClusters++;
    this.fragmentedClusters++;
  }

  /** Counts clusters of the active mapping, and those that do not follow the previous one. */
  countAllocated(clusters: number, fragmented: number): void {
    this.allocatedClusters += clusters;
    this.fragmentedClusters += fragmented;
  }

  /**
   * What was found and repaired so far, to be forgotten by `restore` where a pass is done again.
   */
  counts(): FindingCounts {
    const { corruptions, leaks, checkErrors, corruptionsFixed, leaksFixed } = this;
    return { corruptions, leaks, checkErrors, corruptionsFixed, leaksFixed };
  }

  restore(counts: FindingCounts): void {
    Object.assign(this, counts);
  }

  /**
   * Forgets what was counted of the mapping, and what the refcounts need: both are about to be
   * looked at again.
   */
  resetMapping(): void {
    this.needsRebuild = false;
    this.allocatedClusters = 0;
    this.fragmentedClusters = 0;
    this.compressedClusters = 0;
  }

  report(totalClusters: number): CheckReport {
    return {
      ...this.counts(),
      imageEndOffset: this.imageEndOffset,
      totalClusters,
      allocatedClusters: this.allocatedClusters,
      fragmentedClusters: this.fragmentedClusters,
      compressedClusters: this.compressedClusters,
      messages: this.#details.map(({ text }) => text),
      messagesDropped: this.#dropped(),
    };
  }

  #dropped(): Record<FindingKind, number> {
    const dropped = { ...this.#said };
    for (const { kind } of this.#details) dropped[kind]--;
    return dropped;
  }
}

export interface FindingCounts {
  readonly corruptions: number;
  readonly leaks: number;
  readonly checkErrors: number;
  readonly corruptionsFixed: number;
  readonly leaksFixed: number;
}
