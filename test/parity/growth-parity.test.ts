/** Refcount tables that grow, of every width of refcounts, as QEMU grows them. */

import { describe, expect, it } from 'vitest';

import { Random } from '../../src/core/random.ts';
import { REFCOUNT_BITS } from '../../src/format/image-shape.ts';
import { SECTOR_SIZE, type Request } from '../../src/workload/request.ts';
import { someOf } from '../amount.ts';
import { reasonToSkip } from '../format/system-tools.ts';
import { ask, QemuCases } from './qemu-cases.ts';

const MIB = 1024 * 1024;
const skip = reasonToSkip('qemu-img', 'qemu-io', 'strace');

/**
 * The disk filled from its start, with overwrites and discards in between. No request crosses an L2
 * table or falls into several extents: what QEMU's threads make of such ones differs from run to
 * run.
 */
function filling(seed: number, virtualSize: number): Request[] {
  const random = new Random(seed);
  const length = 8 * SECTOR_SIZE;
  const requests: Request[] = [];
  for (let at = 0; at + length <= virtualSize; at += length) {
    requests.push(ask.write(at, length));
    if (!random.chance(0.1)) continue;
    const old = random.below(at / length + 1) * length;
    requests.push(random.chance(0.3) ? ask.discard(old, length) : ask.write(old, SECTOR_SIZE));
  }
  return requests;
}

describe.skipIf(skip !== undefined)('a refcount table grows as QEMU grows it', () => {
  const twins = new QemuCases();

  const common = { virtualSize: 3 * MIB, requests: filling(21, 3 * MIB) };
  const smallest = { cluster_size: '512', refcount_bits: '64' };
  const variants = [
    ['writeback, eager', 'writeback', 'off'],
    ['writethrough, eager', 'writethrough', 'off'],
    ['writeback, lazy', 'writeback', 'on'],
    ['writethrough, lazy', 'writethrough', 'on'],
  ] as const;
  it.each(someOf(variants, 2))('64-bit refcounts in clusters of 512 bytes, %s', async (_, cache, lazy) => {
    const options = { ...smallest, lazy_refcounts: lazy };
    expect(await twins.expectSame({ ...common, options, cache })).toBeGreaterThan(500);
  });

  it.each(someOf(REFCOUNT_BITS, 3))('refcounts of %i bits in clusters of 512 bytes', async (bits) => {
    const virtualSize = MIB / 2;
    const options = { cluster_size: '512', refcount_bits: String(bits) };
    await twins.expectSame({ virtualSize, options, requests: filling(bits, virtualSize) });
  });
});
