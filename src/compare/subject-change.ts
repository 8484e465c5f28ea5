/** What changed about one subject, a sync cause or a kind of operation with its purpose, in one cell. */

import type { CountedCell, GuestCounts, OperationKind } from '../result/schema.ts';
import type { Phase, Purpose, SyncCause } from '../result/vocabulary.ts';

/** What a group is about. */
export type Subject =
  | { readonly kind: OperationKind; readonly purpose: Purpose }
  | { readonly kind: 'syncs'; readonly cause: SyncCause }
  | { readonly kind: 'elided' };

/**
 * `more`: it costs more than before. `fewer`: it costs less. `lost-syncs`: syncs are gone without
 * being elided or replaced by others of the cell, so something is durable or ordered no more.
 * `neutral`: syncs with another cause than before, or flushes elided.
 */
export type ChangeKind = 'more' | 'fewer' | 'lost-syncs' | 'neutral';

/** Operations and bytes before and after. */
export interface Amounts {
  readonly ops: Change;
  /** 0 of syncs. */
  readonly bytes: Change;
}

export interface Change {
  readonly before: number;
  readonly after: number;
}

/** What changed about one subject in one cell. */
export interface SubjectChange extends Amounts {
  readonly subject: Subject;
  readonly kind: ChangeKind;
  readonly phases: readonly Phase[];
}

/** A cell of a group, with what changed there. */
export interface GroupCell {
  readonly cell: CountedCell;
  readonly guest: GuestCounts;
  readonly change: SubjectChange;
}
