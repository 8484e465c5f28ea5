/**
 * The matrix: every combination of the axes as one cell, in a stable order, none twice.
 *
 * Invariants: an axis that a format does not have is `null` in its cells, so raw occurs once for
 * any refcount modes and cluster sizes; the order depends on the axes alone (`choicesOf`).
 */

import { combinationCount, combinations, type Choices } from '../core/combinations.ts';
import { Qcow2BenchError } from '../core/error.ts';
import { DEFAULT_FORMAT } from '../core/format-name.ts';
import { LIMITS } from '../core/limits.ts';
import type { CacheMode } from '../format/cache-mode.ts';
import type { Format } from '../format/disk-image.ts';
import { FORMAT_FACTS } from '../format/formats.ts';
import type { RefcountMode } from '../format/image-options.ts';
import { DEFAULT_QEMU_PROFILE, type QemuProfileName } from '../format/qemu-profile.ts';
import { canonicalCell, cellKey } from '../result/cell.ts';
import { coordinateNames } from '../result/coordinates.ts';
import type { Cell } from '../result/schema.ts';
import { adaptationNames } from '../workload/adaptation.ts';
import type { WorkloadSource } from '../workload/library.ts';
import { replayTimingName, type ReplayTiming } from '../workload/replay-timing.ts';
import { backingLayersOf } from './backing-layers.ts';
import type { CellPlan, KeptImage } from './engine.ts';
import type { PayloadKind } from './payload.ts';
import type { UserImage } from './user-image.ts';

/** Each list in the order in which its values come in the matrix; duplicates are dropped. */
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
  /** Where times are taken: `file`, `memory`, `null` … */
  readonly devices: readonly string[];
  /**
   * Host operations overlap, in cells of the builtin engine on files at a depth above 1. Default
   * false.
   */
  readonly overlaps?: readonly boolean[] | undefined;
  /**
   * Backing files behind each image, for formats that can have one. Default: the workload's, one or
   * none.
   */
  readonly backingDepths?: readonly number[] | undefined;
  /** Default `pattern`. */
  readonly payloads?: readonly PayloadKind[] | undefined;
  /** The other coordinates; without `like`, the newest QEMU is followed. */
  readonly others?: OtherAxes | undefined;
}

/**
 * Coordinates that a cell has exactly as their axis gives them: all but those above, and those that
 * follow from the source or the setting.
 */
type OtherCoordinates = Omit<
  Cell,
  | 'engine'
  | 'workload'
  | 'format'
  | 'refcounts'
  | 'cache'
  | 'clusterSize'
  | 'queueDepth'
  | 'overlap'
  | 'device'
  | 'backing'
  | 'backingDepth'
  | 'payload'
  | 'flushPolicy'
  | 'remap'
  | 'fill'
  | 'maxTransfer'
  | 'timing'
  | 'image'
>;

/** `undefined` in a list is the coordinate's default. */
export type OtherAxes = {
  readonly [Name in keyof OtherCoordinates]: readonly OtherCoordinates[Name][] | undefined;
};

/** What all cells of a matrix share. */
export interface MatrixSetting {
  /** Seed for all workloads; default: each workload's own. */
  readonly seed?: number | undefined;
  /** Of replays by the trace's times; default: as fast as possible. */
  readonly timing?: ReplayTiming | undefined;
  /** Default false. */
  readonly verify?: boolean | undefined;
  /**
   * Builds of QEMU by their names in `qemuBuild`, with what each follows: a cell of a build is held
   * against what follows it.
   */
  readonly qemuBuilds?: ReadonlyMap<string, QemuProfileName> | undefined;
  /** For a matrix of one cell. */
  readonly keptImage?: KeptImage | undefined;
  /** All cells run on it; the axes have its format, refcount mode, cluster size and shape. */
  readonly userImage?: UserImage | undefined;
}

/** @throws Qcow2BenchError `workload-name-twice` or `matrix-too-large`. */
export function planMatrix(axes: MatrixAxes, setting: MatrixSetting = {}): readonly CellPlan[] {
  refuseSameNames(axes.sources);
  const choices = choicesOf(axes);
  refuseTooMany(combinationCount(choices));
  const { seed, timing, verify, keptImage, userImage } = setting;
  const plans = new Map<string, CellPlan>();
  for (const point of combinations(choices)) {
    const { source, payload = 'pattern' } = point;
    const cell = cellAt(point, setting);
    const key = cellKey(cell);
    if (plans.has(key)) continue;
    plans.set(key, { cell, source, seed, payload, timing, verify, keptImage, userImage });
  }
  return [...plans.values()];
}

/** One value of each axis. */
interface MatrixPoint extends OtherCoordinates {
  readonly device: string;
  readonly source: WorkloadSource;
  readonly clusterSize: number;
  readonly queueDepth: number;
  readonly overlap?: boolean | undefined;
  readonly backingDepth?: number | undefined;
  readonly payload?: PayloadKind | undefined;
  readonly cache: CacheMode;
  readonly variant: Variant;
  readonly engine: string;
}

type Variant = Pick<Cell, 'format' | 'refcounts'>;

/** The order of the cells: the last axis varies fastest. */
function choicesOf(axes: MatrixAxes): Choices<MatrixPoint> {
  return {
    device: axes.devices,
    source: axes.sources,
    clusterSize: axes.clusterSizes,
    queueDepth: axes.queueDepths,
    overlap: axes.overlaps,
    backingDepth: axes.backingDepths,
    payload: axes.payloads,
    ...inTableOrder(axes.others ?? {}),
    cache: axes.caches,
    variant: variantsOf(axes),
    engine: axes.engines,
  };
}

function inTableOrder(axes: OtherAxes): OtherAxes {
  const lists = new Map<string, unknown>(Object.entries(axes));
  const names = coordinateNames(() => true).filter((name) => lists.has(name));
  // The same names and lists.
  return Object.fromEntries(names.map((name) => [name, lists.get(name)]));
}

function variantsOf({ formats, refcounts }: MatrixAxes): readonly Variant[] {
  return formats.flatMap((format): readonly Variant[] =>
    FORMAT_FACTS[format].refcountModes.length > 0
      ? refcounts.map((mode) => ({ format, refcounts: mode }))
      : [{ format, refcounts: null }],
  );
}

/** Points that mean the same are one cell. */
function cellAt(point: MatrixPoint, { timing, userImage, qemuBuilds }: MatrixSetting): Cell {
  const build = point.engine === 'builtin' ? undefined : point.qemuBuild;
  // Of a point, the coordinates count alone.
  return canonicalCell({
    ...point,
    ...point.variant,
    workload: point.source.name,
    overlap: overlaps(point) ? true : undefined,
    hostFs: isOnFiles(point) ? point.hostFs : undefined,
    ...backingIn(point, userImage),
    qemuBuild: build,
    like: (build === undefined ? undefined : qemuBuilds?.get(build)) ?? point.like ?? DEFAULT_QEMU_PROFILE,
    image: userImage?.path,
    ...adaptationIn(point.source),
    timing: timing === undefined ? undefined : replayTimingName(timing),
  });
}

/** A chain that the workload does not have is empty, and the same for all formats. */
function backingIn(
  { source, backingDepth }: MatrixPoint,
  userImage: UserImage | undefined,
): Pick<Cell, 'backing' | 'backingDepth'> {
  if (userImage !== undefined) return { backing: userImage.chain[0]?.format, backingDepth: undefined };
  const own = backingLayersOf(source);
  const depth = backingDepth ?? own.length;
  if (depth === 0) return { backing: undefined, backingDepth: undefined };
  return { backing: own.at(-1)?.format ?? DEFAULT_FORMAT, backingDepth: depth > 1 ? depth : undefined };
}

/**
 * At depth 1 nothing else is in flight; other devices have a time of their own; a peer does as it
 * does.
 */
function overlaps(point: MatrixPoint): boolean {
  return point.overlap === true && point.queueDepth > 1 && isOnFiles(point);
}

/** Only the times of the builtin engine on files depend on the file system below. */
function isOnFiles({ device, engine }: MatrixPoint): boolean {
  return device === 'file' && engine === 'builtin';
}

function refuseTooMany(cells: number): void {
  if (cells <= LIMITS.matrixCells) return;
  throw new Qcow2BenchError(
    'matrix-too-large',
    `the options select ${String(cells)} cells, but a run has at most ${String(LIMITS.matrixCells)}: ` +
      'give fewer values to some of them',
  );
}

/** A record names a workload and not its file: two of one name could not be distinguished. */
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

function adaptationIn(source: WorkloadSource): Pick<Cell, 'flushPolicy' | 'remap' | 'fill'> {
  if (source.kind !== 'recording') return {};
  const { adaptation, fill } = source;
  return {
    ...(adaptation === undefined ? {} : adaptationNames(adaptation)),
    ...(fill === undefined ? {} : { fill: 'reads' }),
  };
}
