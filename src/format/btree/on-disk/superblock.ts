/**
 * The superblock: everything that a commit changes at once.
 *
 * Two of them are the first blocks of the file. A commit writes the one that the last durable
 * commit did not; the newer one of those that are whole is in force.
 */

import { bytesOfText, textOfBytes } from '../../../core/byte-text.ts';
import { readU64le, viewOf, writeU64le } from '../../../core/bytes.ts';
import { isPowerOfTwo, SECTOR_SIZE } from '../../../core/alignment.ts';
import { LIMITS } from '../../../core/limits.ts';
import { allocatePages } from '../../../core/page-memory.ts';
import { checksum } from './checksum.ts';
import {
  BLOCK_SIZE,
  JOURNAL_BLOCKS_MAX,
  LEVELS_MAX,
  NODE_SIZE_MAX,
  NODE_SIZE_MIN,
  SUPERBLOCKS,
  VIRTUAL_SIZE_MAX,
} from './layout.ts';

/** `qb-btree`. */
export const MAGIC = [0x71, 0x62, 0x2d, 0x62, 0x74, 0x72, 0x65, 0x65] as const;
const VERSION = 1;

/** Byte offsets of the fields. */
export const FIELD = {
  checksum: 8,
  version: 12,
  incompatible: 16,
  compatible: 20,
  generation: 24,
  virtualSize: 32,
  nodeSize: 40,
  flags: 44,
  root: 48,
  epoch: 72,
  snapshotBlock: 76,
  snapshotBytes: 80,
  snapshotChecksum: 84,
  journalBlock: 88,
  journalBlocks: 92,
  proofCount: 96,
  nameLength: 100,
  formatLength: 102,
  name: 512,
  format: 1536,
  proofs: 1600,
} as const;

/** The nodes and data of this commit may not be durable: they have to be compared first. */
const FLAG_UNORDERED = 1;
const FLAGS_KNOWN = FLAG_UNORDERED;
const FORMAT_BYTES_MAX = FIELD.proofs - FIELD.format;
const PROOF_BYTES = 8;

/** Blocks of data whose checksums fit into a superblock. */
export const SUPERBLOCK_PROOFS = (BLOCK_SIZE - FIELD.proofs) / PROOF_BYTES;

/** Where a tree is, and how its root is recognised. */
export interface TreeRoot {
  /** 0 for a tree without extents. */
  readonly block: number;
  readonly checksum: number;
  readonly generation: number;
  /** Levels below the root. */
  readonly level: number;
}

export const EMPTY_ROOT: TreeRoot = { block: 0, checksum: 0, generation: 0, level: 0 };

/** Data that a commit made part of the disk: blocks of the file by their checksums. */
export type Proofs = ReadonlyMap<number, number>;

export interface Superblock {
  readonly generation: number;
  readonly virtualSize: number;
  readonly nodeSize: number;
  /** What is new in it was not durable before it: it counts only if all of that is whole. */
  readonly isUnordered: boolean;
  readonly root: TreeRoot;
  /** Snapshots that were ever taken: extents of a smaller epoch may belong to one of them. */
  readonly epoch: number;
  readonly snapshots: { readonly block: number; readonly bytes: number; readonly checksum: number };
  readonly journal: { readonly block: number; readonly blocks: number };
  readonly backing: { readonly name: string; readonly format: string } | undefined;
  readonly proofs: Proofs;
}

const ROOT_FIELD = { block: 0, checksum: 4, generation: 8, level: 16 } as const;

export function writeRoot(view: DataView, at: number, root: TreeRoot): void {
  view.setUint32(at + ROOT_FIELD.block, root.block, true);
  view.setUint32(at + ROOT_FIELD.checksum, root.checksum, true);
  writeU64le(view, at + ROOT_FIELD.generation, root.generation);
  view.setUint32(at + ROOT_FIELD.level, root.level, true);
}

/** @returns in words, what is wrong with it; or the root */
export function readRoot(view: DataView, at: number): TreeRoot | string {
  const generation = readU64le(view, at + ROOT_FIELD.generation);
  const level = view.getUint32(at + ROOT_FIELD.level, true);
  if (generation === undefined) return "the root's generation is 2^53 or more";
  if (level >= LEVELS_MAX) {
    return `the tree has ${String(level + 1)} levels; at most ${String(LEVELS_MAX)} are possible`;
  }
  return {
    block: view.getUint32(at + ROOT_FIELD.block, true),
    checksum: view.getUint32(at + ROOT_FIELD.checksum, true),
    generation,
    level,
  };
}

/** @param bytes a block to write into */
export function encodeSuperblock(
  superblock: Superblock,
  bytes = allocatePages(BLOCK_SIZE),
): Uint8Array<ArrayBuffer> {
  bytes.fill(0);
  const view = viewOf(bytes);
  const { snapshots, journal, backing, proofs } = superblock;
  bytes.set(MAGIC);
  view.setUint32(FIELD.version, VERSION, true);
  writeU64le(view, FIELD.generation, superblock.generation);
  writeU64le(view, FIELD.virtualSize, superblock.virtualSize);
  view.setUint32(FIELD.nodeSize, superblock.nodeSize, true);
  view.setUint32(FIELD.flags, superblock.isUnordered ? FLAG_UNORDERED : 0, true);
  writeRoot(view, FIELD.root, superblock.root);
  view.setUint32(FIELD.epoch, superblock.epoch, true);
  view.setUint32(FIELD.snapshotBlock, snapshots.block, true);
  view.setUint32(FIELD.snapshotBytes, snapshots.bytes, true);
  view.setUint32(FIELD.snapshotChecksum, snapshots.checksum, true);
  view.setUint32(FIELD.journalBlock, journal.block, true);
  view.setUint32(FIELD.journalBlocks, journal.blocks, true);
  view.setUint32(FIELD.proofCount, proofs.size, true);
  if (backing !== undefined) {
    const name = bytesOfText(backing.name);
    const format = bytesOfText(backing.format);
    view.setUint16(FIELD.nameLength, name.byteLength, true);
    view.setUint16(FIELD.formatLength, format.byteLength, true);
    bytes.set(name, FIELD.name);
    bytes.set(format, FIELD.format);
  }
  writeProofs(view, FIELD.proofs, proofs);
  view.setUint32(FIELD.checksum, superblockChecksum(bytes), true);
  return bytes;
}

/** Of all bytes but those before the checksum, and its own. */
export function superblockChecksum(bytes: Uint8Array): number {
  return checksum(bytes.subarray(FIELD.version));
}

export function writeProofs(view: DataView, at: number, proofs: Proofs): void {
  let place = at;
  for (const [block, sum] of proofs) {
    view.setUint32(place, block, true);
    view.setUint32(place + 4, sum, true);
    place += PROOF_BYTES;
  }
}

export function readProofs(view: DataView, at: number, count: number): Proofs {
  const proofs = new Map<number, number>();
  for (let place = at; place < at + count * PROOF_BYTES; place += PROOF_BYTES) {
    proofs.set(view.getUint32(place, true), view.getUint32(place + 4, true));
  }
  return proofs;
}

export function hasMagic(bytes: Uint8Array): boolean {
  return MAGIC.every((byte, index) => bytes[index] === byte);
}

/**
 * Reads a superblock.
 *
 * @returns in words, the rule that it breaks; or the superblock
 */
export function decodeSuperblock(bytes: Uint8Array): Superblock | string {
  if (!hasMagic(bytes)) return 'it has no magic';
  const view = viewOf(bytes);
  if (view.getUint32(FIELD.checksum, true) !== superblockChecksum(bytes)) return 'its checksum is wrong';
  const version = view.getUint32(FIELD.version, true);
  if (version !== VERSION) {
    return `its version is ${String(version)}; only ${String(VERSION)} is known: use a newer program`;
  }
  const incompatible = view.getUint32(FIELD.incompatible, true);
  if (incompatible !== 0) {
    return `it has incompatible features 0x${incompatible.toString(16)}, of which none is known: use a newer program`;
  }
  const generation = readU64le(view, FIELD.generation);
  const virtualSize = readU64le(view, FIELD.virtualSize);
  const nodeSize = view.getUint32(FIELD.nodeSize, true);
  const flags = view.getUint32(FIELD.flags, true);
  const root = readRoot(view, FIELD.root);
  const journal = {
    block: view.getUint32(FIELD.journalBlock, true),
    blocks: view.getUint32(FIELD.journalBlocks, true),
  };
  const snapshots = {
    block: view.getUint32(FIELD.snapshotBlock, true),
    bytes: view.getUint32(FIELD.snapshotBytes, true),
    checksum: view.getUint32(FIELD.snapshotChecksum, true),
  };
  const proofCount = view.getUint32(FIELD.proofCount, true);
  if (generation === undefined || generation === 0) return 'its generation must be from 1 to 2^53 - 1';
  if (virtualSize === undefined || virtualSize > VIRTUAL_SIZE_MAX || virtualSize % SECTOR_SIZE !== 0) {
    return 'the size of the disk must be a multiple of 512 and at most 8 TiB';
  }
  if (!isPowerOfTwo(nodeSize) || nodeSize < NODE_SIZE_MIN || nodeSize > NODE_SIZE_MAX) {
    return `the node size is ${String(nodeSize)}; it must be a power of two from ${String(NODE_SIZE_MIN)} to ${String(NODE_SIZE_MAX)}`;
  }
  if ((flags & ~FLAGS_KNOWN) !== 0) return `it has unknown flags 0x${flags.toString(16)}`;
  if (typeof root === 'string') return root;
  if (root.block !== 0 && root.block < SUPERBLOCKS) return 'the root of the tree is in a superblock';
  if (root.generation > generation) return 'the root of the tree is newer than the superblock';
  if (journal.blocks > JOURNAL_BLOCKS_MAX || (journal.blocks > 0 && journal.block < SUPERBLOCKS)) {
    return `the journal has ${String(journal.blocks)} blocks from block ${String(journal.block)} on, which is not possible`;
  }
  if (snapshots.bytes > LIMITS.snapshotTableBytes || (snapshots.bytes > 0 && snapshots.block < SUPERBLOCKS)) {
    return `the snapshot table has ${String(snapshots.bytes)} bytes from block ${String(snapshots.block)} on, which is not possible`;
  }
  if (proofCount > SUPERBLOCK_PROOFS) return `it has ${String(proofCount)} checksums of data, too many`;
  const backing = readBacking(bytes, view);
  if (typeof backing === 'string') return backing;
  return {
    generation,
    virtualSize,
    nodeSize,
    isUnordered: (flags & FLAG_UNORDERED) !== 0,
    root,
    epoch: view.getUint32(FIELD.epoch, true),
    snapshots,
    journal,
    backing,
    proofs: readProofs(view, FIELD.proofs, proofCount),
  };
}

function readBacking(bytes: Uint8Array, view: DataView): Superblock['backing'] | string {
  const nameLength = view.getUint16(FIELD.nameLength, true);
  const formatLength = view.getUint16(FIELD.formatLength, true);
  if (nameLength > LIMITS.backingFileNameBytes || formatLength > FORMAT_BYTES_MAX) {
    return 'the name of the backing file, or of its format, is too long';
  }
  if (nameLength === 0) return undefined;
  return {
    name: textOfBytes(bytes.subarray(FIELD.name, FIELD.name + nameLength)),
    format: textOfBytes(bytes.subarray(FIELD.format, FIELD.format + formatLength)),
  };
}
