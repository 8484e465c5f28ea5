/**
 * Writes down the requests that an image serves, in the order in which they were issued, with their
 * times.
 *
 * Invariants:
 * - A request is handed on only after it succeeded, since a failed one changed nothing that a
 *   replay could repeat; those issued after it wait until then, so the order is that of issue.
 * - It holds back no more than what is in flight.
 * - Time starts at 0 with the first request and never goes backwards.
 */

import type { Request, RequestOp } from '../workload/request.ts';

/**
 * Takes a request; a promise means: wait before the next one. It neither throws nor rejects: its
 * creator learns of its failure elsewhere, and the client whose request was served must not get an
 * error.
 */
export type RequestSink = (request: Request) => undefined | Promise<void>;

export interface RecorderOptions {
  readonly sink: RequestSink;
  /** Nanoseconds of a clock that never goes backwards, from wherever it likes. */
  readonly nowNs: () => number;
}

/** A request that was issued and is not known to have ended. */
export interface OpenRequest extends Request {
  state: 'open' | 'done' | 'failed';
}

export class Recorder {
  readonly #sink: RequestSink;
  readonly #nowNs: () => number;
  readonly #open: OpenRequest[] = [];
  #startNs: number | undefined;

  constructor({ sink, nowNs }: RecorderOptions) {
    this.#sink = sink;
    this.#nowNs = nowNs;
  }

  /** A request is about to be issued. */
  begin(
    op: RequestOp,
    range: { readonly offset: number; readonly length: number },
    flags: { readonly fua: boolean; readonly unmap: boolean },
  ): OpenRequest {
    const nowNs = this.#nowNs();
    this.#startNs ??= nowNs;
    const { offset, length } = range;
    const { fua, unmap } = flags;
    const request: OpenRequest = {
      op,
      offset,
      length,
      fua,
      unmap,
      timeNs: nowNs - this.#startNs,
      state: 'open',
    };
    this.#open.push(request);
    return request;
  }

  /** A request has ended; a promise means: wait before it is answered. */
  end(request: OpenRequest, state: 'done' | 'failed'): undefined | Promise<void> {
    request.state = state;
    let pending: undefined | Promise<void>;
    for (let first = this.#open[0]; first !== undefined && first.state !== 'open'; first = this.#open[0]) {
      this.#open.shift();
      if (first.state === 'done') pending = this.#sink(first) ?? pending;
    }
    return pending;
  }
}
