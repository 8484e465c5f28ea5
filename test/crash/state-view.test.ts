/** The bytes of crash states, built from those of neighbours, are those of the kept operations. */

import fc from 'fast-check';
import { expect, test } from 'vitest';

import { Random } from '../../src/core/random.ts';
import { epochsOf } from '../../src/crash/epochs.ts';
import { makePage, PAGE_BYTES, pagePlace } from '../../src/crash/pages.ts';
import { randomTear, StateView } from '../../src/crash/state-view.ts';
import { recordSmall, type SmallCell } from './small-recording.ts';

const CELLS: readonly SmallCell[] = [
  { format: 'qcow2', refcounts: 'lazy', cache: 'writeback', prefilled: true },
  {
    format: 'qcow2',
    refcounts: 'eager',
    cache: 'writeback',
    clusterSize: 16_384,
    shape: { extendedL2: true },
  },
  { format: 'qed', cache: 'writeback' },
  { format: 'raw', cache: 'writeback', prefilled: true, releases: true },
];

test.each(CELLS)('pages of random torn states ($format $refcounts)', async (cell) => {
  const recording = await recordSmall({ ...cell, requests: 24 });
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 2 ** 31 }), fc.constantFrom(512, 4096), (seed, sectorBytes) => {
      const random = new Random(seed);
      for (const epoch of epochsOf(recording)) {
        const view = new StateView(epoch);
        for (let step = 0; step < 24; step++) {
          const place = random.below(Math.max(1, epoch.pending.length));
          const pending = epoch.pending[place];
          if (pending === undefined || pending.isSettled) continue;
          const garbage = random.chance(0.3);
          const tear = random.chance(0.7)
            ? randomTear(pending.operation, { sectorBytes, garbage }, random)
            : undefined;
          const kept = tear !== undefined || random.chance(0.5);
          view.setFate(place, { kept, sizeKept: random.chance(0.8), tear });
          for (const number of view.touched.keys()) {
            const { file, offset } = pagePlace(number);
            if (offset + PAGE_BYTES > view.size(file)) continue;
            // Laid over byte by byte, each operation in its turn.
            const wanted = view.pageWith(number, new Set());
            const page = view.page(number);
            expect(Buffer.compare(page.bytes, wanted.bytes)).toBe(0);
            expect(page.key).toBe(makePage(page.bytes.slice()).key);
          }
        }
      }
    }),
    { numRuns: 12 },
  );
});
