/**
 * A run from its options to its result: the cells, where their files lie, who watches, and what is
 * said when it ends early.
 *
 * Invariants: everything that can be refused is refused before the first cell; whatever ends the
 * run, files that were made for it are removed and finished cells are kept where the user asked for
 * them to be kept.
 */

import { BuiltinEngine } from '../../bench/builtin-engine.ts';
import type { CellPlan, Engine, KeptImage } from '../../bench/engine.ts';
import { collectEnvironment } from '../../bench/environment.ts';
import { planMatrix, type MatrixAxes } from '../../bench/matrix.ts';
import { progressOn } from '../terminal/run-progress.ts';
import { shardOf } from '../../bench/shard.ts';
import { runMatrix, type MatrixOutcome, type MatrixRunOptions } from '../../bench/run.ts';
import type { UserImage } from '../../bench/user-image.ts';
import { Qcow2BenchError } from '../../core/error.ts';
import { QEMU_FORMATS } from '../../core/format-name.ts';
import { countOf } from '../../core/number-text.ts';
import { hostImage, imageOfRun } from '../../image/host-image.ts';
import { AccountedStorage } from '../../device/accounted-storage.ts';
import { modelName } from '../../device/device-model.ts';
import type { Storage } from '../../device/storage.ts';
import { REFCOUNT_MODES } from '../../format/image-options.ts';
import type { ImageShape } from '../../format/image-shape.ts';
import { nearestQemuProfile, type QemuProfileName } from '../../format/qemu-profile.ts';
import type { Cell, ResultRecord, ShardRecord } from '../../result/schema.ts';
import { readResult } from '../../result/store.ts';
import type { ReplayTiming } from '../../workload/replay-timing.ts';
import type { WorkloadSource } from '../../workload/library.ts';
import { PROCESS_CLOCK } from './clock.ts';
import { HostLogFile } from '../files/host-log-file.ts';
import { ImageDirectory } from '../files/image-directory.ts';
import { withOptions } from '../grammar/literal-words.ts';
import { quotedWords } from '../grammar/quoted-words.ts';
import { Interrupted, Interruption } from '../terminal/interruption.ts';
import { imageShapes, LAYOUT_AXES } from '../options/layout-options.ts';
import { ADAPTIVE_SAMPLES_MAX, axesOf, CELL_OPTIONS, type MatrixArgs } from '../options/matrix-options.ts';
import { hostFileSystemsOf, validateHostFs } from './host-file-systems.ts';
import { namedDevices } from './named-devices.ts';
import { openSink, type ResultSink } from '../files/result-sink.ts';
import type { Terminal } from '../terminal/terminal.ts';
import { refuseTooSmall, userImageOf } from './user-image.ts';
import { UsageError } from '../terminal/usage-error.ts';

/**
 * Where nothing else is asked for, cells are timed until their medians are known as well as this…
 */
const DEFAULT_PRECISION = 0.05;
/** …or this many seconds are over. */
const DEFAULT_TIME_LIMIT = 60;
const DEFAULT_TIMED_REQUESTS = 64;
/** Bytes: of cells that are given none. */
const CLUSTER_SIZE = 65_536;
const NS_PER_SECOND = 1e9;
/**
 * Recorded where each workload has its own seed; the shuffling of the timing rounds takes it as it
 * is.
 */
const NO_SEED = 0;

export interface MatrixSession {
  readonly args: MatrixArgs;
  readonly sources: readonly WorkloadSource[];
  /**
   * The words after the program's name: kept in the result, and said again where the run can be
   * resumed.
   */
  readonly words: readonly string[];
  /** Called for a cell's fallbacks. */
  readonly remarksOf?: ((cell: Cell) => readonly string[]) | undefined;
  /** Records the size of each image over its counting pass. Default false. */
  readonly watchesGrowth?: boolean | undefined;
  /** Which of the counted cells are timed, as `runMatrix` takes it; default: all. */
  readonly timedCells?: MatrixRunOptions['timedCells'];
  /** Of a replay. */
  readonly replay?: ReplaySetting | undefined;
}

export interface ReplaySetting {
  /** When requests are due; left out, as soon as there is room. */
  readonly timing: ReplayTiming | undefined;
  /** From the first request to the last, as recorded. */
  readonly durationNs: number;
  readonly verify: boolean;
}

export type SessionOutcome =
  | {
      readonly kind: 'done';
      readonly result: ResultRecord;
      readonly outcome: MatrixOutcome;
      readonly sampling: Sampling;
      readonly elapsedMs: number;
    }
  | { readonly kind: 'interrupted' };

/** How long cells are timed. */
export interface Sampling {
  /** Samples a cell gets at most; 0 counts only. */
  readonly samples: number;
  /** Relative half-width of the medians' intervals that ends it earlier. */
  readonly precision: number | undefined;
  readonly timeLimitNs: number | undefined;
  readonly warmUps: number;
}

/**
 * Runs all cells.
 *
 * @throws UsageError; Qcow2BenchError of whatever fails, with word of the cells that are kept.
 */
export async function runSession(session: MatrixSession, terminal: Terminal): Promise<SessionOutcome> {
  const { args } = session;
  validateOptions(args);
  validateReplay(session);
  await using held = await userImageOf(args);
  const userImage = held?.image;
  const isKept = args.image !== undefined && userImage?.inPlace !== false;
  if (args.image !== undefined && userImage === undefined) validateNewImage(args);
  if (userImage !== undefined) refuseTooSmall(session.sources, userImage);
  const sampling = samplingOf(args, session.replay?.timing, { isKept });
  const { samples } = sampling;
  const { devices, models } = namedDevices(args.device);
  const builds = args.engine.includes('qemu') ? await qemuBuilds(args) : [];
  const likes = followedBy(args, builds, terminal);
  const { plans, shard } = inShard(args, planCells(session, devices, { userImage, likes, builds }));
  refuseManyCells(args, { plans, isKept });
  tellDuration(session, { plans, samples }, terminal);
  const isTimedOnFiles = samples > 0 && args.device.includes('file');
  const hasQemu = args.engine.includes('qemu');
  // One that is named is looked at in any case: a wrong name is reported at once.
  const overlaps = plans.some(({ cell }) => cell.overlap === true);
  const isCopied = userImage?.inPlace === false;
  const needsDirectory = isTimedOnFiles || hasQemu || overlaps || isCopied || args.dir !== undefined;
  using directory = needsDirectory ? new ImageDirectory(args.dir) : undefined;
  const qemu = hasQemu ? await qemuEngine(builds, directory) : undefined;
  const environment = collectEnvironment({
    date: new Date(),
    commandLine: session.words,
    seed: args.seed ?? NO_SEED,
    directory: isTimedOnFiles || overlaps ? directory?.path : undefined,
    qemu: builds.length === 0 ? undefined : [...new Set(builds.map(({ version }) => version))].join(', '),
    deviceModels: [...models.values()],
    shard,
  });
  const hostFileSystems =
    directory &&
    (await hostFileSystemsOf(
      plans,
      { directory: directory.path, isTraced: args.below === 'trace' },
      terminal,
    ));
  const sink = openSink({ environment, out: args.out, resume: args.resume, remarksOf: session.remarksOf });
  using hostLog = args['host-log'] === undefined ? undefined : new HostLogFile(args['host-log']);
  const observer = progressOn(terminal.errors);
  using interruption = new Interruption(terminal, () => observer.runEnds?.());
  const startNs = PROCESS_CLOCK.nowNs();
  try {
    const outcome = await runMatrix({
      plans,
      engines: [
        new BuiltinEngine({
          files: directory?.storage ?? storageInPlace(userImage),
          filePrefix: directory?.filePrefix,
          hostFileSystems,
          models,
          makeMemory: session.watchesGrowth === true ? () => new AccountedStorage() : undefined,
        }),
        ...(qemu === undefined ? [] : [qemu]),
      ],
      sink,
      ...sampling,
      timedCells: session.timedCells,
      timedRequests:
        args['timed-requests'] ?? (session.replay?.timing === undefined ? DEFAULT_TIMED_REQUESTS : undefined),
      limit: args.requests,
      resume: args.resume,
      beganEarlierNs: millisecondsBetween(sink.result().environment.date, environment.date) * 1e6,
      clock: PROCESS_CLOCK,
      seed: args.seed ?? NO_SEED,
      signal: interruption.signal,
      observer,
      hostLog: hostLog?.sink,
    });
    const elapsedMs = Number(PROCESS_CLOCK.nowNs() - startNs) / 1e6;
    hostLog?.keep();
    return { kind: 'done', result: sink.finish(), outcome, sampling, elapsedMs };
  } catch (error) {
    if (error instanceof Interrupted) {
      terminal.warn(interruptedText(session, { finished: finishedCells(sink), cells: plans.length }));
      return { kind: 'interrupted' };
    }
    throw withKeptCells(error, args, sink);
  }
}

/** 0 if the clock of the machine was put back between them. */
function millisecondsBetween(earlier: string, later: string): number {
  return Math.max(0, Date.parse(later) - Date.parse(earlier));
}

/** Where counts are taken on the image itself. */
function storageInPlace(userImage: UserImage | undefined): Storage | undefined {
  return userImage?.inPlace === true ? hostImage(userImage.path).storage : undefined;
}

/** Loaded on demand, to keep other runs fast. */
async function qemuEngine(
  builds: readonly QemuBuild[],
  directory: ImageDirectory | undefined,
): Promise<Engine> {
  const { QemuEngine } = await import('../../peer/qemu-engine.ts');
  const { storage: files, filePrefix } = directory ?? {};
  const named = builds.flatMap(({ name, binDirectory }) =>
    name === undefined || binDirectory === undefined ? [] : [[name, binDirectory] as const],
  );
  return new QemuEngine({ files, filePrefix, binDirectory: builds[0]?.binDirectory, builds: new Map(named) });
}

/** A QEMU that cells are run with. */
interface QemuBuild {
  /** As cells have it; `undefined` if it is the only one. */
  readonly name: string | undefined;
  /** `undefined`: on the PATH. */
  readonly binDirectory: string | undefined;
  readonly version: string;
  readonly like: QemuProfileName;
}

/**
 * A QEMU that was named must be there; the system's own may be missing, and its cells are then
 * skipped.
 */
async function qemuBuilds({ 'qemu-bin-dir': binDirectories }: MatrixArgs): Promise<readonly QemuBuild[]> {
  if (binDirectories === undefined) {
    const { QemuEngine } = await import('../../peer/qemu-engine.ts');
    const version = await new QemuEngine().version();
    if (version === undefined) return [];
    return [{ name: undefined, binDirectory: undefined, version, like: nearestQemuProfile(version) }];
  }
  const { findQemuIo } = await import('../../peer/qemu-tools.ts');
  const found = await Promise.all(
    binDirectories.map(async (binDirectory) => ({
      binDirectory,
      version: (await findQemuIo({ binDirectory })).version,
    })),
  );
  return found.map(({ binDirectory, version }) => {
    const isOnly = found.filter((other) => other.version === version).length === 1;
    const name = isOnly ? version : `${version} in ${binDirectory}`;
    const like = nearestQemuProfile(version);
    return { name: found.length === 1 ? undefined : name, binDirectory, version, like };
  });
}

/** What the cells follow: the QEMU that they are held against, if there is one. */
function followedBy(
  { like: asked }: MatrixArgs,
  builds: readonly QemuBuild[],
  terminal: Terminal,
): readonly QemuProfileName[] | undefined {
  if (builds.length === 0) return asked;
  const nearest = [...new Set(builds.map(({ like }) => like))];
  const versions = builds.map(({ version }) => version).join(' and ');
  const other = asked?.find((name) => !nearest.includes(name));
  if (other !== undefined) {
    throw new UsageError(
      `--like ${other}: the engine qemu is QEMU ${versions}, which ${nearest.join(' and ')} follows; ` +
        'name the directory of another one with --qemu-bin-dir, or leave out --like',
    );
  }
  if (asked === undefined) {
    const verb = builds.length === 1 ? 'was' : 'were';
    terminal.warn(`QEMU ${versions} ${verb} found: the engines follow ${nearest.join(' and ')}`);
  }
  return nearest;
}

function planCells(
  { args, sources, replay }: MatrixSession,
  devices: readonly string[],
  {
    userImage,
    likes,
    builds,
  }: {
    readonly userImage: UserImage | undefined;
    readonly likes: readonly QemuProfileName[] | undefined;
    readonly builds: readonly QemuBuild[];
  },
): readonly CellPlan[] {
  const { shapes, ...layout } = userImage === undefined ? layoutAxes(args) : layoutOf(userImage);
  const names = builds.map(({ name }) => name);
  const { others, ...given } = axesOf(args, { formats: layout.formats, likes });
  const axes = {
    ...layout,
    ...given,
    sources,
    devices,
    others: { ...others, shape: shapes, qemuBuild: builds.length > 1 ? names : undefined },
  };
  const keptImage: KeptImage | undefined =
    args.image === undefined || userImage !== undefined
      ? undefined
      : { ...imageOfRun(args.image), overwrite: args.overwrite };
  const { timing, verify } = replay ?? {};
  const qemuBuilds = new Map(
    builds.flatMap(({ name, like }) => (name === undefined ? [] : [[name, like] as const])),
  );
  return planMatrix(axes, { seed: args.seed, timing, verify, keptImage, userImage, qemuBuilds });
}

/** The cells that are to be run here. */
function inShard(
  { shard, balance, requests, samples, seed, 'timed-requests': timedRequests }: MatrixArgs,
  plans: readonly CellPlan[],
): { readonly plans: readonly CellPlan[]; readonly shard: ShardRecord | undefined } {
  if (shard === undefined) return { plans, shard };
  const known = balance === undefined ? undefined : readResult(balance).cells;
  return shardOf(plans, shard, { known, setting: { requests, samples, seed, timedRequests } });
}

interface LayoutAxes extends Pick<MatrixAxes, 'formats' | 'refcounts' | 'clusterSizes'> {
  readonly shapes: readonly ImageShape[];
}

/** As given; what was left out has the defaults that help shows. */
function layoutAxes(args: MatrixArgs): LayoutAxes {
  const formats = args.format ?? QEMU_FORMATS;
  return {
    formats,
    refcounts: args.refcounts ?? REFCOUNT_MODES,
    clusterSizes: args['cluster-size'] ?? [CLUSTER_SIZE],
    shapes: imageShapes(args, formats),
  };
}

/** An axis that the format does not have counts for nothing. */
function layoutOf({ format, refcounts, clusterSize, shape }: UserImage): LayoutAxes {
  return {
    formats: [format],
    refcounts: refcounts === null ? REFCOUNT_MODES : [refcounts],
    clusterSizes: [clusterSize ?? CLUSTER_SIZE],
    shapes: [shape ?? {}],
  };
}

/**
 * A number of samples that is given is taken; else cells are timed until enough is known of them.
 */
function samplingOf(
  { samples: given, precision, warmup, 'time-limit': seconds }: MatrixArgs,
  timing: ReplayTiming | undefined,
  { isKept }: { readonly isKept: boolean },
): Sampling {
  // A pass by the trace's times takes as long as the trace: one is enough unless more are asked
  // for.
  const samples = given ?? (timing === undefined || isKept ? undefined : 1);
  const isAdaptive = samples === undefined;
  const limit = seconds ?? (isAdaptive ? DEFAULT_TIME_LIMIT : undefined);
  return {
    samples: samples ?? (isKept ? 0 : ADAPTIVE_SAMPLES_MAX),
    precision: precision ?? (isAdaptive ? DEFAULT_PRECISION : undefined),
    timeLimitNs: limit === undefined ? undefined : limit * NS_PER_SECOND,
    warmUps: warmup,
  };
}

function validateOptions(args: MatrixArgs): void {
  const { device, resume, out } = args;
  if (args['host-fs'] !== undefined) validateHostFs(args);
  else if (args.below !== undefined) {
    throw new UsageError('--below applies only to file systems of --host-fs: add --host-fs ext4');
  }
  const isOverlapped = args.overlap?.includes(true) === true;
  if (args['qemu-bin-dir'] !== undefined && !args.engine.includes('qemu')) {
    throw new UsageError('--qemu-bin-dir applies only to the engine qemu: add it to --engine');
  }
  if (resume && out === undefined) {
    throw new UsageError('--resume needs --out: the result file to continue');
  }
  if (args.shard !== undefined && out === undefined) {
    throw new UsageError('--shard needs --out: the result that is merged with the others');
  }
  if (args.balance !== undefined && args.shard === undefined) {
    throw new UsageError('--balance needs --shard');
  }
  if (isOverlapped && !args['queue-depth'].some((depth) => depth > 1)) {
    throw new UsageError('--overlap needs a --queue-depth above 1');
  }
  if (isOverlapped && !(device.includes('file') && args.engine.includes('builtin'))) {
    throw new UsageError(
      '--overlap needs the engine builtin and the device file: add them to --engine and --device',
    );
  }
}

/** `--image` names a file that does not exist: it is made there and kept. */
function validateNewImage({ samples, device, dir }: MatrixArgs): void {
  if (samples !== undefined && samples > 0) {
    throw new UsageError('--image: a new image is counted once and not timed; use --samples 0');
  }
  if (device.some((name) => name !== 'file')) {
    throw new UsageError('--image needs --device file');
  }
  if (dir !== undefined) {
    throw new UsageError('--image: a new image is created under this name; omit --dir');
  }
}

function validateReplay({ args, replay }: MatrixSession): void {
  if (replay === undefined) return;
  if (replay.timing !== undefined && args.engine.includes('qemu')) {
    throw new UsageError('--timing needs the builtin engine: qemu is counted, not timed');
  }
  if (!replay.verify) return;
  if (args.engine.includes('qemu')) throw new UsageError('--verify needs the builtin engine; omit qemu');
  if (args.device.includes('null')) {
    throw new UsageError('--verify: the device null discards what is written');
  }
  if (args.payload.some((kind) => kind !== 'pattern')) {
    throw new UsageError('--verify writes its own data patterns: omit --payload');
  }
}

/** What takes less would read as nothing at all. */
const TELLING_SECONDS = 0.1;

/** Announces the duration: a pass at the recorded times takes as long as the trace. */
function tellDuration(
  { args, replay }: MatrixSession,
  { plans, samples }: { readonly plans: readonly CellPlan[]; readonly samples: number },
  terminal: Terminal,
): void {
  if (replay?.timing === undefined || args['timed-requests'] !== undefined) return;
  const passes = samples * plans.filter(({ cell }) => modelName(cell.device) === undefined).length;
  if (passes === 0) return;
  const passSeconds = replay.durationNs / replay.timing.scale / NS_PER_SECOND;
  if (passSeconds * passes < TELLING_SECONDS) return;
  const all = passes === 1 ? '' : `, ${String(passes)} passes ${(passSeconds * passes).toFixed(1)} s`;
  terminal.warn(`A pass at the recorded times takes ${passSeconds.toFixed(1)} s${all}`);
}

function refuseManyCells(
  args: MatrixArgs,
  { plans, isKept }: { readonly plans: readonly CellPlan[]; readonly isKept: boolean },
): void {
  if (plans.length === 1) return;
  const kept = args['in-place'] ? 'in-place' : 'image';
  for (const option of [...(isKept ? [kept] : []), 'host-log'] as const) {
    if (option === 'host-log' && args[option] === undefined) continue;
    throw new UsageError(
      `--${option} needs exactly one cell; these options select ${String(plans.length)}: ` +
        `give one value each to ${optionsWithSeveral(args, plans).join(', ')}`,
    );
  }
}

/** Of those that were left out the values count that the cells have. */
function optionsWithSeveral(args: MatrixArgs, plans: readonly CellPlan[]): readonly string[] {
  const valuesOf = (name: 'workload' | 'format' | 'refcounts'): readonly unknown[] => [
    ...new Set(plans.map(({ cell }) => cell[name]).filter((value) => value !== null)),
  ];
  const lists: Readonly<Record<string, unknown>> = {
    ...args,
    workload: valuesOf('workload'),
    format: valuesOf('format'),
    refcounts: valuesOf('refcounts'),
  };
  const names = ['workload', ...Object.keys(CELL_OPTIONS), ...Object.keys(LAYOUT_AXES)];
  return names.filter((name) => hasSeveral(lists[name])).map((name) => `--${name}`);
}

function hasSeveral(values: unknown): boolean {
  return Array.isArray(values) && values.length > 1;
}

function finishedCells(sink: ResultSink): number {
  return sink.result().cells.filter(({ counts }) => counts !== null).length;
}

function interruptedText(
  { args, words }: MatrixSession,
  { finished, cells }: { readonly finished: number; readonly cells: number },
): string {
  const counted = `interrupted: ${String(finished)} of ${countOf(cells, 'cell')} counted`;
  if (args.out === undefined) return `${counted}; results are not kept without --out`;
  const again = args.resume ? words : withOptions(words, '--resume');
  return `${counted} and kept in ${args.out}; continue with\n  ${quotedWords(again)}`;
}

function withKeptCells(error: unknown, { out }: MatrixArgs, sink: ResultSink): unknown {
  const finished = finishedCells(sink);
  if (!(error instanceof Qcow2BenchError) || out === undefined || finished === 0) return error;
  const message = `${error.message} — ${countOf(finished, 'finished cell')} kept in ${out}; use --resume to continue`;
  return new Qcow2BenchError(error.code, message, {}, error);
}
