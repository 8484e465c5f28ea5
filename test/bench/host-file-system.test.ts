/** Cells on file systems that are made for them: what a pass asks of the maker, here one of memory. */

import { expect, test } from 'vitest';

import { BuiltinEngine } from '../../src/bench/builtin-engine.ts';
import type { HostFileSystems, MadeFileSystem } from '../../src/bench/host-file-system.ts';
import { runMatrix } from '../../src/bench/run.ts';
import { fileSystemBytes } from '../../src/device/file-system-kinds.ts';
import { MemoryStorage } from '../../src/device/memory-storage.ts';
import type { Storage } from '../../src/device/storage.ts';
import { cellRecordSchema } from '../../src/result/schema.ts';
import { MemorySink, smallMatrix, smallSource, steppingClock } from './small-run.ts';

const COUNTS = { writes: 30, writeBytes: 122_880, reads: 0, readBytes: 0, flushes: 30, discards: 0 };
const FACTS = { type: 'btrfs', mountOptions: ['rw'], madeBy: 'mkfs', bytes: 2 ** 30, isDirect: true };

/** Reports what is done with each file system, in order. */
class ToldFileSystems implements HostFileSystems {
  readonly told: string[] = [];
  readonly #storage: () => Storage;

  constructor(storage: () => Storage = () => new MemoryStorage()) {
    this.#storage = storage;
  }

  unsupportedReason(kind: string): string | undefined {
    return kind === 'f2fs' ? 'this kernel has no file system f2fs' : undefined;
  }

  async make(kind: string, { bytes }: { readonly bytes: number }): Promise<MadeFileSystem> {
    this.told.push(`make ${kind} ${String(bytes)}`);
    return {
      storage: this.#storage(),
      facts: FACTS,
      watch: (names) => ({
        begin: async () => void this.told.push(`begin ${names.join(' ')}`),
        end: async () => {
          this.told.push('end');
          return { ...COUNTS, discardBytes: 0, fragmentsBefore: 1, fragmentsAfter: 5 };
        },
      }),
      [Symbol.asyncDispose]: async () => void this.told.push('gone'),
    };
  }
}

async function run(hostFileSystems: HostFileSystems | undefined, kinds: readonly ('btrfs' | 'f2fs')[]) {
  const plans = smallMatrix(
    { formats: ['raw'], others: { hostFs: kinds }, sources: [smallSource('small')] },
    { device: 'file' },
  );
  const sink = new MemorySink();
  const engines = [new BuiltinEngine({ hostFileSystems })];
  const run = { plans, engines, sink, samples: 2, clock: steppingClock(), seed: 1 };
  await runMatrix(run);
  return sink.all().map((record) => cellRecordSchema.parse(record));
}

test('each sample has a file system of its own, watched from the open image to the closed one', async () => {
  const made = new ToldFileSystems();
  const [record] = await run(made, ['btrfs']);
  const bytes = String(fileSystemBytes(64 * 1024 ** 2));
  const sample = [`make btrfs ${bytes}`, 'begin image.raw image.raw.data', 'end', 'gone'];
  expect(made.told.map((line) => line.replace('.data.raw', '.data'))).toEqual([...sample, ...sample]);
  expect(record?.timings.map(({ below }) => below)).toEqual(
    Array.from({ length: 2 }, () => ({
      guestWrites: 30,
      guestFlushes: 0,
      ...COUNTS,
      discardBytes: 0,
      fragmentsBefore: 1,
      fragmentsAfter: 5,
    })),
  );
  expect(record?.hostFileSystem).toEqual(FACTS);
});

test('one that cannot be made is skipped with the reason, and its cell has its counts', async () => {
  const [btrfs, f2fs] = await run(new ToldFileSystems(), ['btrfs', 'f2fs']);
  expect(btrfs?.skipped).toBeNull();
  expect(f2fs?.skipped).toBe('this kernel has no file system f2fs');
  expect(f2fs?.counts).toEqual(btrfs?.counts);
  const [without] = await run(undefined, ['btrfs']);
  expect(without?.skipped).toBe('this engine makes no file systems');
});

test('what fails on it takes it down', async () => {
  const made = new ToldFileSystems(() => {
    throw new Error('full');
  });
  await expect(run(made, ['btrfs'])).rejects.toThrow();
  const broken = new MemoryStorage();
  broken.create = () => {
    throw new Error('full');
  };
  const failing = new ToldFileSystems(() => broken);
  await expect(run(failing, ['btrfs'])).rejects.toThrow();
  expect(failing.told.at(-1)).toBe('gone');
});
