import { CACHE_MODES } from '../../src/format/cache-mode.ts';
import { COMMIT_POLICIES } from '../../src/format/commit-policy.ts';
import { someOf } from '../amount.ts';
import { describeDiskImage, type ImageSubject } from './conformance.ts';

const QCOW2_CLUSTERS = [512, 4096, 65_536, 2 * 1024 * 1024];

const SUBJECTS: readonly ImageSubject[] = [
  { name: 'raw', format: 'raw', clusterSizes: [], canBeBacked: false },
  {
    name: 'qcow2 with eager refcounts',
    format: 'qcow2',
    refcounts: 'eager',
    clusterSizes: QCOW2_CLUSTERS,
    canBeBacked: true,
  },
  {
    name: 'qcow2 with lazy refcounts',
    format: 'qcow2',
    refcounts: 'lazy',
    clusterSizes: QCOW2_CLUSTERS,
    canBeBacked: true,
  },
  { name: 'QED', format: 'qed', clusterSizes: [4096, 65_536], canBeBacked: true },
];

for (const commit of COMMIT_POLICIES) {
  const subject: ImageSubject = {
    name: `B-tree, ${commit}`,
    format: 'btree',
    commit,
    clusterSizes: [],
    canBeBacked: true,
  };
  for (const cacheMode of someOf(CACHE_MODES, 3)) describeDiskImage(subject, cacheMode);
}

/** What is laid out otherwise; in one mode of either kind. */
const SHAPED: readonly ImageSubject[] = [
  {
    name: 'qcow2 of version 2',
    format: 'qcow2',
    refcounts: 'eager',
    shape: { compat: '0.10' },
    clusterSizes: [4096],
    // Over a backing file nothing can be discarded: without a zero flag it would show through.
    canBeBacked: false,
  },
  {
    name: 'qcow2 with subclusters',
    format: 'qcow2',
    refcounts: 'lazy',
    shape: { extendedL2: true, refcountBits: 1 },
    clusterSizes: [16_384, 131_072],
    canBeBacked: true,
  },
  {
    name: 'B-tree of large nodes',
    format: 'btree',
    shape: { nodeSize: 65_536 },
    clusterSizes: [],
    canBeBacked: true,
  },
];
for (const subject of SHAPED) {
  for (const cacheMode of ['writethrough', 'none'] as const) describeDiskImage(subject, cacheMode);
}

for (const subject of SUBJECTS) {
  for (const cacheMode of someOf(CACHE_MODES, 3)) describeDiskImage(subject, cacheMode);
}
