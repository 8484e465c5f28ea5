/**
 * A bar for work of which the share that is done is known: `check`, `convert`, `calibrate`.
 *
 * Invariants: shown on terminals only, on standard error; gone when the work is done, so that only
 * the output remains.
 */

import { SingleBar } from 'cli-progress';

const REDRAWS_PER_SECOND = 5;
/** Work that is done sooner needs no bar. */
const PATIENCE_MS = 300;
const STEPS = 1000;

export class ProgressBar implements Disposable {
  readonly #stream: NodeJS.WriteStream;
  readonly #beganMs = performance.now();
  #bar: SingleBar | undefined;

  constructor(stream: NodeJS.WriteStream) {
    this.#stream = stream;
  }

  /** @param share from 0 to 1. */
  show(what: string, share: number): void {
    if (!this.#stream.isTTY || performance.now() - this.#beganMs < PATIENCE_MS) return;
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
      this.#bar.start(STEPS, 0, { what });
    }
    this.#bar.update(Math.round(share * STEPS), { what });
  }

  /** Takes the bar off the terminal. */
  clear(): void {
    this.#bar?.stop();
    this.#bar = undefined;
  }

  [Symbol.dispose](): void {
    this.clear();
  }
}
