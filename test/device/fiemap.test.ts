/** Fragments of files, as filefrag of e2fsprogs counts them. */

import { closeSync, fsyncSync, ftruncateSync, openSync, fstatSync, writeSync } from 'node:fs';
import { join } from 'node:path';

import { expect, test } from 'vitest';

import { loadFallocate } from '../../src/device/fallocate.ts';
import { fragmentCount, mappedExtents } from '../../src/device/fiemap.ts';
import { reasonToSkip, runTool } from '../format/system-tools.ts';
import { testDirectory } from '../test-directory.ts';

const BLOCK = 64 * 1024;
const folder = testDirectory();
const reason = reasonToSkip('filefrag') ?? (hasExtents() ? undefined : 'no extents on this file system');

/** A file in which every other block of `blocks` is written, the last one first. */
function holedFile(name: string, blocks: number): { readonly path: string; readonly fd: number } {
  const path = join(folder, name);
  const fd = openSync(path, 'w+');
  ftruncateSync(fd, blocks * BLOCK);
  for (let block = blocks - 1; block >= 0; block -= 2) {
    writeSync(fd, new Uint8Array(BLOCK).fill(1), 0, BLOCK, block * BLOCK);
    fsyncSync(fd);
  }
  return { path, fd };
}

function hasExtents(): boolean {
  const { fd } = holedFile('probe', 1);
  const found = [...mappedExtents(fd, BLOCK)].length > 0;
  closeSync(fd);
  return found;
}

test.skipIf(reason !== undefined).each([1, 2, 9, 700])(
  `a file of %s blocks has as many fragments as filefrag counts${reason === undefined ? '' : ` (${reason})`}`,
  (blocks) => {
    const { path, fd } = holedFile(`holes-${String(blocks)}`, blocks);
    try {
      const [, counted] = /: (\d+) extents? found/.exec(runTool('filefrag', [path])) ?? [];
      expect(fragmentCount(fd, fstatSync(fd).size)).toBe(Number(counted));
    } finally {
      closeSync(fd);
    }
  },
);

test.skipIf(reason !== undefined)('space that is reserved and written in parts is one fragment', () => {
  const fd = openSync(join(folder, 'reserved'), 'w+');
  try {
    const binding = loadFallocate();
    if (!binding.ok) return;
    binding.fallocate.reserve(fd, 0, 16 * BLOCK);
    for (const block of [3, 9]) writeSync(fd, new Uint8Array(BLOCK).fill(1), 0, BLOCK, block * BLOCK);
    fsyncSync(fd);
    const extents = [...mappedExtents(fd, 16 * BLOCK)];
    expect(extents.length).toBeGreaterThan(fragmentCount(fd, 16 * BLOCK));
    expect(extents.filter(({ isUnwritten }) => !isUnwritten).map(({ offset }) => offset / BLOCK)).toEqual([
      3, 9,
    ]);
  } finally {
    closeSync(fd);
  }
});
