/**
 * `discard=ignore` against a real QEMU: guest discards are dropped whole, zero-writes free clusters of qcow2 without
 * punching holes, and what does not come from the guest's discards is as ever.
 */

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, it } from 'vitest';
import { Random } from '../../src/core/random.ts';
import type { CacheMode } from '../../src/format/cache-mode.ts';
import { reasonToSkip } from '../format/system-tools.ts';
import { expectParity, type ParityRun, type Step } from './step-parity.ts';

const skip = reasonToSkip('qemu-img', 'qemu-io', 'strace');
const SECTOR = 512;
const CLUSTER = 65_536;
const SIZE = 24 * CLUSTER + SECTOR;

let directory = '';
beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'qcow2-bench-discard-'));
});
afterAll(() => {
  rmSync(directory, { recursive: true, force: true });
});

type Image = Pick<ParityRun, 'format' | 'create' | 'dataFile'> & { readonly name: string };

const IMAGES: readonly Image[] = [
  { name: 'qcow2', create: {} },
  { name: 'qcow2 with lazy refcounts', create: { lazy_refcounts: 'on' } },
  { name: 'qcow2 of version 2', create: { compat: '0.10' } },
  { name: 'qcow2 with extended L2 entries', create: { extended_l2: 'on' } },
  { name: 'qcow2 with a data file', create: {}, dataFile: 'plain' },
  { name: 'qcow2 with a raw data file', create: {}, dataFile: 'raw' },
  { name: 'QED', format: 'qed', create: {} },
  { name: 'raw', format: 'raw', create: {} },
];
const CACHES: readonly CacheMode[] = ['writeback', 'writethrough', 'none'];

/** One of each that must differ from `unmap`, then what chance brings. */
function randomSteps(seed: number): readonly Step[] {
  const random = new Random(seed);
  const ops = ['write', 'discard', 'discard', 'write-zeroes', 'write-zeroes', 'flush', 'read'] as const;
  const certain: readonly Step[] = [
    { op: 'write-zeroes', offset: CLUSTER, length: 2 * CLUSTER, unmap: true },
    { op: 'discard', offset: 5 * CLUSTER, length: CLUSTER },
  ];
  const further = Array.from({ length: 40 }, (): Step => {
    const op = ops[random.below(ops.length)] ?? 'flush';
    const unit = random.chance(0.6) ? CLUSTER : SECTOR;
    const offset = random.below(SIZE / unit) * unit;
    const length = Math.min((1 + random.below(3)) * unit, SIZE - offset);
    return { op, offset, length, fill: 1 + random.below(255), unmap: random.chance(0.6) };
  });
  return [...certain, ...further];
}

describe.skipIf(skip !== undefined)('discards are ignored as by QEMU', () => {
  it.each(IMAGES)('$name', async ({ name, ...image }) => {
    const seed = 1 + IMAGES.findIndex((other) => other.name === name);
    const prefill: readonly Step[] = [{ op: 'write', offset: 0, length: 12 * CLUSTER, fill: 9 }];
    const cache = CACHES[seed % CACHES.length] ?? 'writeback';
    const run = { size: SIZE, ...image, prefill, cache, steps: randomSteps(seed) };
    await expectParity(directory, { ...run, discard: 'ignore' }, `${name}, seed ${String(seed)}`);
  });
});
