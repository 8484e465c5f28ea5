/**
 * What follows from cluster size, refcount width and virtual size: how guest and host offsets split
 * into indices.
 */

import { ceilDiv } from '../../../core/alignment.ts';
import { SHAPE_DEFAULTS, type ImageShape } from '../../image-shape.ts';
import { ENTRY_SIZE, INCOMPATIBLE, SUBCLUSTERS } from './layout.ts';

export interface Geometry {
  readonly clusterBits: number;
  /** Bytes. */
  readonly clusterSize: number;
  /** Bytes of the unit of an L2 entry: a cluster, or with extended L2 entries a 32nd of it. */
  readonly subclusterSize: number;
  /** Words of 8 bytes in an L2 entry: 1, or 2 if it is extended. */
  readonly entryWords: 1 | 2;
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

/** The fields of a header that decide the geometry. */
export interface GeometryFields {
  readonly clusterBits: number;
  readonly refcountOrder: number;
  /** Bits of `INCOMPATIBLE`. */
  readonly incompatible?: number | undefined;
}

export function makeGeometry({ clusterBits, refcountOrder, incompatible = 0 }: GeometryFields): Geometry {
  const isExtended = (incompatible & INCOMPATIBLE.extendedL2) !== 0;
  const entryWords = isExtended ? 2 : 1;
  const clusterSize = 2 ** clusterBits;
  const refcountBits = 2 ** refcountOrder;
  const l2Entries = clusterSize / (entryWords * ENTRY_SIZE);
  return {
    clusterBits,
    clusterSize,
    subclusterSize: isExtended ? clusterSize / SUBCLUSTERS : clusterSize,
    entryWords,
    l2Entries,
    l2Coverage: l2Entries * clusterSize,
    refcountOrder,
    refcountBlockEntries: (clusterSize * 8) / refcountBits,
    refcountMax: refcountBits === 64 ? Number.MAX_SAFE_INTEGER : 2 ** refcountBits - 1,
  };
}

/** Of an image that is to be made. */
export function geometryOf(clusterSize: number, shape: ImageShape = {}): Geometry {
  const refcountBits = shape.refcountBits ?? SHAPE_DEFAULTS.refcountBits;
  return makeGeometry({
    clusterBits: Math.log2(clusterSize),
    refcountOrder: Math.log2(refcountBits),
    incompatible: shape.extendedL2 === true ? INCOMPATIBLE.extendedL2 : 0,
  });
}

/** Entries that an L1 table needs for a disk of `virtualSize` bytes. */
export function l1EntriesFor(geometry: Geometry, virtualSize: number): number {
  return ceilDiv(virtualSize, geometry.l2Coverage);
}
