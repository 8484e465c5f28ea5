/** What a crash may take, for each way of keeping metadata; and that the proof would notice if it took more. */

import { afterAll, describe, expect, it } from 'vitest';
import { Random } from '../../src/core/random.ts';
import type { BlockDevice, Pending } from '../../src/device/block-device.ts';
import { DeviceFilter } from '../../src/device/filter.ts';
import type { Purpose, SyncCause } from '../../src/device/purpose.ts';
import { BACKING, crashStates, findLoss, IMAGE, recordWorkload, type CrashSetup } from './crash-proof.ts';
import { CHECK, QemuDirectory } from './qemu-directory.ts';
import { reasonToSkip } from './system-tools.ts';

const setups = (['qcow2', 'qed'] as const).flatMap((format) =>
  (format === 'qcow2' ? (['eager', 'lazy'] as const) : [undefined]).flatMap((refcounts) =>
    (['writethrough', 'writeback'] as const).flatMap((cache) =>
      (format === 'qcow2' ? [512, 4096] : [4096]).flatMap((clusterSize) =>
        [false, true].map((backed): CrashSetup => {
          return { format, cache, clusterSize, backed, releases: true, ...(refcounts && { refcounts }) };
        }),
      ),
    ),
  ),
);

let n = 0;
describe('probe', () => {
  it.each(setups)('$format $refcounts $cache $clusterSize $backed', async (setup) => {
    const recording = await recordWorkload(setup, 1);
    const random = new Random(7);
    const problems: string[] = [];
    let states = 0;
    const t = performance.now();
    for (const state of crashStates(recording, { random, cutShare: 1, lossyStates: 2 })) {
      states++;
      const p = await findLoss(recording, state);
      if (p !== undefined) problems.push(`${state.name} (${String(state.cut)}): ${p}`);
    }
    console.log(JSON.stringify(setup), recording.entries.length, states, performance.now() - t, problems.length, problems.slice(0, 6));
  });
});
