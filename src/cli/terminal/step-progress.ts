/**
 * How far work of a few long steps is, each of which is named when it begins: a bar on a terminal,
 * a line per step elsewhere.
 */

import { SingleBar } from 'cli-progress';

import { visibleText } from '../../core/visible-text.ts';
import type { ProgressStream } from './run-progress.ts';

const PARTS = 1000;

export class StepProgress implements Disposable {
  readonly #stream: ProgressStream;
  #bar: SingleBar | undefined;

  constructor(stream: ProgressStream) {
    this.#stream = stream;
  }

  /**
   * @param what the step that begins.
   * @param share of all work that is done, from 0 to 1.
   */
  begin(what: string, share: number): void {
    const text = visibleText(what);
    if (this.#stream.isTTY !== true) {
      this.#stream.write(`${text}\n`);
      return;
    }
    if (this.#bar === undefined) {
      this.#bar = new SingleBar({
        stream: this.#stream,
        format: '[{bar}] {percentage} % {what}',
        barsize: 24,
        hideCursor: true,
        clearOnComplete: true,
        // The session handles signals, and disposes of the bar.
        gracefulExit: false,
      });
      this.#bar.start(PARTS, 0, { what: text });
    }
    this.#bar.update(Math.round(share * PARTS), { what: text });
  }

  /** Takes the bar off the terminal: before an answer, and at the end. */
  clear(): void {
    this.#bar?.stop();
    this.#bar = undefined;
  }

  [Symbol.dispose](): void {
    this.clear();
  }
}
