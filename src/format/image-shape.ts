/**
 * The shape of an image: what may be chosen when it is made beside its size, its clusters and its
 * refcount mode.
 *
 * A further option of the kind is a property here with its rule, a line in the result's schema, an
 * option of the command line, and what the format does with it.
 *
 * Invariant: a property that is absent has QEMU's default; `shapeFor` gives only what a format has
 * and what is not the default, so that equal images have equal shapes.
 */

import type { Format } from './format-name.ts';

/**
 * Versions of qcow2, as `qemu-img create -o compat=` names them: 0.10 is version 2, 1.1 is version
 * 3.
 */
export const COMPAT_LEVELS = ['0.10', '1.1'] as const;
export type CompatLevel = (typeof COMPAT_LEVELS)[number];

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

export interface ImageShape {
  readonly compat?: CompatLevel | undefined;
  readonly refcountBits?: RefcountBits | undefined;
  /** Clusters of 32 subclusters that are allocated and zeroed apart. */
  readonly extendedL2?: boolean | undefined;
  readonly compressionType?: CompressionType | undefined;
  /** Of how it was made: an open image does not show it. */
  readonly preallocation?: Preallocation | undefined;
  readonly dataFile?: DataFileKind | undefined;
}

interface ShapeRule<Value> {
  readonly default: Value;
  /** Those that have the property. */
  readonly formats: readonly Format[];
}

type ShapeRules = {
  readonly [Key in keyof ImageShape]-?: ShapeRule<Exclude<ImageShape[Key], undefined>>;
};

export const SHAPE_RULES: ShapeRules = {
  compat: { default: '1.1', formats: ['qcow2'] },
  refcountBits: { default: 16, formats: ['qcow2'] },
  extendedL2: { default: false, formats: ['qcow2'] },
  compressionType: { default: 'zlib', formats: ['qcow2'] },
  preallocation: { default: 'off', formats: ['raw', 'qcow2'] },
  dataFile: { default: 'none', formats: ['qcow2'] },
};

/** What of `shape` the format has and is not its default; `undefined` if that is nothing. */
export function shapeFor(format: Format, shape: ImageShape): ImageShape | undefined {
  const parts = Object.entries(SHAPE_RULES).flatMap(([key, rule]) => {
    const value = shape[key as keyof ImageShape];
    const isTold = value !== undefined && value !== rule.default && rule.formats.includes(format);
    return isTold ? [[key, value] as const] : [];
  });
  // The same names and values; only some were left out.
  return parts.length === 0 ? undefined : Object.fromEntries(parts);
}

/** Where the data file of an image is unless another name is chosen: beside it. */
export function dataFileName(imageName: string): string {
  return `${imageName}.data`;
}

export function hasDataFile(shape: ImageShape | undefined): boolean {
  return (shape?.dataFile ?? SHAPE_RULES.dataFile.default) !== 'none';
}
