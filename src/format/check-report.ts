import type { Pending } from '../core/pending.ts';

/**
 * The outcome of checking an image, of any format that can be checked; counts as `qemu-img check`
 * has them.
 */
export interface CheckReport {
  /** Damage that can lose data; what was repaired is not counted here but below. */
  readonly corruptions: number;
  /** Clusters that are taken but not used: wasted space. */
  readonly leaks: number;
  /** Parts that could not be checked. */
  readonly checkErrors: number;
  readonly corruptionsFixed: number;
  readonly leaksFixed: number;
  /** Host offset after the last cluster in use; 0 for QED, as in QEMU. */
  readonly imageEndOffset: number;
  /** Clusters of the virtual disk. */
  readonly totalClusters: number;
  readonly allocatedClusters: number;
  readonly fragmentedClusters: number;
  readonly compressedClusters: number;
  /** The first findings of each kind, in words, in the order in which they were found. */
  readonly messages: readonly string[];
  /** How many there are beside those. */
  readonly messagesDropped: Readonly<Record<FindingKind, number>>;
}

/** Which damage a repair may correct. */
export type RepairScope = 'leaks' | 'all';

export type FindingKind = 'corruption' | 'leak' | 'repair' | 'check-error';

/** Gets each finding in words, in the order in which they are found. */
export type DetailSink = (kind: FindingKind, text: string) => void;

/** What a check does beside counting. */
export interface CheckOptions {
  /** Left out, nothing is written. */
  readonly repair?: RepairScope | undefined;
  readonly onDetail?: DetailSink | undefined;
  /**
   * A repair removes no snapshot, however broken: what opening an image may do unasked. Default
   * false.
   */
  readonly keepsSnapshots?: boolean | undefined;
  /**
   * Called regularly with how far the check is: the name of the current pass and the share of it
   * that is done. What it returns is waited for; if that rejects, the check ends there, and a
   * repair leaves what it has written so far.
   */
  readonly onProgress?: ((pass: string, share: number) => Pending) | undefined;
}
