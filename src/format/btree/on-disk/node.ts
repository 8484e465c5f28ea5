/**
 * A node of the tree. Its bytes stay raw; entries are read where they are.
 *
 *      header   magic · checksum · generation · own block · epoch · entries · level
 *      a leaf   first guest block · blocks · host block, or 0 for zeroes · epoch
 *      others   first guest block · child's block · child's generation, lower half · child's checksum
 *
 * Invariants:
 * - Entries are in the order of their keys, and no two are alike. A child has the keys from its own
 *   up to the next one's; the first child of a node has those below its own too, as far as the node has
 *   them.
 * - Extents of a leaf do not overlap and end before the next leaf's keys begin.
 */

import { readU64le, viewOf, writeU64le } from '../../../core/bytes.ts';
import { checksum } from './checksum.ts';
import { ZERO_EXTENT } from './layout.ts';

/** `QBTN`. */
const NODE_MAGIC = 0x4e54_4251;
export const NODE_HEADER = 32;
export const ENTRY_SIZE = 16;
/** Bytes before what the checksum is of. */
const CHECKED_FROM = 8;

export const NODE_FIELD = { checksum: 4, generation: 8, block: 16, epoch: 20, count: 24, level: 26 } as const;
/** Of an entry. */
export const CHILD_FIELD = { key: 0, block: 4, generation: 8, checksum: 12 } as const;
export const EXTENT_FIELD = { guest: 0, blocks: 4, host: 8, epoch: 12 } as const;

const TWO_32 = 0x1_0000_0000;

export function nodeCapacity(nodeSize: number): number {
  return (nodeSize - NODE_HEADER) / ENTRY_SIZE;
}

/** Where a parent, or a superblock, says that a node is, and how it is recognised. */
export interface NodeReference {
  readonly block: number;
  readonly checksum: number;
  /** At least its lower 32 bits. */
  readonly generation: number;
  readonly level: number;
}

/** What a node's entries must be within. Blocks. */
export interface NodeBounds {
  /** First guest block that the node can have. */
  readonly low: number;
  /** The one behind the last. */
  readonly high: number;
  /** Blocks of the file. */
  readonly hostBlocks: number;
}

export interface NodeHeader {
  readonly generation: number;
  readonly epoch: number;
  readonly count: number;
  readonly level: number;
}

export function entryAt(index: number): number {
  return NODE_HEADER + index * ENTRY_SIZE;
}

/** Writes the header; then the checksum, which it answers. */
export function sealNode(
  bytes: Uint8Array,
  view: DataView,
  header: NodeHeader & { readonly block: number },
): number {
  view.setUint32(0, NODE_MAGIC, true);
  writeU64le(view, NODE_FIELD.generation, header.generation);
  view.setUint32(NODE_FIELD.block, header.block, true);
  view.setUint32(NODE_FIELD.epoch, header.epoch, true);
  view.setUint16(NODE_FIELD.count, header.count, true);
  view.setUint16(NODE_FIELD.level, header.level, true);
  const sum = nodeChecksum(bytes);
  view.setUint32(NODE_FIELD.checksum, sum, true);
  return sum;
}

export function nodeChecksum(bytes: Uint8Array): number {
  return checksum(bytes.subarray(CHECKED_FROM));
}

export function lowerHalf(generation: number): number {
  return generation % TWO_32;
}

/** @returns in words, what is wrong with it; or its header */
export function readNodeHeader(bytes: Uint8Array, reference: NodeReference): NodeHeader | string {
  const view = viewOf(bytes);
  if (view.getUint32(0, true) !== NODE_MAGIC) return 'it has no magic';
  const sum = view.getUint32(NODE_FIELD.checksum, true);
  if (sum !== reference.checksum) {
    return 'its checksum is not the one that its parent has: it is another node';
  }
  if (sum !== nodeChecksum(bytes)) return 'its checksum is wrong';
  const generation = readU64le(view, NODE_FIELD.generation);
  if (generation === undefined || lowerHalf(generation) !== lowerHalf(reference.generation)) {
    return 'its generation is not the one that its parent has';
  }
  if (view.getUint32(NODE_FIELD.block, true) !== reference.block) return 'it belongs into another block';
  const level = view.getUint16(NODE_FIELD.level, true);
  if (level !== reference.level) {
    return `its level is ${String(level)} instead of ${String(reference.level)}`;
  }
  const count = view.getUint16(NODE_FIELD.count, true);
  if (count === 0 || count > nodeCapacity(bytes.byteLength)) {
    return `it has ${String(count)} entries; 1 to ${String(nodeCapacity(bytes.byteLength))} are possible`;
  }
  return { generation, epoch: view.getUint32(NODE_FIELD.epoch, true), count, level };
}

/** @returns in words, what is wrong with its entries; `undefined` if nothing is */
export function wrongEntries(
  view: DataView,
  { count, level }: NodeHeader,
  bounds: NodeBounds,
): string | undefined {
  return level === 0 ? wrongExtents(view, count, bounds) : wrongChildren(view, count, bounds);
}

function wrongExtents(
  view: DataView,
  count: number,
  { low, high, hostBlocks }: NodeBounds,
): string | undefined {
  let end = low;
  for (let index = 0; index < count; index++) {
    const at = entryAt(index);
    const guest = view.getUint32(at + EXTENT_FIELD.guest, true);
    const blocks = view.getUint32(at + EXTENT_FIELD.blocks, true);
    const host = view.getUint32(at + EXTENT_FIELD.host, true);
    if (guest < end) return `extent ${String(index)} begins before the end of the one before it`;
    if (blocks === 0 || guest + blocks > high) return `extent ${String(index)} has an impossible length`;
    if (host === 1 || (host !== ZERO_EXTENT && host + blocks > hostBlocks)) {
      return `extent ${String(index)} leads to host block ${String(host)}, past the end of the file`;
    }
    end = guest + blocks;
  }
  return undefined;
}

function wrongChildren(
  view: DataView,
  count: number,
  { low, high, hostBlocks }: NodeBounds,
): string | undefined {
  let next = low;
  for (let index = 0; index < count; index++) {
    const at = entryAt(index);
    const key = view.getUint32(at + CHILD_FIELD.key, true);
    const block = view.getUint32(at + CHILD_FIELD.block, true);
    if (key < next) return `the key of child ${String(index)} is out of order`;
    if (key >= high) return `the key of child ${String(index)} is past the end of the node`;
    if (block < 2 || block >= hostBlocks) return `child ${String(index)} is past the end of the file`;
    next = key + 1;
  }
  return undefined;
}

/** Index of the last entry whose key is at most `key`; −1 if there is none. */
export function lastAtOrBelow(view: DataView, count: number, key: number): number {
  let low = 0;
  let high = count;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (view.getUint32(NODE_HEADER + middle * ENTRY_SIZE, true) <= key) low = middle + 1;
    else high = middle;
  }
  return low - 1;
}

/** Index of the child that has a key. */
export function childOf(view: DataView, count: number, key: number): number {
  return Math.max(0, lastAtOrBelow(view, count, key));
}

/** The guest block behind an extent. */
export function endOfExtent(view: DataView, index: number): number {
  const at = entryAt(index);
  return view.getUint32(at, true) + view.getUint32(at + EXTENT_FIELD.blocks, true);
}
