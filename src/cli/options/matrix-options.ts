/** The options that `bench`, `run` and `replay` share: which cells, how measured, and where files go. */

import type { InferredOptionTypes } from 'yargs';

import { PAYLOAD_KINDS } from '../../bench/payload.ts';
import { LIMITS } from '../../core/limits.ts';
import { STORAGE_KINDS } from '../../device/storage.ts';
import { CACHE_MODES } from '../../format/cache-mode.ts';
import { FORMATS } from '../../format/disk-image.ts';
import { REFCOUNT_MODES } from '../../format/image-options.ts';
import { OVERWRITE_OPTIONS } from './file-uses.ts';
import { BACKING_OPTIONS, type BackingArgs } from './backing-options.ts';
import { LAYOUT_AXES, type LayoutAxesArgs } from './layout-options.ts';
import { ENGINES } from './meanings.ts';
import { flag, inGroup, listOption, openList, optional, preset, withDefault } from './option-kinds.ts';
import { choice, clusterSize, count, device, listOf, onOff, percent, text } from './option-values.ts';

const QUEUE_DEPTH_MAX = 1024;
const SAMPLES_MAX = 1000;
/** Samples a cell gets at most where it is timed until enough is known. */
export const ADAPTIVE_SAMPLES_MAX = 50;
/** Seed 0 stands for "each workload's own". */
const SEED_MIN = 1;

export const CELL_OPTIONS = inGroup('Cells (lists separated by commas make a matrix):', {
  format: openList('format', FORMATS),
  refcounts: openList('refcounts', REFCOUNT_MODES),
  cache: listOption('cache', CACHE_MODES),
  'cluster-size': withDefault(
    optional('Of qcow2 and QED: 64KiB, 2MiB …', listOf('cluster-size', clusterSize('cluster-size'))),
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
    'Where times are taken: file, memory, null, model:NAME',
    listOf('device', device('device', STORAGE_KINDS)),
    'file',
  ),
  engine: preset(
    'What serves the requests: builtin, qemu',
    listOf('engine', choice('engine', ENGINES)),
    'builtin',
  ),
  'qemu-bin-dir': optional('For the engine qemu: where qemu-io lies; default: PATH', text('qemu-bin-dir')),
  payload: preset(
    'What guest writes carry: pattern, random, zero',
    listOf('payload', choice('payload', PAYLOAD_KINDS)),
    'pattern',
  ),
  seed: optional("Replaces the workloads' own seeds", count('seed', { min: SEED_MIN })),
});

export const MEASURE_OPTIONS = inGroup('Measuring:', {
  samples: optional(
    `Timing passes a cell, all of them; 0 counts only; default: as --precision asks, at most ${String(ADAPTIVE_SAMPLES_MAX)}`,
    count('samples', { min: 0, max: SAMPLES_MAX }),
  ),
  precision: optional(
    'Time cells until the 95 % interval of each median is within this; default 5%',
    percent('precision'),
  ),
  'timed-requests': optional(
    'Time the first N requests of each workload; default 64',
    count('timed-requests', { min: 1 }),
  ),
  requests: optional('Serve only the first N requests', count('requests', { min: 1 })),
  resume: flag('Go on with the result in --out: do what is missing'),
  strict: flag('Exit with 1 if a cell was skipped'),
});

/** Apart, as `bench` has a default and the others have not. */
export const TIME_LIMIT = {
  describe: 'Seconds for timing; rounds that do not fit are left out',
  read: count('time-limit', { min: 1 }),
} as const;

export const WARM_UP = {
  describe: 'Timing rounds before the first that counts',
  read: count('warmup', { min: 0, max: SAMPLES_MAX }),
} as const;

export const PLACE_OPTIONS = inGroup('Files:', {
  dir: optional(
    'Directory of timed images and copies; default: a new temporary one, removed afterwards',
    text('dir'),
  ),
  image: optional(
    'Run on a copy of this image, as it is; one that does not exist is made there and kept (one cell)',
    text('image'),
  ),
  'in-place': flag('With --image: write to the image itself, and not to a copy (one cell, counts only)'),
  'host-log': optional('One cell only: write every host operation there, as JSON lines', text('host-log')),
  json: flag('Print the result as JSON instead of the summary'),
});

/** All that `run` and `replay` share; the warm-up has a default of its own in each. */
export const MATRIX_OPTIONS = {
  ...CELL_OPTIONS,
  ...LAYOUT_AXES,
  ...BACKING_OPTIONS,
  ...MEASURE_OPTIONS,
  ...inGroup('Measuring:', {
    'time-limit': optional(`${TIME_LIMIT.describe}; default 60 where --samples is left out`, TIME_LIMIT.read),
  }),
  ...inGroup('Files:', {
    out: optional('Where the result goes, as JSON', text('out')),
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
    /** Seconds. */
    readonly 'time-limit': number | undefined;
    readonly warmup: number;
  };
