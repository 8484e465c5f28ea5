/**
 * The shape of an image: what may be chosen when it is made beside its size, its clusters and its
 * refcount mode.
 *
 * A further option of the kind is a property here with its default, a name in the facts of the
 * formats that have it, a line in the result's schema, an option of the command line, and what the
 * format does with it.
 *
 * Invariant: a property that is absent has QEMU's default; `shapeFor` (`formats.ts`) gives only
 * what a format has and what is not the default, so that equal images have equal shapes.
 */

/**
 * Versions of qcow2, as `qemu-img create -o compat=` names them: 0.10 is version 2, 1.1 is version
 * 3.
 */
export const COMPAT_LEVELS = ['0.10', '1.1'] as const;
export type CompatLevel = (typeof COMPAT_LEVELS)[number];

export const REFCOUNT_MODES = ['eager', 'lazy'] as const;
/** When qcow2 writes refcounts: with each allocation, or at a clean close. */
export type RefcountMode = (typeof REFCOUNT_MODES)[number];

/** Widths that a refcount may have. */
export const REFCOUNT_BITS = [1, 2, 4, 8, 16, 32, 64] as const;
export type RefcountBits = (typeof REFCOUNT_BITS)[number];

/** How compressed clusters are packed, in the order of the types' numbers in a qcow2 header. */
export const COMPRESSION_TYPES = ['zlib', 'zstd'] as const;
export type CompressionType = (typeof COMPRESSION_TYPES)[number];

/**
 * How much of an image is there before the first write: nothing, its tables, reserved space, or
 * written zeroes.
 */
export const PREALLOCATIONS = ['off', 'metadata', 'falloc', 'full'] as const;
export type Preallocation = (typeof PREALLOCATIONS)[number];

/** A file of its own for guest data; a raw one can also be read as a raw image. */
export const DATA_FILES = ['none', 'plain', 'raw'] as const;
export type DataFileKind = (typeof DATA_FILES)[number];

/** Bytes of a node of a B-tree. */
export const NODE_SIZES = [4096, 8192, 16_384, 32_768, 65_536] as const;
export type NodeSize = (typeof NODE_SIZES)[number];

export interface ImageShape {
  readonly compat?: CompatLevel | undefined;
  readonly refcountBits?: RefcountBits | undefined;
  /** Clusters of 32 subclusters that are allocated and zeroed apart. */
  readonly extendedL2?: boolean | undefined;
  readonly compressionType?: CompressionType | undefined;
  /** Of how it was made: an open image does not show it. */
  readonly preallocation?: Preallocation | undefined;
  readonly dataFile?: DataFileKind | undefined;
  readonly nodeSize?: NodeSize | undefined;
}

/** What an image has of which nothing else was chosen, where its format has the property. */
export const SHAPE_DEFAULTS = {
  compat: '1.1',
  refcountBits: 16,
  extendedL2: false,
  compressionType: 'zlib',
  preallocation: 'off',
  dataFile: 'none',
  nodeSize: 4096,
} as const satisfies Required<ImageShape>;

/** Where the data file of an image is unless another name is chosen: beside it. */
export function dataFileName(imageName: string): string {
  return `${imageName}.data`;
}

export function hasDataFile(shape: ImageShape | undefined): boolean {
  return (shape?.dataFile ?? SHAPE_DEFAULTS.dataFile) !== 'none';
}
