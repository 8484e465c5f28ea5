/** Copies of image files: the same bytes, and the same space on the disk, which QEMU looks at. */

import { statSync } from 'node:fs';
import { join } from 'node:path';

import { expect, test } from 'vitest';

import { HostFile } from '../../src/device/host-file.ts';
import { reservedExtents } from '../../src/device/reserved-extents.ts';
import { copySparse } from '../../src/device/file-copy.ts';
import { sameBytes } from '../../src/peer/whole-file.ts';
import { testDirectory } from '../test-directory.ts';

const MIB = 1024 * 1024;

const directory = testDirectory();

test('a copy keeps holes as holes and reserved space as reserved', async (context) => {
  const path = join(directory, 'from');
  const copy = join(directory, 'to');
  const reservations = (name: string): readonly object[] => {
    using file = new HostFile(name, { label: 'image', readOnly: true, canZeroRange: false });
    return [...reservedExtents(file.fd, file.size())];
  };
  {
    using file = new HostFile(path, { label: 'image', create: 'new', canZeroRange: true });
    file.write(0, new Uint8Array(4096).fill(1), 'data');
    file.truncate(MIB, 'data', 'hole');
    file.truncate(2 * MIB, 'data', 'reserved');
    file.truncate(3 * MIB, 'data', 'hole');
    file.write(MIB + MIB / 2, new Uint8Array(8192).fill(2), 'data');
    file.sync('close');
  }
  context.skip(reservations(path).length === 0, 'this file system does not tell what is reserved');

  await copySparse(path, copy);
  expect(await sameBytes(path, copy)).toBe(true);
  const blocks = statSync(copy).blocks * 512;
  expect(blocks).toBeGreaterThanOrEqual(MIB);
  expect(blocks).toBeLessThan(MIB + MIB / 2);
  using file = new HostFile(copy, { label: 'image', readOnly: true, canZeroRange: false });
  expect(file.extentAt(4096)).toEqual({ isData: false, length: MIB + MIB / 2 - 4096 });
  expect(reservations(copy)).toContainEqual({ offset: MIB, length: MIB / 2 });
});
