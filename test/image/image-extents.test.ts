/**
 * Extents of a chain: those of `qemu-img map`, in as few looks at the tables as there is to tell.
 */

import { join } from 'node:path';

import { describe, expect, it } from 'vitest';
import { Random } from '../../src/core/random.ts';
import type { DiskImage } from '../../src/format/disk-image.ts';
import { openImage } from '../../src/format/registry.ts';
import { imageExtents, tableExtents, type ImageExtent } from '../../src/image/image-extents.ts';
import { openChain } from '../../src/image/open-chain.ts';
import { filled, RecordedFiles } from '../format/recorded-files.ts';
import { reasonToSkip, runTool } from '../format/system-tools.ts';
import { testDirectory } from '../test-directory.ts';

const PIB = 1024 ** 5;
const MIB = 1024 ** 2;
const skipped = reasonToSkip('qemu-img', 'qemu-io');

async function all(extents: AsyncIterable<ImageExtent>): Promise<ImageExtent[]> {
  const list: ImageExtent[] = [];
  for await (const extent of extents) list.push(extent);
  return list;
}

/** As QEMU 10.0 prints it; 7.2 does not report compression. */
type TheirExtent = Omit<ImageExtent, 'hostOffset' | 'compressed'> & {
  readonly offset?: number;
  readonly compressed?: boolean;
};

describe('extents', () => {
  it('of an empty disk with the largest L1 table over a backing file take a few looks, not four million', async () => {
    const files = new RecordedFiles();
    files.put('base', filled(MIB, 7));
    const backingFile = { name: 'base', format: 'raw' } as const;
    await files.create('top', { format: 'qcow2', virtualSize: 2 * PIB, backingFile });
    const image = await openImage({ format: 'qcow2', name: 'top', files, readOnly: true });
    let looks = 0;
    const counted: DiskImage = Object.assign(Object.create(image) as DiskImage, {
      map: (...words: Parameters<DiskImage['map']>) => {
        looks++;
        return image.map(...words);
      },
    });
    expect(await all(tableExtents(counted))).toMatchObject([
      { start: 0, length: MIB, depth: 1, data: true },
      { start: MIB, length: 2 * PIB - MIB, present: false, zero: true },
    ]);
    expect(looks).toBeLessThan(10);
    await image.close();
  });

  it.skipIf(skipped !== undefined).each([1, 2, 3, 4])(
    'of a chain of three with holes in all tables are those of qemu-img map (seed %i)',
    async (seed) => {
      const folder = testDirectory();
      const random = new Random(seed);
      const names = ['0.qcow2', '1.qcow2', '2.qcow2'];
      for (const [index, name] of names.entries()) {
        const backing = index === 0 ? [] : ['-b', names[index - 1] as string, '-F', 'qcow2'];
        // One L2 table maps 32 KiB.
        const size = `${String([3, 4, 2][index])}M`;
        runTool(
          'qemu-img',
          ['create', '-q', '-f', 'qcow2', '-o', 'cluster_size=512', ...backing, name, size],
          folder,
        );
        const commands = Array.from({ length: 12 }, () => {
          const verb = ['write', 'write -z', 'discard'][random.below(3)] as string;
          return `${verb} ${String(512 * random.below(4000))} ${String(512 * (1 + random.below(100)))}`;
        });
        runTool('qemu-io', ['-f', 'qcow2', ...commands.flatMap((command) => ['-c', command]), name], folder);
      }
      const json = runTool('qemu-img', ['map', '-f', 'qcow2', '--output=json', '2.qcow2'], folder);
      const theirs = JSON.parse(json) as TheirExtent[];
      const { image } = await openChain({ path: join(folder, '2.qcow2') });
      const ours = (await all(imageExtents(image))).map(({ hostOffset, ...extent }) =>
        hostOffset === undefined ? extent : { ...extent, offset: hostOffset },
      );
      await image.abandon();
      expect(ours).toEqual(theirs.map((extent) => ({ compressed: false, ...extent })));
    },
  );
});
