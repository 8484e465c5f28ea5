/**
 * Taking the samples: in each round every series once, in a newly shuffled order, so that whatever
 * drifts (the file system's fill, the processor's temperature) hits all cells alike. tinybench runs
 * a round; rounds follow each other until the medians are known well enough, or the rounds or the
 * time are spent.
 *
 * Invariants:
 * - Cells that are compared with each other are timed in the same rounds: none of a group stops
 *   before the others.
 * - One sample is one whole pass over the cut of the workload, on new files; only the requests are
 *   within `elapsedNs`, opening and closing are timed beside it, making and removing files is not
 *   timed.
 * - One pass runs at a time, and its files are gone before the next one's are made.
 * - Whatever ends the rounds, samples taken before are saved.
 */

import { Bench, type Task, type TimestampProvider } from 'tinybench';

import { assertInvariant } from '../core/error.ts';
import { Random } from '../core/random.ts';
import { modelName } from '../device/device-model.ts';
import { medianInterval, relativeHalfWidth } from '../result/bootstrap.ts';
import { cellKey } from '../result/cell.ts';
import type { Below, Cell, HostFileSystem, Timing, TimeSplit } from '../result/schema.ts';
import { requestTimeNs } from '../result/statistics.ts';
import { ticksOf, type Clock, type CpuTimes } from './clock.ts';
import type { CellPlan, Engine, PassProgress, TimedPass } from './engine.ts';
import { Drift } from './fidelity.ts';
import { Latencies } from './latency.ts';
import type { RunObserver } from './run-observer.ts';

/** A series of samples on its way through the rounds: those of a cell, or the control of one. */
export interface TimedSeries {
  readonly plan: CellPlan;
  readonly engine: Engine;
  /** Series of one group stop together. */
  readonly group: string;
  /** A second series of a cell, which shows what a difference of nothing looks like. */
  readonly isControl: boolean;
  /** Those of an earlier run first; grows. */
  readonly timings: Timing[];
  /** Of all samples together; grows. */
  readonly latencies: Latencies;
  /** Of all samples together; grows where requests have times of their own. */
  readonly drift: Drift;
  /** Samples that tell something: one where time is virtual, as all are the same; else no bound. */
  readonly samplesMax: number;
  /** From a pass of its own when the rounds are over. */
  timeSplit: TimeSplit | undefined;
  /** What the samples were taken on, if it was made for them. */
  hostFileSystem?: HostFileSystem | undefined;
  /** Requests of each sample: the length of the cut. */
  readonly timedRequests: number;
  /** Runs a part of a pass so that its failure names the cell. */
  readonly run: <T>(work: () => Promise<T>) => Promise<T>;
  readonly save: (series: TimedSeries) => void;
}

export interface TimingRoundsOptions {
  /** At most this many. */
  readonly rounds: number;
  /**
   * Relative half-width of a median's interval at which a series is known well enough; default: all
   * rounds.
   */
  readonly precision: number | undefined;
  /** Rounds before the first, of which nothing is kept. */
  readonly warmUps: number;
  /**
   * No round begins that, as long as the one before it, would end later than this after the first
   * began.
   */
  readonly timeLimitNs: number | undefined;
  readonly clock: Clock;
  readonly seed: number;
  readonly signal: AbortSignal | undefined;
  readonly observer: RunObserver | undefined;
  readonly progressOf: (cell: Cell) => PassProgress;
}

/**
 * Takes the samples that are missing, as far as the time goes, and saves each series that got any.
 * One round is always taken.
 *
 * @throws what a pass throws, of the first cell that fails; the signal's reason.
 */
export async function runTimingRounds(
  cells: readonly TimedSeries[],
  options: TimingRoundsOptions,
): Promise<void> {
  const { rounds, clock, observer, timeLimitNs = Infinity } = options;
  const random = new Random(options.seed);
  const touched = new Set<TimedSeries>();
  const startNs = clock.nowNs();
  let beganNs: bigint | undefined;
  /** Whether another pass over the cells, as long as the one before it, ends in time. */
  const isTimeLeft = (nowNs: bigint): boolean =>
    beganNs === undefined || Number(nowNs - startNs + (nowNs - beganNs)) <= timeLimitNs;
  try {
    if (cells.some((cell) => !hasRound(cell, 0))) await warmUp(cells, random, options);
    for (let round = 0; round < rounds; round++) {
      const isOpen = openGroups(cells, options.precision);
      const order = random.shuffle(cells.filter((cell) => isOpen(cell) && !hasRound(cell, round)));
      if (order.length === 0) continue;
      const nowNs = clock.nowNs();
      if (!isTimeLeft(nowNs)) break;
      beganNs = nowNs;
      observer?.stageBegins?.({ kind: 'time', round, rounds, cells: order.length });
      await runRound(order, { ...options, round, taken: (cell) => touched.add(cell) });
    }
    if (touched.size > 0 && isTimeLeft(clock.nowNs())) await takeSplits([...touched], options);
  } finally {
    // A control is kept beside the samples that it is the control of: those are saved first.
    const inOrder = [...touched].toSorted((a, b) => Number(a.isControl) - Number(b.isControl));
    for (const series of inOrder) series.save(series);
  }
}

function hasRound({ timings, samplesMax }: TimedSeries, round: number): boolean {
  return timings.length >= samplesMax || timings.some((timing) => timing.round === round);
}

/**
 * Reports the series of which more samples are wanted: those of a group in which one is not known
 * well enough.
 */
function openGroups(
  cells: readonly TimedSeries[],
  precision: number | undefined,
): (series: TimedSeries) => boolean {
  if (precision === undefined) return () => true;
  const open = new Set(cells.filter((cell) => !isSettled(cell, precision)).map(({ group }) => group));
  return ({ group }) => open.has(group);
}

function isSettled({ timings, samplesMax }: TimedSeries, precision: number): boolean {
  if (timings.length >= samplesMax) return true;
  const interval = medianInterval(timings.map(requestTimeNs));
  return interval !== undefined && relativeHalfWidth(interval) <= precision;
}

/**
 * The first passes pay for what later ones find ready: compiled code, the file system's structures
 * in memory.
 */
async function warmUp(
  cells: readonly TimedSeries[],
  random: Random,
  options: TimingRoundsOptions,
): Promise<void> {
  const { warmUps, observer } = options;
  const cold = cells
    .filter(({ isControl, samplesMax }) => !isControl && samplesMax > 1)
    .map((cell) => ({
      ...cell,
      timings: [],
      latencies: new Latencies(undefined),
      drift: new Drift(undefined),
    }));
  for (let round = 0; round < warmUps; round++) {
    const order = random.shuffle([...cold]);
    if (order.length === 0) return;
    observer?.stageBegins?.({ kind: 'warm-up', round, rounds: warmUps, cells: order.length });
    await runRound(order, { ...options, round, taken: () => undefined });
  }
}

/**
 * One more pass a cell, with a look at the clock around every host operation; no sample comes of
 * it.
 */
async function takeSplits(cells: readonly TimedSeries[], options: TimingRoundsOptions): Promise<void> {
  for (const cell of cells) {
    const { plan, engine, timedRequests } = cell;
    if (cell.isControl || !splitsTime(plan.cell) || cell.timeSplit !== undefined) continue;
    const { signal, clock, progressOf } = options;
    await cell.run(async () => {
      signal?.throwIfAborted();
      const progress = progressOf(plan.cell);
      await using pass = await engine.prepareTimed(plan, {
        limit: timedRequests,
        signal,
        progress,
        clock,
        split: true,
      });
      await pass.open();
      const ticksNs = ticksOf(pass.clock);
      const beganNs = ticksNs();
      await pass.run();
      cell.timeSplit = pass.timeSplit(ticksNs() - beganNs);
      await pass.close();
    });
  }
}

/**
 * Where operations of several requests overlap, their times do not add up to anything; those on a
 * file system that was made are of no disk.
 */
function splitsTime({ queueDepth, device, hostFs }: Cell): boolean {
  return queueDepth === 1 && hostFs === undefined && (device === 'file' || modelName(device) !== undefined);
}

interface RoundOptions extends TimingRoundsOptions {
  readonly round: number;
  readonly taken: (cell: TimedSeries) => void;
}

async function runRound(order: readonly TimedSeries[], options: RoundOptions): Promise<void> {
  const bench = new Bench({
    iterations: 1,
    // No time to fill and no warm-up: one task call is one sample, and rounds repeat it.
    time: 0,
    warmup: false,
    concurrency: null,
    throws: true,
    retainSamples: true,
    timestampProvider: timestampsOf(options.clock),
  });
  const samples = new Map<Task, Sample>();
  for (const cell of order) {
    const sample = new Sample(cell, options);
    // tinybench refuses duplicate names; the names have no other use.
    bench.add(`${cellKey(cell.plan.cell)}${cell.isControl ? ' control' : ''}`, () => sample.serve(), {
      async: true,
      beforeEach: () => sample.begin(),
      afterEach: () => sample.end(),
    });
    const task = bench.tasks.at(-1);
    if (task !== undefined) samples.set(task, sample);
  }
  bench.addEventListener('cycle', ({ task }) => samples.get(task)?.take(task));
  try {
    await bench.run();
  } catch (error) {
    // tinybench turns a reason that is no error into one.
    options.signal?.throwIfAborted();
    throw error;
  }
}

/** One pass of one cell, and the times around it. */
class Sample {
  readonly #cell: TimedSeries;
  readonly #options: RoundOptions;
  #pass: TimedPass | undefined;
  #openNs = 0;
  #closeNs = 0;
  #cpuBefore: CpuTimes | undefined;
  #cpuAfter: CpuTimes | undefined;
  /** Duration of the pass in virtual time, which tinybench's clock cannot measure. */
  #virtualNs: number | undefined;
  #below: Below | undefined;
  #isServed = false;

  constructor(cell: TimedSeries, options: RoundOptions) {
    this.#cell = cell;
    this.#options = options;
  }

  begin(): Promise<void> {
    const { signal, clock, observer, progressOf } = this.#options;
    const { plan, engine, timedRequests } = this.#cell;
    return this.#cell.run(async () => {
      signal?.throwIfAborted();
      observer?.cellBegins?.(plan.cell);
      const progress = progressOf(plan.cell);
      await progress(0);
      const pass = await engine.prepareTimed(plan, { limit: timedRequests, signal, progress, clock });
      this.#pass = pass;
      assertInvariant(pass.requests === timedRequests, 'the timed part and the counted run differ in length');
      this.#openNs = await durationNs(pass.clock, () => pass.open());
      await pass.below?.begin();
      this.#cpuBefore = clock.cpuTimes?.();
    });
  }

  serve(): Promise<void> {
    return this.#cell.run(async () => {
      const pass = this.#pass;
      if (pass === undefined) return;
      const isVirtual = pass.clock !== this.#options.clock;
      if (isVirtual) this.#virtualNs = await durationNs(pass.clock, () => pass.run());
      else await pass.run();
      this.#isServed = true;
    });
  }

  /** Called by tinybench also when something before it failed: then only the files are to go. */
  end(): Promise<void> {
    const pass = this.#pass;
    if (pass === undefined) return Promise.resolve();
    this.#pass = undefined;
    this.#cpuAfter = this.#options.clock.cpuTimes?.();
    if (!this.#isServed) return disposeAfterFailure(pass);
    return this.#cell.run(async () => {
      try {
        this.#closeNs = await durationNs(pass.clock, () => pass.close());
        this.#below = await pass.below?.end();
        this.#cell.hostFileSystem ??= pass.below?.fileSystem;
        pass.addLatencies(this.#cell.latencies, this.#cell.drift);
      } catch (error) {
        await disposeAfterFailure(pass);
        throw error;
      }
      await pass[Symbol.asyncDispose]();
    });
  }

  /** Adds the sample to its cell when tinybench has it. */
  take(task: Task): void {
    const { result } = task;
    const latencyMs = 'latency' in result ? result.latency.samples?.[0] : undefined;
    if (latencyMs === undefined || result.state !== 'completed') return;
    const { plan } = this.#cell;
    this.#cell.timings.push({
      round: this.#options.round,
      requests: this.#cell.timedRequests,
      elapsedNs: this.#virtualNs ?? Math.round(latencyMs * 1e6),
      openNs: this.#openNs,
      closeNs: this.#closeNs,
      ...this.#cpuSpent(),
      ...(this.#below === undefined ? {} : { below: this.#below }),
    });
    this.#options.taken(this.#cell);
    this.#options.observer?.cellEnds?.(plan.cell, { kind: 'done' });
  }

  #cpuSpent(): Pick<Timing, 'userNs' | 'systemNs' | 'preemptions'> {
    const [before, after] = [this.#cpuBefore, this.#cpuAfter];
    if (before === undefined || after === undefined || this.#virtualNs !== undefined) return {};
    return {
      userNs: after.userNs - before.userNs,
      systemNs: after.systemNs - before.systemNs,
      preemptions: after.preemptions - before.preemptions,
    };
  }
}

/** The first failure is the one to tell of; what fails on the way out is not. */
async function disposeAfterFailure(pass: TimedPass): Promise<void> {
  try {
    await pass[Symbol.asyncDispose]();
  } catch {
    return;
  }
}

async function durationNs(clock: Clock, work: () => Promise<void>): Promise<number> {
  const before = clock.nowNs();
  await work();
  return Number(clock.nowNs() - before);
}

/** The run's clock as tinybench wants one. Milliseconds of a difference keep the nanosecond. */
function timestampsOf(clock: Clock): TimestampProvider {
  return {
    name: 'custom',
    fn: () => clock.nowNs(),
    fromMs: (ms) => BigInt(Math.round(ms * 1e6)),
    toMs: (value) => Number(value) / 1e6,
  };
}
