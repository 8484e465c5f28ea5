/**
 * What a table cache claims of a write: that the file holds all bytes but the changed ones already.
 * Memory believes it and copies no more than those, so the claim is held here against the bytes
 * themselves.
 */

import { expect, test } from 'vitest';

import { Payload } from '../../src/bench/payload.ts';
import { runRequests } from '../../src/bench/runner.ts';
import { openStack } from '../../src/bench/stack.ts';
import { Random } from '../../src/core/random.ts';
import type { Pending } from '../../src/core/pending.ts';
import { Deferral } from '../../src/device/deferred-device.ts';
import { DeviceFilter } from '../../src/device/filter.ts';
import { MemoryDevice } from '../../src/device/memory-device.ts';
import { MemoryStorage } from '../../src/device/memory-storage.ts';
import type { Purpose } from '../../src/device/purpose.ts';
import { createImage } from '../../src/format/registry.ts';
import { enginePolicy } from '../../src/format/engine-policy.ts';
import { TableCache } from '../../src/format/qcow2/metadata/table-cache.ts';
import type { Request } from '../../src/workload/request.ts';

const MiB = 1024 * 1024;

/** Throws where a write claims that bytes are in the file which are not. */
class ClaimCheck extends DeviceFilter {
  /** Writes that claimed something. */
  claims = 0;

  override write(offset: number, bytes: Uint8Array, purpose: Purpose, from?: number, to?: number): Pending {
    if (from !== undefined && to !== undefined && to - from < bytes.byteLength) {
      this.claims++;
      const held = new Uint8Array(bytes.byteLength);
      void this.inner.read(offset, held, purpose);
      held.set(bytes.subarray(from, to), from);
      if (Buffer.compare(held, bytes) !== 0) {
        throw new Error(
          `a ${purpose} at ${String(offset)} has changed outside ${String(from)} to ${String(to)}`,
        );
      }
    }
    return this.inner.write(offset, bytes, purpose, from, to);
  }
}

/** Writes of every length, discards and zeroes on a small disk, from a seed. */
function requestsFrom(random: Random, count: number): Request[] {
  return Array.from({ length: count }, (): Request => {
    const kind = random.below(20);
    const flags = { fua: random.chance(0.1), unmap: random.chance(0.5), timeNs: 0 };
    if (kind === 0) return { ...flags, op: 'flush', offset: 0, length: 0 };
    const op = kind < 3 ? 'discard' : kind < 5 ? 'write-zeroes' : 'write';
    const length = 512 * (1 + random.below(op === 'write' ? 40 : 400));
    return { ...flags, op, offset: 512 * random.below((32 * MiB - length) / 512), length };
  });
}

test.each([
  ['eager', 'writethrough', 1, 4096],
  ['eager', 'writeback', 1, 65_536],
  ['lazy', 'writethrough', 1, 65_536],
  ['eager', 'writethrough', 16, 65_536],
] as const)(
  'bytes that a table write calls unchanged are those of the file: %s, %s, depth %i, clusters of %i',
  async (refcounts, cache, queueDepth, clusterSize) => {
    const seed = 71;
    const storage = new MemoryStorage();
    const made = storage.create('image');
    await createImage({ device: made, format: 'qcow2', virtualSize: 32 * MiB, clusterSize, refcounts });
    const checks: ClaimCheck[] = [];
    await using stack = await openStack({
      storage,
      imageName: 'image',
      format: 'qcow2',
      cache,
      refcounts,
      wrap: (device) => {
        const check = new ClaimCheck(device);
        checks.push(check);
        return check;
      },
      interleaved: queueDepth > 1 ? new Deferral() : undefined,
    });
    const batches = [requestsFrom(new Random(seed), 1500)];
    const payload = new Payload('pattern', seed);
    await runRequests({ backend: stack.backend, batches, queueDepth, payload });
    await stack.close();
    expect(checks[0]?.claims, `seed ${String(seed)}`).toBeGreaterThan(100);
  },
);

/** Fails its first write of a table after half of the bytes, as a torn write leaves them. */
class TornOnce extends MemoryDevice {
  #torn = false;

  override write(offset: number, bytes: Uint8Array, purpose: Purpose, from?: number, to?: number): undefined {
    if (this.#torn) {
      super.write(offset, bytes, purpose, from, to);
      return;
    }
    this.#torn = true;
    super.write(offset, new Uint8Array(bytes.byteLength / 2).fill(0xee), purpose);
    throw new Error('torn');
  }
}

test('after a write that failed, the next one puts the whole table', async () => {
  const device = new TornOnce();
  const cache = new TableCache({
    device,
    slots: 1,
    tableSize: 512,
    purpose: 'l2-table',
    dependencyCause: 'l2-after-refcount',
    policy: enginePolicy(),
    guardWrite: () => undefined,
  });
  const slot = await cache.acquire(512);
  cache.markDirty(slot, 100, 101);
  cache.bytes(slot)[100] = 7;
  cache.release(slot);
  expect(() => cache.writeBack()).toThrow('torn');
  await cache.writeBack();
  const wanted = new Uint8Array(1024);
  wanted[512 + 100] = 7;
  expect(Buffer.compare(device.contents(), wanted)).toBe(0);
});

test('policy sector writes whole pages around what changed, and the file is then as the table', async () => {
  const TABLE = 65_536;
  const PAGE = 4096;
  const random = new Random(3);
  const writes: { readonly offset: number; readonly length: number }[] = [];
  class Logged extends DeviceFilter {
    override write(offset: number, bytes: Uint8Array, purpose: Purpose, from?: number, to?: number): Pending {
      writes.push({ offset, length: bytes.byteLength });
      return this.inner.write(offset, bytes, purpose, from, to);
    }
  }
  const file = new MemoryDevice();
  file.write(0, new Uint8Array(2 * TABLE), 'l2-table');
  const cache = new TableCache({
    device: new Logged(file),
    slots: 1,
    tableSize: TABLE,
    purpose: 'l2-table',
    dependencyCause: 'l2-after-refcount',
    policy: enginePolicy('sector'),
    guardWrite: () => undefined,
  });
  const slot = await cache.acquire(TABLE);
  for (let round = 0; round < 200; round++) {
    const changes = Array.from({ length: 1 + random.below(3) }, () => 8 * random.below(TABLE / 8));
    for (const at of changes) {
      cache.bytes(slot).fill(1 + random.below(255), at, at + 8);
      cache.markDirty(slot, at, at + 8);
    }
    await cache.writeBack();
    const [first, last] = [Math.min(...changes), Math.max(...changes) + 8];
    const start = Math.floor(first / PAGE) * PAGE;
    expect(writes.splice(0)).toEqual([
      { offset: TABLE + start, length: Math.ceil(last / PAGE) * PAGE - start },
    ]);
    const stored = new Uint8Array(TABLE);
    file.read(TABLE, stored, 'l2-table');
    expect(Buffer.from(stored).equals(cache.bytes(slot))).toBe(true);
  }
});
