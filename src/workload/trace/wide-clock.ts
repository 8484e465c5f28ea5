/**
 * Times of the file that a JavaScript number does not hold exactly (ticks since 1601, nanoseconds
 * since 1970), as the difference from the first one, which it does.
 *
 * Invariant: a time comes in two parts, `high × unit + low`; all files of a trace share the first
 * one.
 */
export class WideClock {
  #high: number | undefined;
  #low = 0;

  /** Ticks since the first time that was asked about; negative if this one is before. */
  since(high: number, low: number, unit: number): number {
    if (this.#high === undefined) {
      this.#high = high;
      this.#low = low;
    }
    return (high - this.#high) * unit + (low - this.#low);
  }
}
