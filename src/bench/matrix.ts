/**
 * The matrix: every combination of the axes as one cell, in a stable order, none twice.
 *
 * Invariants: an axis that a format does not have is `null` in its cells, so raw stands once whatever the
 * refcount modes and cluster sizes; the order depends on the axes alone: workload, cluster size, queue depth,
 * cache mode, format, refcounts, engine, the last one fastest.
 */

import { Qcow2BenchError } from '../core/error.ts';
import type { CacheMode } from '../format/cache-mode.ts';
import { givenSizes, type CacheSizes } from '../format/cache-sizes.ts';
import type { Format } from '../format/disk-image.ts';
import type { DiscardMode, RefcountMode } from '../format/image-options.ts';
import { shapeFor, type ImageShape } from '../format/image-shape.ts';
import { cellKey } from '../result/cell.ts';
import type { Cell } from '../result/schema.ts';
import { adaptationNames } from '../workload/adaptation.ts';
import type { WorkloadSource } from '../workload/library.ts';
import { replayTimingName, type ReplayTiming } from '../workload/replay-timing.ts';
import type { CellPlan, KeptImage } from './engine.ts';
import type { PayloadKind } from './payload.ts';
import type { UserImage } from './user-image.ts';

/** Each list in the order in which its values come in the matrix; a value that stands twice counts once. */
export interface MatrixAxes {
  readonly sources: readonly WorkloadSource[];
  readonly formats: readonly Format[];
  /** For qcow2. */
  readonly refcounts: readonly RefcountMode[];
  readonly caches: readonly CacheMode[];
  /** Bytes; for qcow2 and QED. */
  readonly clusterSizes: readonly number[];
  readonly queueDepths: readonly number[];
  readonly engines: readonly string[];
}

/** What all cells of a matrix share. */
export interface MatrixSetting {
  /** Where times are taken: `file`, `memory`, `null` … */
  readonly device: string;
  /** Cells of the builtin engine on files at a depth above 1 overlap their host operations. Default false. */
  readonly overlap?: boolean | undefined;
  /** Replaces the workloads' own seeds. */
  readonly seed?: number | undefined;
  /** Default `pattern`. */
  readonly payload?: PayloadKind | undefined;
  /** Of every image whose format has it; default: QEMU's. */
  readonly shape?: ImageShape | undefined;
  /** Of the metadata caches of qcow2; default: QEMU's. */
  readonly caches?: CacheSizes | undefined;
  /** What becomes of guest discards. Default `unmap`. */
  readonly discard?: DiscardMode | undefined;
  /** Of replays by the trace's times; default: as fast as possible. */
  readonly timing?: ReplayTiming | undefined;
  /** Default false. */
  readonly verify?: boolean | undefined;
  /** For a matrix of one cell. */
  readonly keptImage?: KeptImage | undefined;
  /** All cells run on it; the axes have its format, refcount mode and cluster size, and the shape is its own. */
  readonly userImage?: UserImage | undefined;
}

/** @throws Qcow2BenchError `workload-name-twice`. */
export function planMatrix(axes: MatrixAxes, setting: MatrixSetting): readonly CellPlan[] {
  refuseSameNames(axes.sources);
  const plans = new Map<string, CellPlan>();
  for (const source of axes.sources) {
    for (const cell of cellsOf(source, axes, setting)) {
      const { seed, payload = 'pattern', timing, verify, keptImage, userImage } = setting;
      const key = cellKey(cell);
      if (plans.has(key)) continue;
      plans.set(key, { cell, source, seed, payload, timing, verify, keptImage, userImage });
    }
  }
  return [...plans.values()];
}

function* cellsOf(
  source: WorkloadSource,
  axes: MatrixAxes,
  { device, payload, shape, caches, discard, timing, overlap, userImage }: MatrixSetting,
): Generator<Cell, undefined> {
  for (const clusterSize of axes.clusterSizes) {
    for (const queueDepth of axes.queueDepths) {
      for (const cache of axes.caches) {
        for (const { format, refcounts } of variantsOf(axes)) {
          for (const engine of axes.engines) {
            yield {
              engine,
              workload: source.name,
              format,
              refcounts,
              cache,
              clusterSize: format === 'raw' ? null : clusterSize,
              queueDepth,
              ...(overlap === true && canOverlap({ queueDepth, device, engine }) ? { overlap } : {}),
              device,
              ...(userImage === undefined ? backingIn(source, format) : imageIn(userImage)),
              // Absent means `pattern`.
              ...(payload === undefined || payload === 'pattern' ? {} : { payload }),
              ...shapeIn(format, shape),
              ...cachesIn(format, caches),
              // Absent means `unmap`.
              ...(discard === 'ignore' ? { discard } : {}),
              ...adaptationIn(source),
              ...(timing === undefined ? {} : { timing: replayTimingName(timing) }),
            };
          }
        }
      }
    }
  }
  return undefined;
}

/** At depth 1 nothing else is in flight; other devices have a time of their own; a peer does as it does. */
function canOverlap({ queueDepth, device, engine }: Pick<Cell, 'queueDepth' | 'device' | 'engine'>): boolean {
  return queueDepth > 1 && device === 'file' && engine === 'builtin';
}

type Variant = Pick<Cell, 'format' | 'refcounts'>;

function variantsOf({ formats, refcounts }: MatrixAxes): readonly Variant[] {
  return formats.flatMap((format): readonly Variant[] =>
    format === 'qcow2'
      ? refcounts.map((mode) => ({ format, refcounts: mode }))
      : [{ format, refcounts: null }],
  );
}

/** A record names a workload and not its file: two of one name could not be told apart. */
function refuseSameNames(sources: readonly WorkloadSource[]): void {
  const paths = new Map<string, string>();
  for (const { name, path } of sources) {
    const other = paths.get(name);
    if (other !== undefined && other !== path) {
      throw new Qcow2BenchError(
        'workload-name-twice',
        `two workloads have the name '${name}', this one and ${other}: give one of them another name, or run them apart`,
        { path },
      );
    }
    paths.set(name, path);
  }
}

/** Raw has no backing files: its cells hold a copy of the data instead. */
function backingIn(source: WorkloadSource, format: Format): Pick<Cell, 'backing'> {
  const backing = source.kind === 'workload' ? source.workload.image.backing : undefined;
  return backing === undefined || format === 'raw' ? {} : { backing: backing.format };
}

/** A user's image has the backing file that it has, whatever the workload would run over. */
function imageIn({ path, chain }: UserImage): Pick<Cell, 'backing' | 'image'> {
  const [backing] = chain;
  return { ...(backing === undefined ? {} : { backing: backing.format }), image: path };
}

/** A cell names only what is not the default, so cells of before keep their identity. */
function shapeIn(format: Format, shape: ImageShape | undefined): Pick<Cell, 'shape'> {
  const told = shape === undefined ? undefined : shapeFor(format, shape);
  return told === undefined ? {} : { shape: told };
}

function cachesIn(format: Format, caches: CacheSizes | undefined): Pick<Cell, 'caches'> {
  const told = caches === undefined || format !== 'qcow2' ? undefined : givenSizes(caches);
  return told === undefined ? {} : { caches: told };
}

function adaptationIn(source: WorkloadSource): Pick<Cell, 'flushPolicy' | 'remap'> {
  return source.kind === 'recording' && source.adaptation !== undefined
    ? adaptationNames(source.adaptation)
    : {};
}
