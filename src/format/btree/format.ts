/** The facts of the B-tree format. */

import { COMMIT_POLICIES } from '../commit-policy.ts';
import type { FormatFacts } from '../format-facts.ts';
import { MAGIC } from './on-disk/superblock.ts';

export const btreeFormat: FormatFacts = {
  title: 'B-tree',
  meaning: 'a copy-on-write tree of extents, committed by a superblock',
  lacks: 'clusters and refcounts',
  magic: MAGIC,
  contents: 'metadata',
  refcountModes: [],
  commitPolicies: COMMIT_POLICIES,
  backing: 'any',
  shape: ['nodeSize'],
  cacheSizes: ['btreeCacheSize'],
  hasDiscardNoUnref: false,
  hasPolicies: false,
  hasCompression: false,
  hasSnapshots: true,
  hasCheck: true,
  zeroing: 'on-request',
  requestNs: 4000,
  loadEngine: async () => (await import('./engine.ts')).BTREE_ENGINE,
};
