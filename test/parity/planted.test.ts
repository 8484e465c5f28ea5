/**
 * The suite sees what it is there to see: for each rule of docs/qemu-rules.md, and for data files
 * and ignored discards, an engine that breaks it, in one place and in one way, differs from the
 * recording of QEMU in some everyday list. So does one that follows a rule of another version of
 * QEMU.
 *
 * Deviations are put in from outside, at public methods and at module borders, so that no code here
 * has to know that it may be broken.
 */

import { describe, expect, it, vi } from 'vitest';

import type { Pending } from '../../src/core/pending.ts';
import type { BlockDevice, WritePart } from '../../src/device/block-device.ts';
import { SyncElision } from '../../src/device/sync-elision.ts';
import type { SyncCause } from '../../src/device/purpose.ts';
import { BlockBackend } from '../../src/format/block-backend.ts';
import { CACHE_MODE_RULES, type CacheMode } from '../../src/format/cache-mode.ts';
import type * as knownZeroes from '../../src/format/known-zero.ts';
import {
  QEMU_PROFILES,
  QEMU_PROFILE_NAMES,
  type QemuProfile,
  type QemuProfileName,
} from '../../src/format/qemu-profile.ts';
import type * as cacheGeometries from '../../src/format/qcow2/metadata/cache-geometry.ts';
import { HeaderStore } from '../../src/format/qcow2/metadata/header-store.ts';
import { Qcow2Image } from '../../src/format/qcow2/qcow2-image.ts';
import { Refcounts } from '../../src/format/qcow2/metadata/refcounts.ts';
import { TableCache } from '../../src/format/qcow2/metadata/table-cache.ts';
import { someOf } from '../amount.ts';
import { differencesFromGolden } from './golden-list.ts';
import { goldenFor, readGoldens, type Goldens } from './goldens.ts';
import { everydayLists } from './lists.ts';

const planted = vi.hoisted(() => ({ l2Slots: 0, refcountSlots: 0, zero: false }));

vi.mock('../../src/format/qcow2/metadata/cache-geometry.ts', async (original) => {
  const real = await original<typeof cacheGeometries>();
  const cacheGeometry: typeof real.cacheGeometry = (...args) => {
    const geometry = real.cacheGeometry(...args);
    return {
      ...geometry,
      l2Slots: geometry.l2Slots + planted.l2Slots,
      refcountSlots: geometry.refcountSlots + planted.refcountSlots,
    };
  };
  return { ...real, cacheGeometry };
});
vi.mock('../../src/format/known-zero.ts', async (original) => {
  const real = await original<typeof knownZeroes>();
  const isKnownZero: typeof real.isKnownZero = async (...args) =>
    !planted.zero && (await real.isKnownZero(...args));
  return { ...real, isKnownZero };
});

interface Deviation {
  readonly rule: string;
  readonly does: string;
  /** Puts it in; what is spied on is given back after each test (`restoreMocks`). */
  readonly plant: () => void;
  /** Takes out what no spy holds. */
  readonly remove?: () => void;
}

const deviations: readonly Deviation[] = [
  {
    rule: 'R1',
    does: 'a sync is passed on although nothing was written',
    plant: () => {
      vi.spyOn(SyncElision.prototype, 'sync').mockImplementation(function (
        this: SyncElision,
        cause: SyncCause,
      ): Pending {
        return innerOf(this).sync(cause);
      });
    },
  },
  {
    rule: 'R2',
    does: 'writethrough does not flush after a write',
    plant: () => setFlushAfterWrite('writethrough', false),
    remove: () => setFlushAfterWrite('writethrough', true),
  },
  {
    rule: 'R2',
    does: 'cache=none flushes after a write',
    plant: () => setFlushAfterWrite('none', true),
    remove: () => setFlushAfterWrite('none', false),
  },
  {
    rule: 'R3',
    does: 'a flush writes refcounts although the dirty bit is set',
    plant: () => {
      const flush = Reflect.get(Qcow2Image.prototype, 'flush');
      vi.spyOn(Qcow2Image.prototype, 'flush').mockImplementation(async function (
        this: Qcow2Image,
        cause: SyncCause,
      ): Promise<void> {
        if (this.header.isDirty) await this.refcounts.blockCache.writeBack();
        await flush.call(this, cause);
      });
    },
  },
  {
    rule: 'R4',
    does: 'a table is written before the copied data that it points to are durable',
    plant: () => {
      vi.spyOn(TableCache.prototype, 'dependOnSync').mockReturnValue();
    },
  },
  {
    rule: 'R5',
    does: 'no cache depends on another',
    plant: () => {
      vi.spyOn(TableCache.prototype, 'setDependency').mockReturnValue(undefined);
    },
  },
  {
    rule: 'R6',
    does: 'the table that was used last is evicted',
    plant: evictLastUsed,
  },
  {
    rule: 'R7',
    does: 'one more refcount block is cached',
    plant: () => (planted.refcountSlots = 1),
    remove: () => (planted.refcountSlots = 0),
  },
  {
    rule: 'R7',
    does: 'one more L2 slice is cached',
    plant: () => (planted.l2Slots = 1),
    remove: () => (planted.l2Slots = 0),
  },
  {
    rule: 'R8',
    does: 'a cluster is left out before each that is allocated',
    plant: () => {
      const allocate = Reflect.get(Refcounts.prototype, 'allocate');
      vi.spyOn(Refcounts.prototype, 'allocate').mockImplementation(async function (
        this: Refcounts,
        count: number,
      ): Promise<number> {
        await this.findFree(1);
        return allocate.call(this, count);
      });
    },
  },
  {
    rule: 'R8',
    does: 'a further part of a request never joins the same data write',
    plant: () => {
      vi.spyOn(Refcounts.prototype, 'allocateAt').mockResolvedValue(0);
    },
  },
  {
    rule: 'R9',
    does: 'what surrounds a write is copied although it is zero by the map',
    plant: () => (planted.zero = true),
    remove: () => (planted.zero = false),
  },
  {
    rule: 'R9',
    does: 'copied head and tail are written apart from the data',
    plant: () => {
      vi.spyOn(SyncElision.prototype, 'writeMerged').mockImplementation(async function (
        this: SyncElision,
        offset: number,
        parts: readonly WritePart[],
      ): Promise<void> {
        let at = offset;
        for (const { bytes, purpose } of parts) {
          await this.write(at, bytes, purpose);
          at += bytes.byteLength;
        }
      });
    },
  },
  {
    rule: 'R9',
    does: 'lazy refcounts do not set the dirty bit',
    plant: () => {
      vi.spyOn(HeaderStore.prototype, 'markDirty').mockResolvedValue();
    },
  },
  {
    rule: 'data file',
    does: 'the image becomes durable before the data that it points to',
    plant: syncDataLast,
  },
  {
    rule: 'discard',
    does: 'a discard that is to be ignored reaches the image',
    plant: () => {
      vi.spyOn(BlockBackend.prototype, 'discard').mockImplementation(function (
        this: BlockBackend,
        offset: number,
        length: number,
      ): Pending {
        return this.image.discard(offset, length);
      });
    },
  },
];

/** Raw and QED first, whose lists are fast. */
const lists = everydayLists().toReversed();
const goldens = Object.fromEntries(QEMU_PROFILE_NAMES.map((like) => [like, readGoldens(like)]));

describe('a planted deviation is caught', () => {
  it.each(someOf(deviations, 6))('$rule: $does', async ({ plant, remove }) => {
    plant();
    try {
      expect(await firstThatDiffers('qemu-7.2'), 'no list differs').toBeDefined();
    } finally {
      remove?.();
    }
  });

  it('has one for every rule', () => {
    const rules = new Set(deviations.map(({ rule }) => rule));
    const numbered = Array.from({ length: 9 }, (_, index) => `R${String(index + 1)}`);
    expect([...rules]).toEqual([...numbered, 'data file', 'discard']);
  });
});

describe('a rule of another version is caught', () => {
  const others = QEMU_PROFILE_NAMES.flatMap((like) =>
    QEMU_PROFILE_NAMES.filter((other) => other !== like).flatMap((other) =>
      rulesThatDiffer(like, other).map((rule) => ({ like, other, rule })),
    ),
  );

  it.each(someOf(others, 4))('$like with $rule of $other', async ({ like, other, rule }) => {
    const own = { [rule]: QEMU_PROFILES[like][rule] };
    Object.assign(QEMU_PROFILES[like], { [rule]: QEMU_PROFILES[other][rule] });
    try {
      expect(await firstThatDiffers(like), 'no list differs').toBeDefined();
    } finally {
      Object.assign(QEMU_PROFILES[like], own);
    }
  });
});

describe('an option that is missed is caught', () => {
  it('discard-no-unref', async () => {
    const goldens10 = goldens['qemu-10.0'] as Goldens;
    const differences: string[] = [];
    for (const list of lists.filter(({ noUnref, discard }) => noUnref && discard === 'unmap')) {
      const without = { ...list, noUnref: false };
      differences.push(...(await differencesFromGolden(without, goldenFor(list, goldens10), 'qemu-10.0')));
      if (differences.length > 0) break;
    }
    expect(differences, 'no list differs').not.toEqual([]);
  });
});

function rulesThatDiffer(like: QemuProfileName, other: QemuProfileName): readonly (keyof QemuProfile)[] {
  const rules = Object.keys(QEMU_PROFILES[like]) as (keyof QemuProfile)[];
  return rules.filter((rule) => QEMU_PROFILES[like][rule] !== QEMU_PROFILES[other][rule]);
}

/** The name of the first everyday list that differs from the recording of that version. */
async function firstThatDiffers(like: QemuProfileName): Promise<string | undefined> {
  for (const list of lists) {
    const differences = await differencesFromGolden(list, goldenFor(list, goldens[like] as Goldens), like);
    if (differences.length > 0) return list.name;
  }
  return undefined;
}

/** The device below a filter, which only the filter itself is meant to see. */
function innerOf(filter: SyncElision): BlockDevice {
  return Reflect.get(filter, 'inner') as BlockDevice;
}

function setFlushAfterWrite(mode: CacheMode, flushAfterWrite: boolean): void {
  Object.assign(CACHE_MODE_RULES[mode], { flushAfterWrite });
}

function syncDataLast(): void {
  const sync = Reflect.get(SyncElision.prototype, 'sync');
  let ofData: (() => unknown) | undefined;
  vi.spyOn(SyncElision.prototype, 'sync').mockImplementation(async function (
    this: SyncElision,
    cause: SyncCause,
  ): Promise<void> {
    if (this.label === 'data') {
      ofData = () => sync.call(this, cause);
      return;
    }
    await sync.call(this, cause);
    await ofData?.();
    ofData = undefined;
  });
}

/** Every release makes all other tables look as if they had been released after it. */
function evictLastUsed(): void {
  const release = Reflect.get(TableCache.prototype, 'release');
  const known = new WeakMap<TableCache, Set<number>>();
  const acquire = Reflect.get(TableCache.prototype, 'acquire');
  vi.spyOn(TableCache.prototype, 'acquire').mockImplementation(function (this: TableCache, offset: number) {
    const offsets = known.get(this) ?? new Set();
    known.set(this, offsets.add(offset));
    return acquire.call(this, offset);
  });
  vi.spyOn(TableCache.prototype, 'release').mockImplementation(function (this: TableCache, slot: number) {
    release.call(this, slot);
    for (const offset of known.get(this) ?? []) {
      const other = this.acquireCached(offset);
      if (other >= 0 && other !== slot) release.call(this, other);
      else if (other === slot) release.call(this, slot);
    }
  });
}
