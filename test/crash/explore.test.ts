/** What a crash may take, for each way of keeping metadata; and that an explorer notices more. */

import { describe, expect, test } from 'vitest';

import type { Pending } from '../../src/core/pending.ts';
import { explore } from '../../src/crash/explore.ts';
import { STRONGEST_MODEL } from '../../src/crash/state-space.ts';
import type { BlockDevice, Elision } from '../../src/device/block-device.ts';
import { DeviceFilter } from '../../src/device/filter.ts';
import type { Purpose, SyncCause } from '../../src/device/purpose.ts';
import { recordSmall, type SmallCell } from './small-recording.ts';

const SEED = 7;

const kinds = [
  { format: 'raw' },
  { format: 'qcow2', refcounts: 'eager' },
  { format: 'qcow2', refcounts: 'lazy' },
  { format: 'qed' },
] as const;
const cells = kinds.flatMap((kind) =>
  (['writethrough', 'writeback'] as const).flatMap((cache) =>
    (kind.format === 'raw' ? [false] : [false, true]).map((backed): SmallCell => ({
      ...kind,
      cache,
      backed,
    })),
  ),
);

describe('no crash state loses what was acknowledged', () => {
  test.each(cells)('$format $refcounts, $cache, backed: $backed', async (cell) => {
    const exploration = await explore(await recordSmall(cell), {
      model: STRONGEST_MODEL,
      budget: 200,
      seed: SEED,
    });
    expect(exploration.bad.slice(0, 3)).toEqual([]);
    expect(exploration.tried).toBeGreaterThan(100);
  });
});

/** Passes over every sync with one of these causes. */
class DropsSyncs extends DeviceFilter {
  readonly #causes: readonly SyncCause[];

  constructor(inner: BlockDevice, ...causes: readonly SyncCause[]) {
    super(inner);
    this.#causes = causes;
  }

  override sync(cause: SyncCause, elision?: Elision): Pending {
    return this.#causes.includes(cause) ? undefined : this.inner.sync(cause, elision);
  }
}

/** Never sets the dirty bit, as if forgotten. */
class ForgetsDirtyBit extends DeviceFilter {
  override write(offset: number, bytes: Uint8Array, purpose: Purpose, from?: number, to?: number): Pending {
    return purpose === 'header' && bytes.byteLength === 8
      ? undefined
      : this.inner.write(offset, bytes, purpose, from, to);
  }
}

const planted: readonly (SmallCell & { readonly what: string })[] = [
  {
    what: 'eager refcounts without the sync between refcounts and L2',
    format: 'qcow2',
    refcounts: 'eager',
    cache: 'writeback',
    deviation: (device) => new DropsSyncs(device, 'l2-after-refcount'),
  },
  {
    what: 'lazy refcounts without the dirty bit',
    format: 'qcow2',
    refcounts: 'lazy',
    cache: 'writethrough',
    deviation: (device) => new ForgetsDirtyBit(device),
  },
  {
    what: 'a new L2 table linked before it is durable',
    format: 'qcow2',
    refcounts: 'eager',
    cache: 'writeback',
    deviation: (device) => new DropsSyncs(device, 'l2-table-growth'),
  },
  {
    what: 'a guest flush that does not sync',
    format: 'raw',
    cache: 'writeback',
    deviation: (device) => new DropsSyncs(device, 'guest-flush'),
  },
];

describe('a fault of an engine is found', () => {
  test.each(planted)('$what', async (cell) => {
    const exploration = await explore(await recordSmall(cell), {
      model: STRONGEST_MODEL,
      budget: 2000,
      seed: SEED,
    });
    expect(exploration.badStates).toBeGreaterThan(0);
  });
});
