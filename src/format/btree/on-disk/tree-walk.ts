/**
 * A walk through a tree in a file, without a cache: for what has to see all of it.
 *
 * Invariant: it ends for any file. Levels go down by one with each step, and a node that the visitor
 * has seen is its to refuse.
 */

import { allocatePages } from '../../../core/page-memory.ts';
import { viewOf } from '../../../core/bytes.ts';
import type { BlockDevice } from '../../../device/block-device.ts';
import { BLOCK_SIZE } from './layout.ts';
import {
  CHILD_FIELD,
  ENTRY_SIZE,
  entryAt,
  EXTENT_FIELD,
  readNodeHeader,
  wrongEntries,
  type NodeHeader,
  type NodeReference,
} from './node.ts';
import type { TreeRoot } from './superblock.ts';

/** A range of guest blocks, or of keys. */
export interface KeyRange {
  readonly low: number;
  readonly high: number;
}

export interface TreeVisitor {
  /** Whether to read the node. */
  readonly enters: (reference: NodeReference, range: KeyRange) => boolean;
  /** A whole node was read. */
  readonly onNode?: (header: NodeHeader, reference: NodeReference, range: KeyRange) => void;
  readonly onExtent?: (guest: number, blocks: number, host: number, epoch: number) => void;
  /** All extents of a leaf were visited. */
  readonly onLeaf?: () => Promise<void>;
  /** A node cannot be used; what it has is passed over, unless this throws. */
  readonly onDamage: (rule: string, reference: NodeReference, range: KeyRange) => void;
}

export interface WalkedFile {
  readonly device: BlockDevice;
  readonly nodeSize: number;
}

const ALL_KEYS: KeyRange = { low: 0, high: 0x1_0000_0000 };

/** Visits the nodes of a tree and their extents, in the order of their keys. */
export async function walkTree(file: WalkedFile, root: TreeRoot, visitor: TreeVisitor): Promise<void> {
  if (root.block === 0) return;
  const buffers = Array.from({ length: root.level + 1 }, () => allocatePages(file.nodeSize));
  await walkNode({ ...file, buffers, visitor }, root, ALL_KEYS);
}

interface Walk extends WalkedFile {
  /** One for each level. */
  readonly buffers: readonly Uint8Array<ArrayBuffer>[];
  readonly visitor: TreeVisitor;
}

async function walkNode(walk: Walk, reference: NodeReference, range: KeyRange): Promise<void> {
  const { device, buffers, visitor } = walk;
  if (!visitor.enters(reference, range)) return;
  const bytes = buffers[reference.level] as Uint8Array<ArrayBuffer>;
  const pending = device.read(reference.block * BLOCK_SIZE, bytes, 'btree-node');
  if (pending !== undefined) await pending;
  const view = viewOf(bytes);
  const header = readNodeHeader(bytes, reference);
  if (typeof header === 'string') {
    visitor.onDamage(header, reference, range);
    return;
  }
  const hostBlocks = Math.ceil(device.size() / BLOCK_SIZE);
  const rule = wrongEntries(view, header, { ...range, hostBlocks });
  if (rule !== undefined) {
    visitor.onDamage(rule, reference, range);
    return;
  }
  visitor.onNode?.(header, reference, range);
  for (let index = 0; index < header.count; index++) {
    const at = entryAt(index);
    if (header.level === 0) {
      visitor.onExtent?.(
        view.getUint32(at + EXTENT_FIELD.guest, true),
        view.getUint32(at + EXTENT_FIELD.blocks, true),
        view.getUint32(at + EXTENT_FIELD.host, true),
        view.getUint32(at + EXTENT_FIELD.epoch, true),
      );
      continue;
    }
    const child: NodeReference = {
      block: view.getUint32(at + CHILD_FIELD.block, true),
      checksum: view.getUint32(at + CHILD_FIELD.checksum, true),
      generation: view.getUint32(at + CHILD_FIELD.generation, true),
      level: header.level - 1,
    };
    const low = index === 0 ? range.low : view.getUint32(at + CHILD_FIELD.key, true);
    const high = index + 1 < header.count ? view.getUint32(at + ENTRY_SIZE, true) : range.high;
    await walkNode(walk, child, { low, high });
  }
  if (header.level === 0 && visitor.onLeaf !== undefined) await visitor.onLeaf();
}
