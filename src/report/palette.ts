/**
 * The colours of the charts: one meaning a colour, the same in every chart, light or dark.
 *
 * Two families. What an operation is for (causes and purposes): blue is what the guest itself requested,
 * vermilion is refcount work, which lazy refcounts can spare, green are the tables that map clusters,
 * yellow is the header with its dirty bit, brown is what is copied or filled. Kindred words have
 * lighter shades of one hue; the hues are those of Okabe and Ito (Color Universal Design, 2008). Variants
 * have hues that no operation has: indigo, teal, magenta, slate.
 */

import type { Purpose, SyncCause } from '../result/vocabulary.ts';

export const CAUSE_COLOURS: Readonly<Record<SyncCause, string>> = {
  writethrough: '#2f78b7',
  'guest-flush': '#6fb1e0',
  fua: '#a9d3f0',
  'l2-after-refcount': '#d55e00',
  'refcount-after-l2': '#f09a4f',
  'refcount-growth': '#f7c49a',
  'l2-after-cow': '#8f5d2c',
  'l2-after-data': '#b98a5a',
  'reuse-after-unlink': '#d4b48c',
  'mark-before-link': '#ecd36a',
  'dirty-bit': '#d9b200',
  'l2-table-growth': '#009e73',
  'l1-growth': '#66c2a5',
  repair: '#8c2d2d',
  'corrupt-bit': '#c0392b',
  snapshot: '#8fa876',
  bitmap: '#6b7a3a',
  'data-file': '#9ec5a0',
  amend: '#c9b458',
  commit: '#2c7a5b',
  close: '#a3adba',
};

export const PURPOSE_COLOURS: Readonly<Record<Purpose, string>> = {
  data: '#2f78b7',
  'l2-table': '#009e73',
  'l1-table': '#66c2a5',
  'refcount-block': '#d55e00',
  'refcount-table': '#f09a4f',
  cow: '#8f5d2c',
  'backing-read': '#b98a5a',
  header: '#d9b200',
  'snapshot-table': '#8fa876',
  bitmap: '#6b7a3a',
  'btree-node': '#2c7a5b',
  superblock: '#e6cf5c',
  journal: '#7fbf5a',
};

/** Keyed by variant name. */
export const VARIANT_COLOURS: Readonly<Record<string, string>> = {
  raw: '#5f6b7c',
  'qcow2 eager': '#5b52c4',
  'qcow2 lazy': '#1796a5',
  QED: '#c2498f',
  'B-tree': '#7c9a1e',
};

/** Of a variant that is not listed. */
export const OTHER_COLOUR = '#8a6fb0';

/** Where time goes. */
export const TIME_PART_COLOURS = {
  syncs: '#a9446e',
  metadata: '#009e73',
  data: '#2f78b7',
  harness: '#a3adba',
} as const;

/** The ink of the heat maps, laid on more or less thickly. */
export const HEAT_COLOUR = '#5b52c4';
