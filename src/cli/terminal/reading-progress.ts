/** A bar for files that are read from beginning to end: bytes done of all, rate, and time left. */

import { humanSize } from '../../core/size.ts';
import { ProgressBar } from './progress-bar.ts';
import { shortDuration } from './text.ts';

/** A rate from less time than this says little of the rest. */
const RATE_AFTER_MS = 1000;

export class ReadingProgress implements Disposable {
  readonly #bar: ProgressBar;
  readonly #totalBytes: number;
  readonly #nowMs: () => number;
  readonly #beganMs: number;

  constructor(stream: NodeJS.WriteStream, totalBytes: number, nowMs: () => number = () => performance.now()) {
    this.#bar = new ProgressBar(stream);
    this.#totalBytes = totalBytes;
    this.#nowMs = nowMs;
    this.#beganMs = nowMs();
  }

  /** @param doneBytes of the files as they are stored: packed, if they are. */
  show(doneBytes: number): void {
    this.#bar.show(() => this.textAt(doneBytes), this.#totalBytes === 0 ? 1 : doneBytes / this.#totalBytes);
  }

  /** What is shown beside the bar. */
  textAt(doneBytes: number): string {
    const done = `${humanSize(doneBytes)} of ${humanSize(this.#totalBytes)}`;
    const ms = this.#nowMs() - this.#beganMs;
    if (ms < RATE_AFTER_MS || doneBytes === 0) return `reading ${done}`;
    const bytesPerMs = doneBytes / ms;
    // A file that grows while it is read has no negative rest.
    const leftBytes = Math.max(0, this.#totalBytes - doneBytes);
    const left = leftTime(leftBytes / bytesPerMs);
    return `reading ${done}, ${humanSize(bytesPerMs * 1000)}/s, ${left} left`;
  }

  clear(): void {
    this.#bar.clear();
  }

  [Symbol.dispose](): void {
    this.clear();
  }
}

/** In whole seconds; of more than two minutes, as durations are shown. */
function leftTime(ms: number): string {
  const seconds = Math.ceil(ms / 1000);
  return seconds < 120 ? `${String(seconds)} s` : shortDuration(ms * 1e6);
}
