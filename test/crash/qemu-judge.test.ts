/** QEMU as the second judge of crash states, of the engines' repair and of its own. */

import { expect, test } from 'vitest';

import { stateAfter } from '../../src/crash/crashes.ts';
import { explore, Surveyor, type SecondJudge } from '../../src/crash/explore.ts';
import { judgeWithQemu, type QemuPlace } from '../../src/crash/qemu-judge.ts';
import { STRONGEST_MODEL } from '../../src/crash/state-space.ts';
import { StateView } from '../../src/crash/state-view.ts';
import { probeCapabilities } from '../../src/device/capabilities.ts';
import { FileStorage } from '../../src/device/file-storage.ts';
import { qemuImgIn } from '../../src/peer/qemu-tools.ts';
import { amount } from '../amount.ts';
import { reasonToSkip } from '../format/system-tools.ts';
import { testDirectory } from '../test-directory.ts';
import { AnswersEarly, DropsSyncs } from './planted.ts';
import { recordSmall, type SmallCell } from './small-recording.ts';

const SEED = 7;
const BUDGET = 160;
const skip = reasonToSkip('qemu-img');
const QCOW2 = { format: 'qcow2', cache: 'writeback', releases: true } as const;

const cells: readonly SmallCell[] = [
  { ...QCOW2, refcounts: 'eager', clusterSize: 512 },
  { ...QCOW2, refcounts: 'lazy', backed: true },
  { ...QCOW2, refcounts: 'lazy', clusterSize: 16_384, shape: { extendedL2: true } },
  { ...QCOW2, refcounts: 'eager', shape: { dataFile: 'raw' } },
  { ...QCOW2, refcounts: 'eager', clusterSize: 512, steps: ['snapshots'] },
  { ...QCOW2, refcounts: 'lazy', clusterSize: 512, steps: ['snapshots', 'resize', 'compressed'] },
  { format: 'qed', cache: 'writeback', backed: true },
  { format: 'raw', cache: 'writeback' },
];

function place(): QemuPlace {
  const folder = testDirectory();
  const storage = new FileStorage(folder, probeCapabilities(folder), { locks: false });
  return { storage, qemuImg: qemuImgIn(folder) };
}

function qemu(every: number): SecondJudge {
  const where = place();
  return {
    every,
    judge: (view, { inspector, expectation }) => judgeWithQemu(view, { ...where, inspector, expectation }),
  };
}

test.skipIf(skip !== undefined).each(cells)(
  'QEMU finds nothing in states in which the engines find nothing: $format $refcounts, $clusterSize, $steps',
  async (cell) => {
    const exploration = await explore(await recordSmall(cell), {
      model: STRONGEST_MODEL,
      budget: BUDGET,
      seed: SEED,
      nested: 2,
      second: qemu(amount({ everyday: 40, full: 8 })),
    });
    expect(exploration.bad, `seed ${String(SEED)}`).toEqual([]);
    expect(exploration.askedSecond).toBeGreaterThan(1);
  },
);

test.skipIf(skip !== undefined).each<SmallCell & { readonly shows: RegExp }>([
  {
    ...QCOW2,
    refcounts: 'eager',
    releases: false,
    shows: /check -f qcow2 disk ends with 2/,
    deviation: (device) => new DropsSyncs(device, 'l2-after-refcount'),
  },
  {
    format: 'raw',
    cache: 'writeback',
    shows: /QEMU reads something else at guest offset/,
    deviation: (device) => new AnswersEarly(device),
  },
])('QEMU finds what the engines find: $format', async ({ shows, ...cell }) => {
  const recording = await recordSmall(cell);
  const { bad } = await explore(recording, { model: STRONGEST_MODEL, budget: 600, seed: SEED, keep: 1 });
  const { inspector, expectation } = await Surveyor.of(recording);
  const [state] = bad;
  if (state === undefined) throw new Error(`nothing is wrong, seed ${String(SEED)}`);
  const view = await stateAfter(recording, inspector, state.crashes);
  if (!(view instanceof StateView)) throw new Error('the state is not found again');
  const found = await judgeWithQemu(view, { ...place(), inspector, expectation });
  expect(found.map(({ text }) => text).join('\n')).toMatch(shows);
});
