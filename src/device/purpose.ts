/**
 * Why a host operation happens. Every operation that an engine issues carries its purpose, every
 * sync its cause; counting never guesses. Their meanings are in a few words, for legends and messages.
 */

/** What the bytes of a host operation are for. */
export const PURPOSE_MEANINGS = {
  header: 'header cluster',
  'l1-table': 'L1 table',
  'l2-table': 'L2 tables',
  'refcount-table': 'refcount table',
  'refcount-block': 'refcount blocks: what eager writes each time',
  'snapshot-table': 'snapshot table',
  data: 'guest data',
  cow: 'fill around guest data in a new cluster (copied or zero)',
  'backing-read': 'read from the backing file',
  bitmap: 'bitmaps',
  'btree-node': 'nodes of the B-tree',
  superblock: 'superblocks',
  journal: 'journal of the B-tree',
} as const;
export type Purpose = keyof typeof PURPOSE_MEANINGS;
export const PURPOSES = namesOf(PURPOSE_MEANINGS);

/** Purposes that are neither guest data nor the fill around it. */
export const METADATA_PURPOSES: readonly Purpose[] = [
  'header',
  'l1-table',
  'l2-table',
  'refcount-table',
  'refcount-block',
  'snapshot-table',
  'bitmap',
  'btree-node',
  'superblock',
  'journal',
];

/** What forced a sync. */
export const CAUSE_MEANINGS = {
  'guest-flush': 'ends a guest flush',
  fua: 'ends a FUA write',
  /** Of a write in a writethrough mode. */
  writethrough: 'ends a guest write',
  'l2-after-refcount': 'refcounts before the L2 entries that need them: what eager adds',
  'refcount-after-l2': 'L2 entries before refcounts drop',
  'l2-after-cow': 'copied data before its L2 entry',
  'l2-after-data': 'new data before their L2 entry: policy strict',
  'reuse-after-unlink': 'an L2 entry gone before its cluster is used again: policy strict',
  'mark-before-link': 'need-check mark before the first link: policy strict',
  /** Follows setting it (QED: need-check), or precedes clearing it. */
  'dirty-bit': 'dirty bit set or cleared',
  'l2-table-growth': 'a new L2 table',
  'l1-growth': 'a larger L1 table',
  'refcount-growth': 'a new refcount block or table',
  repair: 'repair',
  snapshot: 'snapshot',
  bitmap: 'dirty bitmap',
  commit: 'nodes and data before the superblock: the B-tree',
  'corrupt-bit': 'corrupt bit',
  'data-file': 'external data file',
  amend: 'another version of the format',
  close: 'the last one of the file',
} as const;
export type SyncCause = keyof typeof CAUSE_MEANINGS;
export const SYNC_CAUSES = namesOf(CAUSE_MEANINGS);

function namesOf<Name extends string>(meanings: Readonly<Record<Name, string>>): readonly Name[] {
  return Object.keys(meanings) as Name[];
}
