/** What sync causes and purposes mean, in a few words: for legends, messages and docs. */

import type { Purpose, SyncCause } from './vocabulary.ts';

export const CAUSE_MEANINGS: Readonly<Record<SyncCause, string>> = {
  writethrough: 'ends a guest write',
  'guest-flush': 'ends a guest flush',
  fua: 'ends a FUA write',
  'l2-after-refcount': 'refcounts before the L2 entries that need them: what eager adds',
  'refcount-after-l2': 'L2 entries before refcounts drop',
  'l2-after-cow': 'copied data before its L2 entry',
  'dirty-bit': 'dirty bit set or cleared',
  'l2-table-growth': 'a new L2 table',
  'l1-growth': 'a larger L1 table',
  'refcount-growth': 'a new refcount block or table',
  repair: 'repair',
  snapshot: 'snapshot',
  bitmap: 'dirty bitmap',
  'corrupt-bit': 'corrupt bit',
  'data-file': 'external data file',
  close: 'the last one of the file',
};

export const PURPOSE_MEANINGS: Readonly<Record<Purpose, string>> = {
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
};
