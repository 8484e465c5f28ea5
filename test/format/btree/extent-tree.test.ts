/**
 * The tree by itself, of three levels, against a plain map: what it maps, what it releases, and how
 * many nodes that takes.
 */

import fc from 'fast-check';
import { describe, expect, test } from 'vitest';

import { MemoryDevice } from '../../../src/device/memory-device.ts';
import { NO_EXTENT } from '../../../src/format/btree/on-disk/layout.ts';
import { walkTree } from '../../../src/format/btree/on-disk/tree-walk.ts';
import { ExtentTree } from '../../../src/format/btree/tree/extent-tree.ts';
import { HostSpace } from '../../../src/format/btree/tree/host-space.ts';
import { SlowDevice } from '../../device/slow-device.ts';

const NODE = 4096;
/** Entries of a node. */
const CAPACITY = 254;
/** Entries of a leaf that was split at its end. */
const LEAF = CAPACITY - 1;
/** Every second guest block is mapped at first: none continues another. */
const EXTENTS = 66_000;

/** A tree and what it should be. */
class TreeUnderTest {
  readonly #memory = new MemoryDevice();
  readonly #device;
  readonly #space = new HostSpace(NODE, 'disk');
  readonly #model = new Map<number, number>();
  readonly #released: number[] = [];
  readonly #gone: number[] = [];
  readonly #tree: ExtentTree;

  constructor(isSlow: boolean) {
    this.#device = isSlow ? new SlowDevice(this.#memory) : this.#memory;
    this.#space.startBehind(1024);
    this.#tree = new ExtentTree({
      device: this.#device,
      space: this.#space,
      nodeSize: NODE,
      cacheSize: 0,
      mayWrite: true,
      onReleased: (block, blocks) => {
        for (let index = 0; index < blocks; index++) this.#released.push(block + index);
      },
    });
  }

  async fill(extents = EXTENTS): Promise<void> {
    for (let index = 0; index < extents; index++) await this.map(2 * index, 1);
    await this.commit();
  }

  async map(guest: number, blocks: number): Promise<void> {
    const host = this.#space.allocate(blocks);
    await this.#tree.replace(guest, blocks, host);
    for (let index = 0; index < blocks; index++) this.#set(guest + index, host + index);
  }

  async unmap(guest: number, blocks: number): Promise<void> {
    await this.#tree.replace(guest, blocks, NO_EXTENT);
    for (let index = 0; index < blocks; index++) this.#set(guest + index, undefined);
  }

  async commit(): Promise<void> {
    await this.#tree.nodes.write();
    this.#tree.nodes.committed(this.#tree.nodes.generation + 1);
  }

  /** What a look-up of the block answers. */
  async expectFound(guest: number): Promise<void> {
    await this.#tree.find(guest);
    expect(this.#tree.foundHost).toBe(this.#model.get(guest) ?? NO_EXTENT);
  }

  /** Spoils the first leaf in the file. */
  async damageFirstLeaf(): Promise<void> {
    const blocks: number[] = [];
    await walkTree({ device: this.#memory, nodeSize: NODE }, this.#tree.nodes.root, {
      enters: ({ block, level }) => {
        if (level === 0) blocks.push(block);
        return level > 0;
      },
      onDamage: (rule) => expect.unreachable(rule),
    });
    this.#memory.write((blocks[0] ?? 0) * NODE + 100, new Uint8Array([1, 2, 3, 4]), 'btree-node');
  }

  /** From the file, without the tree's cache; answers the entries of each node. */
  async expectModel(): Promise<readonly (readonly number[])[]> {
    await this.commit();
    this.#memory.truncate(this.#space.end * NODE, 'data');
    const found = new Map<number, number>();
    const counts: number[][] = [];
    await walkTree({ device: this.#device, nodeSize: NODE }, this.#tree.nodes.root, {
      enters: () => true,
      onNode: ({ level, count }) => (counts[level] ??= []).push(count),
      onExtent: (guest, blocks, host) => {
        for (let index = 0; index < blocks; index++) found.set(guest + index, host + index);
      },
      onDamage: (rule) => expect.unreachable(rule),
    });
    expect(found.size).toBe(this.#model.size);
    for (const [guest, host] of this.#model) {
      if (found.get(guest) !== host) expect(found.get(guest)).toBe(host);
    }
    expect(this.#released.toSorted((a, b) => a - b)).toEqual(this.#gone.toSorted((a, b) => a - b));
    return counts;
  }

  #set(guest: number, host: number | undefined): void {
    const before = this.#model.get(guest);
    if (before !== undefined) this.#gone.push(before);
    if (host === undefined) this.#model.delete(guest);
    else this.#model.set(guest, host);
  }
}

describe('a tree that shrinks', () => {
  test.each([false, true])(
    'has few nodes for few extents; a device that answers later: %s',
    async (isSlow) => {
      const run = fc.asyncProperty(fc.integer({ min: 3, max: 40 }), fc.nat(39), async (step, offset) => {
        const tree = new TreeUnderTest(isSlow);
        await tree.fill();
        const full = await tree.expectModel();
        expect(full.map((level) => level.length)).toEqual([261, 2, 1]);
        // One extent of `step` is left, taken out in an order that goes back and forth.
        for (let index = 0; index < EXTENTS; index++) {
          const each = (index * 7919) % EXTENTS;
          if (each % step !== offset % step) await tree.unmap(2 * each, 1);
          if (index % 20_000 === 0) await tree.commit();
        }
        const [leaves = []] = await tree.expectModel();
        const extents = leaves.reduce((sum, count) => sum + count, 0);
        expect(extents).toBeGreaterThanOrEqual(Math.floor(EXTENTS / step));
        // Two neighbours together are at least a quarter full.
        expect(leaves.length).toBeLessThanOrEqual(2 + (8 * extents) / CAPACITY);
        await tree.unmap(0, 2 * EXTENTS);
        expect(await tree.expectModel()).toEqual([]);
      });
      await fc.assert(run, { numRuns: isSlow ? 1 : 3 });
    },
  );

  test('joins leaves that this change left as they were', async () => {
    const tree = new TreeUnderTest(false);
    await tree.fill(2 * LEAF + 10);
    // The first leaf has no room for the second, and then the second goes.
    await tree.unmap(2 * 20, 2 * (LEAF - 20));
    expect(await tree.expectModel()).toEqual([[20, LEAF, 10], [3]]);
    await tree.unmap(2 * LEAF, 2 * LEAF);
    expect(await tree.expectModel()).toEqual([[30]]);
  });

  test('has a leaf for a root that was there before', async () => {
    const tree = new TreeUnderTest(false);
    await tree.fill(LEAF + 10);
    expect(await tree.expectModel()).toEqual([[LEAF, 10], [2]]);
    await tree.unmap(0, 2 * LEAF);
    expect(await tree.expectModel()).toEqual([[10]]);
  });

  test('leaves the range of a node above leaves that goes to the next one', async () => {
    const tree = new TreeUnderTest(false);
    await tree.fill(2 * LEAF * LEAF);
    const [, above] = await tree.expectModel();
    expect(above).toEqual([LEAF, LEAF]);
    // The second is too full to be joined with what is left of the first.
    await tree.unmap(2 * LEAF, 2 * LEAF * (LEAF - 1));
    expect((await tree.expectModel())[1]).toEqual([1, LEAF]);
    await tree.unmap(0, 2 * LEAF);
    expect((await tree.expectModel())[1]).toEqual([LEAF]);
    await tree.expectFound(0);
    await tree.map(10, 5);
    await tree.expectFound(12);
    await tree.expectFound(2 * LEAF * LEAF);
    await tree.unmap(2 * LEAF * LEAF, 2 * LEAF * (LEAF - 1));
    await tree.expectModel();
  });

  test.each([false, true])(
    'changes where the leaf beside cannot be read; a device that answers later: %s',
    async (isSlow) => {
      const tree = new TreeUnderTest(isSlow);
      await tree.fill(100 * LEAF);
      await tree.expectModel();
      await tree.damageFirstLeaf();
      // Its range is the damaged leaf's from here on.
      await tree.unmap(2 * LEAF, 2 * LEAF);
      await tree.unmap(2 * 2 * LEAF, 2 * LEAF - 10);
      await tree.expectFound(2 * 3 * LEAF - 2);
      await expect(tree.expectFound(2 * LEAF)).rejects.toMatchObject({ code: 'btree-bad-node' });
    },
  );

  test('loses levels, and grows again', async () => {
    const tree = new TreeUnderTest(false);
    await tree.fill();
    await tree.unmap(300, 2 * EXTENTS - 600);
    const few = await tree.expectModel();
    expect(few.map((level) => level.length)).toEqual([2, 1]);
    await tree.unmap(200, 2 * EXTENTS);
    expect(await tree.expectModel()).toEqual([[100]]);
    await tree.map(1000, 5);
    expect(await tree.expectModel()).toEqual([[101]]);
    await tree.fill();
    expect((await tree.expectModel()).length).toBe(3);
  });
});

test('a tree of random changes maps and releases what a map of blocks does', async () => {
  const change = fc.record({
    isMapped: fc.boolean(),
    guest: fc.nat(2 * EXTENTS),
    blocks: fc.oneof(fc.integer({ min: 1, max: 4 }), fc.integer({ min: 1, max: 30_000 })),
    times: fc.integer({ min: 1, max: 300 }),
  });
  const run = fc.asyncProperty(fc.array(change, { minLength: 3, maxLength: 20 }), async (changes) => {
    const tree = new TreeUnderTest(false);
    await tree.fill();
    for (const { isMapped, guest, blocks, times } of changes) {
      const part = Math.max(1, Math.floor(blocks / times));
      for (let index = 0; index < times; index++) {
        const at = guest + index * (part + 1);
        await (isMapped ? tree.map(at, part) : tree.unmap(at, part));
      }
      await tree.commit();
    }
    await tree.expectModel();
  });
  await fc.assert(run, { numRuns: 8 });
});
