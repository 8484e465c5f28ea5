/**
 * Why a host operation happens. Every operation that an engine issues carries its purpose, every
 * sync its cause; counting never guesses.
 */

/** What the bytes of a host operation are for. */
export const PURPOSES = [
  'header',
  'l1-table',
  'l2-table',
  'refcount-table',
  'refcount-block',
  'snapshot-table',
  'data',
  'cow',
  'backing-read',
  'bitmap',
] as const;
export type Purpose = (typeof PURPOSES)[number];

/** Purposes that are neither guest data nor the fill around it. */
export const METADATA_PURPOSES: readonly Purpose[] = [
  'header',
  'l1-table',
  'l2-table',
  'refcount-table',
  'refcount-block',
  'snapshot-table',
  'bitmap',
];

/** What forced a sync. */
export const SYNC_CAUSES = [
  /** Ends a guest flush request. */
  'guest-flush',
  /** Ends a write with the FUA flag. */
  'fua',
  /** Ends any write in a writethrough mode. */
  'writethrough',
  /** Makes refcounts durable before the L2 entries that need them: eager's extra sync. */
  'l2-after-refcount',
  /** Makes L2 entries durable before refcounts drop. */
  'refcount-after-l2',
  /** Makes copied data durable before the L2 entry that points to it. */
  'l2-after-cow',
  /** Follows setting the dirty bit (QED: need-check), or precedes clearing it. */
  'dirty-bit',
  /** Part of the sequence that adds an L2 table. */
  'l2-table-growth',
  /** Part of the sequence that replaces the L1 table. */
  'l1-growth',
  /** Part of the sequence that adds a refcount block or replaces the refcount table. */
  'refcount-growth',
  'repair',
  'snapshot',
  'bitmap',
  'corrupt-bit',
  'data-file',
  /** The file's last. */
  'close',
] as const;
export type SyncCause = (typeof SYNC_CAUSES)[number];
