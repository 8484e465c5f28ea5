/**
 * How long each request took, and what that makes by kind of request: HDR histograms (Gil Tene),
 * whose percentiles keep three digits from a nanosecond to an hour.
 *
 * Invariants:
 * - While a pass runs, only two numbers a request are kept, in memory taken beforehand; histograms
 *   are made after it.
 * - A latency ends when the request is done. It begins when the request was issued or, where it was
 *   due at a time of its own, at that time: a stall then counts against every request that had to
 *   wait for it, and is not omitted because the load generator waited as well ("coordinated
 *   omission").
 * - A histogram of an earlier run goes on from its stored form.
 */

import {
  build,
  decodeFromCompressedBase64,
  encodeIntoCompressedBase64,
  type Histogram,
} from 'hdr-histogram-js';

import { Qcow2BenchError } from '../core/error.ts';
import type { Latency } from '../result/schema.ts';
import type { Request, RequestOp } from '../workload/request.ts';

/**
 * Called for the requests of a pass as they come and go; `number` counts from 0 in the order of
 * issue.
 */
export interface RequestWatch {
  /**
   * Nothing is in flight, and time may have passed that no request took: a pause of the runner
   * ends.
   */
  resumes(): void;
  issued(number: number): void;
  done(number: number): void;
}

/** The latencies of one pass over `requests`, all issued as soon as the queue has room. */
export class LatencyRecorder implements RequestWatch {
  readonly #requests: readonly Request[];
  readonly #isSerial: boolean;
  readonly #ticksNs: () => number;
  readonly #beganNs: Float64Array;
  readonly #tookNs: Float64Array;
  #lastNs = 0;
  #done = 0;

  constructor(
    requests: readonly Request[],
    options: { readonly queueDepth: number; readonly ticksNs: () => number },
  ) {
    this.#requests = requests;
    this.#isSerial = options.queueDepth === 1;
    this.#ticksNs = options.ticksNs;
    this.#beganNs = new Float64Array(this.#isSerial ? 0 : requests.length);
    this.#tookNs = new Float64Array(requests.length);
  }

  resumes(): void {
    this.#lastNs = this.#ticksNs();
  }

  issued(number: number): void {
    // At depth 1 a request begins when the one before it is done: one look at the clock a request,
    // not two.
    if (!this.#isSerial) this.#beganNs[number] = this.#ticksNs();
  }

  done(number: number): void {
    const nowNs = this.#ticksNs();
    this.#tookNs[number] = nowNs - (this.#isSerial ? this.#lastNs : (this.#beganNs[number] ?? 0));
    this.#lastNs = nowNs;
    this.#done++;
  }

  /** Adds what was recorded; only a pass that served all of its requests has anything to say. */
  addTo(latencies: Latencies): void {
    if (this.#done !== this.#requests.length) return;
    for (const [number, { op }] of this.#requests.entries()) latencies.add(op, this.#tookNs[number] ?? 0);
  }
}

const LOWEST_NS = 1;
/** An hour: what takes longer counts as an hour. */
export const HIGHEST_NS = 3_600_000_000_000;
const SIGNIFICANT_DIGITS = 3;

/** Histograms of a cell over all its passes, by kind of request. */
export class Latencies {
  readonly #histograms = new Map<RequestOp, Histogram>();

  /** @throws Qcow2BenchError `bad-histogram` if a stored histogram cannot be read. */
  constructor(stored: LatencyByOp = {}) {
    for (const [op, { histogram }] of entriesOf(stored)) this.#histograms.set(op, decoded(op, histogram));
  }

  add(op: RequestOp, ns: number): void {
    let histogram = this.#histograms.get(op);
    if (histogram === undefined) {
      histogram = timeHistogram();
      this.#histograms.set(op, histogram);
    }
    histogram.recordValue(Math.min(HIGHEST_NS, Math.max(LOWEST_NS, Math.round(ns))));
  }

  /** As a record holds them. */
  byOp(): LatencyByOp {
    const result: LatencyByOp = {};
    for (const [op, histogram] of this.#histograms) result[op] = latencyOf(histogram);
    return result;
  }
}

type LatencyByOp = Partial<Record<RequestOp, Latency>>;

/** Of nanoseconds, empty. */
export function timeHistogram(): Histogram {
  return build({
    // Counts take memory where values fall only: a cell has some thousand values and there are
    // hundreds of cells.
    bitBucketSize: 'packed',
    lowestDiscernibleValue: LOWEST_NS,
    highestTrackableValue: HIGHEST_NS,
    numberOfSignificantValueDigits: SIGNIFICANT_DIGITS,
  });
}

function latencyOf(histogram: Histogram): Latency {
  // A percentile is the highest value of its bucket, which may be above all that was recorded.
  const at = (percentile: number): number =>
    Math.min(histogram.maxValue, histogram.getValueAtPercentile(percentile));
  return {
    requests: histogram.totalCount,
    meanNs: Math.round(histogram.mean),
    p50Ns: at(50),
    p90Ns: at(90),
    p99Ns: at(99),
    p999Ns: at(99.9),
    p9999Ns: at(99.99),
    maxNs: histogram.maxValue,
    histogram: encodeIntoCompressedBase64(histogram),
  };
}

function decoded(op: RequestOp, text: string): Histogram {
  try {
    return decodeFromCompressedBase64(text, 'packed');
  } catch (error) {
    const message = `the histogram of its ${op} latencies cannot be read: rerun the cell without --resume`;
    throw new Qcow2BenchError('bad-histogram', message, {}, error);
  }
}

function entriesOf(stored: LatencyByOp): readonly (readonly [RequestOp, Latency])[] {
  // Keys are those of the type: a record that has others was refused when it was read.
  return Object.entries(stored) as [RequestOp, Latency][];
}
