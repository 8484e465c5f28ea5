/** What is compared where the image cannot be read. */

import { expect, test } from 'vitest';

import { epochsOf } from '../../src/crash/epochs.ts';
import { Surveyor } from '../../src/crash/explore.ts';
import type { Outcome } from '../../src/crash/inspect.ts';
import { StateView } from '../../src/crash/state-view.ts';
import { recordSmall } from './small-recording.ts';

const CLUSTER_SECTORS = 8;
const DISK_SECTORS = 2048;

test.each([true, false])(
  'each cluster that cannot be read is a finding, but for those in flight of a marked image (marked: %s)',
  async (isMarked) => {
    const recording = await recordSmall({ format: 'qed', cache: 'writeback' });
    const { judge, expectation } = await Surveyor.of(recording);
    const epochs = [...epochsOf(recording)];
    const isInFlight = (cluster: number, at: number): boolean =>
      Array.from({ length: CLUSTER_SECTORS }, (_, index) => cluster * CLUSTER_SECTORS + index).some(
        (sector) => expectation.isInFlight(sector, at),
      );
    const clusters = Array.from({ length: DISK_SECTORS / CLUSTER_SECTORS }, (_, index) => index);
    const busy = epochs.find(({ at }) => clusters.some((cluster) => isInFlight(cluster, at)));
    if (busy === undefined) throw new Error('nothing is in flight in any epoch');

    // One extent: neighbours are merged.
    const outcome: Outcome = {
      findings: [],
      snapshots: new Map(),
      looks: [
        {
          moment: 'before-repair',
          snapshot: undefined,
          extents: [{ start: 0, sectors: DISK_SECTORS, place: { kind: 'unreadable' } }],
          written: new Map(),
        },
      ],
      isMarked,
      repairBytes: 0,
    };
    const { findings } = judge.judge(new StateView(busy), { outcome, reads: new Set() }, []);
    const found = findings.map(({ sector = -1 }) => Math.floor(sector / CLUSTER_SECTORS));
    expect(found).toEqual(clusters.filter((cluster) => !isMarked || !isInFlight(cluster, busy.at)));
    if (isMarked) expect(found.length).toBeLessThan(clusters.length);
  },
);
