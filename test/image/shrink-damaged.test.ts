/**
 * A smaller disk of an image whose refcounts do not count what is in use: refused, and not a byte
 * of the file changes.
 */

import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import { describe, expect, test } from 'vitest';

import { openImage } from '../../src/format/registry.ts';
import { checkImageFile } from '../../src/image/check-image.ts';
import { createImageFile } from '../../src/image/create-image.ts';
import { hostImage, WRITABLE_HOST_FILES } from '../../src/image/host-image.ts';
import { changeSnapshots } from '../../src/image/image-snapshots.ts';
import { resizeImage } from '../../src/image/resize-image.ts';
import { testDirectory } from '../test-directory.ts';

const MIB = 1024 * 1024;
const CLUSTER = 65_536;
const BEFORE = 16 * MIB;
const SMALLER = 14 * MIB;

type Damage = (file: Buffer) => void;

/**
 * Sets the refcounts of `count` clusters from `first` on to 0, or of all to the end of the file.
 */
function uncount(file: Buffer, first: number, count = Infinity): void {
  const block = Number(file.readBigUInt64BE(CLUSTER));
  const end = Math.min(file.byteLength / CLUSTER, first + count);
  for (let cluster = first; cluster < end; cluster++) file.writeUInt16BE(0, block + 2 * cluster);
}

function firstL2Table(file: Buffer): number {
  const l1 = Number(file.readBigUInt64BE(40));
  return Number(file.readBigUInt64BE(l1) & 0x00ff_ffff_ffff_fe00n) / CLUSTER;
}

const DAMAGE: Readonly<Record<string, Damage>> = {
  'no refcount block': (file) => {
    file.writeBigUInt64BE(0n, CLUSTER);
  },
  'the tail is not counted': (file) => {
    uncount(file, file.byteLength / CLUSTER - 3);
  },
  'the L2 table is not counted': (file) => {
    uncount(file, firstL2Table(file), 1);
  },
  'nothing is counted': (file) => {
    uncount(file, 0);
  },
};

const resize = { to: SMALLER };
const shrink = (path: string): Promise<unknown> =>
  resizeImage({ name: path, format: 'qcow2', files: WRITABLE_HOST_FILES, size: resize, shrink: true });

interface Way {
  readonly hasSnapshot: boolean;
  readonly breaksSnapshot?: boolean;
  readonly run: (path: string) => Promise<unknown>;
}

const WAYS: Readonly<Record<string, Way>> = {
  resize: { hasSnapshot: false, run: shrink },
  'resize, and a snapshot is broken': { hasSnapshot: true, breaksSnapshot: true, run: shrink },
  'going back to a snapshot with a smaller disk': {
    hasSnapshot: true,
    run: (path) => changeSnapshots({ path, change: { action: 'apply', which: 'small' } }),
  },
};

const OPEN = { format: 'qcow2', files: WRITABLE_HOST_FILES } as const;

async function fill(path: string, guestOffset: number, value: number): Promise<void> {
  const image = await openImage({ ...OPEN, name: path, readOnly: false });
  await image.write(guestOffset, Buffer.alloc(MIB, value));
  await image.close();
}

/** Guest data at 0 and 12 MiB, the latter at the end of the file. */
async function makeDisk({ hasSnapshot, breaksSnapshot }: Way): Promise<string> {
  const path = join(testDirectory(), 'disk');
  await createImageFile({ ...hostImage(path), format: 'qcow2', virtualSize: hasSnapshot ? SMALLER : BEFORE });
  await fill(path, 0, 1);
  if (hasSnapshot) {
    const snapshot = { name: 'small', seconds: 0, nanoseconds: 0 };
    await changeSnapshots({ path, change: { action: 'create', snapshot } });
    await resizeImage({ ...OPEN, name: path, size: { to: BEFORE } });
  }
  await fill(path, 12 * MIB, 2);
  const file = readFileSync(path);
  if (breaksSnapshot === true) file.writeBigUInt64BE(2n ** 40n, Number(file.readBigUInt64BE(64)));
  writeFileSync(path, file);
  return path;
}

async function bytesAt(path: string, guestOffset: number): Promise<Buffer> {
  const image = await openImage({ ...OPEN, name: path, readOnly: true });
  const bytes = Buffer.alloc(MIB);
  await image.read(guestOffset, bytes);
  await image.close();
  return bytes;
}

describe.each(Object.keys(WAYS))('%s', (way) => {
  const { run } = WAYS[way] as Way;

  test('an image without damage gets the smaller disk', async () => {
    const path = await makeDisk(WAYS[way] as Way);
    await run(path);
    const image = await openImage({ ...OPEN, name: path, readOnly: true });
    expect(image.virtualSize).toBe(SMALLER);
    await image.close();
  });

  test.each(Object.keys(DAMAGE))('%s: refused, repaired, then done', async (damage) => {
    const path = await makeDisk(WAYS[way] as Way);
    const file = readFileSync(path);
    DAMAGE[damage]?.(file);
    writeFileSync(path, file);
    await expect(run(path)).rejects.toMatchObject({ code: 'shrink-of-damaged-image' });
    expect(readFileSync(path).equals(file)).toBe(true);
    await checkImageFile({ ...hostImage(path), repair: 'all' });
    expect((await bytesAt(path, 0)).equals(Buffer.alloc(MIB, 1))).toBe(true);
    expect((await bytesAt(path, 12 * MIB)).equals(Buffer.alloc(MIB, 2))).toBe(true);
    await run(path);
    expect((await bytesAt(path, 0)).equals(Buffer.alloc(MIB, 1))).toBe(true);
  });
});
