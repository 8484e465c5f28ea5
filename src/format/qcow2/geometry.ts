/**
 * What follows from cluster size, refcount width and virtual size: how guest and host offsets split into
 * indices.
 */

import { ceilDiv } from '../../core/alignment.ts';
import { SHAPE_RULES, type ImageShape } from '../image-shape.ts';
import { ENTRY_SIZE } from './layout.ts';

export interface Geometry {
  readonly clusterBits: number;
  /** Bytes. */
  readonly clusterSize: number;
  /** Entries of an L2 table. */
  readonly l2Entries: number;
  /** Guest bytes that one L2 table maps. */
  readonly l2Coverage: number;
  /** log2 of the refcount's width in bits. */
  readonly refcountOrder: number;
  /** Refcounts in one block. */
  readonly refcountBlockEntries: number;
  /** The largest refcount that fits. */
  readonly refcountMax: number;
}

export function makeGeometry(clusterBits: number, refcountOrder: number): Geometry {
  const clusterSize = 2 ** clusterBits;
  const refcountBits = 2 ** refcountOrder;
  const l2Entries = clusterSize / ENTRY_SIZE;
  return {
    clusterBits,
    clusterSize,
    l2Entries,
    l2Coverage: l2Entries * clusterSize,
    refcountOrder,
    refcountBlockEntries: (clusterSize * 8) / refcountBits,
    refcountMax: refcountBits === 64 ? Number.MAX_SAFE_INTEGER : 2 ** refcountBits - 1,
  };
}

/** Of an image that is to be made. */
export function geometryOf(clusterSize: number, shape: ImageShape = {}): Geometry {
  const refcountBits = shape.refcountBits ?? SHAPE_RULES.refcountBits.default;
  return makeGeometry(Math.log2(clusterSize), Math.log2(refcountBits));
}

/** Entries that an L1 table needs for a disk of `virtualSize` bytes. */
export function l1EntriesFor(geometry: Geometry, virtualSize: number): number {
  return ceilDiv(virtualSize, geometry.l2Coverage);
}
