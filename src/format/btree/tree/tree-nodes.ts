/**
 * The nodes of a tree that changes: which are in memory, which belong to the present commit, and how they
 * reach the file.
 *
 * A node of an older commit is moved to a new block before it is changed. `write` puts children into
 * the file before parents, since a parent has the checksums of its children; what is in the file is
 * then a whole tree that nothing leads to yet, until a superblock has its root.
 *
 * Invariant: a node that is dirty is of the present commit, and so is all above it.
 */

import { assertInvariant } from '../../../core/error.ts';
import { after, type Pending } from '../../../core/pending.ts';
import type { BlockDevice } from '../../../device/block-device.ts';
import { BLOCK_SIZE } from '../on-disk/layout.ts';
import {
  CHILD_FIELD,
  childOf,
  entryAt,
  lowerHalf,
  NODE_HEADER,
  sealNode,
  type NodeBounds,
  type NodeReference,
} from '../on-disk/node.ts';
import { EMPTY_ROOT, type TreeRoot } from '../on-disk/superblock.ts';
import type { HostSpace } from './host-space.ts';
import { NodeCache, type TreeNode } from './node-cache.ts';

export interface TreeNodesOptions {
  readonly device: BlockDevice;
  readonly space: HostSpace;
  readonly nodeSize: number;
  /** Bytes of memory for nodes. */
  readonly cacheSize: number;
  /** False keeps all that changes in memory. */
  readonly mayWrite: boolean;
}

export class TreeNodes {
  /** What a superblock has to lead to, once `write` is done. */
  root: TreeRoot = EMPTY_ROOT;
  /** Whether the tree is not the one that was committed last. */
  isChanged = false;
  /** The commit that changes belong to. */
  generation = 1;
  /** Snapshots that have been taken. */
  epoch = 0;
  /** Extents and nodes of this epoch, or of an older one, may belong to a snapshot; −1: none does. */
  sharedEpoch = -1;
  /** The operation that runs: its nodes are not evicted. */
  operation = 1;
  /** Entries of a node. */
  readonly capacity: number;

  readonly #device: BlockDevice;
  readonly #space: HostSpace;
  readonly #cache: NodeCache;
  readonly #dirtyMax: number;
  /** Nodes to write, by level; some may be dirty no more. */
  readonly #dirty: TreeNode[][] = [];
  #dirtyCount = 0;

  /** @param onEvicted gets each node that leaves the memory */
  constructor(options: TreeNodesOptions, onEvicted: (node: TreeNode) => void) {
    const { device, space, nodeSize, cacheSize, mayWrite } = options;
    this.#device = device;
    this.#space = space;
    this.#cache = new NodeCache({ device, nodeSize, bytes: cacheSize, onEvicted });
    this.capacity = this.#cache.capacity;
    this.#dirtyMax = mayWrite ? this.#cache.dirtyMax : Infinity;
  }

  /** Of the nodes in memory. */
  get byteLength(): number {
    return this.#cache.byteLength;
  }

  /** So many are dirty that they are to be written before more become so. */
  get areManyDirty(): boolean {
    return this.#dirtyCount >= this.#dirtyMax;
  }

  /** Replaces the tree by another one; nothing of the present one is written. */
  reset(root: TreeRoot, isChanged: boolean): void {
    this.#cache.clear();
    this.#dirty.length = 0;
    this.#dirtyCount = 0;
    this.root = root;
    this.isChanged = isChanged;
  }

  /** The root was committed; what changes from here on belongs to the next commit. */
  committed(generation: number): void {
    this.isChanged = false;
    this.generation = generation;
  }

  /** The present commit failed where it may be in force: what changes from here on is not of it. */
  abandonGeneration(): void {
    this.generation++;
  }

  get(block: number): TreeNode | undefined {
    return this.#cache.get(block);
  }

  /**
   * Reads a node into memory, as `NodeCache.load` does.
   *
   * @throws Qcow2BenchError `btree-bad-node`
   */
  load(reference: NodeReference, { low, high }: Omit<NodeBounds, 'hostBlocks'>): Pending {
    // Blocks of the file, as far as the tree may lead to them.
    const hostBlocks = Math.max(this.#space.end, Math.ceil(this.#device.size() / BLOCK_SIZE));
    return this.#cache.load(reference, { low, high, hostBlocks }, this.operation);
  }

  /** A node of the present commit without entries. */
  create(level: number): TreeNode {
    const node = this.#cache.create(this.#space.allocateNode(), level, this.operation);
    node.generation = this.generation;
    node.epoch = this.epoch;
    this.#markDirty(node);
    return node;
  }

  /**
   * Makes a node one of the present commit, and dirty.
   *
   * @param parent already so; `undefined` for the root
   * @param slot of its entry in the parent
   */
  own(node: TreeNode, parent: TreeNode | undefined, slot: number): void {
    this.isChanged = true;
    if (node.generation !== this.generation) this.#move(node, parent, slot);
    if (!node.isDirty) this.#markDirty(node);
  }

  /** Takes a node away that the tree no longer leads to. */
  release(node: TreeNode): void {
    if (node.isDirty) this.#dirtyCount--;
    if (node.epoch > this.sharedEpoch) this.#space.releaseNode(node.block);
    this.#cache.drop(node);
  }

  /** Writes every dirty node to its block: a whole tree then is in the file, but nothing leads to it. */
  write(): Pending {
    return this.#writeFrom(0, 0);
  }

  #move(node: TreeNode, parent: TreeNode | undefined, slot: number): void {
    const block = this.#space.allocateNode();
    if (node.epoch > this.sharedEpoch) this.#space.releaseNode(node.block);
    this.#cache.move(node, block);
    node.generation = this.generation;
    node.epoch = this.epoch;
    if (parent === undefined) this.root = { ...this.root, block, generation: this.generation };
    else parent.view.setUint32(entryAt(slot) + CHILD_FIELD.block, block, true);
  }

  #markDirty(node: TreeNode): void {
    node.isDirty = true;
    this.#dirtyCount++;
    while (this.#dirty.length <= node.level) this.#dirty.push([]);
    (this.#dirty[node.level] as TreeNode[]).push(node);
  }

  #writeFrom(firstLevel: number, firstIndex: number): Pending {
    let from = firstIndex;
    for (let level = firstLevel; level < this.#dirty.length; level++) {
      const nodes = this.#dirty[level] ?? [];
      for (let index = from; index < nodes.length; index++) {
        const node = nodes[index] as TreeNode;
        // After a failure, nodes that were written can be there with another content.
        if (!node.isDirty || node.level !== level) continue;
        const sum = this.#seal(node);
        const pending = this.#device.write(node.block * BLOCK_SIZE, node.bytes, 'btree-node');
        if (pending !== undefined) {
          return after(pending, this.#goOnWriting.bind(this, node, sum, level, index + 1));
        }
        this.#written(node, sum);
      }
      nodes.length = 0;
      from = 0;
    }
    return undefined;
  }

  #goOnWriting(node: TreeNode, sum: number, level: number, index: number): Pending {
    this.#written(node, sum);
    return this.#writeFrom(level, index);
  }

  #seal(node: TreeNode): number {
    const { block, count, level } = node;
    node.epoch = this.epoch;
    const header = { generation: node.generation, epoch: this.epoch, block, count, level };
    return sealNode(node.bytes, node.view, header);
  }

  /** Notes in the parent, which is dirty as well, how its child is recognised. */
  #written(node: TreeNode, sum: number): void {
    node.isDirty = false;
    this.#dirtyCount--;
    const { block, generation, level } = node;
    if (level === this.root.level) {
      this.root = { block, checksum: sum, generation, level };
      return;
    }
    const parent = this.#parentOf(node);
    const { view } = parent;
    const key = node.view.getUint32(NODE_HEADER, true);
    const at = entryAt(childOf(view, parent.count, key));
    assertInvariant(
      view.getUint32(at + CHILD_FIELD.block, true) === block,
      'a node is not where its parent says',
    );
    view.setUint32(at + CHILD_FIELD.generation, lowerHalf(generation), true);
    view.setUint32(at + CHILD_FIELD.checksum, sum, true);
  }

  #parentOf(node: TreeNode): TreeNode {
    const key = node.view.getUint32(NODE_HEADER, true);
    let above = this.#cache.get(this.root.block);
    for (let level = this.root.level; level > node.level + 1; level--) {
      assertInvariant(above !== undefined, 'what is above a dirty node is in memory');
      const at = entryAt(childOf(above.view, above.count, key));
      above = this.#cache.get(above.view.getUint32(at + CHILD_FIELD.block, true));
    }
    assertInvariant(above !== undefined, 'what is above a dirty node is in memory');
    return above;
  }
}
