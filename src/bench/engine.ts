/**
 * The contract of whatever runs a cell: the builtin engine, or a peer such as a real QEMU.
 *
 * Invariants:
 * - A pass starts from new files: preparation (backing file, image, prefill) is part of a pass and
 *   is neither counted nor timed.
 * - Counts and times come from separate passes, so that counting costs nothing that is timed.
 * - An engine that cannot run a cell here says so in `unsupportedReason` before it starts, in words
 *   for the user.
 */

import type { HostLogSink } from '../device/host-log.ts';
import type { Storage } from '../device/storage.ts';
import type { WorkloadSource } from '../workload/library.ts';
import type { ReplayTiming } from '../workload/replay-timing.ts';
import type { RequestCosts } from '../result/request-costs.ts';
import type {
  Below,
  Cell,
  Counts,
  GrowthPoint,
  HostFileSystem,
  Parity,
  TimeSplit,
  Verification,
} from '../result/schema.ts';
import type { Clock } from './clock.ts';
import type { Drift } from './fidelity.ts';
import type { Latencies } from './latency.ts';
import type { PayloadKind } from './payload.ts';
import type { UserImage } from './user-image.ts';

/** Where a new image is made that stays when the pass is over (`run --image FILE`). */
export interface KeptImage {
  readonly storage: Storage;
  /** Within the storage; there must be no such file. */
  readonly name: string;
  /** Whether its data file may replace an existing file. Its backing files never do. */
  readonly overwrite: boolean;
}

/** One cell with everything that a pass over it needs. */
export interface CellPlan {
  readonly cell: Cell;
  readonly source: WorkloadSource;
  /** Replaces the workload's own seed. */
  readonly seed: number | undefined;
  readonly payload: PayloadKind;
  /**
   * Timed passes go by the times of the trace; left out, requests are issued as soon as the queue
   * has room.
   */
  readonly timing?: ReplayTiming | undefined;
  /** Reads of the counting pass are compared with what was written before. Default false. */
  readonly verify?: boolean | undefined;
  /** The cell is counted on this file, which is made and kept, and not timed. */
  readonly keptImage?: KeptImage | undefined;
  /** The cell runs on this image, as it is, in place of one that is made for it. */
  readonly userImage?: UserImage | undefined;
}

/**
 * Reports how far a pass is; awaited between batches, so that signals and the terminal get their
 * turn.
 */
export type PassProgress = (requestsDone: number) => void | Promise<void>;

export interface PassOptions {
  /** At most this many requests; default: all. */
  readonly limit?: number | undefined;
  /** Stops the pass between two batches; what it had made is removed. */
  readonly signal?: AbortSignal | undefined;
  readonly progress?: PassProgress | undefined;
}

export interface CountPassOptions extends PassOptions {
  /** Gets every host operation in issue order. */
  readonly hostLog?: HostLogSink | undefined;
}

export interface CountOutcome {
  readonly counts: Counts;
  /** What the guest asked for, and what each request cost. */
  readonly requests?: RequestCosts | undefined;
  /** The device that was counted on. */
  readonly countsDevice: string;
  /** Paths taken because the preferred one was not available, as text. */
  readonly fallbacks: readonly string[];
  /** Size of the image over the pass, where the storage keeps account of it. */
  readonly growth?: readonly GrowthPoint[] | undefined;
  /** Bytes of metadata in memory after the last request, where the engine knows. */
  readonly metadataInMemory?: number | undefined;
  /** What was compared, where reads were to be verified. */
  readonly verification?: Verification | undefined;
  /** How a peer's operations compare with those of the builtin engine. */
  readonly parity?: Parity | undefined;
}

export interface TimedPassOptions extends PassOptions {
  readonly clock: Clock;
  /**
   * Take times of single host operations too, which costs time: the pass is then no sample. Default
   * false.
   */
  readonly split?: boolean | undefined;
}

/** A pass that is ready to be timed: the image is prepared and not yet open. */
export interface TimedPass extends AsyncDisposable {
  readonly requests: number;
  /**
   * What times are taken by: the clock that was handed in, or the virtual time of a modelled
   * device.
   */
  readonly clock: Clock;
  /** Of a cell with `hostFs`. */
  readonly below?: BelowWatch | undefined;
  open(): Promise<void>;
  /** Serves all requests at the cell's queue depth. */
  run(): Promise<void>;
  close(): Promise<void>;
  /**
   * Adds the latencies of the requests that `run` served, where they were taken, and how late they
   * were issued.
   */
  addLatencies(latencies: Latencies, drift: Drift): void;
  /**
   * Where the time of `run` went, given how long it took; `undefined` if that was not asked for.
   */
  timeSplit(elapsedNs: number): TimeSplit | undefined;
}

/** What reaches the device below a file system that was made for a pass. */
export interface BelowWatch {
  readonly fileSystem: HostFileSystem;
  /** To be called when the image is open. */
  begin(): Promise<void>;
  /** To be called when the image is closed. */
  end(): Promise<Below>;
}

export interface Engine {
  /** As `cell.engine` has it. */
  readonly name: string;
  /** Why the cell cannot be counted (or timed) here; `undefined` if it can. */
  unsupportedReason(plan: CellPlan, pass: 'count' | 'time'): string | undefined;
  count(plan: CellPlan, options: CountPassOptions): Promise<CountOutcome>;
  prepareTimed(plan: CellPlan, options: TimedPassOptions): Promise<TimedPass>;
}
