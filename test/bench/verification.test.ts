/** The shadow that reads are verified against keeps to its memory. */

import { expect, test } from 'vitest';

import { VerifiedDisk, type GuestDisk } from '../../src/bench/verification.ts';
import { openStack } from '../../src/bench/stack.ts';
import { allocatePages } from '../../src/core/page-memory.ts';
import type { Pending } from '../../src/core/pending.ts';
import { MemoryStorage } from '../../src/device/memory-storage.ts';
import type { BlockBackend } from '../../src/format/block-backend.ts';
import { createImage } from '../../src/format/registry.ts';

const MIB = 1024 * 1024;

async function backend(): Promise<BlockBackend> {
  const storage = new MemoryStorage();
  const device = storage.create('image');
  await createImage({ device, format: 'raw', virtualSize: 64 * MIB });
  device.close();
  return (
    await openStack({
      storage,
      imageName: 'image',
      format: 'raw',
      cache: 'writeback',
    })
  ).backend;
}

async function disk(options: {
  readonly isNew: boolean;
  readonly shadowBytesMax?: number;
}): Promise<VerifiedDisk> {
  return new VerifiedDisk(await backend(), options);
}

const FLAGS = { fua: false };

test('beyond its limit nothing is claimed of sectors, and what is known stays so', async () => {
  const verified = await disk({ isNew: true, shadowBytesMax: 2 * 16 * 1024 });
  for (const at of [0, 2, 4]) {
    await verified.write(at * MIB, allocatePages(4096), FLAGS);
  }
  await verified.read(0, allocatePages(8192));
  expect(verified.verification()).toEqual({
    reads: 1,
    sectors: 16,
    notCompared: 0,
  });
  await verified.read(4 * MIB, allocatePages(4096));
  expect(verified.verification()).toEqual({
    reads: 2,
    sectors: 16,
    notCompared: 8,
  });
});

test('of an image that had data, only what was written since is claimed', async () => {
  const verified = await disk({ isNew: false });
  await verified.write(4096, allocatePages(4096), FLAGS);
  await verified.read(0, allocatePages(12288));
  expect(verified.verification()).toEqual({
    reads: 1,
    sectors: 8,
    notCompared: 16,
  });
});

test('a discard or zeroes over a whole empty disk take no memory', async () => {
  const verified = await disk({ isNew: true, shadowBytesMax: 0 });
  await verified.discard(0, 64 * MIB);
  await verified.writeZeroes(0, 64 * MIB, { fua: false, unmap: true });
  await verified.read(0, allocatePages(4096));
  expect(verified.verification()).toEqual({
    reads: 1,
    sectors: 8,
    notCompared: 0,
  });
});

test('a change that is issued while a request is in flight makes the sectors of both unclear', async () => {
  const inner = await backend();
  const held: (() => void)[] = [];
  const hold = (): Promise<void> => new Promise((resolve) => held.push(resolve));
  /** Does everything at once; the answers of reads and FUA writes are held back. */
  const slow: GuestDisk = {
    image: inner.image,
    read: (offset, target) => inner.read(offset, target) ?? hold(),
    write: (offset, bytes, flags) => inner.write(offset, bytes, FLAGS) ?? (flags.fua ? hold() : undefined),
    writeZeroes: (offset, length, flags) => inner.writeZeroes(offset, length, flags),
    discard: (offset, length) => inner.discard(offset, length),
    flush: () => inner.flush(),
  };
  const verified = new VerifiedDisk(slow, { isNew: true });
  const answered = async (pending: Pending): Promise<void> => {
    for (const resolve of held.splice(0)) {
      resolve();
    }
    await pending;
  };
  const read = verified.read(0, allocatePages(8192));
  await verified.write(0, allocatePages(4096), FLAGS);
  await answered(read);
  expect(verified.verification()).toEqual({
    reads: 1,
    sectors: 8,
    notCompared: 8,
  });
  const first = verified.write(0, allocatePages(4096), { fua: true });
  await verified.write(0, allocatePages(4096), FLAGS);
  await answered(first);
  await answered(verified.read(0, allocatePages(4096)));
  expect(verified.verification()).toEqual({
    reads: 2,
    sectors: 8,
    notCompared: 16,
  });
});
