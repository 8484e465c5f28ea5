/** When a freed cluster may be used again where a policy orders that. */

import { expect, test } from 'vitest';

import { UnlinkedClusters } from '../../../src/format/qcow2/metadata/unlinked-clusters.ts';

test('a cluster is in the set until a sync that began after its entry was written has ended', () => {
  const clusters = new UnlinkedClusters();
  clusters.add(5);
  // A sync of another request, which covers no entry of this one.
  clusters.noteDurable(clusters.generation);
  expect(clusters.hasAny(5, 6)).toBe(true);
  clusters.noteWritten();
  const { generation } = clusters;
  // Freed while the sync is in flight.
  clusters.add(7);
  clusters.noteWritten();
  clusters.noteDurable(generation);
  expect(clusters.hasAny(5, 7)).toBe(false);
  expect(clusters.hasAny(0, 8)).toBe(true);
  clusters.noteDurable(clusters.generation);
  expect(clusters.hasAny(0, 8)).toBe(false);
});

test('a cluster that is freed a second time waits again', () => {
  const clusters = new UnlinkedClusters();
  clusters.add(5);
  clusters.noteWritten();
  const { generation } = clusters;
  clusters.add(5);
  clusters.noteDurable(generation);
  expect(clusters.hasAny(5, 6)).toBe(true);
  clusters.clear();
  expect(clusters.hasAny(5, 6)).toBe(false);
});
