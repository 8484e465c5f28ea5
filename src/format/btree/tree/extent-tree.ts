/**
 * The copy-on-write tree that maps guest blocks to host blocks.
 *
 * A change goes down a path of nodes and makes them its own (`tree-nodes`). A leaf without room is split
 * into two; one that a change leaves less than a quarter full is joined with a neighbour if both then
 * fill at most three quarters, and so is what is above it. So a tree that grew and shrank has no more
 * nodes than its extents need, and one more extent does not split at once what was joined.
 *
 * Invariants:
 * - An extent is in one leaf: it ends where the next leaf's keys begin. So what maps a block is in
 *   the leaf that has the block's key.
 * - There is no node without entries: a leaf that loses its last goes, and what is above it with it.
 * - Between two promises the tree in memory is whole: a look-up needs no lock. A change needs the
 *   image's.
 */

import { Qcow2BenchError } from '../../../core/error.ts';
import { after, settle, type Pending } from '../../../core/pending.ts';
import { NO_EXTENT, ZERO_EXTENT } from '../on-disk/layout.ts';
import {
  CHILD_FIELD,
  childOf,
  ENTRY_SIZE,
  entryAt,
  endOfExtent,
  EXTENT_FIELD,
  lastAtOrBelow,
  lowerHalf,
  NODE_HEADER,
} from '../on-disk/node.ts';
import { EMPTY_ROOT } from '../on-disk/superblock.ts';
import { LeafChange } from './leaf-change.ts';
import type { TreeNode } from './node-cache.ts';
import { TreeNodes, type TreeNodesOptions } from './tree-nodes.ts';

/** Above all guest blocks. */
const KEY_END = 0x1_0000_0000;

export interface ExtentTreeOptions extends TreeNodesOptions {
  /** Gets blocks of data that the tree no longer leads to and that nothing else does. */
  readonly onReleased: (block: number, blocks: number) => void;
}

export class ExtentTree {
  readonly nodes: TreeNodes;

  // What `find` found.
  /** 0: zeroes; `NO_EXTENT`: nothing. */
  foundHost = 0;
  /** Blocks from the one that was asked for. */
  foundBlocks = 0;
  /** The extent may be a snapshot's as well. */
  foundShared = false;
  /** Where data would continue what is before it in the file; 0 if nowhere. */
  foundHint = 0;

  readonly #onReleased: (block: number, blocks: number) => void;

  // The path that was walked last, by level: its nodes, which entry of each leads on, and the keys that
  // each has.
  readonly #path: TreeNode[] = [];
  readonly #slots: number[] = [];
  readonly #lows: number[] = [];
  readonly #highs: number[] = [];
  #hasPath = false;
  #low = 0;
  #high = KEY_END;
  readonly #change = new LeafChange();
  /** The last change left its leaf, or what is above it, with fewer entries. */
  #hasShrunk = false;

  constructor(options: ExtentTreeOptions) {
    this.#onReleased = options.onReleased;
    this.nodes = new TreeNodes(options, (node) => {
      if (this.#path[node.level] === node) this.#hasPath = false;
    });
  }

  /**
   * Looks up what a guest block is mapped to, and how far that goes: at least one block, and at most
   * to the end of its leaf.
   */
  find(guest: number): Pending {
    const pending = this.#seek(guest);
    if (pending !== undefined) return after(pending, this.find.bind(this, guest));
    const leaf = this.#path[0];
    if (this.nodes.root.block === 0 || leaf === undefined) {
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
    this.foundShared = view.getUint32(at + EXTENT_FIELD.epoch, true) <= this.nodes.sharedEpoch;
    this.foundHint = 0;
    return undefined;
  }

  /**
   * Maps guest blocks to host blocks that follow one another, to zeroes (`ZERO_EXTENT`), or to nothing
   * (`NO_EXTENT`); releases what they were mapped to. The lock is held.
   *
   * @param epoch of extents that are put back where they were; default: the present one
   */
  replace(guest: number, blocks: number, host: number, epoch = this.nodes.epoch): Pending {
    const { nodes } = this;
    const end = guest + blocks;
    const isPlace = host !== ZERO_EXTENT && host !== NO_EXTENT;
    for (let at = guest; at < end;) {
      const place = isPlace ? host + at - guest : host;
      let pending = (nodes.areManyDirty ? nodes.write() : undefined) ?? this.#seek(at);
      if (pending !== undefined) return after(pending, this.replace.bind(this, at, end - at, place, epoch));
      if (nodes.root.block === 0) {
        if (host === NO_EXTENT) return undefined;
        this.#plant();
        continue;
      }
      const part = Math.min(end, this.#high) - at;
      if (!this.#replaceInLeaf(at, part, place, epoch)) {
        this.#split(0, at);
        continue;
      }
      pending = this.#hasShrunk ? this.#join(at) : undefined;
      at += part;
      if (pending !== undefined) {
        const rest = isPlace ? place + part : place;
        return after(pending, this.replace.bind(this, at, end - at, rest, epoch));
      }
    }
    return undefined;
  }

  /** Makes the path lead to the leaf that has the key; reads what is not in memory. */
  #seek(key: number): Pending {
    if (this.#hasPath && key >= this.#low && key < this.#high) return undefined;
    this.#hasPath = false;
    const { nodes } = this;
    const { root } = nodes;
    if (root.block === 0) return undefined;
    const operation = ++nodes.operation;
    let { block, checksum, generation, level } = root;
    let low = 0;
    let high = KEY_END;
    for (;;) {
      const node = nodes.get(block);
      if (node === undefined) {
        const pending = nodes.load({ block, checksum, generation, level }, { low, high });
        if (pending !== undefined) return after(pending, this.#seek.bind(this, key));
        continue;
      }
      node.operation = operation;
      node.isIdle = false;
      this.#path[level] = node;
      this.#lows[level] = low;
      this.#highs[level] = high;
      if (level === 0) break;
      const { view, count } = node;
      const index = childOf(view, count, key);
      const at = entryAt(index);
      this.#slots[level] = index;
      if (index > 0) low = view.getUint32(at + CHILD_FIELD.key, true);
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

  #foundNothing(blocks: number, hint: number): void {
    this.foundHost = NO_EXTENT;
    this.foundBlocks = blocks;
    this.foundShared = false;
    this.foundHint = hint;
  }

  /** A tree of one leaf, which the caller puts an extent into. */
  #plant(): void {
    const { nodes } = this;
    const leaf = nodes.create(0);
    nodes.root = { block: leaf.block, checksum: 0, generation: nodes.generation, level: 0 };
    nodes.isChanged = true;
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
    this.#hasShrunk = false;
    if (!change.plan(view, count, { guest, end }, host, epoch)) return true;
    const left = count - (change.to - change.from) + change.count;
    if (left > this.nodes.capacity) return false;
    this.#hasShrunk = left < count;
    this.#ownPath(0);
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
    if (host === ZERO_EXTENT || view.getUint32(at + EXTENT_FIELD.epoch, true) <= this.nodes.sharedEpoch) {
      return;
    }
    const start = view.getUint32(at + EXTENT_FIELD.guest, true);
    const from = Math.max(start, guest);
    const to = Math.min(endOfExtent(view, index), end);
    this.#onReleased(host + from - start, to - from);
  }

  /** Makes the path's nodes from the root down to a level ones of the present commit, and dirty. */
  #ownPath(level: number): void {
    if ((this.#path[level] as TreeNode).isDirty) return;
    for (let each = this.nodes.root.level; each >= level; each--) {
      const parent = each === this.nodes.root.level ? undefined : this.#path[each + 1];
      this.nodes.own(this.#path[each] as TreeNode, parent, this.#slots[each + 1] ?? 0);
    }
  }

  /** Makes room in the node of the path at this level, or above it; the path is then to be walked again. */
  #split(level: number, key: number): void {
    this.#ownPath(0);
    const node = this.#path[level] as TreeNode;
    if (level === this.nodes.root.level) {
      this.#addRoot(node);
      return;
    }
    const parent = this.#path[level + 1] as TreeNode;
    if (parent.count >= this.nodes.capacity) {
      this.#split(level + 1, key);
      return;
    }
    const { view, count } = node;
    // Of a disk that is written from its start to its end, nodes stay full.
    const isEnd = key > view.getUint32(entryAt(count - 1), true);
    const point = isEnd ? count - 1 : count >>> 1;
    const right = this.nodes.create(level);
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
    const { nodes } = this;
    const root = nodes.create(child.level + 1);
    this.#putChild(root, 0, 0, child.block);
    root.count = 1;
    nodes.root = { block: root.block, checksum: 0, generation: nodes.generation, level: root.level };
    this.#hasPath = false;
  }

  #putChild(parent: TreeNode, index: number, key: number, block: number): void {
    const at = entryAt(index);
    parent.view.setUint32(at + CHILD_FIELD.key, key, true);
    parent.view.setUint32(at + CHILD_FIELD.block, block, true);
    parent.view.setUint32(at + CHILD_FIELD.generation, lowerHalf(this.nodes.generation), true);
    parent.view.setUint32(at + CHILD_FIELD.checksum, 0, true);
  }

  /** Takes the leaf of the path out of the tree, and what is above it and has no other child. */
  #removeLeaf(): void {
    this.#hasPath = false;
    const { nodes } = this;
    let level = 0;
    for (; level <= nodes.root.level; level++) {
      const node = this.#path[level] as TreeNode;
      if (level > 0 && node.count > 1) break;
      nodes.release(node);
    }
    if (level > nodes.root.level) nodes.root = EMPTY_ROOT;
    else this.#removeChild(this.#path[level] as TreeNode, this.#slots[level] as number);
  }

  #removeChild(parent: TreeNode, index: number): void {
    parent.bytes.copyWithin(entryAt(index), entryAt(index + 1), entryAt(parent.count));
    parent.count--;
    parent.bytes.fill(0, entryAt(parent.count), entryAt(parent.count + 1));
  }

  /**
   * Joins nodes of the path to a key with neighbours, from the leaf up, and takes away a root that has
   * one child. A neighbour that cannot be read stays as it is, also one that got the range of a leaf that
   * went: the change itself is done.
   */
  #join(key: number): Pending {
    try {
      const pending = this.#joinPath(key);
      return pending === undefined ? undefined : settle(pending, () => undefined, ignoreUnreadable);
    } catch (error) {
      ignoreUnreadable(error);
      return;
    }
  }

  #joinPath(key: number): Pending {
    const { nodes } = this;
    for (;;) {
      const sought = this.#seek(key);
      if (sought !== undefined) return after(sought, this.#joinPath.bind(this, key));
      if (nodes.root.block === 0) return undefined;
      const joined = this.#joinOne();
      if (joined === false) break;
      if (joined !== true) return after(joined, this.#joinPath.bind(this, key));
    }
    this.#lowerRoot();
    return undefined;
  }

  /** Joins the lowest node of the path that can be; false if none can, a promise where one is to be read. */
  #joinOne(): boolean | Promise<void> {
    const { nodes } = this;
    for (let level = 0; level < nodes.root.level; level++) {
      const node = this.#path[level] as TreeNode;
      if (node.count >= nodes.capacity >>> 2) continue;
      const parent = this.#path[level + 1] as TreeNode;
      const slot = this.#slots[level + 1] as number;
      for (const beside of [slot + 1, slot - 1]) {
        if (beside < 0 || beside >= parent.count) continue;
        const other = this.#childAt(parent, beside);
        if (other instanceof Promise) return other;
        if (other === undefined || node.count + other.count > (nodes.capacity * 3) >>> 2) continue;
        this.#ownPath(level);
        this.#putTogether(parent, node, other, Math.max(slot, beside));
        return true;
      }
    }
    return false;
  }

  /** A child of a node of the path; a promise where it is to be read, `undefined` if it is gone again. */
  #childAt(parent: TreeNode, index: number): TreeNode | Promise<void> | undefined {
    const { view, count, level } = parent;
    const at = entryAt(index);
    const low = index > 0 ? view.getUint32(at + CHILD_FIELD.key, true) : (this.#lows[level] as number);
    const high = index + 1 < count ? view.getUint32(at + ENTRY_SIZE, true) : (this.#highs[level] as number);
    const block = view.getUint32(at + CHILD_FIELD.block, true);
    const generation = view.getUint32(at + CHILD_FIELD.generation, true);
    const checksum = view.getUint32(at + CHILD_FIELD.checksum, true);
    const child = this.nodes.get(block);
    if (child !== undefined) return child;
    const pending = this.nodes.load({ block, checksum, generation, level: level - 1 }, { low, high });
    return pending ?? this.nodes.get(block);
  }

  /**
   * Moves all entries of `other` to `node`, which is the one of the path.
   *
   * @param right the later one's entry in the parent
   */
  #putTogether(parent: TreeNode, node: TreeNode, other: TreeNode, right: number): void {
    const isBehind = other.view.getUint32(NODE_HEADER, true) > node.view.getUint32(NODE_HEADER, true);
    const moved = other.bytes.subarray(NODE_HEADER, entryAt(other.count));
    if (isBehind) node.bytes.set(moved, entryAt(node.count));
    else {
      node.bytes.copyWithin(entryAt(other.count), NODE_HEADER, entryAt(node.count));
      node.bytes.set(moved, NODE_HEADER);
    }
    node.count += other.count;
    const key = parent.view.getUint32(entryAt(right - 1) + CHILD_FIELD.key, true);
    this.#removeChild(parent, right);
    this.#putChild(parent, right - 1, key, node.block);
    this.nodes.release(other);
    this.#hasPath = false;
  }

  /** A root of one child gives its place to that. */
  #lowerRoot(): void {
    const { nodes } = this;
    for (let level = nodes.root.level; level > 0; level--) {
      const root = this.#path[level] as TreeNode;
      if (root.count > 1) return;
      const child = this.#path[level - 1] as TreeNode;
      const checksum = root.view.getUint32(NODE_HEADER + CHILD_FIELD.checksum, true);
      nodes.root = { block: child.block, checksum, generation: child.generation, level: level - 1 };
      nodes.isChanged = true;
      nodes.release(root);
    }
  }
}

/** A program bug is no node that cannot be read. */
function ignoreUnreadable(error: unknown): undefined {
  if (!(error instanceof Qcow2BenchError)) throw error;
}
