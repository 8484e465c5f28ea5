/**
 * The schema of workload files, `qcow2-bench/workload@1`: what a person writes and what the
 * generator reads.
 *
 * Invariants:
 * - Strict: an unknown field is an error, so that a misspelt one is never silently a default.
 * - Sizes are written as bytes or as text (`64KiB`) and parsed to bytes; every default is filled
 *   in, so a parsed `Workload` says all that the generator does.
 * - Whatever passes can be generated: addresses in whole sectors, every request within its region,
 *   the region within the image, and every phase comes to an end.
 * - The image section describes the image before the run (prefill, crash, backing file), in the
 *   same phases as the run itself; only `phases` are measured.
 */

import { DEFAULT_FORMAT, FORMATS, PLAIN_FORMAT } from '../core/format-name.ts';
import { z } from 'zod';

import { Qcow2BenchError } from '../core/error.ts';
import { LIMITS } from '../core/limits.ts';
import { formatSize, parseSize } from '../core/size.ts';
import { SECTOR_SIZE } from './request.ts';

export const WORKLOAD_SCHEMA = 'qcow2-bench/workload@1';

/**
 * Bytes of a request that carries no data (discard, write-zeroes): what a 32-bit length can say.
 */
const DATALESS_BYTES_MAX = 2 ** 32 - SECTOR_SIZE;
/**
 * Bytes of an image: large enough for any real one, small enough that address arithmetic stays
 * exact.
 */
const IMAGE_BYTES_MAX = 2 ** 52;
const COUNT_MAX = 1e12;

/** The sizes that `parseSize` takes, for editors that check with the JSON Schema. */
const SIZE_TEXT = /^\d+(\.\d+)?\s*([KMGTPkmgtp]([iI][bB])?|[bB])?$/;
const SIZE_RULE = 'a size: bytes, or text such as "64KiB" or "1GiB"';
const NAME_RULE = 'lower-case words joined by hyphens, e.g. "random-allocation"';

/** A strict object whose complaint about an unknown field lists the fields there are. */
function fields<Shape extends z.core.$ZodLooseShape>(shape: Shape) {
  return z.strictObject(shape, {
    error: (issue) =>
      issue.code === 'unrecognized_keys'
        ? `unknown field ${quoteList(issue.keys)}; the fields here are ${quoteList(Object.keys(shape))}`
        : undefined,
  });
}

const size = z
  .union([z.int().min(0), z.string().regex(SIZE_TEXT, `must be ${SIZE_RULE}`)], {
    error: `must be ${SIZE_RULE}`,
  })
  .transform((value, context) => {
    if (typeof value === 'number') return value;
    try {
      return parseSize(value);
    } catch (error) {
      if (!(error instanceof Qcow2BenchError)) throw error;
      context.addIssue({ code: 'custom', message: error.message });
      return z.NEVER;
    }
  })
  .refine((bytes) => bytes % SECTOR_SIZE === 0, `must be a multiple of ${String(SECTOR_SIZE)} bytes`);

const positiveSize = size.refine((bytes) => bytes > 0, 'must be more than 0');
const count = z.int().min(1).max(COUNT_MAX);
const weight = z.number().min(0).max(1e9);

const region = fields({
  offset: size.default(0).describe('start of the region; default 0'),
  length: positiveSize.optional().describe('length of the region; default: to the end of the image'),
}).meta({ id: 'region', description: 'part of the image to address; default: all of it' });

const alignment = positiveSize
  .optional()
  .describe('alignment of addresses, relative to the region; default: the largest block size');

const pattern = z
  .discriminatedUnion(
    'kind',
    [
      fields({ kind: z.literal('sequential'), region: region.optional() }).describe(
        'each request starts where the previous one ended; wraps at the end of the region',
      ),
      fields({
        kind: z.literal('stride'),
        stride: positiveSize.describe('bytes between the starts of requests'),
        region: region.optional(),
      }).describe(
        'each request starts `stride` bytes after the previous one; wraps at the end of the region',
      ),
      fields({
        kind: z.literal('uniform'),
        replacement: z
          .boolean()
          .default(true)
          .describe('false: no address repeats before all were used (a seeded permutation)'),
        alignment,
        region: region.optional(),
      }).describe('any address, all equally likely'),
      fields({
        kind: z.literal('zipf'),
        theta: z.number().gt(0).max(10).describe('skew: the n-th most popular address has weight n^-theta'),
        alignment,
        region: region.optional(),
      }).describe('few popular addresses and many rare ones, scattered over the region'),
    ],
    { error: 'must be an object whose "kind" is one of "sequential", "stride", "uniform", "zipf"' },
  )
  .meta({ id: 'pattern', description: 'address pattern' });

const mix = fields({
  read: weight.default(0),
  write: weight.default(0),
  flush: weight.default(0),
  discard: weight.default(0),
  writeZeroes: weight.default(0),
})
  .refine((weights) => Object.values(weights).some((value) => value > 0), 'needs at least one weight above 0')
  .describe('relative weights of the kinds of request; an omitted kind does not occur');

const phase = fields({
  name: z.string().min(1).max(100),
  requests: count
    .optional()
    .describe('number of requests drawn from the mix; flushes of flushEvery are extra'),
  bytes: positiveSize.optional().describe('instead of requests: run until this many bytes were addressed'),
  mix: mix.default({ read: 0, write: 1, flush: 0, discard: 0, writeZeroes: 0 }),
  fuaShare: z.number().min(0).max(1).default(0).describe('share of writes with the FUA flag'),
  flushEvery: z
    .int()
    .min(0)
    .max(COUNT_MAX)
    .default(0)
    .describe('a flush after this many data-changing requests; 0: none'),
  unmap: z.boolean().default(false).describe('write-zeroes requests may deallocate'),
  blockSizes: z
    .array(fields({ size: positiveSize, weight: weight.default(1) }))
    .min(1)
    .max(64)
    .refine((sizes) => sizes.some((entry) => entry.weight > 0), 'needs at least one weight above 0')
    .describe('request sizes'),
  pattern,
}).meta({ id: 'phase', description: 'requests of one kind; random choices come from the seed' });

const repeat = fields({
  repeat: count.describe('number of repetitions of the phases'),
  phases: z.array(phase).min(1).max(100),
}).meta({ id: 'repeat', description: 'phases run in turn, repeatedly; each continues where it stopped' });

const step = z.union([phase, repeat], { error: 'must be a phase, or {"repeat": N, "phases": […]}' });
const steps = z.array(step).max(100);

const backing = fields({
  format: z.enum(FORMATS).default(DEFAULT_FORMAT),
  size: positiveSize.optional().describe("the backing file's virtual size; default: the image's"),
  fill: steps.default([]).describe('data written to the backing file'),
  get backing() {
    return backing.optional().describe('the backing file is itself an overlay of this file');
  },
}).meta({ id: 'backing', description: 'the image is an overlay of this file' });

const image = fields({
  size: positiveSize
    .refine((bytes) => bytes <= IMAGE_BYTES_MAX, 'must be at most 4096 TiB')
    .describe('virtual size'),
  prefill: steps.default([]).describe('data written to the image before the run'),
  crash: steps
    .default([])
    .describe(
      'data written after the prefill by a process that exits without closing the image; the run then includes the open after the crash',
    ),
  backing: backing.optional(),
}).describe('the image before the run; none of this is measured');

const workloadFields = fields({
  $schema: z.string().optional().describe('for editors; not read'),
  schema: z.literal(WORKLOAD_SCHEMA),
  name: z
    .string()
    .max(60)
    .regex(/^[a-z0-9]+(-[a-z0-9]+)*$/, `must be ${NAME_RULE}`),
  title: z.string().min(1).max(120),
  description: z.string().min(1).max(4000).describe('what the workload shows'),
  seed: z.int().min(0).default(1).describe('the same seed gives the same requests on every machine'),
  image,
  phases: steps.min(1).describe('phases of the run, in order'),
});

export const workloadSchema = workloadFields.superRefine((workload, context) => {
  const report = (path: PropertyKey[], message: string) => {
    context.addIssue({ code: 'custom', path, message });
  };
  const { size: imageSize, prefill, crash, backing: backingFile } = workload.image;
  checkSteps(workload.phases, imageSize, ['phases'], report);
  checkSteps(prefill, imageSize, ['image', 'prefill'], report);
  checkSteps(crash, imageSize, ['image', 'crash'], report);
  const path: PropertyKey[] = ['image'];
  for (let layer = backingFile; layer !== undefined; layer = layer.backing) {
    path.push('backing');
    checkSteps(layer.fill, layer.size ?? imageSize, [...path, 'fill'], report);
    if (layer.format === PLAIN_FORMAT && layer.backing !== undefined) {
      report([...path, 'backing'], 'raw has no backing file');
    }
  }
});

/** A workload with all sizes in bytes and all defaults filled in. */
export type Workload = z.output<typeof workloadSchema>;
export type Phase = z.output<typeof phase>;
/** A file behind the image. */
export type BackingLayer = NonNullable<Workload['image']['backing']>;
/** A phase, or several that take turns. */
export type Step = z.output<typeof step>;
export type Pattern = z.output<typeof pattern>;

/**
 * JSON Schema (draft 2020-12) of the file as a person writes it; docs/workload.schema.json holds
 * it.
 */
export function workloadJsonSchema(): Record<string, unknown> {
  const generated = z.toJSONSchema(workloadFields, { io: 'input', reused: 'inline' });
  const { $schema, ...rest } = generated;
  return { $schema, title: 'qcow2-bench workload', ...rest };
}

/** The files behind the workload's image, the nearest first; empty without one. */
export function backingLayers(workload: Workload): readonly BackingLayer[] {
  const layers: BackingLayer[] = [];
  for (let layer = workload.image.backing; layer !== undefined; layer = layer.backing) layers.push(layer);
  return layers;
}

/** The phases of the steps in file order, each once. */
export function phasesOf(steps: readonly Step[]): Phase[] {
  return steps.flatMap((entry) => ('phases' in entry ? entry.phases : [entry]));
}

/** The bytes a phase's addresses are in, as offsets into an image of `imageSize` bytes. */
export function regionOf(
  pattern: Pattern,
  imageSize: number,
): { readonly offset: number; readonly length: number } {
  const offset = pattern.region?.offset ?? 0;
  return { offset, length: pattern.region?.length ?? imageSize - offset };
}

type Report = (path: PropertyKey[], message: string) => void;

function checkSteps(steps: readonly Step[], imageSize: number, path: PropertyKey[], report: Report): void {
  steps.forEach((entry, index) => {
    if (!('phases' in entry)) checkPhase(entry, imageSize, [...path, index], report);
    else {
      entry.phases.forEach((inner, i) => checkPhase(inner, imageSize, [...path, index, 'phases', i], report));
    }
  });
}

/** What one field alone cannot say: that requests fit where they go, and that the phase ends. */
function checkPhase(entry: Phase, imageSize: number, path: PropertyKey[], report: Report): void {
  const { mix: weights, blockSizes } = entry;
  if ((entry.requests === undefined) === (entry.bytes === undefined)) {
    report(path, 'needs exactly one of "requests" and "bytes"');
  }
  const carriesAddress = weights.read + weights.write + weights.discard + weights.writeZeroes > 0;
  if (entry.bytes !== undefined && !carriesAddress) {
    report([...path, 'bytes'], 'would never be reached: the mix has only flushes; use "requests"');
  }

  const blockSizeMax = Math.max(...blockSizes.map((block) => block.size));
  const carriesData = weights.read + weights.write > 0;
  const limit = carriesData ? LIMITS.transferBytes : DATALESS_BYTES_MAX;
  if (blockSizeMax > limit) {
    report(
      [...path, 'blockSizes'],
      `${formatSize(blockSizeMax)} exceeds the request limit (${formatSize(limit)})`,
    );
  }

  const { offset, length } = regionOf(entry.pattern, imageSize);
  const regionPath = [...path, 'pattern', ...(entry.pattern.region === undefined ? [] : ['region'])];
  if (offset + length > imageSize || length <= 0) {
    report(regionPath, `extends past the end of the image (${formatSize(imageSize)})`);
  } else if (blockSizeMax > length) {
    report(
      regionPath,
      `has ${formatSize(length)}: less than the largest block size, ${formatSize(blockSizeMax)}`,
    );
  }
}

function quoteList(names: readonly string[]): string {
  return names.map((name) => `"${name}"`).join(', ');
}
