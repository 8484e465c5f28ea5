/**
 * The colours of the charts: one for each cause, purpose and variant, the same in every chart,
 * light or dark.
 *
 * The hues are those of Okabe and Ito (Color Universal Design, 2008), distinguishable with any
 * colour vision; kindred words get lighter shades of one hue. What lazy refcounts can spare
 * (refcount work) is vermilion everywhere, what the guest itself asked for is blue. All contrast
 * with both page backgrounds.
 */

import type { Purpose, SyncCause } from '../result/vocabulary.ts';

export const CAUSE_COLOURS: Readonly<Record<SyncCause, string>> = {
  writethrough: '#2f78b7',
  'guest-flush': '#6fb1e0',
  fua: '#9fd0ef',
  'l2-after-refcount': '#d55e00',
  'refcount-after-l2': '#f09a4f',
  'l2-after-cow': '#c2709f',
  'dirty-bit': '#009e73',
  'l2-table-growth': '#7d8794',
  'l1-growth': '#98a1ad',
  'refcount-growth': '#b3bac4',
  repair: '#8f5d2c',
  snapshot: '#a98cc8',
  bitmap: '#6b7a3a',
  'corrupt-bit': '#a33c3c',
  'data-file': '#5f9ea0',
  close: '#d9b200',
};

export const PURPOSE_COLOURS: Readonly<Record<Purpose, string>> = {
  header: '#d9b200',
  'l1-table': '#66c2a5',
  'l2-table': '#009e73',
  'refcount-table': '#f09a4f',
  'refcount-block': '#d55e00',
  'snapshot-table': '#a98cc8',
  data: '#2f78b7',
  cow: '#9aa3af',
  'backing-read': '#c2709f',
  bitmap: '#8f5d2c',
};

/** Keyed by variant name; a variant that is not listed gets the last colour. */
export const VARIANT_COLOURS: Readonly<Record<string, string>> = {
  raw: '#7d8794',
  'qcow2 eager': '#d55e00',
  'qcow2 lazy': '#2f78b7',
  QED: '#c2709f',
};

/** Where time goes. */
export const TIME_PART_COLOURS = {
  syncs: '#d9b200',
  metadata: '#009e73',
  data: '#2f78b7',
  harness: '#9aa3af',
} as const;

/** The ink of the heat maps, laid on more or less thickly. */
export const HEAT_COLOUR = '#2f78b7';

/** What each cause means, in the words of a legend. */
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
