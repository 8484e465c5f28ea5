import { describe, expect, it } from 'vitest';
import { Qcow2BenchError } from '../../../src/core/error.ts';
import type { CreateOptions } from '../../../src/format/image-options.ts';
import { QemuDirectory } from '../qemu-directory.ts';
import { rejectionCodeOf } from '../rejection.ts';
import { reasonToSkip } from '../system-tools.ts';
import { damageOf, newImage, NO_DAMAGE, openBytes } from './image-bytes.ts';

const KIB = 1024;
const MIB = 1024 * KIB;
const GIB = 1024 * MIB;
const skip = reasonToSkip('qemu-img');

const cases: readonly Omit<CreateOptions, 'device'>[] = [
  { virtualSize: 0 },
  { virtualSize: 512 },
  { virtualSize: GIB },
  { virtualSize: GIB + 512, refcounts: 'lazy' },
  { virtualSize: 64 * 1024 * GIB, clusterSize: 2 * MIB },
  { virtualSize: 10 * MIB, clusterSize: 4 * KIB },
  { virtualSize: 10 * MIB, clusterSize: 8 * KIB, refcounts: 'lazy' },
  // An L1 table of many clusters, for which the first refcount block does not suffice.
  { virtualSize: 2 * GIB, clusterSize: 512 },
  { virtualSize: 100 * MIB, clusterSize: KIB, refcounts: 'lazy' },
  { virtualSize: GIB, backingFile: { name: 'base.raw', format: 'raw' } },
  { virtualSize: 5 * MIB, clusterSize: 512, backingFile: { name: 'base.qcow2', format: 'qcow2' } },
  {
    virtualSize: MIB,
    clusterSize: 2 * MIB,
    refcounts: 'lazy',
    backingFile: { name: 'sub/bäse.qed', format: 'qed' },
  },
];

describe.skipIf(skip !== undefined)('a new image', () => {
  const qemu = new QemuDirectory();

  for (const options of cases) {
    it(`has the bytes that qemu-img create makes: ${JSON.stringify(options)}`, async () => {
      const { virtualSize, clusterSize = 65_536, refcounts, backingFile } = options;
      const settings = `cluster_size=${String(clusterSize)},lazy_refcounts=${refcounts === 'lazy' ? 'on' : 'off'}`;
      const backing =
        backingFile === undefined ? [] : ['-u', '-b', backingFile.name, '-F', backingFile.format];
      qemu.img('create', '-q', '-f', 'qcow2', '-o', settings, ...backing, 'theirs', String(virtualSize));
      const ours = await newImage(options);
      expect(Buffer.compare(ours, qemu.get('theirs'))).toBe(0);
    });
  }
});

describe('creating', () => {
  it('leaves an image that opens, is clean and reads as zeroes', async () => {
    const { image } = await openBytes(await newImage({ virtualSize: MIB + 512 }));
    expect(await damageOf(image)).toEqual(NO_DAMAGE);
    const target = new Uint8Array(1024).fill(1);
    await image.read(MIB - 512, target);
    expect(target).toEqual(new Uint8Array(1024));
    await image.close();
  });

  it.each([0, 256, 1000, 3 * KIB, 4 * MIB])('refuses clusters of %i bytes', async (clusterSize) => {
    expect(await rejectionCodeOf(() => newImage({ virtualSize: MIB, clusterSize }))).toBe('bad-cluster-size');
  });

  it('refuses a disk whose L1 table would exceed 32 MiB, and a name that does not fit the header', async () => {
    const tooLarge = { virtualSize: 1024 * GIB, clusterSize: 512 };
    expect(await rejectionCodeOf(() => newImage(tooLarge))).toBe('qcow2-l1-too-large');
    const longName = { name: 'x'.repeat(500), format: 'raw' } as const;
    const error = await newImage({ virtualSize: MIB, clusterSize: 512, backingFile: longName }).catch(
      (caught: unknown) => caught,
    );
    expect(error).toBeInstanceOf(Qcow2BenchError);
    expect(error).toMatchObject({ code: 'qcow2-header-full' });
  });
});
