/**
 * Ranks with Zipf's law: rank k of n, from 1, has a probability proportional to k^−theta.
 *
 * Rejection-inversion: constant time a draw, no table and no set-up over n, any theta above 0. The
 * usual method of storage benchmarks (Gray et al. 1994) sums over all n first and needs theta below
 * 1.
 *
 * W. Hörmann and G. Derflinger, "Rejection-inversion to generate variates from monotone discrete
 * distributions", ACM TOMACS 6(3), 1996. Names follow the paper: `h` is the density, `H` its
 * integral.
 */

import type { Random } from '../core/random.ts';

export class ZipfRanks {
  readonly #count: number;
  readonly #theta: number;
  /** H at the left end of the first bar and at the right end of the last. */
  readonly #integralFirst: number;
  readonly #integralLast: number;
  /** A rank this close above the drawn point is accepted without the exact test. */
  readonly #shortcut: number;

  /** @param count ranks, at least 1. */
  constructor({ count, theta }: { readonly count: number; readonly theta: number }) {
    this.#count = count;
    this.#theta = theta;
    this.#integralFirst = this.#integral(1.5) - 1;
    this.#integralLast = this.#integral(count + 0.5);
    this.#shortcut = 2 - this.#inverse(this.#integral(2.5) - this.#density(2));
  }

  /** A rank from 1, the most popular, to `count`. */
  draw(random: Random): number {
    while (true) {
      const u = this.#integralLast + random.fraction() * (this.#integralFirst - this.#integralLast);
      const x = this.#inverse(u);
      const rank = Math.min(this.#count, Math.max(1, Math.round(x)));
      if (rank - x <= this.#shortcut || u >= this.#integral(rank + 0.5) - this.#density(rank)) return rank;
    }
  }

  #density(x: number): number {
    return Math.exp(-this.#theta * Math.log(x));
  }

  /** ∫ x^−theta = (x^(1 − theta) − 1) / (1 − theta), which tends to ln x as theta tends to 1. */
  #integral(x: number): number {
    const logX = Math.log(x);
    const exponent = (1 - this.#theta) * logX;
    return exponent === 0 ? logX : (Math.expm1(exponent) / exponent) * logX;
  }

  #inverse(u: number): number {
    const t = Math.max(-1, u * (1 - this.#theta));
    return Math.exp(t === 0 ? u : (Math.log1p(t) / t) * u);
  }
}
