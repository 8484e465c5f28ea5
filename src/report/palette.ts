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
  'l2-after-data': '#8e5ea2',
  'reuse-after-unlink': '#b39ddb',
  'mark-before-link': '#4db6ac',
  'dirty-bit': '#009e73',
  'l2-table-growth': '#7d8794',
  'l1-growth': '#98a1ad',
  'refcount-growth': '#b3bac4',
  repair: '#8f5d2c',
  snapshot: '#a98cc8',
  bitmap: '#6b7a3a',
  'corrupt-bit': '#a33c3c',
  'data-file': '#5f9ea0',
  amend: '#c4a484',
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
