/**
 * Many writes at once: no L2 table reaches the file before the copied data that its entries lead to
 * is durable.
 */

import { describe, expect, it } from 'vitest';

import { openStack } from '../../../src/bench/stack.ts';
import { Random } from '../../../src/core/random.ts';
import { viewOf } from '../../../src/core/bytes.ts';
import type { Pending } from '../../../src/core/pending.ts';
import type { Elision, WritePart } from '../../../src/device/block-device.ts';
import { Deferral } from '../../../src/device/deferred-device.ts';
import { DeviceFilter } from '../../../src/device/filter.ts';
import { MemoryStorage } from '../../../src/device/memory-storage.ts';
import type { Purpose, SyncCause } from '../../../src/device/purpose.ts';
import { CACHE_MODES } from '../../../src/format/cache-mode.ts';
import { createImageFile } from '../../../src/image/create-image.ts';

const CLUSTER = 1024;
const SECTOR = 512;
const DISK = 512 * 1024;
const SEEDS = 100;
const OFFSET_BITS = 0x00ff_ffff_ffff_fe00n;

/** Host clusters that a table's entries lead to. */
function targetsOf(table: Uint8Array): readonly number[] {
  const view = viewOf(table);
  return Array.from({ length: table.byteLength / 8 }, (_, index) =>
    Number(view.getBigUint64(8 * index) & OFFSET_BITS),
  ).filter((offset) => offset > 0);
}

/** Sees copies of what lay around a write, and the L2 tables that lead to them. */
class CopyWatch extends DeviceFilter {
  /** Host clusters with copies that no sync has covered yet. */
  readonly #copied = new Set<number>();
  early: string | undefined;

  override write(offset: number, bytes: Uint8Array, purpose: Purpose, from?: number, to?: number): Pending {
    if (purpose === 'l2-table') {
      const found = targetsOf(bytes).find((target) => this.#copied.has(target));
      if (found !== undefined) this.early ??= `the table at ${String(offset)} leads to ${String(found)}`;
    }
    if (purpose === 'cow') this.#copy(offset, bytes.byteLength);
    return this.inner.write(offset, bytes, purpose, from, to);
  }

  override writeMerged(offset: number, parts: readonly WritePart[]): Pending {
    const { length } = Buffer.concat(parts.map(({ bytes }) => bytes));
    if (parts.some(({ purpose }) => purpose === 'cow')) this.#copy(offset, length);
    return this.inner.writeMerged(offset, parts);
  }

  override sync(cause: SyncCause, elision?: Elision): Pending {
    const covered = [...this.#copied];
    const pending = this.inner.sync(cause, elision);
    const settle = (): void => {
      for (const cluster of covered) this.#copied.delete(cluster);
    };
    if (pending !== undefined) return pending.then(settle);
    settle();
    return undefined;
  }

  #copy(offset: number, length: number): void {
    for (let at = offset - (offset % CLUSTER); at < offset + length; at += CLUSTER) this.#copied.add(at);
  }
}

describe('copies are durable before entries lead to them', () => {
  it.each(CACHE_MODES.filter((cache) => cache === 'writeback' || cache === 'writethrough'))(
    'writes and flushes at once, %s',
    async (cache) => {
      for (let seed = 1; seed <= SEEDS; seed++) {
        const random = new Random(seed);
        const storage = new MemoryStorage();
        await createImageFile({ storage, name: 'below', format: 'raw', virtualSize: DISK });
        storage.open('below').write(0, new Uint8Array(DISK).fill(7), 'data');
        const files = { open: (name: string) => storage.open(name) };
        await createImageFile({
          storage,
          name: 'disk',
          format: 'qcow2',
          clusterSize: CLUSTER,
          refcounts: seed % 2 === 0 ? 'lazy' : 'eager',
          backing: { name: 'below', path: 'below', format: 'raw', files },
        });
        let watch: CopyWatch | undefined;
        await using stack = await openStack({
          storage,
          imageName: 'disk',
          format: 'qcow2',
          cache,
          caches: { l2CacheSize: 4 * CLUSTER, refcountCacheSize: 4 * CLUSTER },
          interleaved: new Deferral(),
          wrap: (device) => (device.label === 'image' ? (watch = new CopyWatch(device)) : device),
        });
        const { backend } = stack;
        const serve = async (): Promise<void> => {
          for (let count = 0; count < 12; count++) {
            if (random.chance(0.15)) await backend.flush();
            const length = (1 + random.below(80)) * SECTOR;
            const offset = random.below((DISK - length) / SECTOR) * SECTOR;
            await backend.write(offset, new Uint8Array(length).fill(1), { fua: false });
          }
        };
        await Promise.all(Array.from({ length: 6 }, serve));
        await stack.close();
        expect(watch?.early, `seed ${String(seed)}`).toBeUndefined();
      }
    },
  );
});
