/**
 * The options that say how an image is laid out (`create`, and every command that makes one) and
 * how it is opened (every command that serves one): one table each, for all commands. A matrix
 * takes lists.
 */

import type { InferredOptionTypes } from 'yargs';

import type { OtherAxes } from '../../bench/matrix.ts';
import { combinations, type Choices } from '../../core/combinations.ts';
import { CACHE_SIZE_OPTIONS, givenSizes, type CacheSizes } from '../../format/cache-sizes.ts';
import { COMMIT_POLICIES, DEFAULT_COMMIT_POLICY, type CommitPolicy } from '../../format/commit-policy.ts';
import type { Format } from '../../format/disk-image.ts';
import {
  DEFAULT_ENGINE_POLICY,
  ENGINE_POLICY_NAMES,
  type EnginePolicyName,
} from '../../format/engine-policy.ts';
import { FORMAT_FACTS, formatList, formatsWith, formatsWithShape } from '../../format/formats.ts';
import { DISCARD_MODES, type DiscardMode, type RefcountMode } from '../../format/image-options.ts';
import {
  COMPAT_LEVELS,
  COMPRESSION_TYPES,
  DATA_FILES,
  NODE_SIZES,
  PREALLOCATIONS,
  REFCOUNT_BITS,
  type ImageShape,
} from '../../format/image-shape.ts';
import {
  DEFAULT_QEMU_PROFILE,
  QEMU_PROFILE_NAMES,
  unsupportedNoUnref,
  type QemuProfileName,
} from '../../format/qemu-profile.ts';
import { inGroup, kind, lists, preset, singles } from './option-kinds.ts';
import { choice, listOf, numberOf, onOff, size, sizeOf } from './option-values.ts';
import { UsageError } from '../terminal/usage-error.ts';

/** Of formats whose files have a size that is known in advance. */
const MEASURED_KINDS = {
  compat: kind('qcow2: 0.10 (version 2) or 1.1 (default)', choice('compat', COMPAT_LEVELS)),
  'refcount-bits': kind(
    'qcow2: refcount width in bits, 1 to 64; default 16',
    numberOf('refcount-bits', REFCOUNT_BITS),
  ),
  'extended-l2': kind(
    'qcow2: extended L2 entries (32 subclusters per cluster): on or off (default)',
    onOff('extended-l2'),
  ),
  'compression-type': kind('qcow2: zlib (default) or zstd', choice('compression-type', COMPRESSION_TYPES)),
  preallocation: kind(
    'off (default), metadata (qcow2), falloc or full',
    choice('preallocation', PREALLOCATIONS),
  ),
  'data-file': kind(
    'qcow2: guest data in a file of its own: none (default), plain, or raw (readable as a raw image)',
    choice('data-file', DATA_FILES),
  ),
} as const;
const SHAPE_KINDS = {
  ...MEASURED_KINDS,
  'node-size': kind('btree: size of a node: 4KiB (default), 8KiB … 64KiB', sizeOf('node-size', NODE_SIZES)),
} as const;

const CACHE_SIZE_KINDS = {
  'cache-size': kind('Size of both caches together: 1MiB …', size('cache-size')),
  'l2-cache-size': kind(
    'Size of the L2 table cache; default: enough for the whole disk, at most 32MiB',
    size('l2-cache-size'),
  ),
  'refcount-cache-size': kind(
    'Size of the refcount block cache; default: 4 clusters',
    size('refcount-cache-size'),
  ),
  'l2-cache-entry-size': kind(
    'Size of an L2 slice; default: a cluster, or 4KiB if the cache does not cover the disk',
    size('l2-cache-entry-size'),
  ),
  'btree-cache-size': kind('btree: size of the node cache; default 32MiB', size('btree-cache-size')),
} as const;

const DISCARD = kind(
  "Discards: unmap (QEMU's tools) or ignore (VM drives)",
  choice('discard', DISCARD_MODES),
);
const DISCARD_DEFAULT = 'unmap' satisfies DiscardMode;
const OPENING_KINDS = {
  'discard-no-unref': kind(
    'qcow2, as QEMU 8.1 and newer: discarded clusters keep their place in the image: on or off (default)',
    onOff('discard-no-unref'),
  ),
  policy: kind(
    "qcow2 and QED: how metadata is written: qemu (default); strict: syncs that close QEMU's known gaps; sector: of a table only its changed 4 KiB; group-commit: flushes that wait are one; soft-updates: no sync between refcounts and L2 (needs a disk that keeps the order of writes)",
    choice('policy', ENGINE_POLICY_NAMES),
  ),
  commit: kind(
    'btree: how a flush commits: two-sync (default), one-sync (proved by checksums) or journal (a record each)',
    choice('commit', COMMIT_POLICIES),
  ),
  like: kind(
    `Which QEMU to follow: ${QEMU_PROFILE_NAMES.join(', ')}; default: the newest, or with the engine qemu the one found`,
    choice('like', QEMU_PROFILE_NAMES),
  ),
} as const;

const SHAPE_HEADING = 'Image creation:';
const CACHES_HEADING = 'Metadata caches, of qcow2 as in QEMU:';
const OPENING_HEADING = 'Opening the image:';

/** Of `measure`. */
export const MEASURED_OPTIONS = inGroup(SHAPE_HEADING, singles(MEASURED_KINDS));
/** Of commands that make one image. */
export const SHAPE_OPTIONS = inGroup(SHAPE_HEADING, singles(SHAPE_KINDS));
/** Of commands that serve one image. */
export const OPENING_OPTIONS = {
  ...inGroup(CACHES_HEADING, singles(CACHE_SIZE_KINDS)),
  ...inGroup(OPENING_HEADING, {
    discard: preset(DISCARD.describe, DISCARD.read, DISCARD_DEFAULT),
    ...singles(OPENING_KINDS),
  }),
} as const;
/** Of commands that run a matrix: each takes a list. */
export const LAYOUT_AXES = {
  ...inGroup(SHAPE_HEADING, lists(SHAPE_KINDS)),
  ...inGroup(CACHES_HEADING, lists(CACHE_SIZE_KINDS)),
  ...inGroup(OPENING_HEADING, {
    discard: preset(DISCARD.describe, listOf('discard', DISCARD.read), DISCARD_DEFAULT),
    ...lists(OPENING_KINDS),
  }),
} as const;

export type ShapeArgs = InferredOptionTypes<typeof SHAPE_OPTIONS>;
export type OpeningArgs = InferredOptionTypes<typeof OPENING_OPTIONS>;
export type LayoutAxesArgs = InferredOptionTypes<typeof LAYOUT_AXES>;

type ShapeOption = keyof typeof SHAPE_KINDS;
type CacheSizeOption = keyof typeof CACHE_SIZE_KINDS;
type CacheSizeArgs = Pick<OpeningArgs, CacheSizeOption>;

/** Which option each property comes from. */
export const OPTION_OF_SHAPE = {
  compat: 'compat',
  refcountBits: 'refcount-bits',
  extendedL2: 'extended-l2',
  compressionType: 'compression-type',
  preallocation: 'preallocation',
  dataFile: 'data-file',
  nodeSize: 'node-size',
} as const satisfies Record<keyof ImageShape, ShapeOption>;

/** The names of those that were given. */
export function givenShapeOptions(args: ShapeArgs): readonly string[] {
  return Object.values(OPTION_OF_SHAPE).filter((option) => args[option] !== undefined);
}

/** Those that were given, with the properties they set and their values as they were written. */
export function givenShape(args: Pick<LayoutAxesArgs, ShapeOption>): readonly {
  readonly option: string;
  readonly property: keyof ImageShape;
  readonly values: readonly string[];
}[] {
  return Object.entries(OPTION_OF_SHAPE).flatMap(([property, option]) => {
    const values: readonly (string | number | boolean)[] | undefined = args[option];
    return values === undefined
      ? []
      : [{ option, property: property as keyof ImageShape, values: values.map(shapeValueText) }];
  });
}

/** As the command line has it. */
export function shapeValueText(value: string | number | boolean): string {
  if (typeof value === 'boolean') return value ? 'on' : 'off';
  return String(value);
}

/** @throws UsageError for an option that none of the formats has. */
export function imageShape(args: ShapeArgs, formats: readonly Format[]): ImageShape {
  const shape = valuesOf<ImageShape>(args, OPTION_OF_SHAPE);
  refuseOthersShape(shape, formats);
  return shape;
}

/**
 * Every combination of the properties that were given; one without properties if none was.
 *
 * @throws UsageError for an option that none of the formats has.
 */
export function imageShapes(
  args: Pick<LayoutAxesArgs, ShapeOption>,
  formats: readonly Format[],
): readonly ImageShape[] {
  const choices = valuesOf<Choices<ImageShape>>(args, OPTION_OF_SHAPE);
  refuseOthersShape(choices, formats);
  return [...combinations<ImageShape>(choices)];
}

/** @throws UsageError if sizes were given and none of the formats has such caches. */
export function cacheSizes(args: CacheSizeArgs, formats: readonly Format[]): CacheSizes | undefined {
  const sizes = givenSizes(valuesOf<CacheSizes>(args, CACHE_SIZE_OPTIONS));
  refuseOthersCaches(sizes ?? {}, formats);
  return sizes;
}

/**
 * Every combination of the sizes that were given; one without sizes if none was.
 *
 * @throws UsageError as `cacheSizes`.
 */
function cacheSizeChoices(
  args: Pick<LayoutAxesArgs, CacheSizeOption>,
  formats: readonly Format[],
): readonly CacheSizes[] {
  const choices = valuesOf<Choices<CacheSizes>>(args, CACHE_SIZE_OPTIONS);
  refuseOthersCaches(choices, formats);
  return [...combinations<CacheSizes>(choices)];
}

/**
 * The coordinates that the options of an opening give.
 *
 * @throws UsageError for an option that none of the formats has, or none of the versions of QEMU
 *   that are followed.
 */
export function openingAxes(
  args: LayoutAxesArgs,
  formats: readonly Format[],
  likes: readonly QemuProfileName[] | undefined,
): OtherAxes {
  const noUnref = args['discard-no-unref'];
  validateNoUnref(noUnref ?? [], formats, likes);
  validatePolicy(args.policy ?? [], formats);
  validateCommit(args.commit ?? [], formats);
  return {
    caches: cacheSizeChoices(args, formats),
    discard: args.discard.map((mode) => (mode === DISCARD_DEFAULT ? undefined : mode)),
    discardNoUnref: noUnref?.map((isOn) => (isOn ? isOn : undefined)),
    policy: args.policy,
    commit: args.commit,
    like: likes,
  };
}

/**
 * Checks `--discard-no-unref` against the formats and the versions of QEMU that are followed: one of
 * each must have it.
 *
 * @throws UsageError
 */
export function validateNoUnref(
  values: readonly (boolean | undefined)[],
  formats: readonly Format[],
  likes: readonly QemuProfileName[] = [DEFAULT_QEMU_PROFILE],
): void {
  if (!values.includes(true)) return;
  const having = formatsWith(({ hasDiscardNoUnref }) => hasDiscardNoUnref);
  if (!formats.some((format) => having.includes(format))) {
    throw new UsageError(
      `--discard-no-unref: not supported by ${formats.join(', ')}; use it with ${formatList(having)}`,
    );
  }
  const reasons = likes.map(unsupportedNoUnref);
  const [first] = reasons;
  if (first === undefined || reasons.includes(undefined)) return;
  throw new UsageError(`--discard-no-unref: ${first}`);
}

/**
 * Checks `--policy` against the formats: one of them must have it.
 *
 * @throws UsageError
 */
export function validatePolicy(
  values: readonly (EnginePolicyName | undefined)[],
  formats: readonly Format[],
): void {
  if (values.every((value) => value === undefined || value === DEFAULT_ENGINE_POLICY)) return;
  const having = formatsWith(({ hasPolicies }) => hasPolicies);
  if (formats.some((format) => having.includes(format))) return;
  throw new UsageError(`--policy: not supported by ${formats.join(', ')}; use it with ${formatList(having)}`);
}

/**
 * Checks `--commit` against the formats: one of them must have it.
 *
 * @throws UsageError
 */
export function validateCommit(
  values: readonly (CommitPolicy | undefined)[],
  formats: readonly Format[],
): void {
  if (values.every((value) => value === undefined || value === DEFAULT_COMMIT_POLICY)) return;
  const having = formatsWith(({ commitPolicies }) => commitPolicies !== undefined);
  if (formats.some((format) => having.includes(format))) return;
  throw new UsageError(`--commit: not supported by ${formats.join(', ')}; use it with ${formatList(having)}`);
}

/** The properties with the values of their options. */
function valuesOf<Properties extends object>(
  args: Readonly<Record<string, unknown>>,
  optionOf: Readonly<Record<keyof Properties, string>>,
): Properties {
  const entries: readonly (readonly [string, string])[] = Object.entries(optionOf);
  // Each property has the type that its option reads.
  return Object.fromEntries(entries.map(([property, option]) => [property, args[option]])) as Properties;
}

function refuseOthersShape(
  given: { readonly [P in keyof ImageShape]?: unknown },
  formats: readonly Format[],
): void {
  for (const [property, option] of Object.entries(OPTION_OF_SHAPE)) {
    const key = property as keyof ImageShape;
    const having = formatsWithShape(key);
    if (given[key] === undefined || formats.some((format) => having.includes(format))) continue;
    throw new UsageError(
      `--${option}: not supported by ${formats.join(', ')}; use it with ${having.join(', ')}`,
    );
  }
}

function refuseOthersCaches(
  given: { readonly [P in keyof CacheSizes]?: unknown },
  formats: readonly Format[],
): void {
  for (const [property, option] of Object.entries(CACHE_SIZE_OPTIONS)) {
    const key = property as keyof CacheSizes;
    const having = formatsWith(({ cacheSizes }) => cacheSizes.includes(key));
    if (given[key] === undefined || formats.some((format) => having.includes(format))) continue;
    throw new UsageError(
      `--${option}: not supported by ${formats.join(', ')}; use it with ${formatList(having)}`,
    );
  }
}

/** @throws UsageError for a refcount mode of another format. */
export function refuseRefcounts(refcounts: RefcountMode | undefined, format: Format): void {
  if (refcounts === undefined || FORMAT_FACTS[format].refcountModes.includes(refcounts)) return;
  const having = formatList(formatsWith(({ refcountModes }) => refcountModes.length > 0));
  throw new UsageError(`--refcounts: ${format} has no refcount modes; use it with ${having}`);
}

/** @throws UsageError for an option that was given, if the format is not one of `having`. */
export function refuseOthersOption(option: string, format: Format, having: readonly Format[]): void {
  if (having.includes(format)) return;
  throw new UsageError(`--${option}: not supported by ${format}; use it with ${formatList(having)}`);
}
