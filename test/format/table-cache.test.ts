import { describe, expect, it } from 'vitest';
import type { BlockDevice } from '../../src/device/block-device.ts';
import { FaultDevice } from '../../src/device/fault.ts';
import { HostLog } from '../../src/device/host-log.ts';
import { MemoryDevice } from '../../src/device/memory-device.ts';
import { SyncElision } from '../../src/device/sync-elision.ts';
import { enginePolicy } from '../../src/format/engine-policy.ts';
import { TableCache } from '../../src/format/qcow2/metadata/table-cache.ts';
import { rejectionCodeOf } from './rejection.ts';

const TABLE = 512;

/**
 * Two caches over one file, as a qcow2 image has them, and what they do to it in the order in which
 * they do it.
 */
class Caches {
  readonly done: string[] = [];
  readonly l2: TableCache;
  readonly refcounts: TableCache;
  guard: (offset: number) => undefined = () => undefined;

  constructor(slots = 4, wrap: (device: BlockDevice) => BlockDevice = (device) => device) {
    const log = new HostLog(wrap(new MemoryDevice()), {
      phases: { phase: 'run' },
      sink: (record) => {
        const what =
          record.op === 'sync' ? record.cause : `${record.purpose} ${String(record.offset / TABLE)}`;
        this.done.push(`${record.op} ${what}`);
      },
    });
    const device = new SyncElision(log);
    const options = {
      device,
      slots,
      tableSize: TABLE,
      policy: enginePolicy(),
      guardWrite: (offset: number) => this.guard(offset),
    };
    this.l2 = new TableCache({ ...options, purpose: 'l2-table', dependencyCause: 'l2-after-refcount' });
    this.refcounts = new TableCache({
      ...options,
      purpose: 'refcount-block',
      dependencyCause: 'refcount-after-l2',
    });
  }

  /** What was done since the last call. */
  take(): string[] {
    return this.done.splice(0);
  }
}

/** Reads table number `index` and lets it go. */
async function touch(cache: TableCache, index: number): Promise<void> {
  cache.release(await cache.acquire(index * TABLE));
}

/** Fills table number `index` with `value` and leaves it dirty. */
async function dirty(cache: TableCache, index: number, value = 1): Promise<void> {
  const slot = await cache.acquire(index * TABLE);
  cache.bytes(slot).fill(value);
  cache.markDirty(slot);
  cache.release(slot);
}

describe('looking up', () => {
  it('reads a table once as long as it stays', async () => {
    const caches = new Caches();
    await touch(caches.l2, 1);
    await touch(caches.l2, 1);
    expect(caches.take()).toEqual(['read l2-table 1']);
    expect(caches.l2.acquireCached(2 * TABLE)).toBe(-1);
  });

  it('reads a table that was forgotten again, and one at offset 0 never', async () => {
    const caches = new Caches();
    await touch(caches.l2, 1);
    caches.l2.forget(TABLE);
    expect(caches.l2.acquireCached(TABLE)).toBe(-1);
    expect(caches.l2.acquireCached(0)).toBe(-1);
    await touch(caches.l2, 1);
    expect(caches.take()).toEqual(['read l2-table 1', 'read l2-table 1']);
    await expect(touch(caches.l2, 0)).rejects.toMatchObject({ code: 'unaligned-table' });
  });

  it('evicts the table that was let go longest ago, however often it was used before', async () => {
    const caches = new Caches(2);
    await touch(caches.l2, 1);
    await touch(caches.l2, 1);
    await touch(caches.l2, 2);
    await touch(caches.l2, 3);
    await touch(caches.l2, 2);
    expect(caches.take()).toEqual(['read l2-table 1', 'read l2-table 2', 'read l2-table 3']);
    await touch(caches.l2, 1);
    // Table 3 was let go before table 2 was used again.
    await touch(caches.l2, 2);
    expect(caches.take()).toEqual(['read l2-table 1']);
  });

  it('counts from when a table was let go, not from when it was taken', async () => {
    const caches = new Caches(2);
    const held = await caches.l2.acquire(TABLE);
    await touch(caches.l2, 2);
    caches.l2.release(held);
    await touch(caches.l2, 3);
    await touch(caches.l2, 1);
    expect(caches.take()).toEqual(['read l2-table 1', 'read l2-table 2', 'read l2-table 3']);
  });

  it('never evicts a table that somebody holds', async () => {
    const caches = new Caches(2);
    const held = await caches.l2.acquire(TABLE);
    caches.l2.bytes(held).fill(9);
    for (let index = 2; index < 8; index++) await touch(caches.l2, index);
    expect(caches.l2.bytes(held).every((byte) => byte === 9)).toBe(true);
    const other = await caches.l2.acquire(2 * TABLE);
    await expect(Promise.resolve(caches.l2.acquire(3 * TABLE))).rejects.toThrow('all 2 slots');
    caches.l2.release(held);
    caches.l2.release(other);
  });

  it('writes an evicted table first if it is dirty', async () => {
    const caches = new Caches(1);
    await dirty(caches.l2, 1);
    await touch(caches.l2, 2);
    expect(caches.take()).toEqual(['read l2-table 1', 'write l2-table 1', 'read l2-table 2']);
  });

  it('reads nothing for a table that will be written whole', async () => {
    const caches = new Caches();
    caches.l2.release(await caches.l2.acquireEmpty(TABLE));
    expect(caches.take()).toEqual([]);
  });

  it('refuses an offset at which no table can be', async () => {
    const caches = new Caches();
    expect(await rejectionCodeOf(() => caches.l2.acquire(0))).toBe('unaligned-table');
    expect(await rejectionCodeOf(() => caches.l2.acquire(TABLE + 8))).toBe('unaligned-table');
  });
});

describe('writing back', () => {
  it('goes by slot, which an offset chooses by four times its index, and each table once', async () => {
    const caches = new Caches(8);
    // First slots tried: 4 → 0, 1 → 4, 3 → 4 and so 5, 2 → 0 and so 1.
    for (const index of [4, 1, 3, 2]) await dirty(caches.l2, index);
    caches.take();
    await caches.l2.writeBack();
    expect(caches.take()).toEqual([4, 2, 1, 3].map((index) => `write l2-table ${String(index)}`));
    await caches.l2.writeBack();
    expect(caches.take()).toEqual([]);
    expect(caches.l2.hasDirtyTables).toBe(false);
  });

  it('does not write what was forgotten', async () => {
    const caches = new Caches();
    await dirty(caches.l2, 1);
    await dirty(caches.l2, 2);
    caches.l2.forget(TABLE);
    caches.take();
    await caches.l2.writeBack();
    expect(caches.take()).toEqual(['write l2-table 2']);
  });

  it('keeps a table dirty whose write failed, and stops there', async () => {
    let isFull = true;
    const caches = new Caches(
      4,
      (device) => new FaultDevice(device, ({ op }) => (isFull && op === 'write' ? 'ENOSPC' : undefined)),
    );
    await dirty(caches.l2, 1);
    await dirty(caches.l2, 2);
    expect(await rejectionCodeOf(() => caches.l2.writeBack())).toBe('host-write-failed');
    isFull = false;
    caches.take();
    await caches.l2.writeBack();
    expect(caches.take()).toHaveLength(2);
  });

  it('asks before each table whether it may be written there', async () => {
    const caches = new Caches();
    await dirty(caches.l2, 1);
    caches.guard = () => {
      throw new Error('metadata overlap');
    };
    caches.take();
    expect(() => caches.l2.writeBack()).toThrow('metadata overlap');
    expect(caches.take()).toEqual([]);
    expect(caches.l2.hasDirtyTables).toBe(true);
  });
});

describe('depending on another cache', () => {
  it('the other one is written and synced before the first table, and once is enough', async () => {
    const caches = new Caches();
    await dirty(caches.refcounts, 10);
    await dirty(caches.l2, 1);
    await dirty(caches.l2, 2);
    await caches.l2.setDependency(caches.refcounts);
    caches.take();
    await caches.l2.writeBack();
    expect(caches.take()).toEqual([
      'write refcount-block 10',
      'sync l2-after-refcount',
      'write l2-table 1',
      'write l2-table 2',
    ]);
  });

  it('an eviction keeps the order too', async () => {
    const caches = new Caches(1);
    await dirty(caches.refcounts, 10);
    await dirty(caches.l2, 1);
    await caches.l2.setDependency(caches.refcounts);
    caches.take();
    await touch(caches.l2, 2);
    expect(caches.take()).toEqual([
      'write refcount-block 10',
      'sync l2-after-refcount',
      'write l2-table 1',
      'read l2-table 2',
    ]);
  });

  it('turning a dependency round settles the old direction first', async () => {
    const caches = new Caches();
    await dirty(caches.refcounts, 10);
    await dirty(caches.l2, 1);
    await caches.l2.setDependency(caches.refcounts);
    caches.take();
    await caches.refcounts.setDependency(caches.l2);
    expect(caches.take()).toEqual(['write refcount-block 10', 'sync l2-after-refcount']);
    await dirty(caches.refcounts, 10, 2);
    await caches.refcounts.writeBack();
    expect(caches.take()).toEqual(['write l2-table 1', 'sync refcount-after-l2', 'write refcount-block 10']);
  });

  it('what depends on copied data waits for a sync of the file', async () => {
    const caches = new Caches();
    await dirty(caches.refcounts, 10);
    await caches.refcounts.writeBack();
    await dirty(caches.l2, 1);
    caches.l2.dependOnSync('l2-after-cow');
    caches.take();
    await caches.l2.writeBack();
    expect(caches.take()).toEqual(['sync l2-after-cow', 'write l2-table 1']);
    await dirty(caches.l2, 1, 2);
    await caches.l2.writeBack();
    expect(caches.take()).toEqual(['write l2-table 1']);
  });

  it('flushing the other cache covers copied data as well: one sync, not two', async () => {
    const caches = new Caches();
    await dirty(caches.refcounts, 10);
    await dirty(caches.l2, 1);
    caches.l2.dependOnSync('l2-after-cow');
    await caches.l2.setDependency(caches.refcounts);
    caches.take();
    await caches.l2.flush('guest-flush');
    expect(caches.take()).toEqual([
      'write refcount-block 10',
      'sync l2-after-refcount',
      'write l2-table 1',
      'sync guest-flush',
    ]);
  });
});
