/** What is compared where the image cannot be read. */

import { expect, test } from 'vitest';

import { Random } from '../../src/core/random.ts';
import { epochsOf } from '../../src/crash/epochs.ts';
import { Surveyor } from '../../src/crash/explore.ts';
import type { Extent, Place } from '../../src/crash/extents.ts';
import type { Look, Outcome } from '../../src/crash/inspect.ts';
import { PAGE_BYTES } from '../../src/crash/pages.ts';
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

const EXTENT_SECTORS = 64;

/** A disk of which each extent is in one of few places, so that outcomes have many in common. */
function randomExtents(random: Random, dataPages: readonly number[]): readonly Extent[] {
  return Array.from({ length: DISK_SECTORS / EXTENT_SECTORS }, (_, index): Extent => {
    const page = dataPages[random.below(dataPages.length)] as number;
    const places: readonly Place[] = [
      { kind: 'zero' },
      { kind: 'behind' },
      { kind: 'host', file: 0, sector: page * CLUSTER_SECTORS },
    ];
    const place = places[random.below(places.length)] as Place;
    return { start: index * EXTENT_SECTORS, sectors: EXTENT_SECTORS, place };
  });
}

function randomOutcome(random: Random, dataPages: readonly number[]): Outcome {
  const looks = (['before-repair', 'after-repair', 'after-writes'] as const).map((moment): Look => ({
    moment,
    snapshot: undefined,
    extents: randomExtents(random, dataPages),
    written: new Map(
      random.below(2) === 0
        ? []
        : [
            [
              dataPages[random.below(dataPages.length)] as number,
              new Uint8Array(PAGE_BYTES).fill(random.below(3)),
            ],
          ],
    ),
  }));
  return { findings: [], snapshots: new Map(), looks, isMarked: false, repairBytes: 0 };
}

test.each([1, 2, 3, 4])(
  'an outcome is judged alike, whatever outcome was judged before (seed %i)',
  async (seed) => {
    const random = new Random(seed);
    const recording = await recordSmall({ format: 'raw', cache: 'writeback', prefilled: true, requests: 20 });
    const shared = (await Surveyor.of(recording)).judge;
    let wrong = 0;
    for (const epoch of epochsOf(recording)) {
      const dataPages = [...epoch.base.pages.keys()].slice(0, 6);
      if (dataPages.length === 0) continue;
      for (let turn = 0; turn < 8; turn++) {
        const leaf = { outcome: randomOutcome(random, dataPages), reads: new Set<number>() };
        const alone = (await Surveyor.of(recording)).judge.judge(new StateView(epoch), leaf, []);
        expect(shared.judge(new StateView(epoch), leaf, [])).toEqual(alone);
        wrong += alone.findings.length;
      }
    }
    expect(wrong).toBeGreaterThan(100);
  },
);
