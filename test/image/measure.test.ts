/** `measure`: the figures of `qemu-img measure`, and what the files made really get. */

import { statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import { describe, expect, it, beforeAll } from 'vitest';

import type { ImageShape } from '../../src/format/image-shape.ts';
import { FORMAT_FACTS } from '../../src/format/formats.ts';
import { convertImage } from '../../src/image/convert-image.ts';
import { hostImage } from '../../src/image/host-image.ts';
import { measureFile, measureImage } from '../../src/image/measure-image.ts';
import { QemuDirectory } from '../format/qemu-directory.ts';
import { rejectionOf } from '../format/rejection.ts';
import { reasonToSkip } from '../format/system-tools.ts';
import { testDirectory } from '../test-directory.ts';

const noQemu = reasonToSkip('qemu-img', 'qemu-io');
const KIB = 1024;
const MIB = KIB ** 2;
const GIB = KIB ** 3;

const SIZES = [0, 512, 64 * KIB, MIB, GIB, 10 * GIB, 100 * GIB + 512, 64 * 1024 * GIB];
interface Target {
  readonly clusterSize: number;
  readonly shape: ImageShape;
  readonly theirs: string;
}
const TARGETS: readonly Target[] = [
  { clusterSize: 65_536, shape: {}, theirs: 'cluster_size=65536' },
  { clusterSize: 512, shape: { refcountBits: 64 }, theirs: 'cluster_size=512,refcount_bits=64' },
  { clusterSize: 4096, shape: { compat: '0.10' }, theirs: 'cluster_size=4096,compat=0.10' },
  { clusterSize: 131_072, shape: { extendedL2: true }, theirs: 'cluster_size=131072,extended_l2=on' },
  { clusterSize: 2 * MIB, shape: { refcountBits: 1 }, theirs: 'cluster_size=2M,refcount_bits=1' },
  { clusterSize: 65_536, shape: { preallocation: 'metadata' }, theirs: 'preallocation=metadata' },
  { clusterSize: 65_536, shape: { preallocation: 'full' }, theirs: 'preallocation=full' },
];

interface Theirs {
  readonly required: number;
  readonly 'fully-allocated': number;
}

describe.skipIf(noQemu !== undefined)(`measure${noQemu === undefined ? '' : ` (${noQemu})`}`, () => {
  const qemu = new QemuDirectory();
  const measured = (...words: readonly string[]): Theirs =>
    JSON.parse(qemu.img('measure', '--output=json', ...words)) as Theirs;

  beforeAll(() => {
    qemu.img('create', '-q', '-f', 'raw', 'base', '12M');
    qemu.io('raw', 'base', 'write -P 7 1M 3M', 'write -P 8 8M 100k', 'write -z 9M 64k');
    qemu.img('create', '-q', '-f', 'qcow2', '-b', 'base', '-F', 'raw', 'overlay', '20M');
    qemu.io('qcow2', 'overlay', 'write -P 1 0 1300k', 'write -z 1M 200k', 'write -P 3 15M 4k');
    qemu.img('convert', '-c', '-O', 'qcow2', 'overlay', 'packed');
  });

  it.each(TARGETS)('$theirs', async ({ clusterSize, shape, theirs }) => {
    for (const size of SIZES) {
      const target = { format: 'qcow2', clusterSize, shape } as const;
      if (FORMAT_FACTS.qcow2.unmappable?.({ virtualSize: size, clusterSize, shape }) !== undefined) {
        expect((await rejectionOf(() => measureImage(size, target)))?.code).toBe('bad-size');
        continue;
      }
      const expected = measured('-O', 'qcow2', '-o', theirs, '--size', String(size));
      const { required, fullyAllocated } = await measureImage(size, target);
      expect({ size, ...expected }).toMatchObject({ size, required, 'fully-allocated': fullyAllocated });
    }
    for (const name of ['base', 'overlay', 'packed']) {
      const format = name === 'base' ? 'raw' : 'qcow2';
      const expected = measured('-O', 'qcow2', '-o', theirs, '-f', format, name);
      const source = { path: join(qemu.path, name), format } as const;
      const { required, fullyAllocated } = await measureFile(source, {
        format: 'qcow2',
        clusterSize,
        shape,
      });
      expect({ name, ...expected }).toMatchObject({ name, required, 'fully-allocated': fullyAllocated });
    }
  });
});

const WRITTEN = [
  { format: 'qcow2', clusterSize: 4096, shape: {} },
  { format: 'qcow2', clusterSize: 65_536, shape: { dataFile: 'plain' } },
  { format: 'qed', clusterSize: 4096, shape: {} },
  { format: 'raw', clusterSize: 1, shape: {} },
] as const;
it.each(WRITTEN)('a $format file that is written everywhere has the measured size', async (target) => {
  const path = join(testDirectory(), 'source');
  writeFileSync(path, Buffer.alloc(10 * MIB + 512, 7));
  const out = { ...hostImage(`${path}-copy`), ...target };
  await convertImage({
    source: { path, format: 'raw' },
    target: target.format === 'raw' ? { ...out, clusterSize: undefined } : out,
  });
  const { fullyAllocated, required } = await measureFile({ path, format: 'raw' }, target);
  expect(statSync(`${path}-copy`).size).toBe(fullyAllocated);
  expect(required).toBe(fullyAllocated);
});
