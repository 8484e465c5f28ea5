/**
 * Requests of formats that log a request when it is issued and again when it is answered. They come
 * out in issue order, and only if they were answered with success: one that failed, or was never
 * answered, did nothing that a guest may rely on.
 *
 * Invariant: at most `OUTSTANDING_MAX` requests wait for their answers.
 */

import type { Request } from '../request.ts';
import type { RequestCollector } from './request-collector.ts';

const OUTSTANDING_MAX = 65_536;

/** `null` while it waits for its answer, `false` if it is left out. */
interface Outstanding {
  readonly request: Request;
  answer: boolean | null;
}

/** @typeParam Key what a request and its answer share. */
export class OutstandingRequests<Key> {
  /** Requests that failed, or were never answered. */
  failedCount = 0;

  readonly #collector: RequestCollector;
  /** In issue order; the first ones whose fate is known are given out. */
  #queue: Outstanding[] = [];
  #queueStart = 0;
  readonly #unanswered = new Map<Key, Outstanding>();

  constructor(collector: RequestCollector) {
    this.#collector = collector;
  }

  /** Why no request with this key can be issued now; `undefined` if one can. */
  brokenRule(key: Key): string | undefined {
    if (this.#unanswered.size >= OUTSTANDING_MAX) {
      return `more than ${String(OUTSTANDING_MAX)} unanswered requests`;
    }
    return this.#unanswered.has(key)
      ? 'a request with the connection and ID of one that is still unanswered'
      : undefined;
  }

  /** Takes a request that breaks no rule. */
  issue(key: Key, request: Request): void {
    const entry = { request, answer: null };
    this.#unanswered.set(key, entry);
    this.#queue.push(entry);
  }

  /** False for an unknown request. */
  answer(key: Key, isSuccess: boolean): boolean {
    const entry = this.#unanswered.get(key);
    if (entry === undefined) return false;
    this.#unanswered.delete(key);
    this.#settle(entry, isSuccess);
    this.#release();
    return true;
  }

  /** No answer will come to what is open: the server has ended, or the connection. */
  abandon(isMeant: (key: Key) => boolean = () => true): void {
    for (const [key, entry] of this.#unanswered) {
      if (!isMeant(key)) continue;
      this.#settle(entry, false);
      this.#unanswered.delete(key);
    }
    this.#release();
  }

  #settle(entry: Outstanding, isSuccess: boolean): void {
    entry.answer = isSuccess;
    if (!isSuccess) this.failedCount++;
  }

  #release(): void {
    let at = this.#queueStart;
    for (
      let entry = this.#queue[at];
      entry !== undefined && entry.answer !== null;
      entry = this.#queue[++at]
    ) {
      // Held against the rules when it was issued.
      if (entry.answer) this.#collector.add(entry.request);
    }
    this.#queueStart = at;
    if (at === this.#queue.length) {
      this.#queue.length = 0;
      this.#queueStart = 0;
    } else if (at > OUTSTANDING_MAX) {
      this.#queue = this.#queue.slice(at);
      this.#queueStart = 0;
    }
  }
}
