/**
 * Ctrl-C, twice: the first stops the run after the requests in flight and keeps what is finished;
 * the second ends the program at once.
 *
 * Invariant: one stroke of the keys counts once. A terminal sends the signal to every process of
 * the group, and programs in between (npm) hand on what they got, so a second signal within half a
 * second is the first again.
 */

import type { Pending } from '../../core/pending.ts';
import { EXIT } from './exit-code.ts';
import type { Terminal } from './terminal.ts';

const SAME_STROKE_MS = 500;
/** Work that never waits lets signals in so often. */
const TURN_EVERY_MS = 50;
const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;
const SHOW_CURSOR = '\u001b[?25h';

/** What a run that was interrupted rejects with. */
export class Interrupted extends Error {
  override readonly name = 'Interrupted';

  constructor() {
    super('the run was interrupted');
  }
}

/** Listens until it is disposed of. */
export class Interruption implements Disposable {
  readonly #controller = new AbortController();
  readonly #terminal: Terminal;
  readonly #onStop: () => void;
  #firstMs: number | undefined;
  #turnMs = performance.now();

  /** @param onStop called before anything is said, so that a progress bar can leave the line. */
  constructor(terminal: Terminal, onStop: () => void) {
    this.#terminal = terminal;
    this.#onStop = onStop;
    for (const signal of SIGNALS) process.on(signal, this.#onSignal);
  }

  /** Aborted, with `Interrupted` as its reason, by the first signal. */
  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  /**
   * For work whose answers all come at once: a promise now and then, which lets signals in and
   * rejects after one.
   */
  turn(): Pending {
    const nowMs = performance.now();
    if (nowMs - this.#turnMs < TURN_EVERY_MS) return undefined;
    this.#turnMs = nowMs;
    return this.#letSignalsIn();
  }

  async #letSignalsIn(): Promise<void> {
    await new Promise(setImmediate);
    this.signal.throwIfAborted();
  }

  [Symbol.dispose](): void {
    for (const signal of SIGNALS) process.off(signal, this.#onSignal);
  }

  readonly #onSignal = (): void => {
    const nowMs = performance.now();
    if (this.#firstMs === undefined) {
      this.#firstMs = nowMs;
      this.#onStop();
      this.#terminal.warn(
        'qcow2-bench: stopping after the requests in flight; press Ctrl-C again to quit immediately',
      );
      this.#controller.abort(new Interrupted());
    } else if (nowMs - this.#firstMs > SAME_STROKE_MS) {
      // A progress bar may have hidden it.
      if (this.#terminal.errors.isTTY) this.#terminal.errors.write(SHOW_CURSOR);
      process.exit(EXIT.interrupted);
    }
  };
}
