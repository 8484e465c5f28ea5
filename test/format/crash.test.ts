/**
 * What a crash may take, for each way of keeping metadata; and that the proof would notice if it
 * took more.
 */

import { describe, expect, it } from 'vitest';
import { Random } from '../../src/core/random.ts';
import { applyLogged } from '../../src/device/write-log.ts';
import { openImage } from '../../src/format/registry.ts';
import { DropsSyncs, ForgetsDirtyBit, Postpones } from '../crash/planted.ts';
import { crashStates, findLoss, repairedBytes, type CrashState } from './crash-proof.ts';
import { BACKING, IMAGE, recordWorkload, type CrashSetup, type Recording } from './crash-workload.ts';
import { CHECK, QemuDirectory } from './qemu-directory.ts';
import { rejectionCodeOf } from './rejection.ts';
import { reasonToSkip } from './system-tools.ts';

const SEED = 20;
/** QEMU looks at one state in so many. */
const QEMU_STRIDE = 60;
const noQemu = reasonToSkip('qemu-img');

const kinds = [
  { format: 'qcow2', refcounts: 'eager' },
  { format: 'qcow2', refcounts: 'lazy' },
  { format: 'qed' },
] as const;
const starts = [
  { clusterSize: 512, prefilled: false, releases: true },
  { clusterSize: 4096, prefilled: false, releases: true },
  { clusterSize: 4096, prefilled: true, releases: false },
] as const;
/** Clusters of 16 KiB have subclusters of a sector: one request changes bits of many. */
const subclusters = (['writethrough', 'writeback'] as const).flatMap((cache) =>
  (['eager', 'lazy'] as const).map((refcounts): CrashSetup => ({
    format: 'qcow2',
    refcounts,
    shape: { extendedL2: true },
    cache,
    clusterSize: 16_384,
    prefilled: cache === 'writethrough',
    releases: cache === 'writeback',
    backed: refcounts === 'lazy',
  })),
);
const setups = kinds.flatMap((kind) =>
  (['writethrough', 'writeback'] as const).flatMap((cache) =>
    starts
      .filter(({ clusterSize }) => kind.format === 'qcow2' || clusterSize >= 4096)
      .flatMap((start) => [false, true].map((backed): CrashSetup => ({ ...kind, cache, ...start, backed }))),
  ),
);

function titleOf({ format, refcounts, shape, cache, clusterSize, backed, prefilled }: CrashSetup): string {
  const kind = refcounts === undefined ? format : `${format} ${refcounts}`;
  const image = `${prefilled ? 'used' : 'new'} image${backed ? ' with a backing file' : ''}`;
  const parts = shape?.extendedL2 === true ? ' with subclusters' : '';
  return `${kind}, ${cache}, clusters of ${String(clusterSize)} bytes${parts}, ${image}`;
}

describe('a crash at any moment loses no acknowledged flush', () => {
  const qemu = new QemuDirectory();

  for (const setup of [...setups, ...subclusters]) {
    it(titleOf(setup), async () => {
      const recording = await recordWorkload(setup, SEED);
      let count = 0;
      for (const state of statesOf(recording)) {
        const asksQemu = noQemu === undefined && count % QEMU_STRIDE === 0;
        count++;
        if (asksQemu) await expectQemuAccepts(recording, state, qemu);
        expect(await findLoss(recording, state), `seed ${String(SEED)}, after ${state.name}`).toBeUndefined();
      }
      // Fewer would mean that the log was not followed to its end.
      expect(count).toBeGreaterThan(recording.entries.filter(({ op }) => op === 'sync').length);
    });
  }
});

function statesOf(recording: Recording): Generator<CrashState> {
  return crashStates(recording, { random: new Random(SEED), cutShare: 0.2, lossyStates: 1 });
}

async function expectQemuAccepts(
  recording: Recording,
  state: CrashState,
  qemu: QemuDirectory,
): Promise<void> {
  const { format, refcounts, backed } = recording.setup;
  if (backed) qemu.put(BACKING, recording.storage.open(BACKING).contents());
  qemu.put(IMAGE, state.image.contents());
  if (refcounts === 'eager') {
    qemu.expectCheck(format, IMAGE, CHECK.clean, CHECK.leaks);
  } else {
    const { status, output } = qemu.check(format, IMAGE, '-r', 'all');
    // QEMU repairs no leaks of QED.
    const allowed: readonly (number | null)[] = format === 'qed' ? [CHECK.clean, CHECK.leaks] : [CHECK.clean];
    expect(allowed, output).toContain(status);
  }
  qemu.put(IMAGE, await repairedBytes(recording, state));
  qemu.expectCheck(format, IMAGE, CHECK.clean, CHECK.leaks);
}

const base = { clusterSize: 4096, prefilled: false, releases: true } as const;
const deviations: readonly { readonly what: string; readonly setup: CrashSetup }[] = [
  {
    what: 'eager refcounts without the sync between refcounts and L2',
    setup: {
      ...base,
      format: 'qcow2',
      refcounts: 'eager',
      cache: 'writeback',
      backed: false,
      deviation: (device) => new DropsSyncs(device, 'l2-after-refcount'),
    },
  },
  {
    what: 'eager refcounts written behind L2',
    setup: {
      ...base,
      format: 'qcow2',
      refcounts: 'eager',
      cache: 'writethrough',
      backed: true,
      deviation: (device) => new Postpones(device, 'refcount-block'),
    },
  },
  {
    what: 'lazy refcounts without the dirty bit',
    setup: {
      ...base,
      format: 'qcow2',
      refcounts: 'lazy',
      cache: 'writethrough',
      backed: false,
      deviation: (device) => new ForgetsDirtyBit(device),
    },
  },
  {
    what: 'lazy refcounts without the sync behind the dirty bit',
    setup: {
      ...base,
      format: 'qcow2',
      refcounts: 'lazy',
      cache: 'writeback',
      backed: true,
      deviation: (device) => new DropsSyncs(device, 'dirty-bit'),
    },
  },
  {
    what: 'lazy refcounts without the sync between copied data and L2',
    setup: {
      ...base,
      releases: false,
      format: 'qcow2',
      refcounts: 'lazy',
      cache: 'writethrough',
      backed: true,
      deviation: (device) => new DropsSyncs(device, 'l2-after-cow'),
    },
  },
  {
    what: 'a new L2 table linked before it is durable',
    setup: {
      ...base,
      clusterSize: 512,
      format: 'qcow2',
      refcounts: 'eager',
      cache: 'writeback',
      backed: false,
      deviation: (device) => new DropsSyncs(device, 'l2-table-growth'),
    },
  },
  {
    what: 'QED over a backing file without the sync before its tables',
    setup: {
      ...base,
      format: 'qed',
      cache: 'writethrough',
      backed: true,
      deviation: (device) => new DropsSyncs(device, 'l2-after-cow'),
    },
  },
  {
    what: 'a writethrough mode that does not sync',
    setup: {
      ...base,
      format: 'qed',
      cache: 'writethrough',
      backed: false,
      deviation: (device) => new DropsSyncs(device, 'writethrough'),
    },
  },
  {
    what: 'a guest flush that does not sync',
    setup: {
      ...base,
      format: 'qcow2',
      refcounts: 'lazy',
      cache: 'writeback',
      backed: false,
      deviation: (device) => new DropsSyncs(device, 'guest-flush'),
    },
  },
];

describe('the proof notices', () => {
  it.each(deviations)('$what', async ({ setup }) => {
    // Which states are tried is chance: a workload that hides the damage is followed by another.
    for (let seed = SEED; seed < SEED + 5; seed++) {
      const recording = await recordWorkload(setup, seed);
      const states = crashStates(recording, { random: new Random(seed), cutShare: 1, lossyStates: 4 });
      for (const state of states) if ((await findLoss(recording, state)) !== undefined) return;
    }
    expect.unreachable('no crash state shows the damage');
  });
});

describe('what QED does not promise, here as in QEMU', () => {
  it('its need-check mark has no sync: lost with the data but not the table, an entry leads past the end', async () => {
    const setup: CrashSetup = { ...base, format: 'qed', cache: 'writeback', backed: false, prefilled: true };
    const recording = await recordWorkload({ ...setup, releases: false }, SEED);
    const { entries } = recording;
    const mark = entries.findIndex((entry) => entry.op === 'write' && entry.purpose === 'header');
    const link = entries.findIndex((entry) => entry.op === 'write' && entry.purpose === 'l2-table');
    expect(entries.slice(mark, link).map(({ op }) => op)).not.toContain('sync');
    const image = recording.base.clone();
    applyLogged(image, entries[link] as (typeof entries)[number]);

    const files = { open: () => image };
    const opened = await openImage({ format: 'qed', name: IMAGE, files, readOnly: false });
    const readAll = async (): Promise<void> => {
      for (const { start, length } of recording.shape.regions) {
        await opened.read(start, new Uint8Array(length));
      }
    };
    expect(await rejectionCodeOf(readAll)).toBe('qed-bad-cluster-offset');
    await opened.abandon();
  });
});
