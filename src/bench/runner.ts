/**
 * Drives guest requests through an image in a closed loop: as many in flight as the queue depth
 * says, the next one issued as soon as one is done.
 *
 * Invariants:
 * - Requests are issued in the stream's order. On devices that answer at once the interleaving at
 *   any depth depends on the requests alone: at a depth above 1 they are served in windows of a
 *   fixed length, with a pause between two windows in which nothing is in flight, so that it does
 *   not matter how the stream was cut into batches or when they came.
 * - With times at which requests are due the loop is open: none is issued before its time, a late
 *   one at once. There are no windows then, as their ends would make requests late.
 * - At depth 1 the loop allocates nothing a request, and waits only where a request is not done at
 *   once.
 * - A request that fails ends the run: no other is issued, those in flight are waited for, and the
 *   first failure is thrown with the number of its request.
 */

import { hex, Qcow2BenchError } from '../core/error.ts';
import { Mutex } from '../core/mutex.ts';
import type { Pending } from '../core/pending.ts';
import type { GuestCounts } from '../result/schema.ts';
import type { Request } from '../workload/request.ts';
import type { PassProgress } from './engine.ts';
import type { RequestWatch } from './latency.ts';
import type { Payload } from './payload.ts';
import type { RequestContext } from './request-context.ts';
import type { GuestDisk } from './verification.ts';

/** Requests between two looks at the signal at depth 1, at most. */
const CHUNK_REQUESTS = 256;
/** Requests between two looks within a window. */
const LOOK_EVERY = 16;
/** Requests of a window at a depth above 1; many, as its end lets the queue run empty. */
const WINDOW_REQUESTS = 4096;

/** Batches as a stream or a list of them. */
export type RequestBatches = AsyncIterable<readonly Request[]> | Iterable<readonly Request[]>;

export interface RunOptions {
  readonly backend: GuestDisk;
  readonly batches: RequestBatches;
  /** Requests in flight at once; at least 1. */
  readonly queueDepth: number;
  readonly payload: Payload;
  readonly watch?: RequestWatch | undefined;
  /** Gets to know which request is served; of a counting pass. */
  readonly context?: RequestContext | undefined;
  /**
   * Answers when a request may be issued, by its number from 0; left out, as soon as the queue has
   * room.
   */
  readonly due?: ((number: number) => Pending) | undefined;
  /** Looked at between chunks of requests. */
  readonly signal?: AbortSignal | undefined;
  /**
   * Each request may take as long as a disk's sync: the signal is looked at after fewer requests, and
   * within windows, so that chunks depend on the time. Default: false.
   */
  readonly isSlow?: boolean | undefined;
  /** Awaited between chunks of requests. */
  readonly progress?: PassProgress | undefined;
}

/**
 * Serves all requests and counts them.
 *
 * @throws Qcow2BenchError `request-failed`, which names the request and has the failure as its
 *   cause; whatever the stream throws; the signal's reason.
 */
export async function runRequests(options: RunOptions): Promise<GuestCounts> {
  const run = new Run(options);
  if (options.queueDepth === 1) await run.oneByOne();
  else await run.inWindows();
  return run.guestCounts();
}

class Run {
  readonly #options: RunOptions;
  readonly #backend: GuestDisk;
  readonly #payload: Payload;
  readonly #watch: RequestWatch | undefined;
  readonly #allocatingWritesBefore: number;
  /** Requests issued; the number of the next one, from 0. */
  #issued = 0;
  #reads = 0;
  #writes = 0;
  #flushes = 0;
  #discards = 0;
  #writeZeroes = 0;
  #writeBytes = 0;
  /** The window being served, and the position of its next request. */
  #window: readonly Request[] = [];
  #at = 0;
  readonly #turn = new Mutex();
  /** Requests issued when the signal is looked at within a window. */
  #nextLook = 0;
  #failure: Error | undefined;

  constructor(options: RunOptions) {
    this.#options = options;
    this.#backend = options.backend;
    this.#payload = options.payload;
    this.#watch = options.watch;
    this.#allocatingWritesBefore = options.backend.image.allocatingWrites;
  }

  guestCounts(): GuestCounts {
    return {
      reads: this.#reads,
      writes: this.#writes,
      flushes: this.#flushes,
      discards: this.#discards,
      writeZeroes: this.#writeZeroes,
      writeBytes: this.#writeBytes,
      allocatingWrites: this.#backend.image.allocatingWrites - this.#allocatingWritesBefore,
    };
  }

  async oneByOne(): Promise<void> {
    const { due, isSlow = false, progress } = this.#options;
    let chunk = isSlow ? 1 : CHUNK_REQUESTS;
    for await (const batch of this.#options.batches) {
      for (let at = 0; at < batch.length;) {
        this.#options.signal?.throwIfAborted();
        const end = Math.min(batch.length, at + chunk);
        this.#watch?.resumes();
        for (; at < end; at++) {
          const request = batch[at] as Request;
          const wait = due?.(this.#issued);
          if (wait !== undefined) await wait;
          try {
            const pending = this.#issue(request, 0);
            if (pending !== undefined) await pending;
            this.#watch?.done(this.#issued - 1);
          } catch (error) {
            throw requestFailed(request, this.#issued - 1, error);
          }
        }
        const turn = progress?.(this.#issued);
        if (turn !== undefined) await turn;
        // A turn is given where the last one is long ago.
        if (isSlow) chunk = turn === undefined ? Math.min(CHUNK_REQUESTS, 2 * chunk) : Math.ceil(chunk / 2);
      }
    }
  }

  async inWindows(): Promise<void> {
    const { due, batches } = this.#options;
    for await (const window of inWindowsOf(due === undefined ? WINDOW_REQUESTS : Infinity, batches)) {
      this.#options.signal?.throwIfAborted();
      this.#window = window;
      this.#at = 0;
      this.#watch?.resumes();
      const slots = Math.min(this.#options.queueDepth, window.length);
      await Promise.all(
        Array.from({ length: slots }, (_, slot) =>
          due === undefined ? this.#serveSlot(slot) : this.#serveSlotInTime(slot, due),
        ),
      );
      if (this.#failure !== undefined) throw this.#failure;
      if (this.#options.isSlow === true) this.#options.signal?.throwIfAborted();
      await this.#options.progress?.(this.#issued);
    }
  }

  /** One of the requests in flight: takes the window's next request whenever its own is done. */
  async #serveSlot(slot: number): Promise<void> {
    const { isSlow = false, progress, signal } = this.#options;
    while (this.#at < this.#window.length && this.#failure === undefined) {
      if (isSlow && this.#issued >= this.#nextLook) {
        this.#nextLook = this.#issued + LOOK_EVERY;
        await progress?.(this.#issued);
        if (signal?.aborted === true || this.#at >= this.#window.length) return;
      }
      const request = this.#window[this.#at++] as Request;
      const number = this.#issued;
      try {
        // Also where the request is done at once: the other slots get their turn, as they would on
        // a real queue.
        await this.#issue(request, slot);
        this.#watch?.done(number);
      } catch (error) {
        this.#failure ??= requestFailed(request, number, error);
      }
    }
  }

  /**
   * The same in the open loop: one slot at a time waits for the next request's time, so the order
   * stays.
   */
  async #serveSlotInTime(slot: number, due: (number: number) => Pending): Promise<void> {
    for (;;) {
      let number = -1;
      let request: Request | undefined;
      let pending: Pending;
      try {
        // Issued before the turn is given back: the next request must not overtake it.
        await this.#turn.hold(async () => {
          request = this.#failure === undefined ? this.#window[this.#at++] : undefined;
          if (request === undefined) return;
          await due(this.#issued);
          if (this.#failure !== undefined) return;
          number = this.#issued;
          pending = this.#issue(request, slot);
        });
        if (number < 0) return;
        await pending;
        this.#watch?.done(number);
      } catch (error) {
        this.#failure ??=
          number < 0 ? (error as Error) : requestFailed(request as unknown as Request, number, error);
        if (number < 0) return;
      }
    }
  }

  #issue(request: Request, slot: number): Pending {
    const { context } = this.#options;
    const number = this.#issued++;
    this.#watch?.issued(number);
    if (context === undefined) return this.#serve(request, slot);
    return context.during(number, request, () => this.#serve(request, slot));
  }

  /**
   * Counts a request and hands it to the image. The request itself serves as its flags: nothing is
   * made.
   */
  #serve(request: Request, slot: number): Pending {
    const { offset, length } = request;
    switch (request.op) {
      case 'read':
        this.#reads++;
        return this.#backend.read(offset, this.#payload.buffer(slot, length));
      case 'write':
        this.#writeBytes += length;
        return this.#backend.write(offset, this.#payload.fill(slot, this.#writes++, length), request);
      case 'flush':
        this.#flushes++;
        return this.#backend.flush();
      case 'discard':
        this.#discards++;
        return this.#backend.discard(offset, length);
      case 'write-zeroes':
        this.#writeZeroes++;
        return this.#backend.writeZeroes(offset, length, request);
    }
  }
}

/** The same requests in windows of `size`, the last one shorter. */
async function* inWindowsOf(
  size: number,
  batches: RequestBatches,
): AsyncGenerator<readonly Request[], undefined> {
  let window: Request[] = [];
  for await (const batch of batches) {
    for (const request of batch) {
      window.push(request);
      if (window.length < size) continue;
      yield window;
      window = [];
    }
  }
  if (window.length > 0) yield window;
  return undefined;
}

function requestFailed(request: Request, number: number, cause: unknown): Error {
  const what =
    request.op === 'flush'
      ? 'flush'
      : `${request.op} of ${String(request.length)} bytes at guest offset ${hex(request.offset)}`;
  const reason = cause instanceof Error ? cause.message : String(cause);
  const message = `request ${String(number)} (counted from 0), a ${what}, failed: ${reason}`;
  if (cause instanceof Qcow2BenchError) return new Qcow2BenchError('request-failed', message, {}, cause);
  // A failure of the program stays one: it is not for the user to fix.
  return new Error(message, { cause });
}
