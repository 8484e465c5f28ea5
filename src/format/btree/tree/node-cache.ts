/**
 * The nodes of trees that are in memory, by their blocks.
 *
 * Invariants:
 * - A node that is dirty is in memory, and so are all nodes above it.
 * - A node of the operation that runs is not evicted: it carries the number of that operation.
 * - Above the wanted size there are only nodes that are dirty, or of one operation; the tree writes
 *   dirty ones when they are half of it.
 */

import { viewOf } from '../../../core/bytes.ts';
import { Qcow2BenchError } from '../../../core/error.ts';
import { allocatePages } from '../../../core/page-memory.ts';
import { settle, type Pending } from '../../../core/pending.ts';
import type { BlockDevice } from '../../../device/block-device.ts';
import { BLOCK_SIZE } from '../on-disk/layout.ts';
import {
  nodeCapacity,
  readNodeHeader,
  wrongEntries,
  type NodeBounds,
  type NodeReference,
} from '../on-disk/node.ts';

/** Nodes that a cache has at least: two paths, and what a split adds. */
const NODES_MIN = 64;
/** Nodes that are looked at to make room for one. */
const STEPS_MAX = 128;

export class TreeNode {
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly view: DataView<ArrayBuffer>;
  block = 0;
  level = 0;
  count = 0;
  /** The commit that it belongs to. */
  generation = 0;
  /** Snapshots that had been taken when it was written. */
  epoch = 0;
  isDirty = false;
  /** The operation that needed it last. */
  operation = 0;
  /** Not looked at since the hand of the clock came by. */
  isIdle = false;
  /** Its place in the list of all. */
  slot = -1;

  constructor(nodeSize: number) {
    this.bytes = allocatePages(nodeSize);
    this.view = viewOf(this.bytes);
  }
}

export class NodeCache {
  readonly nodeSize: number;
  /** Entries of a node. */
  readonly capacity: number;
  /** Nodes in memory that may be dirty before they are written. */
  readonly dirtyMax: number;
  readonly #device: BlockDevice;
  readonly #size: number;
  readonly #byBlock = new Map<number, TreeNode>();
  readonly #nodes: TreeNode[] = [];
  readonly #spare: TreeNode[] = [];
  readonly #loading = new Map<number, Promise<void>>();
  readonly #onEvicted: (node: TreeNode) => void;
  #hand = 0;

  /**
   * @param options.bytes of memory for nodes; at least those of 64 nodes are used
   * @param options.onEvicted gets each node that leaves the memory
   */
  constructor(options: {
    readonly device: BlockDevice;
    readonly nodeSize: number;
    readonly bytes: number;
    readonly onEvicted: (node: TreeNode) => void;
  }) {
    const { device, nodeSize, bytes, onEvicted } = options;
    this.#device = device;
    this.nodeSize = nodeSize;
    this.capacity = nodeCapacity(nodeSize);
    this.#size = Math.max(NODES_MIN, Math.floor(bytes / nodeSize));
    this.dirtyMax = Math.floor(this.#size / 2);
    this.#onEvicted = onEvicted;
  }

  get byteLength(): number {
    return this.#nodes.length * this.nodeSize;
  }

  get(block: number): TreeNode | undefined {
    return this.#byBlock.get(block);
  }

  /**
   * Reads a node into memory. With requests in flight it may be gone again when the promise is
   * resolved: ask `get` again.
   *
   * @throws Qcow2BenchError `btree-bad-node`
   */
  load(reference: NodeReference, bounds: NodeBounds, operation: number): Pending {
    const started = this.#loading.get(reference.block);
    if (started !== undefined) return started;
    const node = this.#take();
    const pending = this.#device.read(reference.block * BLOCK_SIZE, node.bytes, 'btree-node');
    if (pending === undefined) {
      this.#finishLoad(node, reference, bounds, operation);
      return undefined;
    }
    const loading = settle(
      pending,
      () => {
        this.#loading.delete(reference.block);
        this.#finishLoad(node, reference, bounds, operation);
      },
      (error) => {
        this.#loading.delete(reference.block);
        throw error;
      },
    );
    this.#loading.set(reference.block, loading);
    return loading;
  }

  /** A node without entries in a block of its own; the caller fills it. */
  create(block: number, level: number, operation: number): TreeNode {
    const node = this.#take();
    node.bytes.fill(0);
    node.level = level;
    node.count = 0;
    node.operation = operation;
    this.#add(node, block);
    return node;
  }

  /** The node is in another block from now on. */
  move(node: TreeNode, block: number): void {
    this.#byBlock.delete(node.block);
    node.block = block;
    this.#byBlock.set(block, node);
  }

  /** Forgets a node, dirty or not. */
  drop(node: TreeNode): void {
    this.#byBlock.delete(node.block);
    const last = this.#nodes.pop();
    if (last !== undefined && last !== node) {
      this.#nodes[node.slot] = last;
      last.slot = node.slot;
    }
    node.slot = -1;
    node.isDirty = false;
    this.#onEvicted(node);
  }

  /** Forgets all nodes. */
  clear(): void {
    for (const node of this.#nodes.toReversed()) this.drop(node);
  }

  /** @throws Qcow2BenchError `btree-bad-node` */
  #finishLoad(node: TreeNode, reference: NodeReference, bounds: NodeBounds, operation: number): void {
    const header = readNodeHeader(node.bytes, reference);
    const rule = typeof header === 'string' ? header : wrongEntries(node.view, header, bounds);
    if (typeof header === 'string' || rule !== undefined) {
      throw badNode(this.#device.path, reference.block, rule ?? '');
    }
    Object.assign(node, header);
    node.operation = operation;
    this.#add(node, reference.block);
  }

  #add(node: TreeNode, block: number): void {
    node.block = block;
    node.isDirty = false;
    node.isIdle = false;
    node.slot = this.#nodes.length;
    this.#nodes.push(node);
    this.#byBlock.set(block, node);
    if (this.#nodes.length > this.#size) this.#evict(node.operation);
  }

  #take(): TreeNode {
    return this.#spare.pop() ?? new TreeNode(this.nodeSize);
  }

  /** Makes room as far as some steps find nodes that can go. */
  #evict(operation: number): void {
    for (let left = STEPS_MAX; left > 0 && this.#nodes.length > this.#size; left--) {
      if (this.#hand >= this.#nodes.length) this.#hand = 0;
      const node = this.#nodes[this.#hand] as TreeNode;
      if (node.isDirty || node.operation === operation || !node.isIdle) {
        node.isIdle = true;
        this.#hand++;
        continue;
      }
      this.drop(node);
      this.#spare.push(node);
    }
  }
}

/** The error of a node that cannot be used. */
export function badNode(path: string, block: number, rule: string): Qcow2BenchError {
  return new Qcow2BenchError(
    'btree-bad-node',
    `the node of the tree is damaged: ${rule}; run check, restore the image from a copy, or repair it with check --repair all, which loses what only this node leads to`,
    { path, offset: block * BLOCK_SIZE },
  );
}
