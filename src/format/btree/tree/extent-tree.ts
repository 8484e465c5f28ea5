/**
 * The copy-on-write tree that maps guest blocks to host blocks.
 *
 * A change goes down a path of nodes that belong to the present commit; one that does not is moved
 * to a new block first, and so is all above it. Nodes reach the file with `writeNodes`, children
 * before parents, since a parent has the checksums of its children; what is in the file is then a
 * whole tree that nothing leads to yet, until a superblock has its root.
 *
 * Invariants:
 * - An extent is in one leaf: it ends where the next leaf's keys begin. So what maps a block is in
 *   the leaf that has the block's key.
 * - There is no node without entries: a leaf that loses its last goes, and what is above it with it.
 *   Nodes that are merely less full stay.
 * - Between two promises the tree in memory is whole: a look-up needs no lock. A change needs the
 *   image's.
 */

import { assertInvariant } from '../../../core/error.ts';
import { after, type Pending } from '../../../core/pending.ts';
import type { BlockDevice } from '../../../device/block-device.ts';
import { BLOCK_SIZE, NO_EXTENT, ZERO_EXTENT } from '../on-disk/layout.ts';
import {
  CHILD_FIELD,
  ENTRY_SIZE,
  entryAt,
  endOfExtent,
  EXTENT_FIELD,
  lastAtOrBelow,
  lowerHalf,
  NODE_HEADER,
  sealNode,
} from '../on-disk/node.ts';
import { EMPTY_ROOT, type TreeRoot } from '../on-disk/superblock.ts';
import type { HostSpace } from './host-space.ts';
import { LeafChange } from './leaf-change.ts';
import { NodeCache, type TreeNode } from './node-cache.ts';

/** Above all guest blocks. */
const KEY_END = 0x1_0000_0000;

export interface ExtentTreeOptions {
  readonly device: BlockDevice;
  readonly space: HostSpace;
  readonly nodeSize: number;
  /** Bytes of memory for nodes. */
  readonly cacheSize: number;
  /** False keeps all that changes in memory. */
  readonly mayWrite: boolean;
  /** Gets blocks of data that the tree no longer leads to and that nothing else does. */
  readonly onReleased: (block: number, blocks: number) => void;
}

export class ExtentTree {
  /** The commit that changes belong to. */
  generation = 1;
  /** Snapshots that have been taken. */
  epoch = 0;
  /** Extents and nodes of this epoch, or of an older one, may belong to a snapshot; −1: none does. */
  sharedEpoch = -1;

  // What `find` found.
  /** 0: zeroes; `NO_EXTENT`: nothing. */
  foundHost = 0;
  /** Blocks from the one that was asked for. */
  foundBlocks = 0;
  /** The extent may be a snapshot's as well. */
  foundShared = false;
  /** Where data would continue what is before it in the file; 0 if nowhere. */
  foundHint = 0;

  readonly #device: BlockDevice;
  readonly #space: HostSpace;
  readonly #cache: NodeCache;
  readonly #onReleased: (block: number, blocks: number) => void;
  readonly #capacity: number;
  readonly #dirtyMax: number;
  #root: TreeRoot = EMPTY_ROOT;
  /** Of the root that is dirty, its checksum is out of date. */
  #isChanged = false;
  /** Nodes to write, by level; some may be dirty no more. */
  readonly #dirty: TreeNode[][] = [];
  #dirtyCount = 0;
  #operation = 1;

  // The path that was walked last, by level, and the keys that its leaf has.
  readonly #path: TreeNode[] = [];
  readonly #slots: number[] = [];
  #hasPath = false;
  #low = 0;
  #high = KEY_END;
  readonly #change = new LeafChange();

  constructor(options: ExtentTreeOptions) {
    this.#device = options.device;
    this.#space = options.space;
    this.#onReleased = options.onReleased;
    this.#cache = new NodeCache({
      device: options.device,
      nodeSize: options.nodeSize,
      bytes: options.cacheSize,
      onEvicted: (node) => {
        if (this.#path[node.level] === node) this.#hasPath = false;
      },
    });
    this.#capacity = this.#cache.capacity;
    this.#dirtyMax = options.mayWrite ? this.#cache.dirtyMax : Infinity;
  }

  /** What a superblock has to lead to; to be asked after `writeNodes`. */
  get root(): TreeRoot {
    return this.#root;
  }

  /** Whether the tree is not the one that was committed last. */
  get isChanged(): boolean {
    return this.#isChanged;
  }

  /** Replaces the tree by another one; nothing of the present one is written. */
  reset(root: TreeRoot, isChanged: boolean): void {
    this.#cache.clear();
    this.#dirty.length = 0;
    this.#dirtyCount = 0;
    this.#hasPath = false;
    this.#root = root;
    this.#isChanged = isChanged;
  }

  /** The root was committed; what changes from here on belongs to the next commit. */
  committed(generation: number): void {
    this.#isChanged = false;
    this.generation = generation;
  }

  /** The present commit failed where it may be in force: what changes from here on is not of it. */
  abandonGeneration(): void {
    this.generation++;
  }

  /**
   * Looks up what a guest block is mapped to, and how far that goes: at least one block, and at most
   * to the end of its leaf.
   */
  find(guest: number): Pending {
    const pending = this.#seek(guest);
    if (pending !== undefined) return after(pending, this.find.bind(this, guest));
    const leaf = this.#path[0];
    if (this.#root.block === 0 || leaf === undefined) {
      this.#foundNothing(KEY_END - guest, 0);
      return undefined;
    }
    const { view, count } = leaf;
    const index = lastAtOrBelow(view, count, guest);
    if (index < 0) {
      const next = view.getUint32(NODE_HEADER, true);
      this.#foundNothing(next - guest, 0);
      return undefined;
    }
    const at = entryAt(index);
    const start = view.getUint32(at + EXTENT_FIELD.guest, true);
    const blocks = view.getUint32(at + EXTENT_FIELD.blocks, true);
    const host = view.getUint32(at + EXTENT_FIELD.host, true);
    const into = guest - start;
    if (into >= blocks) {
      const next = index + 1 < count ? view.getUint32(at + ENTRY_SIZE, true) : this.#high;
      this.#foundNothing(next - guest, into === blocks && host !== ZERO_EXTENT ? host + blocks : 0);
      return undefined;
    }
    this.foundHost = host === ZERO_EXTENT ? ZERO_EXTENT : host + into;
    this.foundBlocks = blocks - into;
    this.foundShared = view.getUint32(at + EXTENT_FIELD.epoch, true) <= this.sharedEpoch;
    this.foundHint = 0;
    return undefined;
  }

  /**
   * Maps guest blocks to host blocks that follow one another, to zeroes (`ZERO_EXTENT`), or to nothing
   * (`NO_EXTENT`); releases what they were mapped to. The lock is held.
   *
   * @param epoch of extents that are put back where they were; default: the present one
   */
  replace(guest: number, blocks: number, host: number, epoch = this.epoch): Pending {
    const end = guest + blocks;
    const isPlace = host !== ZERO_EXTENT && host !== NO_EXTENT;
    for (let at = guest; at < end;) {
      const place = isPlace ? host + at - guest : host;
      const pending = (this.#dirtyCount >= this.#dirtyMax ? this.writeNodes() : undefined) ?? this.#seek(at);
      if (pending !== undefined) return after(pending, this.replace.bind(this, at, end - at, place, epoch));
      if (this.#root.block === 0) {
        if (host === NO_EXTENT) return undefined;
        this.#plant();
        continue;
      }
      const part = Math.min(end, this.#high) - at;
      if (this.#replaceInLeaf(at, part, place, epoch)) at += part;
      else this.#split(0, at);
    }
    return undefined;
  }

  /** Writes every dirty node to its block: a whole tree then is in the file, but nothing leads to it. */
  writeNodes(): Pending {
    return this.#writeFrom(0, 0);
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
    if (level === this.#root.level) {
      this.#root = { block, checksum: sum, generation, level };
      return;
    }
    const parent = this.#parentOf(node);
    const { view } = parent;
    const key = node.view.getUint32(NODE_HEADER, true);
    const at = entryAt(lastAtOrBelow(view, parent.count, key));
    assertInvariant(
      view.getUint32(at + CHILD_FIELD.block, true) === block,
      'a node is not where its parent says',
    );
    view.setUint32(at + CHILD_FIELD.generation, lowerHalf(generation), true);
    view.setUint32(at + CHILD_FIELD.checksum, sum, true);
  }

  #parentOf(node: TreeNode): TreeNode {
    const key = node.view.getUint32(NODE_HEADER, true);
    let above = this.#cache.get(this.#root.block);
    for (let level = this.#root.level; level > node.level + 1; level--) {
      assertInvariant(above !== undefined, 'what is above a dirty node is in memory');
      const at = entryAt(lastAtOrBelow(above.view, above.count, key));
      above = this.#cache.get(above.view.getUint32(at + CHILD_FIELD.block, true));
    }
    assertInvariant(above !== undefined, 'what is above a dirty node is in memory');
    return above;
  }

  /** Makes the path lead to the leaf that has the key; reads what is not in memory. */
  #seek(key: number): Pending {
    if (this.#hasPath && key >= this.#low && key < this.#high) return undefined;
    this.#hasPath = false;
    if (this.#root.block === 0) return undefined;
    const operation = ++this.#operation;
    let { block, level } = this.#root;
    let { checksum, generation } = this.#root;
    let low = 0;
    let high = KEY_END;
    for (;;) {
      const node = this.#cache.get(block);
      if (node === undefined) {
        const bounds = { low, high, hostBlocks: this.#hostBlocks() };
        const pending = this.#cache.load({ block, checksum, generation, level }, bounds, operation);
        if (pending !== undefined) return after(pending, this.#seek.bind(this, key));
        continue;
      }
      node.operation = operation;
      node.isIdle = false;
      this.#path[level] = node;
      if (level === 0) break;
      const { view, count } = node;
      const index = lastAtOrBelow(view, count, key);
      const at = entryAt(index);
      this.#slots[level] = index;
      low = view.getUint32(at + CHILD_FIELD.key, true);
      if (index + 1 < count) high = view.getUint32(at + ENTRY_SIZE, true);
      block = view.getUint32(at + CHILD_FIELD.block, true);
      generation = view.getUint32(at + CHILD_FIELD.generation, true);
      checksum = view.getUint32(at + CHILD_FIELD.checksum, true);
      level--;
    }
    this.#low = low;
    this.#high = high;
    this.#hasPath = true;
    return undefined;
  }

  /** Blocks of the file, as far as the tree may lead to them. */
  #hostBlocks(): number {
    return Math.max(this.#space.end, Math.ceil(this.#device.size() / BLOCK_SIZE));
  }

  #foundNothing(blocks: number, hint: number): void {
    this.foundHost = NO_EXTENT;
    this.foundBlocks = blocks;
    this.foundShared = false;
    this.foundHint = hint;
  }

  /** A tree of one leaf, which the caller puts an extent into. */
  #plant(): void {
    const leaf = this.#newNode(0);
    this.#root = { block: leaf.block, checksum: 0, generation: this.generation, level: 0 };
    this.#isChanged = true;
    this.#path[0] = leaf;
    this.#low = 0;
    this.#high = KEY_END;
    this.#hasPath = true;
  }

  /** False, with nothing changed, where the leaf has no room. */
  #replaceInLeaf(guest: number, blocks: number, host: number, epoch: number): boolean {
    const leaf = this.#path[0] as TreeNode;
    const { view, count } = leaf;
    const end = guest + blocks;
    const change = this.#change;
    if (!change.plan(view, count, { guest, end }, host, epoch)) return true;
    const left = count - (change.to - change.from) + change.count;
    if (left > this.#capacity) return false;
    this.#ownPath();
    for (let index = change.first; index < change.last; index++) this.#releasePart(view, index, guest, end);
    if (left === 0) {
      this.#removeLeaf();
      return true;
    }
    const newTo = change.from + change.count;
    if (newTo !== change.to) {
      leaf.bytes.copyWithin(entryAt(newTo), entryAt(change.to), entryAt(count));
      if (left < count) leaf.bytes.fill(0, entryAt(left), entryAt(count));
    }
    change.put(view);
    leaf.count = left;
    return true;
  }

  #releasePart(view: DataView, index: number, guest: number, end: number): void {
    const at = entryAt(index);
    const host = view.getUint32(at + EXTENT_FIELD.host, true);
    if (host === ZERO_EXTENT || view.getUint32(at + EXTENT_FIELD.epoch, true) <= this.sharedEpoch) return;
    const start = view.getUint32(at + EXTENT_FIELD.guest, true);
    const from = Math.max(start, guest);
    const to = Math.min(endOfExtent(view, index), end);
    this.#onReleased(host + from - start, to - from);
  }

  /** Makes every node of the path one of the present commit, and dirty. */
  #ownPath(): void {
    if ((this.#path[0] as TreeNode).isDirty) return;
    this.#isChanged = true;
    for (let level = this.#root.level; level >= 0; level--) {
      const node = this.#path[level] as TreeNode;
      if (node.generation !== this.generation) this.#moveNode(node);
      if (!node.isDirty) this.#markDirty(node);
    }
  }

  #moveNode(node: TreeNode): void {
    const block = this.#space.allocateNode();
    if (node.epoch > this.sharedEpoch) this.#space.releaseNode(node.block);
    this.#cache.move(node, block);
    node.generation = this.generation;
    node.epoch = this.epoch;
    const { level } = node;
    if (level === this.#root.level) {
      this.#root = { ...this.#root, block, generation: this.generation };
      return;
    }
    const at = entryAt(this.#slots[level + 1] as number);
    (this.#path[level + 1] as TreeNode).view.setUint32(at + CHILD_FIELD.block, block, true);
  }

  #markDirty(node: TreeNode): void {
    node.isDirty = true;
    this.#dirtyCount++;
    while (this.#dirty.length <= node.level) this.#dirty.push([]);
    (this.#dirty[node.level] as TreeNode[]).push(node);
  }

  #newNode(level: number): TreeNode {
    const node = this.#cache.create(this.#space.allocateNode(), level, this.#operation);
    node.generation = this.generation;
    node.epoch = this.epoch;
    this.#markDirty(node);
    return node;
  }

  /** Makes room in the node of the path at this level, or above it; the path is then to be walked again. */
  #split(level: number, key: number): void {
    this.#ownPath();
    const node = this.#path[level] as TreeNode;
    if (level === this.#root.level) {
      this.#addRoot(node);
      return;
    }
    const parent = this.#path[level + 1] as TreeNode;
    if (parent.count >= this.#capacity) {
      this.#split(level + 1, key);
      return;
    }
    const { view, count } = node;
    // Of a disk that is written from its start to its end, nodes stay full.
    const isEnd = key > view.getUint32(entryAt(count - 1), true);
    const point = isEnd ? count - 1 : count >>> 1;
    const right = this.#newNode(level);
    right.bytes.set(node.bytes.subarray(entryAt(point), entryAt(count)), NODE_HEADER);
    node.bytes.fill(0, entryAt(point), entryAt(count));
    right.count = count - point;
    node.count = point;
    const slot = (this.#slots[level + 1] as number) + 1;
    parent.bytes.copyWithin(entryAt(slot + 1), entryAt(slot), entryAt(parent.count));
    this.#putChild(parent, slot, right.view.getUint32(NODE_HEADER, true), right.block);
    parent.count++;
    this.#hasPath = false;
  }

  #addRoot(child: TreeNode): void {
    const root = this.#newNode(child.level + 1);
    this.#putChild(root, 0, 0, child.block);
    root.count = 1;
    this.#root = { block: root.block, checksum: 0, generation: this.generation, level: root.level };
    this.#hasPath = false;
  }

  #putChild(parent: TreeNode, index: number, key: number, block: number): void {
    const at = entryAt(index);
    parent.view.setUint32(at + CHILD_FIELD.key, key, true);
    parent.view.setUint32(at + CHILD_FIELD.block, block, true);
    parent.view.setUint32(at + CHILD_FIELD.generation, lowerHalf(this.generation), true);
    parent.view.setUint32(at + CHILD_FIELD.checksum, 0, true);
  }

  /** Takes the leaf of the path out of the tree, and what is above it and has no other child. */
  #removeLeaf(): void {
    this.#hasPath = false;
    let level = 0;
    for (; level <= this.#root.level; level++) {
      const node = this.#path[level] as TreeNode;
      if (level > 0 && node.count > 1) break;
      if (node.isDirty) this.#dirtyCount--;
      this.#space.releaseNode(node.block);
      this.#cache.drop(node);
    }
    if (level > this.#root.level) {
      this.#root = EMPTY_ROOT;
      return;
    }
    const parent = this.#path[level] as TreeNode;
    const index = this.#slots[level] as number;
    // The first key is the lower end of what the node has.
    const low = parent.view.getUint32(NODE_HEADER, true);
    parent.bytes.copyWithin(entryAt(index), entryAt(index + 1), entryAt(parent.count));
    parent.count--;
    parent.bytes.fill(0, entryAt(parent.count), entryAt(parent.count + 1));
    if (index === 0) parent.view.setUint32(NODE_HEADER, low, true);
  }
}
