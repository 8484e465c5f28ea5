/** A smaller disk of an image whose refcounts do not count what is in use: refused, and not a byte of the file changes. */

import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import { expect, test } from 'vitest';

import { checkImageFile } from '../../src/image/check-image.ts';
import { createImageFile } from '../../src/image/create-image.ts';
import { hostImage, WRITABLE_HOST_FILES } from '../../src/image/host-image.ts';
import { openImage } from '../../src/format/registry.ts';
import { resizeImage, type ResizedImage } from '../../src/image/resize-image.ts';
import { makeFolder } from '../cli/cli-process.ts';

const MIB = 1024 * 1024;
const CLUSTER = 65_536;
/** Clusters of a new image before the L2 table: header, refcount table, refcount block, L1 table. */
const FIRST_L2 = 4;

type Damage = (file: Buffer) => void;

/** Sets the refcounts of the clusters from `first` to the end of the file to 0. */
const uncount =
  (first: number, count = Infinity): Damage =>
  (file) => {
    const block = Number(file.readBigUInt64BE(CLUSTER));
    const end = Math.min(file.byteLength / CLUSTER, first + count);
    for (let cluster = first; cluster < end; cluster++) file.writeUInt16BE(0, block + 2 * cluster);
  };

const DAMAGE: Readonly<Record<string, Damage>> = {
  'no refcount block': (file) => {
    file.writeBigUInt64BE(0n, CLUSTER);
  },
  'the tail is not counted': uncount(FIRST_L2 + 2),
  'the L2 table is not counted': uncount(FIRST_L2, 1),
  'nothing is counted': uncount(0),
};

async function makeDisk(): Promise<string> {
  const path = join(makeFolder(), 'disk');
  await createImageFile({ ...hostImage(path), format: 'qcow2', virtualSize: 16 * MIB });
  const image = await openImage({
    format: 'qcow2',
    name: path,
    files: WRITABLE_HOST_FILES,
    readOnly: false,
  });
  await image.write(0, Buffer.alloc(MIB, 1));
  await image.write(12 * MIB, Buffer.alloc(CLUSTER, 2));
  await image.close();
  return path;
}

const shrink = (path: string): Promise<ResizedImage> =>
  resizeImage({
    name: path,
    format: 'qcow2',
    files: WRITABLE_HOST_FILES,
    size: { by: -2 * MIB },
    shrink: true,
  });

test.each(Object.keys(DAMAGE))('%s', async (name) => {
  const path = await makeDisk();
  const file = readFileSync(path);
  DAMAGE[name]?.(file);
  writeFileSync(path, file);
  await expect(shrink(path)).rejects.toMatchObject({ code: 'shrink-of-damaged-image' });
  expect(readFileSync(path).equals(file)).toBe(true);
  await checkImageFile({ ...hostImage(path), repair: 'all' });
  await expect(shrink(path)).resolves.toEqual({ before: 16 * MIB, virtualSize: 14 * MIB });
  const image = await openImage({ format: 'qcow2', name: path, files: WRITABLE_HOST_FILES, readOnly: true });
  const bytes = Buffer.alloc(MIB);
  await image.read(0, bytes);
  expect(bytes.equals(Buffer.alloc(MIB, 1))).toBe(true);
  await image.read(12 * MIB, bytes.subarray(0, CLUSTER));
  expect(bytes.subarray(0, CLUSTER).equals(Buffer.alloc(CLUSTER, 2))).toBe(true);
  await image.close();
});
