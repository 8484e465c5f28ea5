/**
 * The files behind an image: all that it names, found without opening what the rules of the chain
 * do not allow.
 */

import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import { beforeAll, expect, test } from 'vitest';

import { MemoryDevice } from '../../src/device/memory-device.ts';
import type { Format } from '../../src/format/disk-image.ts';
import { createQcow2 } from '../../src/format/qcow2/create.ts';
import { imageFiles } from '../../src/image/image-files.ts';
import { testDirectory } from '../test-directory.ts';

const folder = testDirectory();
const at = (name: string): string => join(folder, name);

async function overlay(name: string, backing: string, format: Format | undefined): Promise<void> {
  const device = new MemoryDevice();
  const backingFile = { name: backing, format: format ?? 'raw' };
  await createQcow2({ device, virtualSize: 65_536, backingFile });
  const bytes = device.contents();
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  // The extension with the format comes first: here it becomes an unknown one.
  if (format === undefined) view.setUint32(view.getUint32(100), 0x1234_5678);
  writeFileSync(at(name), bytes);
}

beforeAll(async () => {
  mkdirSync(at('in'));
  mkdirSync(at('out'));
  await overlay('out/mid', 'base', 'raw');
  await overlay('in/top', '../out/mid', 'qcow2');
  await overlay('in/unnamed', 'top', undefined);
  await overlay('in/loop', 'loop', 'qcow2');
  writeFileSync(at('no-image'), 'text');
});

const MID = at('out/mid');
const BASE = at('out/base');

test.for([
  ['a name outside of the folder is listed and not followed', 'in/top', {}, [MID]],
  ['anywhere', 'in/top', { backing: { allowAnywhere: true } }, [MID, BASE]],
  ['below a folder', 'in/top', { backing: { allowedDirectory: folder } }, [MID, BASE]],
  ['a file without a format is listed and not followed', 'in/unnamed', {}, [at('in/top')]],
  [
    'in the format that the user gives',
    'in/unnamed',
    { backing: { unnamedFormat: 'qcow2' } },
    [at('in/top'), MID],
  ],
  ['a loop ends', 'in/loop', {}, [at('in/loop')]],
  ['an image that the user calls raw names no files', 'in/top', { format: 'raw' }, []],
  ['a file that is no image', 'no-image', {}, []],
  ['a file that does not exist', 'missing', {}, []],
] as const)('%s', async ([, name, rules, files]) => {
  expect(await imageFiles(at(name), rules)).toEqual(files);
});
