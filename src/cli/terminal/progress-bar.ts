/**
 * A bar for work of which the share that is done is known: `check`, `convert`, `trace info`.
 *
 * Invariants: shown on terminals only, on standard error; gone when the work is done, so that only
 * the output remains.
 */

import { SingleBar } from 'cli-progress';

const REDRAWS_PER_SECOND = 5;
/** Work that is done sooner needs no bar. */
const PATIENCE_MS = 300;
const STEPS = 1000;
/** Less than the time between redraws: what is shown in between is not seen. */
const UPDATE_MS = 50;

export class ProgressBar implements Disposable {
  readonly #stream: NodeJS.WriteStream;
  readonly #beganMs = performance.now();
  #nextMs = 0;
  #bar: SingleBar | undefined;

  constructor(stream: NodeJS.WriteStream) {
    this.#stream = stream;
  }

  /**
   * @param what a function is asked only if something is shown.
   * @param share from 0 to 1.
   */
  show(what: string | (() => string), share: number): void {
    const nowMs = performance.now();
    if (!this.#stream.isTTY || nowMs - this.#beganMs < PATIENCE_MS || nowMs < this.#nextMs) return;
    this.#nextMs = nowMs + UPDATE_MS;
    if (this.#bar === undefined) {
      this.#bar = new SingleBar({
        stream: this.#stream,
        format: '{what} [{bar}] {percentage} %',
        barsize: 24,
        fps: REDRAWS_PER_SECOND,
        hideCursor: true,
        clearOnComplete: true,
        gracefulExit: false,
      });
      this.#bar.start(STEPS, Math.round(share * STEPS), { what: textOf(what) });
    }
    this.#bar.update(Math.round(share * STEPS), { what: textOf(what) });
  }

  /** Takes the bar off the terminal. */
  clear(): void {
    this.#bar?.stop();
    this.#bar = undefined;
    this.#nextMs = 0;
  }

  [Symbol.dispose](): void {
    this.clear();
  }
}

function textOf(what: string | (() => string)): string {
  return typeof what === 'string' ? what : what();
}
