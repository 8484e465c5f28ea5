/** What a page shows of single cells beyond a result: made by running their first requests again. */

import type { Purpose, SyncCause } from '../result/vocabulary.ts';

export interface CloserLook {
  /** From the first request to the end of close; reads too. */
  readonly operations: readonly HostOperation[];
  /** Nanoseconds per guest request, by device model. */
  readonly modelled: ReadonlyMap<string, number>;
}

/** A host operation with its place in the file; a sync has none. */
export type HostOperation = readonly [
  /** From 0; −1 at open and close. */
  request: number,
  /** `image`, `data` or `backing:N`. */
  file: string,
  verb: string,
  purpose: Purpose | SyncCause,
  offset: number,
  length: number,
];
