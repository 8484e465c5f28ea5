/**
 * One pass of the builtin engine over prepared files, to be timed: on real files by the run's
 * clock, on a modelled device by its virtual time, on memory and null without a look at the clock
 * between requests.
 *
 * Invariants: requests and payload are made before the pass; whatever ends it, its files are gone
 * when it is disposed of.
 */

import { FORMAT_FACTS } from '../format/formats.ts';
import { ModelStorage } from '../device/model-storage.ts';
import { HostTimes, Stopwatch } from '../device/stopwatch.ts';
import type { Storage } from '../device/storage.ts';
import type { Format } from '../format/disk-image.ts';
import { dataFileName } from '../format/image-shape.ts';
import type { TimeSplit } from '../result/schema.ts';
import type { Request } from '../workload/request.ts';
import { ticksOf, type Clock } from './clock.ts';
import type { BelowWatch, CellPlan, TimedPass, TimedPassOptions } from './engine.ts';
import type { Drift } from './fidelity.ts';
import type { MadeFileSystem } from './host-file-system.ts';
import { LatencyRecorder, type Latencies, type RequestWatch } from './latency.ts';
import { Pace, realWait, virtualWait } from './pace.ts';
import { Payload } from './payload.ts';
import { payloadSeed, type PreparedFiles } from './prepare.ts';
import { runRequests } from './runner.ts';
import { openStack, type Stack, type StackOptions } from './stack.ts';

export interface TimedPassParts {
  readonly plan: CellPlan;
  readonly requests: readonly Request[];
  readonly files: PreparedFiles;
  readonly storage: Storage;
  readonly stack: StackOptions;
  readonly options: TimedPassOptions;
  /** What the storage is on, if it was made for the pass. */
  readonly host?: MadeFileSystem | undefined;
}

export class BuiltinTimedPass implements TimedPass {
  readonly clock: Clock;
  readonly below: BelowWatch | undefined;
  readonly #parts: TimedPassParts;
  /** Made beforehand, so that no sample pays for the random numbers. */
  readonly #payload: Payload;
  readonly #model: ModelStorage | undefined;
  readonly #latency: LatencyRecorder | undefined;
  /** In a replay by the trace's times. */
  readonly #pace: Pace | undefined;
  readonly #hostTimes: HostTimes | undefined;
  #stack: Stack | undefined;

  constructor(parts: TimedPassParts) {
    const { plan, requests, storage, options } = parts;
    const { queueDepth } = plan.cell;
    this.#parts = parts;
    this.#payload = new Payload(plan.payload, payloadSeed(plan));
    this.#model = storage instanceof ModelStorage ? storage : undefined;
    this.clock = this.#model === undefined ? options.clock : virtualClock(this.#model);
    // On memory and null a pass measures the harness: a look at the clock would be a good part of
    // it.
    const isTimedByRequest = this.#model !== undefined || storage.kind === 'file';
    const isSplit = options.split === true && queueDepth === 1;
    const ticksNs = ticksOf(this.clock);
    this.#pace = isSplit ? undefined : this.#paceOf(parts, ticksNs);
    this.#latency =
      isTimedByRequest && !isSplit && this.#pace === undefined
        ? new LatencyRecorder(requests, { queueDepth, ticksNs })
        : undefined;
    this.#hostTimes = isSplit ? new HostTimes() : undefined;
    this.below = parts.host === undefined ? undefined : belowWatch(parts.host, parts);
  }

  get requests(): number {
    return this.#parts.requests.length;
  }

  async open(): Promise<void> {
    const { stack } = this.#parts;
    const times = this.#hostTimes;
    if (times === undefined) {
      this.#stack = await openStack(stack);
      return;
    }
    const ticksNs = ticksOf(this.clock);
    const inner = stack.wrap ?? ((device) => device);
    this.#stack = await openStack({
      ...stack,
      wrap: (device) => new Stopwatch(inner(device), times, ticksNs),
    });
  }

  async run(): Promise<void> {
    const { plan, requests, storage, options } = this.#parts;
    const { queueDepth } = plan.cell;
    const pace = this.#pace;
    const watch = pace ?? this.#latency;
    this.#hostTimes?.reset();
    if (this.#model !== undefined) this.#model.isConcurrent = queueDepth > 1;
    try {
      await runRequests({
        backend: this.#opened().backend,
        batches: [requests],
        queueDepth,
        payload: this.#payload,
        watch: this.#model === undefined ? watch : modelWatch(this.#model, plan.cell.format, watch),
        due: pace === undefined ? undefined : (number) => pace.due(number),
        signal: options.signal,
        isSlow: storage.kind === 'file',
        progress: options.progress,
      });
    } finally {
      if (this.#model !== undefined) this.#model.isConcurrent = false;
    }
  }

  async close(): Promise<void> {
    await this.#opened().close();
  }

  addLatencies(latencies: Latencies, drift: Drift): void {
    this.#latency?.addTo(latencies);
    this.#pace?.addTo(latencies, drift);
  }

  timeSplit(elapsedNs: number): TimeSplit | undefined {
    if (this.#hostTimes === undefined) return undefined;
    const dataNs = Math.round(this.#hostTimes.dataNs);
    const metadataNs = Math.round(this.#hostTimes.metadataNs);
    const syncNs = Math.round(this.#hostTimes.syncNs);
    const harnessNs = Math.max(0, Math.round(elapsedNs) - dataNs - metadataNs - syncNs);
    return { requests: this.requests, dataNs, metadataNs, syncNs, harnessNs };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    try {
      await this.#stack?.abandon();
    } finally {
      this.#parts.files[Symbol.dispose]();
      await this.#parts.host?.[Symbol.asyncDispose]();
    }
  }

  #paceOf({ plan, requests, options }: TimedPassParts, ticksNs: () => number): Pace | undefined {
    const { timing, cell } = plan;
    if (timing === undefined) return undefined;
    const waitUntil =
      this.#model === undefined
        ? realWait(options.clock, options.signal)
        : virtualWait(this.#model.time, { isConcurrent: cell.queueDepth > 1 });
    if (waitUntil === undefined) {
      throw new Error('internal error: a timed replay needs a clock that can wait');
    }
    return new Pace({ requests, timing, ticksNs, waitUntil });
  }

  #opened(): Stack {
    if (this.#stack === undefined) throw new Error('internal error: the timed pass is not open');
    return this.#stack;
  }
}

function belowWatch(host: MadeFileSystem, { files, requests }: TimedPassParts): BelowWatch {
  const watch = host.watch([files.imageName, dataFileName(files.imageName)]);
  const guestWrites = requests.filter(({ op }) => op === 'write').length;
  const guestFlushes = requests.filter(({ op, fua }) => op === 'flush' || fua).length;
  return {
    fileSystem: host.facts,
    begin: () => watch.begin(),
    end: async () => ({ guestWrites, guestFlushes, ...(await watch.end()) }),
  };
}

function virtualClock({ time }: ModelStorage): Clock {
  return { nowNs: () => BigInt(Math.round(time.nowNs)), ticksNs: () => time.nowNs };
}

/** Lets each request take the processor's time too, within its latency. */
function modelWatch(
  { model, time }: ModelStorage,
  format: Format,
  latency: RequestWatch | undefined,
): RequestWatch {
  const requestNs = model.requestNs[format] ?? FORMAT_FACTS[format].requestNs;
  return {
    resumes: () => latency?.resumes(),
    issued: (number) => {
      latency?.issued(number);
      time.advance(requestNs);
    },
    done: (number) => latency?.done(number),
  };
}
