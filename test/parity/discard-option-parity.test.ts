/**
 * `discard=ignore` against a real QEMU: guest discards are dropped whole, zero-writes free clusters
 * of qcow2 without punching holes, and what does not come from the guest's discards is as ever. And
 * `discard-no-unref`, where the version has it.
 */

import { join } from 'node:path';

import { describe, expect, it } from 'vitest';

import { Random } from '../../src/core/random.ts';
import type { CacheMode } from '../../src/format/cache-mode.ts';
import { unsupportedNoUnref } from '../../src/format/qemu-profile.ts';
import { DISCARD_NO_UNREF, runQemuIo } from '../../src/peer/qemu-io.ts';
import { createWithQemuImg } from '../../src/peer/qemu-tools.ts';
import type { Request } from '../../src/workload/request.ts';
import { reasonToSkip } from '../format/system-tools.ts';
import { peerProfile } from './peer-stack.ts';
import { ask, QemuCases, type QemuCase } from './qemu-cases.ts';

const skip = reasonToSkip('qemu-img', 'qemu-io', 'strace');
const SECTOR = 512;
const CLUSTER = 65_536;
const SIZE = 24 * CLUSTER + SECTOR;

type Image = Pick<QemuCase, 'format' | 'options' | 'dataFile'> & { readonly name: string };

const IMAGES: readonly Image[] = [
  { name: 'qcow2', options: {} },
  { name: 'qcow2 with lazy refcounts', options: { lazy_refcounts: 'on' } },
  { name: 'qcow2 of version 2', options: { compat: '0.10' } },
  { name: 'qcow2 with extended L2 entries', options: { extended_l2: 'on' } },
  { name: 'qcow2 with a data file', options: {}, dataFile: 'plain' },
  { name: 'qcow2 with a raw data file', options: {}, dataFile: 'raw' },
  { name: 'QED', format: 'qed', options: {} },
  { name: 'raw', format: 'raw', options: {} },
];
const CACHES: readonly CacheMode[] = ['writeback', 'writethrough', 'none'];

/** Compressed clusters among others are in the pairwise lists, as are crashes and bitmaps. */
const KEEPING: readonly Image[] = IMAGES.filter(
  ({ format, options }) => format === undefined && options['compat'] === undefined,
);

/** One of each that must differ from `unmap`, then what chance brings. */
function randomRequests(seed: number): readonly Request[] {
  const random = new Random(seed);
  const ops = ['write', 'discard', 'discard', 'write-zeroes', 'write-zeroes', 'flush', 'read'] as const;
  const certain = [ask.zero(CLUSTER, 2 * CLUSTER, true), ask.discard(5 * CLUSTER, CLUSTER)];
  const further = Array.from({ length: 40 }, (): Request => {
    const op = ops[random.below(ops.length)] ?? 'flush';
    const unit = random.chance(0.6) ? CLUSTER : SECTOR;
    const offset = random.below(SIZE / unit) * unit;
    const length = Math.min((1 + random.below(3)) * unit, SIZE - offset);
    return { op, offset, length, fua: false, unmap: random.chance(0.6), timeNs: 0 };
  });
  return [...certain, ...further];
}

describe.skipIf(skip !== undefined)('discards are ignored as by QEMU', () => {
  const cases = new QemuCases();
  it.each(IMAGES)('$name', async ({ name, ...image }) => {
    const seed = 1 + IMAGES.findIndex((other) => other.name === name);
    const prefill = [ask.write(0, 12 * CLUSTER)];
    const cache = CACHES[seed % CACHES.length] ?? 'writeback';
    const requests = randomRequests(seed);
    await cases.expectSame({ virtualSize: SIZE, ...image, prefill, cache, requests, discard: 'ignore' });
  });
});

const hasNoUnref = skip === undefined && unsupportedNoUnref(peerProfile()) === undefined;

describe.skipIf(!hasNoUnref)('with discard-no-unref, clusters keep their place as in QEMU', () => {
  const cases = new QemuCases();

  const all = KEEPING.flatMap((image, index) =>
    (['directsync', 'unsafe'] as const).map((cache) => ({ ...image, cache, seed: 100 + index })),
  );
  it.each(all)('$name, $cache', async ({ name: _, cache, seed, ...image }) => {
    const prefill = [ask.write(0, 12 * CLUSTER)];
    const requests = randomRequests(seed);
    await cases.expectSame({ virtualSize: SIZE, ...image, prefill, cache, requests, noUnref: true });
  });

  it('a version 2 image, which has no zero flag, is refused by both', async () => {
    const image = { virtualSize: SIZE, options: { compat: '0.10' }, requests: [ask.flush()], noUnref: true };
    await expect(cases.expectSame(image)).rejects.toMatchObject({ code: 'qcow2-no-unref-needs-v3' });
    const path = join(cases.directory, 'old');
    await createWithQemuImg(path, { format: 'qcow2', size: SIZE, options: { compat: '0.10' } });
    const theirs = runQemuIo({
      path,
      format: 'qcow2',
      cache: 'none',
      requests: [],
      imageOptions: DISCARD_NO_UNREF,
    });
    await expect(theirs).rejects.toThrow('only supported since qcow2 version 3');
  });
});
