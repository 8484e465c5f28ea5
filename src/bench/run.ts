/**
 * Runs the cells of a matrix: all counts first, one pass a cell; then the timing rounds.
 *
 * Invariants:
 * - A cell's record is put as soon as it is counted, so a run that is stopped or fails keeps what
 *   was finished; samples are put when the rounds end, however they end, so that no sample shares
 *   the disk with the result file.
 * - A cell that cannot be run here is skipped with its reason; one that fails ends the run with an
 *   error that names it.
 * - Given the same plans and engines, counts are the same in every run.
 */

import { firstError, Qcow2BenchError } from '../core/error.ts';
import { modelName } from '../device/device-model.ts';
import type { HostLogSink } from '../device/host-log.ts';
import { medianInterval, relativeHalfWidth } from '../result/bootstrap.ts';
import { cellKey, cellName, countingKey } from '../result/cell.ts';
import { comparisonGroup, referenceOf } from '../result/comparison.ts';
import type { Cell, CellRecord, GuestCounts } from '../result/schema.ts';
import { requestTimeNs } from '../result/statistics.ts';
import type { Clock } from './clock.ts';
import type { CellPlan, Engine, PassProgress } from './engine.ts';
import { Drift } from './fidelity.ts';
import { Latencies } from './latency.ts';
import type { RunObserver } from './run-observer.ts';
import { SourceDigests } from './request-digest.ts';
import { runTimingRounds, type TimedSeries } from './timing-rounds.ts';
import { TurnTaking } from './turn-taking.ts';

/** Where records go; `ResultWriter` is one. */
export interface RecordSink {
  cellRecord(cell: Cell): CellRecord | undefined;
  putCell(record: CellRecord): void;
}

export interface MatrixRunOptions {
  readonly plans: readonly CellPlan[];
  /** Each plan's `cell.engine` must be the name of one. */
  readonly engines: readonly Engine[];
  readonly sink: RecordSink;
  /** Timing rounds: samples a cell gets at most. 0 counts only. */
  readonly samples: number;
  /**
   * Relative half-width of the interval of a cell's median (`0.05`: ± 5 %) at which a group of
   * cells needs no further round. Default: all rounds are taken.
   */
  readonly precision?: number | undefined;
  /** Rounds before the first sample, of which nothing is kept. Default 0. */
  readonly warmUps?: number | undefined;
  /**
   * Nanoseconds: no timing round begins that would likely end later after the first began. Default:
   * none.
   */
  readonly timeLimitNs?: number | undefined;
  /**
   * Which of the counted cells are timed, by `cellKey`; default: all. Asked once, when all are
   * counted.
   */
  readonly timedCells?: ((counted: readonly CellRecord[]) => ReadonlySet<string>) | undefined;
  /** Requests of the cut of each workload that is timed; default: all. */
  readonly timedRequests?: number | undefined;
  /** Requests of each workload that are served at all; default: all. */
  readonly limit?: number | undefined;
  /** Keep what the sink has of a cell, and do only what is missing. Default false. */
  readonly resume?: boolean | undefined;
  readonly clock: Clock;
  /** Nanoseconds for which the run that is resumed began before this one. Default 0. */
  readonly beganEarlierNs?: number | undefined;
  /** Of the order of cells within the timing rounds. */
  readonly seed: number;
  /** Stops the run between two batches of requests; it then rejects with the signal's reason. */
  readonly signal?: AbortSignal | undefined;
  readonly observer?: RunObserver | undefined;
  /** Gets every host operation of the counting pass; for one cell only. */
  readonly hostLog?: HostLogSink | undefined;
}

/** How many cells of the matrix were served how. */
export interface MatrixOutcome {
  readonly cells: number;
  /** Cells with counts, new or kept. */
  readonly counted: number;
  /** Cells that have all samples asked for, or whose median is as well known as was asked for. */
  readonly timed: number;
  /** Cells of which something was skipped, with the reason in their record. */
  readonly skipped: number;
}

/**
 * Runs the matrix to its end.
 *
 * @throws Qcow2BenchError `cell-failed` with the cell's name and the failure as its cause; the
 *   signal's reason.
 */
export async function runMatrix(options: MatrixRunOptions): Promise<MatrixOutcome> {
  const { plans, hostLog, observer } = options;
  const engines = new Map(options.engines.map((engine) => [engine.name, engine]));
  if (hostLog !== undefined && plans.length > 1) {
    throw new Qcow2BenchError(
      'host-log-of-many',
      `a host log needs exactly one cell; these options select ${String(plans.length)}`,
    );
  }
  const cells = plans.map((plan) => new MatrixCell(plan, engineOf(plan, engines)));
  const turns = new TurnTaking(options.clock);
  const beganNs = options.clock.nowNs() - BigInt(options.beganEarlierNs ?? 0);
  try {
    await countAll(cells, options, { turns, beganNs });
    await timeAll(cells, options, turns);
  } finally {
    observer?.runEnds?.();
  }
  return {
    cells: cells.length,
    counted: cells.filter((cell) => cell.isCounted).length,
    timed: cells.filter((cell) => isTimedEnough(cell, options)).length,
    skipped: cells.filter((cell) => cell.isSkipped).length,
  };
}

class MatrixCell {
  readonly plan: CellPlan;
  readonly engine: Engine;
  record: CellRecord | undefined;

  constructor(plan: CellPlan, engine: Engine) {
    this.plan = plan;
    this.engine = engine;
  }

  get isCounted(): boolean {
    return this.record !== undefined && this.record.counts !== null;
  }

  get isSkipped(): boolean {
    return this.record !== undefined && this.record.skipped !== null;
  }
}

function isTimedEnough({ plan, record }: MatrixCell, { samples, precision }: MatrixRunOptions): boolean {
  const timings = record?.timings ?? [];
  if (samples === 0 || timings.length === 0) return false;
  if (timings.length >= samples || modelName(plan.cell.device) !== undefined) return true;
  const interval = medianInterval(timings.map(requestTimeNs));
  return precision !== undefined && interval !== undefined && relativeHalfWidth(interval) <= precision;
}

async function countAll(
  cells: readonly MatrixCell[],
  options: MatrixRunOptions,
  { turns, beganNs }: { readonly turns: TurnTaking; readonly beganNs: bigint },
): Promise<void> {
  const { sink, observer, signal, clock } = options;
  observer?.stageBegins?.({ kind: 'count', cells: cells.length });
  const digests = new SourceDigests(options.limit);
  /** Of cells whose counts do not depend on where they are timed. */
  const shared = new Map<string, CellRecord>();
  for (const item of cells) {
    signal?.throwIfAborted();
    const { cell } = item.plan;
    observer?.cellBegins?.(cell);
    const standing = options.resume === true ? await keptRecord(item.plan, sink, digests) : undefined;
    if (standing !== undefined && standing.counts !== null) {
      item.record = standing;
      observer?.cellEnds?.(cell, { kind: 'kept' });
      continue;
    }
    const reason = item.engine.unsupportedReason(item.plan, 'count');
    if (reason === undefined) {
      const startNs = clock.nowNs();
      const twin = isCountedApart(cell) ? shared.get(countingKey(cell)) : undefined;
      const record = twin ?? (await naming(cell, signal, () => count(item, options, turns)));
      const span = { beganNs: Number(startNs - beganNs), tookNs: Number(clock.nowNs() - startNs) };
      item.record = { ...record, cell, span };
      if (isCountedApart(cell)) shared.set(countingKey(cell), item.record);
      observer?.cellEnds?.(cell, { kind: 'done' });
    } else {
      item.record = emptyRecord(cell, reason);
      observer?.cellEnds?.(cell, { kind: 'skipped', reason });
    }
    sink.putCell(item.record);
    await turns.next();
  }
}

/** Whether the cell is counted on memory, of whatever device or file system its times are. */
function isCountedApart({ device, hostFs, overlap }: Cell): boolean {
  return modelName(device) !== undefined || (hostFs !== undefined && overlap !== true);
}

/** What the sink has of the cell, unless its image or its workload has been changed since. */
async function keptRecord(
  { cell, userImage, source, seed }: CellPlan,
  sink: RecordSink,
  digests: SourceDigests,
): Promise<CellRecord | undefined> {
  const record = sink.cellRecord(cell);
  const counted = record?.requests?.digest;
  if (counted !== undefined && counted !== (await digests.of(source, seed))) return undefined;
  if (userImage === undefined) return record;
  const { fileBytes, modified } = userImage.facts;
  const isSame = record?.image?.fileBytes === fileBytes && record.image.modified === modified;
  return isSame ? record : undefined;
}

async function count(
  { plan, engine }: MatrixCell,
  options: MatrixRunOptions,
  turns: TurnTaking,
): Promise<CellRecord> {
  const outcome = await engine.count(plan, {
    limit: options.limit,
    signal: options.signal,
    progress: progressOf(plan.cell, options.observer, turns),
    hostLog: options.hostLog,
  });
  const { counts, requests, growth, metadataInMemory, countsDevice, fallbacks, parity, verification } =
    outcome;
  return {
    ...emptyRecord(plan.cell, null),
    ...(plan.userImage === undefined ? {} : { image: plan.userImage.facts }),
    ...(plan.source.kind === 'recording' ? { isRecording: true } : {}),
    counts,
    ...(requests === undefined ? {} : { requests }),
    countsDevice,
    fallbacks,
    ...(growth === undefined ? {} : { growth }),
    ...(metadataInMemory === undefined ? {} : { metadataInMemory }),
    ...(verification === undefined ? {} : { verification }),
    ...(parity === undefined ? {} : { parity }),
  };
}

async function timeAll(
  cells: readonly MatrixCell[],
  options: MatrixRunOptions,
  turns: TurnTaking,
): Promise<void> {
  if (options.samples === 0) return;
  const timed: TimedSeries[] = [];
  const counted = cells.flatMap(({ record }) => (record === undefined ? [] : [record]));
  const chosen = options.timedCells?.(counted);
  for (const item of cells) {
    const { record, plan, engine } = item;
    if (record === undefined || record.counts === null) continue;
    if (chosen?.has(cellKey(plan.cell)) === false) continue;
    const reason = engine.unsupportedReason(plan, 'time');
    if (reason === undefined) timed.push(samplesOf(item, record, options));
    else putRecord(item, { ...record, skipped: reason }, options.sink);
  }
  await runTimingRounds([...timed, ...controlsOf(timed, cells, options)], {
    rounds: options.samples,
    precision: options.precision,
    warmUps: options.warmUps ?? 0,
    timeLimitNs: options.timeLimitNs,
    clock: options.clock,
    seed: options.seed,
    signal: options.signal,
    observer: options.observer,
    progressOf: (cell) => progressOf(cell, undefined, turns),
  });
}

/** The series of a cell's samples. Those of an earlier run stay if they are of the same cut. */
function samplesOf(item: MatrixCell, record: CellRecord, options: MatrixRunOptions): TimedSeries {
  const { plan, engine } = item;
  // Virtual time costs little: there the whole workload is timed, once.
  const isVirtual = modelName(plan.cell.device) !== undefined;
  const cut = Math.min(
    (isVirtual ? undefined : options.timedRequests) ?? Infinity,
    options.limit ?? Infinity,
  );
  const timedRequests = Math.min(cut, requestsOf(record.counts?.guest));
  const standing = record.timedRequests === timedRequests ? record : undefined;
  const samplesMax = isVirtual ? 1 : Infinity;
  // Virtual time needs none.
  const warmUps = standing?.warmUps ?? (isVirtual ? 0 : (options.warmUps ?? 0));
  return {
    plan,
    engine,
    group: comparisonGroup(plan.cell),
    isControl: false,
    timedRequests,
    timings: [...(standing?.timings ?? [])],
    latencies: new Latencies(standing?.latency),
    drift: new Drift(standing?.fidelity),
    samplesMax,
    timeSplit: standing?.timeSplit,
    hostFileSystem: standing?.hostFileSystem,
    run: (work) => naming(plan.cell, options.signal, work),
    save: ({ timings, latencies, drift, timeSplit, hostFileSystem }) => {
      const { control, ...rest } = item.record ?? record;
      const timed = {
        ...rest,
        skipped: null,
        warmUps,
        timings: [...timings],
        // Of another cut it is no control of these samples.
        ...(control === undefined || rest.timedRequests !== timedRequests ? {} : { control }),
        timedRequests,
        ...latencyPart(latencies),
        ...fidelityPart(drift),
        ...(timeSplit === undefined ? {} : { timeSplit }),
        ...(hostFileSystem === undefined ? {} : { hostFileSystem }),
      };
      putRecord(item, timed, options.sink);
    },
  };
}

/** A second series of each cell that others are compared with. */
function controlsOf(
  timed: readonly TimedSeries[],
  cells: readonly MatrixCell[],
  options: MatrixRunOptions,
): readonly TimedSeries[] {
  const groups = Map.groupBy(timed, ({ group }) => group);
  return [...groups.values()].flatMap((group) => {
    const reference = referenceOf(group, ({ plan }) => plan.cell);
    const item = cells.find(({ plan }) => plan === reference?.plan);
    if (group.length < 2 || reference === undefined || reference.samplesMax === 1 || item === undefined) {
      return [];
    }
    // A replay by the trace's times takes as long as the trace, whatever it is compared with.
    if (item.plan.timing !== undefined) return [];
    const standing = item.record?.timedRequests === reference.timedRequests ? item.record.control : undefined;
    const control: TimedSeries = {
      ...reference,
      isControl: true,
      timings: [...(standing ?? [])],
      latencies: new Latencies(undefined),
      drift: new Drift(undefined),
      save: ({ timings }) => {
        if (item.record !== undefined) {
          putRecord(item, { ...item.record, control: [...timings] }, options.sink);
        }
      },
    };
    return [control];
  });
}

function putRecord(item: MatrixCell, record: CellRecord, sink: RecordSink): void {
  item.record = record;
  sink.putCell(record);
}

function latencyPart(latencies: Latencies): Pick<CellRecord, 'latency'> {
  const latency = latencies.byOp();
  return Object.keys(latency).length === 0 ? {} : { latency };
}

function fidelityPart(drift: Drift): Pick<CellRecord, 'fidelity'> {
  const fidelity = drift.fidelity();
  return fidelity === undefined ? {} : { fidelity };
}

/** Requests that were served: what a cut of the workload can have at most. */
function requestsOf(guest: GuestCounts | undefined): number {
  if (guest === undefined) return 0;
  return guest.reads + guest.writes + guest.flushes + guest.discards + guest.writeZeroes;
}

function progressOf(cell: Cell, observer: RunObserver | undefined, turns: TurnTaking): PassProgress {
  return (requestsDone) => {
    observer?.requestsDone?.(cell, requestsDone);
    return turns.next();
  };
}

function emptyRecord(cell: Cell, skipped: string | null): CellRecord {
  return {
    cell,
    countsDevice: null,
    counts: null,
    timedRequests: 0,
    timings: [],
    fallbacks: [],
    skipped,
  };
}

/** Lets a failure say which cell it was; a stop that was asked for is no failure of a cell. */
async function naming<T>(cell: Cell, signal: AbortSignal | undefined, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (thrown) {
    const error = firstError(thrown);
    if (signal?.aborted === true && error === signal.reason) throw thrown;
    const reason = error instanceof Error ? error.message : String(error);
    const message = `cell ${cellName(cell)}: ${reason}`;
    if (error instanceof Qcow2BenchError) throw new Qcow2BenchError('cell-failed', message, {}, error);
    throw new Error(message, { cause: thrown });
  }
}

function engineOf({ cell }: CellPlan, engines: ReadonlyMap<string, Engine>): Engine {
  const engine = engines.get(cell.engine);
  if (engine !== undefined) return engine;
  throw new Qcow2BenchError(
    'unknown-engine',
    `unknown engine '${cell.engine}'; expected ${[...engines.keys()].join(', ')}`,
  );
}
