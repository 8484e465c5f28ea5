/**
 * A seeded permutation of 0 … size − 1 that needs no table: it visits each index once in random
 * order, in constant memory, however large the range.
 *
 * A Feistel network over the smallest power of two that holds the range (halves may differ by a
 * bit), with cycle walking: a value outside the range is permuted again until it falls inside,
 * which on average takes less than one more step, because less than half of the domain is outside.
 *
 * J. Black and P. Rogaway, "Ciphers with Arbitrary Finite Domains", CT-RSA 2002.
 */

import { assertInvariant } from '../core/error.ts';
import type { Random } from '../core/random.ts';

/**
 * Half-rounds. More than the four that the theory asks for, because halves of a few bits mix badly.
 */
const ROUNDS = 8;
/** Each half has to fit a 32-bit integer operation. */
const BITS_MAX = 52;

export class Permutation {
  readonly #size: number;
  readonly #lowMask: number;
  readonly #highMask: number;
  readonly #lowRange: number;
  readonly #keys: Int32Array;

  /** @param size how many indices, from 1 to 2^52. */
  constructor(size: number, random: Random) {
    const bits = size <= 1 ? 0 : Math.ceil(Math.log2(size));
    assertInvariant(bits <= BITS_MAX && size >= 1, `a permutation of ${String(size)} indices`);
    const lowBits = Math.ceil(bits / 2);
    this.#size = size;
    this.#lowRange = 2 ** lowBits;
    this.#lowMask = 2 ** lowBits - 1;
    this.#highMask = 2 ** (bits - lowBits) - 1;
    this.#keys = Int32Array.from({ length: ROUNDS }, () => random.uint32());
  }

  /** Where `index` goes; both are from 0 to size − 1. */
  at(index: number): number {
    let value = index;
    do value = this.#encipher(value);
    while (value >= this.#size);
    return value;
  }

  #encipher(value: number): number {
    let high = Math.floor(value / this.#lowRange);
    let low = value % this.#lowRange;
    const keys = this.#keys;
    for (let round = 0; round < ROUNDS; round += 2) {
      high ^= mix(low, keys[round] ?? 0) & this.#highMask;
      low ^= mix(high, keys[round + 1] ?? 0) & this.#lowMask;
    }
    return high * this.#lowRange + low;
  }
}

/** Spreads each bit of 32 over all of them (the finalizer of MurmurHash3, Austin Appleby). */
function mix(value: number, key: number): number {
  let x = value ^ key;
  x = Math.imul(x ^ (x >>> 16), 0x85ebca6b);
  x = Math.imul(x ^ (x >>> 13), 0xc2b2ae35);
  return x ^ (x >>> 16);
}
