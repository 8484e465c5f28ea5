/**
 * How true a timed replay was: how long after its time each request was issued.
 *
 * Invariant: a request counts as on time if it was issued at most `ON_TIME_NS` after it was due.
 */

import { decodeFromCompressedBase64, encodeIntoCompressedBase64, type Histogram } from 'hdr-histogram-js';

import { Qcow2BenchError } from '../core/error.ts';
import type { Fidelity } from '../result/schema.ts';
import { HIGHEST_NS, timeHistogram } from './latency.ts';

/** What a timer of the system may be late without anybody's fault. */
export const ON_TIME_NS = 1_000_000;

/** Of a cell, over all its passes. */
export class Drift {
  readonly #histogram: Histogram;
  #onTime: number;

  /** @throws Qcow2BenchError `bad-histogram` if the stored histogram cannot be read. */
  constructor(stored?: Fidelity) {
    this.#histogram = stored === undefined ? timeHistogram() : decoded(stored.histogram);
    this.#onTime = stored?.onTime ?? 0;
  }

  /** @param ns between the time at which a request was due and that at which it was issued. */
  add(ns: number): void {
    this.#histogram.recordValue(Math.min(HIGHEST_NS, Math.max(0, Math.round(ns))));
    if (ns <= ON_TIME_NS) this.#onTime++;
  }

  /** As a record holds it; `undefined` if no pass was timed by the trace. */
  fidelity(): Fidelity | undefined {
    const histogram = this.#histogram;
    if (histogram.totalCount === 0) return undefined;
    const at = (percentile: number): number =>
      Math.min(histogram.maxValue, histogram.getValueAtPercentile(percentile));
    return {
      requests: histogram.totalCount,
      onTime: this.#onTime,
      p50Ns: at(50),
      p99Ns: at(99),
      maxNs: histogram.maxValue,
      histogram: encodeIntoCompressedBase64(histogram),
    };
  }
}

function decoded(text: string): Histogram {
  try {
    return decodeFromCompressedBase64(text, 'packed');
  } catch (error) {
    const message = 'the histogram of its fidelity cannot be read: rerun the cell without --resume';
    throw new Qcow2BenchError('bad-histogram', message, {}, error);
  }
}
