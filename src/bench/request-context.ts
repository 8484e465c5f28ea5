/**
 * Which guest request a host operation belongs to: for the host log, whose lines name it, and for
 * what each request cost.
 *
 * Invariants:
 * - The request is that on whose behalf the operation is issued, also where several are in flight:
 *   it follows the request's own promises. What opening and closing do belongs to none.
 * - Only a counting pass has one: passes that are timed pay nothing.
 */

import { AsyncLocalStorage } from 'node:async_hooks';

import type { GuestRequest, HostLogSink } from '../device/host-log.ts';
import type { Request } from '../workload/request.ts';

interface ServedRequest {
  readonly number: number;
  readonly request: Request;
  /** Whether a line of the log has described it. */
  isDescribed: boolean;
}

export class RequestContext {
  readonly #served = new AsyncLocalStorage<ServedRequest>();

  /** Calls `serve`, whose host operations belong to the request with this number, from 0. */
  during<T>(number: number, request: Request, serve: () => T): T {
    return this.#served.run({ number, request, isDescribed: false }, serve);
  }

  /** A sink that adds to each record the request that it belongs to. */
  numbering(sink: HostLogSink): HostLogSink {
    return (record) => {
      const served = this.#served.getStore();
      if (served === undefined) {
        sink(record);
        return;
      }
      const { number, request, isDescribed } = served;
      served.isDescribed = true;
      sink({ ...record, request: number, ...(isDescribed ? {} : { guest: guestRequest(request) }) });
    };
  }
}

/** As a line of the host log describes it. */
export function guestRequest({ op, offset, length, fua }: Request): GuestRequest {
  if (op === 'flush') return { op };
  return { op, offset, length, ...(fua ? { fua } : {}) };
}
