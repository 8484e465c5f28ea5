/** What `qemu-img` says of our images, and we of its. */

import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { Random } from '../../../src/core/random.ts';
import type { Format } from '../../../src/format/disk-image.ts';
import { openImage } from '../../../src/format/registry.ts';
import { testDirectory } from '../../test-directory.ts';
import { filled, RecordedFiles } from '../recorded-files.ts';
import { rejectionCodeOf } from '../rejection.ts';
import { reasonToSkip, runTool } from '../system-tools.ts';

const MIB = 1024 * 1024;
const skip = reasonToSkip('qemu-img');

const directory = testDirectory();
beforeAll(() => {
  if (skip !== undefined) return;
  runTool('qemu-img', ['create', '-q', '-f', 'raw', 'base.raw', '64M'], directory);
  runTool('qemu-img', ['create', '-q', '-f', 'qcow2', 'base.qcow2', '64M'], directory);
});

describe.skipIf(skip !== undefined)(`QED and qemu-img${skip === undefined ? '' : ` (${skip})`}`, () => {
  it.each<[number, number, Format | undefined]>([
    [65_536, 1024 * MIB, undefined],
    [4096, MIB + 512, undefined],
    [2 * MIB, 0, undefined],
    [65_536, 64 * MIB, 'raw'],
    [4096, 64 * MIB, 'qcow2'],
  ])(
    'create the same bytes: clusters of %i, %i bytes, backing %s',
    async (clusterSize, virtualSize, format) => {
      const files = new RecordedFiles();
      const backingFile = format && { name: `base.${format}`, format };
      await files.create('disk.qed', { format: 'qed', virtualSize, clusterSize, backingFile });
      const backing = backingFile === undefined ? [] : ['-b', backingFile.name, '-F', backingFile.format];
      const options = ['-o', `cluster_size=${String(clusterSize)}`, ...backing];
      runTool(
        'qemu-img',
        ['create', '-q', '-f', 'qed', ...options, 'disk.qed', String(virtualSize)],
        directory,
      );
      const theirs = readFileSync(join(directory, 'disk.qed'));
      expect(Buffer.compare(files.contents('disk.qed'), theirs)).toBe(0);
    },
  );

  it('agree on the content of an image we wrote, and check finds nothing', async () => {
    const files = new RecordedFiles();
    const size = 20 * MIB + 512;
    await files.create('ours.qed', { format: 'qed', virtualSize: size, clusterSize: 4096 });
    const image = await openImage({ format: 'qed', name: 'ours.qed', files, readOnly: false });
    const model = new Uint8Array(size);
    const random = new Random(11);
    for (let n = 0; n < 60; n++) {
      const length = 512 * (1 + random.below(100));
      const offset = 512 * random.below((size - length) / 512 + 1);
      await image.write(offset, filled(length, n + 1));
      model.fill(n + 1, offset, offset + length);
    }
    await image.close();
    writeFileSync(join(directory, 'ours.qed'), files.contents('ours.qed'));
    writeFileSync(join(directory, 'model.raw'), model);
    expect(runTool('qemu-img', ['check', '-f', 'qed', 'ours.qed'], directory)).toContain('No errors');
    const compare = ['compare', '-f', 'qed', '-F', 'raw', 'ours.qed', 'model.raw'];
    expect(runTool('qemu-img', compare, directory)).toContain('Images are identical');
  });
});

describe('sizes that a new QED image cannot have', () => {
  it.each([
    ['qed-bad-cluster-size', { virtualSize: MIB, clusterSize: 2048 }],
    ['qed-bad-cluster-size', { virtualSize: MIB, clusterSize: 65_537 }],
    ['qed-table-too-large', { virtualSize: MIB, clusterSize: 64 * MIB }],
    ['qed-bad-image-size', { virtualSize: 1000 }],
    ['qed-bad-image-size', { virtualSize: 2 ** 45, clusterSize: 4096 }],
    ['qed-bad-backing-name', { virtualSize: MIB, backingFile: { name: 'x'.repeat(1024), format: 'raw' } }],
  ] as const)('%s for %o, before anything is written', async (code, sizes) => {
    const files = new RecordedFiles();
    files.put('disk.qed', filled(10, 1));
    const device = files.open('disk.qed', { label: 'image', readOnly: false });
    const { createQed } = await import('../../../src/format/qed/create.ts');
    expect(await rejectionCodeOf(() => createQed({ ...sizes, device }))).toBe(code);
    expect(files.contents('disk.qed')).toEqual(filled(10, 1));
  });
});
