/**
 * Where the next request goes: sequential, stride, uniform (with or without replacement) and zipf.
 *
 * Invariants: every answer is a whole sector, and `answer … answer + length` is within the region
 * for every length up to `blockSizeMax`. Constant memory, whatever the size of the region.
 */

import { Random } from '../core/random.ts';
import { Permutation } from './permutation.ts';
import type { Pattern } from './schema.ts';
import { ZipfRanks } from './zipf.ts';

export interface AddressPattern {
  /** Guest offset in bytes of a request of `length` bytes, at most `blockSizeMax`. */
  next(length: number): number;
}

export interface AddressSpace {
  /** Where the region begins, in bytes. */
  readonly offset: number;
  /** Its length in bytes, at least `blockSizeMax`. */
  readonly length: number;
  readonly blockSizeMax: number;
}

export function createAddressPattern(pattern: Pattern, space: AddressSpace, seed: number): AddressPattern {
  switch (pattern.kind) {
    case 'sequential':
      return new Sequential(space);
    case 'stride':
      return new Stride(space, pattern.stride);
    case 'uniform':
      return pattern.replacement
        ? new Uniform(slotsOf(space, pattern.alignment), seed)
        : new UniformOnce(slotsOf(space, pattern.alignment), seed);
    case 'zipf':
      return new Zipf(slotsOf(space, pattern.alignment), pattern.theta, seed);
  }
}

class Sequential implements AddressPattern {
  readonly #start: number;
  readonly #end: number;
  #position: number;

  constructor({ offset, length }: AddressSpace) {
    this.#start = offset;
    this.#end = offset + length;
    this.#position = offset;
  }

  next(length: number): number {
    const offset = this.#position + length > this.#end ? this.#start : this.#position;
    this.#position = offset + length;
    return offset;
  }
}

class Stride implements AddressPattern {
  readonly #start: number;
  readonly #last: number;
  readonly #stride: number;
  #position: number;

  constructor({ offset, length, blockSizeMax }: AddressSpace, stride: number) {
    this.#start = offset;
    this.#last = offset + length - blockSizeMax;
    this.#stride = stride;
    this.#position = offset;
  }

  next(): number {
    const offset = this.#position;
    this.#position = offset + this.#stride > this.#last ? this.#start : offset + this.#stride;
    return offset;
  }
}

/** The places that a random pattern chooses from. */
interface Slots {
  readonly offset: number;
  /** Bytes from one slot to the next. */
  readonly alignment: number;
  readonly count: number;
}

function slotsOf(space: AddressSpace, alignment = space.blockSizeMax): Slots {
  const count = Math.floor((space.length - space.blockSizeMax) / alignment) + 1;
  return { offset: space.offset, alignment, count };
}

class Uniform implements AddressPattern {
  readonly #slots: Slots;
  readonly #random: Random;

  constructor(slots: Slots, seed: number) {
    this.#slots = slots;
    this.#random = new Random(seed);
  }

  next(): number {
    const { offset, alignment, count } = this.#slots;
    return offset + this.#random.below(count) * alignment;
  }
}

/** Each slot once in random order; then each once again, in another order. */
class UniformOnce implements AddressPattern {
  readonly #slots: Slots;
  readonly #random: Random;
  #permutation: Permutation;
  #index = 0;

  constructor(slots: Slots, seed: number) {
    this.#slots = slots;
    this.#random = new Random(seed);
    this.#permutation = new Permutation(slots.count, this.#random);
  }

  next(): number {
    const { offset, alignment, count } = this.#slots;
    if (this.#index === count) {
      this.#permutation = new Permutation(count, this.#random);
      this.#index = 0;
    }
    return offset + this.#permutation.at(this.#index++) * alignment;
  }
}

/** Popular slots lie anywhere, not side by side: a permutation gives each rank its slot. */
class Zipf implements AddressPattern {
  readonly #slots: Slots;
  readonly #random: Random;
  readonly #ranks: ZipfRanks;
  readonly #slotOfRank: Permutation;

  constructor(slots: Slots, theta: number, seed: number) {
    this.#slots = slots;
    this.#random = new Random(seed);
    this.#ranks = new ZipfRanks({ count: slots.count, theta });
    this.#slotOfRank = new Permutation(slots.count, this.#random);
  }

  next(): number {
    const rank = this.#ranks.draw(this.#random);
    return this.#slots.offset + this.#slotOfRank.at(rank - 1) * this.#slots.alignment;
  }
}
