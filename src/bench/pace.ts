/**
 * The open loop of a replay: when each request is due, how late it was issued, and how long it took
 * from the time at which it was due.
 *
 * Invariants:
 * - A request is never issued before it is due. It is late where the queue was full or the machine
 *   had other work.
 * - Its latency begins when it was due, so a stall counts against every request that had to wait
 *   for it.
 * - Times are those of the pass's clock, real or virtual; in virtual time they are the same in
 *   every run.
 */

import type { Pending } from '../core/pending.ts';
import type { VirtualTime } from '../device/virtual-time.ts';
import type { ReplayTiming } from '../workload/replay-timing.ts';
import type { Request } from '../workload/request.ts';
import type { Clock } from './clock.ts';
import type { Drift } from './fidelity.ts';
import type { Latencies, RequestWatch } from './latency.ts';

export interface PaceOptions {
  readonly requests: readonly Request[];
  readonly timing: ReplayTiming;
  readonly ticksNs: () => number;
  /** Answers when the clock shows `untilNs`; asked only for times to come. */
  readonly waitUntil: (untilNs: number) => Pending;
}

/** Of one pass over `requests`. */
export class Pace implements RequestWatch {
  readonly #options: PaceOptions;
  readonly #lateNs: Float64Array;
  readonly #tookNs: Float64Array;
  #startNs: number | undefined;
  #done = 0;

  constructor(options: PaceOptions) {
    this.#options = options;
    this.#lateNs = new Float64Array(options.requests.length);
    this.#tookNs = new Float64Array(options.requests.length);
  }

  /** Answers when request `number` may be issued; the first at once. */
  due(number: number): Pending {
    const dueNs = this.#dueNs(number);
    return this.#options.ticksNs() < dueNs ? this.#options.waitUntil(dueNs) : undefined;
  }

  resumes(): void {
    // Time goes on.
  }

  issued(number: number): void {
    this.#lateNs[number] = Math.max(0, this.#options.ticksNs() - this.#dueNs(number));
  }

  done(number: number): void {
    this.#tookNs[number] = this.#options.ticksNs() - this.#dueNs(number);
    this.#done++;
  }

  /** Adds what was recorded; only a pass that served all of its requests has anything to say. */
  addTo(latencies: Latencies, drift: Drift): void {
    const { requests } = this.#options;
    if (this.#done !== requests.length) return;
    for (const [number, { op }] of requests.entries()) {
      latencies.add(op, this.#tookNs[number] ?? 0);
      drift.add(this.#lateNs[number] ?? 0);
    }
  }

  /** Time begins with the first request, whatever time it has in the trace. */
  #dueNs(number: number): number {
    const { requests, timing, ticksNs } = this.#options;
    this.#startNs ??= ticksNs();
    const sinceFirstNs = (requests[number]?.timeNs ?? 0) - (requests[0]?.timeNs ?? 0);
    return this.#startNs + sinceFirstNs / timing.scale;
  }
}

/** Waiting on a real clock. `undefined` if it cannot wait. */
export function realWait(
  clock: Clock,
  signal: AbortSignal | undefined,
): ((untilNs: number) => Pending) | undefined {
  return clock.waitUntil === undefined ? undefined : (untilNs) => clock.waitUntil?.(untilNs, signal);
}

/** Waiting in virtual time: at depth 1 nothing else goes on, and time is moved on. */
export function virtualWait(
  time: VirtualTime,
  { isConcurrent }: { readonly isConcurrent: boolean },
): (untilNs: number) => Pending {
  return (untilNs) => {
    if (isConcurrent) return time.until(untilNs);
    time.advance(untilNs - time.nowNs);
    return undefined;
  };
}
