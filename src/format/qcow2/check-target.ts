/** The parts of an open image that a check looks at, and a repair changes. */

import type { Geometry } from './geometry.ts';
import type { HeaderStore } from './header-store.ts';
import type { L2Tables } from './l2-tables.ts';
import type { MetadataMap } from './metadata-map.ts';
import type { RefcountTable } from './refcount-table.ts';
import type { Refcounts } from './refcounts.ts';
import type { Snapshots } from './snapshots.ts';

export interface CheckTarget {
  readonly header: HeaderStore;
  readonly geometry: Geometry;
  readonly table: RefcountTable;
  readonly refcounts: Refcounts;
  readonly tables: L2Tables;
  readonly metadata: MetadataMap;
  readonly snapshots: Snapshots;
}
