/** The tree against a plain list of blocks: nodes split and go, are evicted and read again. */

import fc from 'fast-check';
import { expect, test } from 'vitest';

import { openStack } from '../../../src/bench/stack.ts';
import { MemoryStorage } from '../../../src/device/memory-storage.ts';
import { COMMIT_POLICIES, type CommitPolicy } from '../../../src/format/commit-policy.ts';
import type { DiskImage } from '../../../src/format/disk-image.ts';
import type { NodeSize } from '../../../src/format/image-shape.ts';
import { createImage, withLoneFile } from '../../../src/format/registry.ts';
import { SlowDevice } from '../../device/slow-device.ts';

const BLOCK = 4096;
const BLOCKS = 40_000;
const IMAGE = 'disk';

interface Change {
  readonly op: 'write' | 'discard' | 'flush' | 'reopen' | 'scatter';
  readonly block: number;
  readonly blocks: number;
}

const change: fc.Arbitrary<Change> = fc.record({
  op: fc.oneof(
    { weight: 8, arbitrary: fc.constant('write' as const) },
    { weight: 4, arbitrary: fc.constant('scatter' as const) },
    { weight: 4, arbitrary: fc.constant('discard' as const) },
    { weight: 3, arbitrary: fc.constant('flush' as const) },
    { weight: 1, arbitrary: fc.constant('reopen' as const) },
  ),
  block: fc.nat(BLOCKS - 1),
  blocks: fc.oneof(fc.integer({ min: 1, max: 8 }), fc.integer({ min: 1, max: 20_000 })),
});

/** What each block holds: the number of the write, or 0. */
type Model = Uint32Array;

/** Writes every third block of a range: an extent for each. */
function scattered({ block, blocks }: Change): readonly number[] {
  const end = Math.min(BLOCKS, block + blocks);
  return Array.from(
    { length: Math.min(2000, Math.ceil((end - block) / 3)) },
    (_, index) => block + index * 3,
  );
}

async function writeBlock(image: DiskImage, block: number, number: number): Promise<void> {
  await image.write(block * BLOCK, new Uint8Array(new Uint32Array(BLOCK / 4).fill(number).buffer));
}

async function apply(image: DiskImage, each: Change, number: number, model: Model): Promise<void> {
  switch (each.op) {
    case 'write': {
      const blocks = Math.min(each.blocks, 200, BLOCKS - each.block);
      const bytes = new Uint8Array(new Uint32Array((blocks * BLOCK) / 4).fill(number).buffer);
      await image.write(each.block * BLOCK, bytes);
      model.fill(number, each.block, each.block + blocks);
      return;
    }
    case 'scatter':
      for (const block of scattered(each)) {
        await writeBlock(image, block, number);
        model[block] = number;
      }
      return;
    case 'discard': {
      const blocks = Math.min(each.blocks, BLOCKS - each.block);
      await image.discard(each.block * BLOCK, blocks * BLOCK);
      model.fill(0, each.block, each.block + blocks);
      return;
    }
    case 'flush':
      await image.flush('guest-flush');
      return;
    case 'reopen':
      return;
  }
}

async function expectModel(image: DiskImage, model: Model): Promise<void> {
  const target = new Uint8Array(64 * BLOCK);
  const words = new Uint32Array(target.buffer);
  for (let block = 0; block < BLOCKS; block += 64) {
    const blocks = Math.min(64, BLOCKS - block);
    await image.read(block * BLOCK, target.subarray(0, blocks * BLOCK));
    for (let index = 0; index < blocks; index++) {
      const at = (index * BLOCK) / 4;
      const expected = model[block + index];
      if (words[at] !== expected || words[at + 1023] !== expected) {
        expect.unreachable(
          `block ${String(block + index)} has ${String(words[at])}, expected ${String(expected)}`,
        );
      }
    }
  }
}

interface Subject {
  readonly commit: CommitPolicy;
  readonly nodeSize: NodeSize;
  readonly isSlow: boolean;
}

const SUBJECTS: readonly Subject[] = [
  ...COMMIT_POLICIES.flatMap((commit) =>
    [false, true].map((isSlow) => ({ commit, nodeSize: 4096, isSlow }) as const),
  ),
  { commit: 'two-sync', nodeSize: 65_536, isSlow: false },
];

test.each(SUBJECTS)(
  'a tree of many nodes holds what was written: $commit, nodes of $nodeSize, a device that answers later: $isSlow',
  async ({ commit, nodeSize, isSlow }) => {
    const run = fc.asyncProperty(fc.array(change, { minLength: 5, maxLength: 25 }), async (changes) => {
      const storage = new MemoryStorage();
      const made = storage.create(IMAGE);
      await createImage({ device: made, format: 'btree', virtualSize: BLOCKS * BLOCK, shape: { nodeSize } });
      made.close();
      const open = () =>
        openStack({
          storage,
          imageName: IMAGE,
          format: 'btree',
          cache: 'writeback',
          commit,
          caches: { btreeCacheSize: 0 },
          metered: false,
          wrap: isSlow ? (device) => new SlowDevice(device) : undefined,
        });
      const model = new Uint32Array(BLOCKS);
      let stack = await open();
      for (const [index, each] of changes.entries()) {
        if (each.op === 'reopen') {
          await stack.close();
          stack = await open();
        } else await apply(stack.image, each, index + 1, model);
      }
      await expectModel(stack.image, model);
      await stack.close();
      stack = await open();
      await expectModel(stack.image, model);
      await stack.close();
      const device = storage.open(IMAGE);
      const report = await withLoneFile('btree', { device, readOnly: true }, async (engine, file) =>
        engine.check?.(file, {}),
      );
      expect(report, report?.messages.join('\n')).toMatchObject({ corruptions: 0, checkErrors: 0 });
    });
    await fc.assert(run, { numRuns: isSlow ? 4 : 10 });
  },
);
