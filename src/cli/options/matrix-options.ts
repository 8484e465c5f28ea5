/**
 * The options that `bench`, `run` and `replay` share: which cells, how measured, and where files
 * go.
 */

import type { InferredOptionTypes } from 'yargs';

import type { MatrixAxes } from '../../bench/matrix.ts';
import { PAYLOAD_KINDS } from '../../bench/payload.ts';
import { QEMU_FORMATS } from '../../core/format-name.ts';
import { LIMITS } from '../../core/limits.ts';
import { HOST_FILE_SYSTEMS } from '../../device/file-system-kinds.ts';
import { STORAGE_KINDS } from '../../device/storage.ts';
import { CACHE_MODES } from '../../format/cache-mode.ts';
import { FORMATS, type Format } from '../../format/disk-image.ts';
import { REFCOUNT_MODES } from '../../format/image-options.ts';
import type { QemuProfileName } from '../../format/qemu-profile.ts';
import { OVERWRITE_OPTIONS } from './file-uses.ts';
import { BACKING_OPTIONS, type BackingArgs } from './backing-options.ts';
import { LAYOUT_AXES, openingAxes, type LayoutAxesArgs } from './layout-options.ts';
import { ENGINES } from './meanings.ts';
import { flag, inGroup, listOption, openList, optional, preset, withDefault } from './option-kinds.ts';
import { choice, clusterSize, count, device, listOf, onOff, percent, shard, text } from './option-values.ts';

const QUEUE_DEPTH_MAX = 1024;
const SAMPLES_MAX = 1000;
/** Samples a cell gets at most where it is timed until enough is known. */
export const ADAPTIVE_SAMPLES_MAX = 50;
/** Seed 0 means "each workload's own". */
const SEED_MIN = 1;

export const CELL_OPTIONS = inGroup('Cells (comma-separated lists make a matrix):', {
  format: openList('format', FORMATS, QEMU_FORMATS.join(',')),
  refcounts: openList('refcounts', REFCOUNT_MODES),
  cache: listOption('cache', CACHE_MODES),
  'cluster-size': withDefault(
    optional(
      'Cluster size of qcow2 and QED: 64KiB, 2MiB …',
      listOf('cluster-size', clusterSize('cluster-size')),
    ),
    '64KiB',
  ),
  'queue-depth': preset(
    'Guest requests in flight at once',
    listOf('queue-depth', count('queue-depth', { min: 1, max: QUEUE_DEPTH_MAX })),
    '1',
  ),
  'backing-depth': optional(
    "Backing files behind each image: 0,1,4 …; default: the workload's own, one or none",
    listOf('backing-depth', count('backing-depth', { min: 0, max: LIMITS.backingChainDepth })),
  ),
  overlap: withDefault(
    optional(
      'On files at a queue depth above 1, host operations of different requests at once (counts become samples): on, off',
      listOf('overlap', onOff('overlap')),
    ),
    'off',
  ),
  device: preset(
    'Device to time on: file, memory, null, model:NAME',
    listOf('device', device('device', STORAGE_KINDS)),
    'file',
  ),
  'host-fs': optional(
    `Make a file system on a loop device for each sample, and count what reaches the device: ${HOST_FILE_SYSTEMS.join(', ')}; needs root`,
    listOf('host-fs', choice('host-fs', HOST_FILE_SYSTEMS)),
  ),
  engine: preset(
    'Engine that serves the requests: builtin, qemu',
    listOf('engine', choice('engine', ENGINES)),
    'builtin',
  ),
  'qemu-bin-dir': optional(
    'Directory of qemu-io, for the engine qemu; several are compared; default: search PATH',
    listOf('qemu-bin-dir', text('qemu-bin-dir')),
  ),
  payload: preset(
    'Data of guest writes: pattern, random, zero',
    listOf('payload', choice('payload', PAYLOAD_KINDS)),
    'pattern',
  ),
  seed: optional("Seed for all workloads; default: each workload's own", count('seed', { min: SEED_MIN })),
});

/** How what reaches the device below a file system is observed. */
const BELOW_KINDS = ['counts', 'trace'] as const;

export const MEASURE_OPTIONS = inGroup('Measuring:', {
  samples: optional(
    `Timing samples per cell; 0: count only; default: until --precision is met, at most ${String(ADAPTIVE_SAMPLES_MAX)}`,
    count('samples', { min: 0, max: SAMPLES_MAX }),
  ),
  precision: optional("Target half-width of each median's 95 % interval; default 5%", percent('precision')),
  'timed-requests': optional(
    'Number of requests of each workload to time; default 64',
    count('timed-requests', { min: 1 }),
  ),
  requests: optional('Run only the first N requests of each workload', count('requests', { min: 1 })),
  below: optional(
    'With --host-fs: counts of the device (default), or trace: also its seeks, from the events of tracefs',
    choice('below', BELOW_KINDS),
  ),
  shard: optional('Run only part I of N of the cells, as 2/8; join the results with merge', shard('shard')),
  balance: optional(
    'With --shard: earlier result whose durations balance the shards; the same for all',
    text('balance'),
  ),
  resume: flag('Continue the result in --out: run only missing cells'),
  strict: flag('Exit with code 1 if a cell was skipped'),
});

/** Apart, as `bench` has a default and the others have not. */
export const TIME_LIMIT = {
  describe: 'Time budget for sampling, in seconds',
  read: count('time-limit', { min: 1 }),
} as const;

export const WARM_UP = {
  describe: 'Warm-up rounds before the first sample',
  read: count('warmup', { min: 0, max: SAMPLES_MAX }),
} as const;

export const PLACE_OPTIONS = inGroup('Files:', {
  dir: optional('Directory for timed images and copies; default: a temporary one', text('dir')),
  image: optional(
    'Run on a copy of this image; if the file does not exist, it is created and kept (one cell)',
    text('image'),
  ),
  'in-place': flag('With --image: write to the image itself instead of a copy (one cell, counts only)'),
  'host-log': optional('Log every host operation to this file, as JSON lines (one cell)', text('host-log')),
  json: flag('Print the result as JSON instead of the summary'),
});

/** All that `run` and `replay` share; the warm-up has a default of its own in each. */
export const MATRIX_OPTIONS = {
  ...CELL_OPTIONS,
  ...LAYOUT_AXES,
  ...BACKING_OPTIONS,
  ...MEASURE_OPTIONS,
  ...inGroup('Measuring:', {
    'time-limit': optional(`${TIME_LIMIT.describe}; default 60 without --samples`, TIME_LIMIT.read),
  }),
  ...inGroup('Files:', {
    out: optional('Result file to write, JSON', text('out')),
    ...OVERWRITE_OPTIONS,
  }),
  ...PLACE_OPTIONS,
} as const;

export type MatrixArgs = InferredOptionTypes<
  typeof CELL_OPTIONS & typeof MEASURE_OPTIONS & typeof PLACE_OPTIONS
> &
  LayoutAxesArgs &
  BackingArgs & {
    readonly out: string | undefined;
    readonly overwrite: boolean;
    /** Seconds. */
    readonly 'time-limit': number | undefined;
    readonly warmup: number;
  };

/**
 * The axes that the options give by themselves; the others depend on the user's image, the devices
 * and the QEMU found.
 *
 * @throws UsageError as `openingAxes`.
 */
export function axesOf(
  args: MatrixArgs,
  {
    formats,
    likes,
  }: { readonly formats: readonly Format[]; readonly likes: readonly QemuProfileName[] | undefined },
) {
  return {
    caches: args.cache,
    queueDepths: args['queue-depth'],
    engines: args.engine,
    backingDepths: args['backing-depth'],
    overlaps: args.overlap,
    payloads: args.payload,
    others: { ...openingAxes(args, formats, likes), hostFs: args['host-fs'] },
  } as const satisfies Partial<MatrixAxes>;
}
