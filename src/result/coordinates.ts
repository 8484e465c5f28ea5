/**
 * The coordinates of a cell: one table, which the schema, the keys, the names, the baseline, the
 * comparison and the report read. Its order is that of a cell in a result, of the columns of the
 * CSV, and of the parts of a key.
 *
 * Invariant: a coordinate that is absent has its default, so a new one changes no cell of an older
 * result.
 */

import { basename } from 'node:path';

import { z } from 'zod';

import { LIMITS } from '../core/limits.ts';
import { formatSize } from '../core/size.ts';
import {
  CACHE_MODES,
  CACHE_SIZE_OPTIONS,
  COMMIT_POLICIES,
  COMPAT_LEVELS,
  COMPRESSION_TYPES,
  DATA_FILES,
  DEFAULT_COMMIT_POLICY,
  DEFAULT_ENGINE_POLICY,
  ENGINE_POLICY_NAMES,
  FORMATS,
  FORMAT_FACTS,
  HOST_FILE_SYSTEMS,
  NODE_SIZES,
  PREALLOCATIONS,
  DEFAULT_QEMU_PROFILE,
  QEMU_PROFILE_NAMES,
  REFCOUNT_BITS,
  REFCOUNT_MODES,
  REMAPS,
  cachesFor,
  shapeFor,
  type CacheSizes,
  type Format,
  type ImageShape,
  type QemuProfileName,
} from './vocabulary.ts';

/** How names and comparisons treat a coordinate. */
interface Rules<Value> {
  /** What varies where this does, in a word or two. */
  readonly title: string;
  /** Every name begins with it; the other coordinates are the setup of a cell. Default false. */
  readonly isPlace?: boolean;
  /**
   * Cells that differ in it are compared with each other, and belong to one group. Default false.
   */
  readonly isCompared?: boolean;
  /** What an absent one means; a cell that has this value is the same cell. */
  readonly default?: Value;
  /** The value that the name of a cell leaves out. Default: `default`. */
  readonly usual?: Value;
  /**
   * What a format has of the value, where not every format has all of it; `null` or `undefined`:
   * nothing.
   */
  readonly inFormat?: (value: Value, format: Format) => Value | null | undefined;
  /** The value in a name; `''` leaves it out. */
  readonly text: (value: Value) => string;
  /** In the title of a setup, if the cell has no value and there is no default. */
  readonly absentText?: string;
  /** Of an object: its properties, each of which varies by itself. */
  readonly parts?: Readonly<Record<string, Part>>;
}

/** One property of a coordinate that is an object. */
interface Part {
  readonly title: string;
  /** A value in a name; `''` leaves it out. */
  readonly text: (value: unknown) => string;
  /** In a comparison, if the cell does not have the property. */
  readonly absentText: string;
}

/** An entry of the table, whatever its values. */
export interface Coordinate extends Rules<unknown> {
  readonly schema: z.ZodType;
  /** False if no count depends on it: cells that differ in it alone have the same counts. */
  readonly affectsCounts: boolean;
}

type Given<Schema extends z.ZodType> = NonNullable<z.infer<Schema>>;

function counted<Schema extends z.ZodType>(schema: Schema, rules: Rules<Given<Schema>>) {
  return { schema, ...ofAny(rules), affectsCounts: true } as const;
}

function timedOnly<Schema extends z.ZodType>(schema: Schema, rules: Rules<Given<Schema>>) {
  return { schema, ...ofAny(rules), affectsCounts: false } as const;
}

/**
 * The values that rules are asked about come from a cell that the schema of the same entry has
 * checked.
 */
function ofAny<Value>({ text, inFormat, ...rules }: Rules<Value>): Rules<unknown> {
  return {
    ...rules,
    text: (value) => text(value as Value),
    ...(inFormat === undefined ? {} : { inFormat: (value, format) => inFormat(value as Value, format) }),
  };
}

function part<Schema extends z.ZodType>(
  schema: Schema,
  description: string,
  words: {
    readonly title: string;
    readonly text: (value: z.infer<Schema>) => string;
    readonly absentText: string;
  },
) {
  return {
    ...words,
    schema: schema.optional().describe(description),
    text: (value: unknown) => words.text(value as z.infer<Schema>),
  };
}

const SHAPE = {
  compat: part(z.enum(COMPAT_LEVELS), 'qcow2: `0.10` is version 2', {
    title: 'Compat level',
    text: (level) => `compat ${level}`,
    absentText: 'compat 1.1',
  }),
  refcountBits: part(z.literal(REFCOUNT_BITS), 'qcow2: width of a refcount', {
    title: 'Refcount width',
    text: (bits) => `${String(bits)}-bit refcounts`,
    absentText: '16-bit refcounts',
  }),
  extendedL2: part(z.boolean(), 'qcow2: clusters of 32 subclusters', {
    title: 'Extended L2',
    text: (isOn) => (isOn ? 'extended L2' : ''),
    absentText: 'standard L2',
  }),
  compressionType: part(z.enum(COMPRESSION_TYPES), 'qcow2: of compressed clusters', {
    title: 'Compression',
    text: (type) => `compression ${type}`,
    absentText: 'compression zlib',
  }),
  preallocation: part(z.enum(PREALLOCATIONS), 'How much was there before the first write', {
    title: 'Preallocation',
    text: (mode) => `preallocation ${mode}`,
    absentText: 'preallocation off',
  }),
  dataFile: part(z.enum(DATA_FILES), 'qcow2: an external data file', {
    title: 'Data file',
    text: (kind) => `${kind} data file`,
    absentText: 'no data file',
  }),
  nodeSize: part(z.literal(NODE_SIZES), 'B-tree: bytes of a node', {
    title: 'Node size',
    text: (bytes) => `${formatSize(bytes)} nodes`,
    absentText: '4KiB nodes',
  }),
} satisfies Record<keyof ImageShape, unknown>;

function cacheWords(name: keyof CacheSizes, title: string) {
  const option = CACHE_SIZE_OPTIONS[name];
  return {
    title,
    text: (bytes: number) => `${option} ${formatSize(bytes)}`,
    absentText: `default ${option}`,
  };
}

const CACHES = {
  cacheSize: part(
    z.int().nonnegative(),
    'Bytes of both caches together',
    cacheWords('cacheSize', 'Cache size'),
  ),
  l2CacheSize: part(z.int().nonnegative(), 'Bytes', cacheWords('l2CacheSize', 'L2 cache size')),
  refcountCacheSize: part(z.int().nonnegative(), 'Bytes', cacheWords('refcountCacheSize', 'Refcount cache')),
  l2CacheEntrySize: part(
    z.int().positive(),
    'Bytes of a slice of an L2 table',
    cacheWords('l2CacheEntrySize', 'L2 slice size'),
  ),
  btreeCacheSize: part(z.int().nonnegative(), 'Bytes', cacheWords('btreeCacheSize', 'Node cache size')),
} satisfies Record<keyof CacheSizes, unknown>;

const name = z.string().min(1).max(256);
/** Characters: paths of Linux have at most as many bytes. */
const IMAGE_PATH_MAX = 4096;

/** Cells of older results name no QEMU: they followed this one. */
export const UNNAMED_PROFILE: QemuProfileName = 'qemu-7.2';

export const COORDINATES = {
  engine: counted(name.describe('What ran the requests: `builtin`, or the name of a peer such as `qemu`'), {
    title: 'Engine',
    default: 'builtin',
    text: String,
  }),
  workload: counted(name.describe('Name of the workload or trace'), {
    title: 'Workload',
    isPlace: true,
    text: String,
  }),
  format: counted(z.enum(FORMATS), { title: 'Format', isPlace: true, isCompared: true, text: String }),
  refcounts: counted(
    z.enum(REFCOUNT_MODES).nullable().describe('qcow2 only; null where the format has none'),
    { title: 'Refcounts', isPlace: true, isCompared: true, text: String },
  ),
  cache: counted(z.enum(CACHE_MODES), { title: 'Cache mode', isPlace: true, text: String }),
  clusterSize: counted(z.int().positive().nullable().describe('Bytes; null for raw, which has no clusters'), {
    title: 'Cluster size',
    isCompared: true,
    inFormat: (bytes, format) => (FORMAT_FACTS[format].clusterSizes === undefined ? null : bytes),
    text: formatSize,
  }),
  queueDepth: counted(z.int().positive().describe('Guest requests in flight at once'), {
    title: 'Queue depth',
    text: (depth) => `depth ${String(depth)}`,
  }),
  overlap: counted(
    z
      .literal(true)
      .optional()
      .describe('Host operations of different requests ran concurrently: counts are a sample too'),
    { title: 'Overlap', text: () => 'overlap', absentText: 'no overlap' },
  ),
  device: timedOnly(name.describe('Where times were taken: `file`, `memory`, `null` or `model:NAME`'), {
    title: 'Device',
    text: String,
  }),
  hostFs: timedOnly(
    z
      .enum(HOST_FILE_SYSTEMS)
      .optional()
      .describe('File system that was made on a loop device for each sample; absent: that of the directory'),
    {
      title: 'Host file system',
      text: (kind) => `on ${kind}`,
      absentText: 'on the file system of the directory',
    },
  ),
  backing: counted(z.enum(FORMATS).optional().describe('Format of the backing file; absent without one'), {
    title: 'Backing file',
    isCompared: true,
    // Without one, as in raw, the image holds a copy of the data instead.
    inFormat: (backing, format) => (FORMAT_FACTS[format].backing === 'none' ? undefined : backing),
    text: (format) => `backing ${format}`,
    absentText: 'no backing file',
  }),
  backingDepth: counted(
    z
      .int()
      .min(2)
      .max(LIMITS.backingChainDepth)
      .optional()
      .describe('Files of the backing chain; absent where there is one or none'),
    {
      title: 'Backing depth',
      isCompared: true,
      inFormat: (depth, format) => (FORMAT_FACTS[format].backing === 'none' ? undefined : depth),
      text: (depth) => `backing depth ${String(depth)}`,
      absentText: '',
    },
  ),
  payload: counted(name.optional().describe('What guest writes carry; absent means `pattern`'), {
    title: 'Payload',
    default: 'pattern',
    text: (kind) => `payload ${kind}`,
  }),
  flushPolicy: counted(
    name
      .optional()
      .describe(
        'Flushes added to a trace: `every=N` changes, `interval=MS` of its time, or `none`; absent without a policy',
      ),
    {
      title: 'Flush policy',
      text: (policy) => `flush policy ${policy}`,
      absentText: 'flush policy of the trace',
    },
  ),
  remap: counted(z.enum(REMAPS).optional().describe('How a trace was fitted to an image of another size'), {
    title: 'Remap',
    text: (way) => `remap ${way}`,
    absentText: 'remap none',
  }),
  fill: counted(
    z
      .literal('reads')
      .optional()
      .describe('What the trace reads before it writes there was written before the run; absent without'),
    { title: 'Fill', text: () => 'reads filled', absentText: 'reads not filled' },
  ),
  maxTransfer: counted(
    z
      .int()
      .positive()
      .optional()
      .describe('Bytes of a read or write of a trace at most; absent means 32 MiB, the most'),
    {
      title: 'Max transfer',
      text: (bytes) => `max transfer ${formatSize(bytes)}`,
      absentText: `max transfer ${formatSize(LIMITS.transferBytes)}`,
    },
  ),
  timing: timedOnly(
    name
      .optional()
      .describe('`recorded` or `scale=N`: requests timed by the trace; absent means as fast as possible'),
    { title: 'Timing', text: (timing) => `timing ${timing}`, absentText: 'timing asap' },
  ),
  shape: counted(
    z
      .strictObject(schemasOf(SHAPE))
      .meta({ id: 'ImageShape', description: 'How the image was made, as far as it is not the default' })
      .optional()
      .describe('Absent where the image has all the defaults'),
    {
      title: 'Image shape',
      parts: SHAPE,
      isCompared: true,
      inFormat: (shape, format) => shapeFor(format, shape),
      text: (shape) => shapeTexts(shape).join(' · '),
      absentText: 'default shape',
    },
  ),
  caches: counted(
    z
      .strictObject(schemasOf(CACHES))
      .meta({ id: 'CacheSizes', description: 'What was given of the sizes of the metadata caches' })
      .optional()
      .describe('Absent where all are the defaults'),
    {
      title: 'Cache sizes',
      parts: CACHES,
      isCompared: true,
      inFormat: (caches, format) => cachesFor(format, caches),
      text: (caches) => cacheTexts(caches).join(' · '),
      absentText: 'default caches',
    },
  ),
  discard: counted(
    z.literal('ignore').optional().describe('Guest discards were dropped; absent means `unmap`'),
    { title: 'Discard', text: (mode) => `discard ${mode}`, absentText: 'discard unmap' },
  ),
  discardNoUnref: counted(
    z
      .literal(true)
      .optional()
      .describe('qcow2: discarded clusters kept their place in the image; absent means that they were freed'),
    {
      title: 'Discarded clusters',
      inFormat: (isOn, format) => (FORMAT_FACTS[format].hasDiscardNoUnref ? isOn : undefined),
      text: () => 'discard-no-unref',
      absentText: 'no discard-no-unref',
    },
  ),
  policy: counted(
    z
      .enum(ENGINE_POLICY_NAMES)
      .optional()
      .describe('qcow2 and QED: what orders the metadata of the engine; absent means `qemu`'),
    {
      title: 'Policy',
      default: DEFAULT_ENGINE_POLICY,
      isCompared: true,
      inFormat: (policy, format) => (FORMAT_FACTS[format].hasPolicies ? policy : undefined),
      text: (name) => `policy ${name}`,
    },
  ),
  commit: counted(
    z
      .enum(COMMIT_POLICIES)
      .optional()
      .describe('B-tree: how a flush makes the tree durable; absent means `two-sync`'),
    {
      title: 'Commit',
      default: DEFAULT_COMMIT_POLICY,
      isCompared: true,
      inFormat: (commit, format) =>
        FORMAT_FACTS[format].commitPolicies?.includes(commit) === true ? commit : undefined,
      text: (name) => `commit ${name}`,
    },
  ),
  like: counted(
    z
      .enum(QEMU_PROFILE_NAMES)
      .optional()
      .describe(`Which QEMU the engines followed; absent means \`${UNNAMED_PROFILE}\`, once the only one`),
    {
      title: 'QEMU version',
      default: UNNAMED_PROFILE,
      usual: DEFAULT_QEMU_PROFILE,
      text: (name) => `like ${name}`,
    },
  ),
  qemuBuild: counted(
    name
      .optional()
      .describe('Of a run with several builds of QEMU, that of this cell: its version, or its directory too'),
    { title: 'QEMU build', text: (build) => `QEMU ${build}`, absentText: '' },
  ),
  image: counted(
    z
      .string()
      .min(1)
      .max(IMAGE_PATH_MAX)
      .optional()
      .describe('Path of the image of the user that the cell ran on; absent where one was made for it'),
    { title: 'Image', text: (path) => `image ${basename(path)}`, absentText: 'a new image' },
  ),
} as const satisfies Readonly<Record<string, Coordinate>>;

export type CoordinateName = keyof typeof COORDINATES;

/** Those on which counts depend. */
export const COUNTED_COORDINATES = Object.fromEntries(
  Object.entries(COORDINATES).filter(([, { affectsCounts }]) => affectsCounts),
) as Omit<typeof COORDINATES, TimedOnlyName>;

/** The names that fulfil a rule, in the order of the table. */
export function coordinateNames(rule: (coordinate: Coordinate) => boolean): readonly CoordinateName[] {
  return ENTRIES.filter(([, coordinate]) => rule(coordinate)).map(([each]) => each);
}

/** The names of coordinates on which no count depends. */
export type TimedOnlyName = {
  [Name in CoordinateName]: (typeof COORDINATES)[Name]['affectsCounts'] extends false ? Name : never;
}[CoordinateName];

// An object keeps the order in which its properties were written.
const ENTRIES = Object.entries(COORDINATES) as readonly (readonly [CoordinateName, Coordinate])[];

/** What is not the default of an image's shape, one text a property. */
export function shapeTexts(shape: ImageShape | undefined): readonly string[] {
  return partTexts(SHAPE, shape);
}

/** The sizes of metadata caches that were given, one text each. */
export function cacheTexts(caches: CacheSizes | undefined): readonly string[] {
  return partTexts(CACHES, caches);
}

function partTexts(parts: Readonly<Record<string, Part>>, whole: object | undefined): readonly string[] {
  const values = new Map<string, unknown>(Object.entries(whole ?? {}));
  const texts = Object.entries(parts).map(([each, { text }]) => {
    const value = values.get(each);
    return value === undefined ? '' : text(value);
  });
  return texts.filter((text) => text !== '');
}

/** The schemas of a table, for an object that has its names. */
export function schemasOf<Table extends Readonly<Record<string, { readonly schema: z.ZodType }>>>(
  table: Table,
): { readonly [Name in keyof Table]: Table[Name]['schema'] } {
  const schemas = Object.entries(table).map(([each, { schema }]) => [each, schema]);
  // The same names; of each entry only the schema is left.
  return Object.fromEntries(schemas) as { readonly [Name in keyof Table]: Table[Name]['schema'] };
}
