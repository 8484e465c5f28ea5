/** New images of every shape against those of `qemu-img create`, pairwise over what may be chosen. */

import { afterAll, describe, expect, it } from 'vitest';

import { formatSize } from '../../../src/core/size.ts';
import { REFCOUNT_MODES, type CreateOptions } from '../../../src/format/image-options.ts';
import { COMPAT_LEVELS, REFCOUNT_BITS } from '../../../src/format/image-shape.ts';
import { impossibleLayout } from '../../../src/format/qcow2/layout-rules.ts';
import { coveringArray } from '../../parity/covering-array.ts';
import { QemuDirectory } from '../qemu-directory.ts';
import { rejectionCodeOf } from '../rejection.ts';
import { reasonToSkip } from '../system-tools.ts';
import { damageOf, newImage, NO_DAMAGE, openBytes } from './image-bytes.ts';

const KIB = 1024;
const MIB = 1024 * KIB;
const GIB = 1024 * MIB;
const skip = reasonToSkip('qemu-img');

const AXES = {
  compat: COMPAT_LEVELS,
  clusterSize: [512, 4 * KIB, 16 * KIB, 64 * KIB, 2 * MIB],
  refcountBits: REFCOUNT_BITS,
  extendedL2: ['off', 'on'],
  refcounts: REFCOUNT_MODES,
  virtualSize: [0, 512, 5 * MIB + 512, GIB],
  backing: ['none', 'base.raw'],
} as const;
const CASES = coveringArray(AXES, { seed: 1 });
type Case = (typeof CASES)[number];

describe.skipIf(skip !== undefined)('a new image of any shape', () => {
  const qemu = new QemuDirectory();
  afterAll(() => {
    qemu.remove();
  });

  it.each(CASES.map((choice) => [nameOf(choice), choice] as const))('%s', async (_, choice) => {
    const options = optionsOf(choice);
    const broken = impossibleLayout(options);
    if (broken !== undefined) {
      const theirs = /compatibility level 1\.1|cluster sizes of at least 16384 bytes/;
      expect(() => createWithQemu(qemu, choice), broken.message).toThrow(theirs);
      expect(await rejectionCodeOf(() => newImage(options))).toBe(broken.code);
      return;
    }
    createWithQemu(qemu, choice);
    const ours = await newImage(options);
    expect(Buffer.compare(ours, qemu.get('theirs'))).toBe(0);
    if (choice.backing !== 'none') return;
    const { image } = await openBytes(ours);
    expect(image.shape).toMatchObject({ compat: choice.compat, refcountBits: choice.refcountBits });
    expect(await damageOf(image)).toEqual(NO_DAMAGE);
    await image.close();
  });
});

function optionsOf({
  clusterSize,
  refcounts,
  virtualSize,
  backing,
  compat,
  refcountBits,
  extendedL2,
}: Case): Omit<CreateOptions, 'device'> {
  const backingFile = backing === 'none' ? undefined : ({ name: backing, format: 'raw' } as const);
  const shape = { compat, refcountBits, extendedL2: extendedL2 === 'on' };
  return { clusterSize, refcounts, virtualSize, backingFile, shape };
}

function createWithQemu(qemu: QemuDirectory, choice: Case): void {
  const settings = [
    `compat=${choice.compat}`,
    `cluster_size=${String(choice.clusterSize)}`,
    `extended_l2=${choice.extendedL2}`,
    `refcount_bits=${String(choice.refcountBits)}`,
    `lazy_refcounts=${choice.refcounts === 'lazy' ? 'on' : 'off'}`,
  ].join(',');
  const backing = choice.backing === 'none' ? [] : ['-u', '-b', choice.backing, '-F', 'raw'];
  qemu.img('create', '-q', '-f', 'qcow2', '-o', settings, ...backing, 'theirs', String(choice.virtualSize));
}

function nameOf(choice: Case): string {
  return [
    `compat ${choice.compat}`,
    formatSize(choice.clusterSize),
    `${String(choice.refcountBits)} bits`,
    choice.extendedL2 === 'on' ? 'extended L2' : 'plain L2',
    choice.refcounts,
    `disk of ${formatSize(choice.virtualSize)}`,
    `backing ${choice.backing}`,
  ].join(', ');
}
