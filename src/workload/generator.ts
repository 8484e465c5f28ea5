/**
 * Makes the requests of a workload, one at a time.
 *
 * Invariants:
 * - The same workload gives the same requests on every machine: all choices come from its seed, and
 *   each phase has random streams of its own, so that a change to one leaves the addresses of the
 *   others alone.
 * - Lazy, and constant memory for any number of requests.
 * - Requests obey request.ts; `timeNs` is 0, as a generated workload has no clock.
 */

import { Random } from '../core/random.ts';
import { createAddressPattern } from './address-pattern.ts';
import type { AddressPattern } from './address-pattern.ts';
import type { Request, RequestOp } from './request.ts';
import { backingLayers, phasesOf, regionOf } from './schema.ts';
import type { Phase, Step, Workload } from './schema.ts';

export interface GenerateOptions {
  /** At most this many requests, flushes included; default: all. */
  readonly limit?: number | undefined;
  /** Instead of the workload's own. */
  readonly seed?: number | undefined;
}

/** The measured requests of the workload. */
export function generateRequests(workload: Workload, options: GenerateOptions = {}): Iterable<Request> {
  return iterate(workload.phases, workload.image.size, options.seed ?? workload.seed, 'run', options.limit);
}

/** What is written into the image before the run; nothing for most workloads. */
export function generatePrefill(workload: Workload, options: GenerateOptions = {}): Iterable<Request> {
  const { prefill, size } = workload.image;
  return iterate(prefill, size, options.seed ?? workload.seed, 'prefill', options.limit);
}

/**
 * What is written into the image by a process that then ends without closing it; nothing for most
 * workloads.
 */
export function generateCrash(workload: Workload, options: GenerateOptions = {}): Iterable<Request> {
  const { crash, size } = workload.image;
  return iterate(crash, size, options.seed ?? workload.seed, 'crash', options.limit);
}

/**
 * What is written into a file behind the image.
 *
 * @param options of which `layer` counts the files from the nearest, 0 (the default), to the base;
 *   nothing is written where the workload has no such file
 */
export function generateBackingFill(
  workload: Workload,
  { layer = 0, ...options }: GenerateOptions & { readonly layer?: number | undefined } = {},
): Iterable<Request> {
  const file = backingLayers(workload)[layer];
  const size = file?.size ?? workload.image.size;
  const part = layer === 0 ? 'backing' : { layer };
  return iterate(file?.fill ?? [], size, options.seed ?? workload.seed, part, options.limit);
}

/** Which of a workload's lists is made; each has random streams of its own. */
const SALT = { run: 0, prefill: 1, backing: 2, crash: 3 } as const;
type Part = keyof typeof SALT | { readonly layer: number };

function saltOf(part: Part): number {
  return typeof part === 'string' ? SALT[part] : SALT.crash + part.layer;
}

function iterate(
  steps: readonly Step[],
  imageSize: number,
  seed: number,
  part: Part,
  limit = Infinity,
): Iterable<Request> {
  return {
    [Symbol.iterator]() {
      const seeds = new Random(seed);
      for (let skipped = 0; skipped < saltOf(part); skipped++) seeds.below(Number.MAX_SAFE_INTEGER);
      const streams = new Random(seeds.below(Number.MAX_SAFE_INTEGER));
      const sources = new Map(
        phasesOf(steps).map((phase) => [phase, new PhaseSource(phase, imageSize, streams)]),
      );
      return new StepIterator(schedule(steps, sources), limit);
    },
  };
}

/** The phases in the order in which they run. */
function* schedule(
  steps: readonly Step[],
  sources: ReadonlyMap<Phase, PhaseSource>,
): Generator<PhaseSource, undefined> {
  for (const step of steps) {
    const rounds = 'phases' in step ? step.repeat : 1;
    const phases = 'phases' in step ? step.phases : [step];
    for (let round = 0; round < rounds; round++) {
      for (const phase of phases) {
        const source = sources.get(phase);
        if (source !== undefined) yield source;
      }
    }
  }
  return undefined;
}

/** A hand-written iterator: nested generator functions cost twice as much a request (measured). */
class StepIterator implements Iterator<Request, undefined> {
  readonly #schedule: Iterator<PhaseSource, undefined>;
  #left: number;
  #source: PhaseSource | undefined;

  constructor(order: Iterator<PhaseSource, undefined>, limit: number) {
    this.#schedule = order;
    this.#left = limit;
    this.#source = this.#start();
  }

  next(): IteratorResult<Request, undefined> {
    while (this.#source !== undefined && this.#left > 0) {
      const request = this.#source.next();
      if (request !== undefined) {
        this.#left--;
        return { done: false, value: request };
      }
      this.#source = this.#start();
    }
    return { done: true, value: undefined };
  }

  #start(): PhaseSource | undefined {
    const source = this.#schedule.next().value;
    source?.begin();
    return source;
  }
}

/** Shared by all flushes: a request is never changed. */
const FLUSH: Request = { op: 'flush', offset: 0, length: 0, fua: false, unmap: false, timeNs: 0 };

/** One phase: what is left of its present turn, and the state that goes on from turn to turn. */
class PhaseSource {
  readonly #phase: Phase;
  readonly #ops: Weighted<RequestOp>;
  readonly #sizes: Weighted<number>;
  readonly #addresses: AddressPattern;
  readonly #random: Random;
  #requestsLeft = 0;
  #bytesLeft = 0;
  /** Requests that changed data since this phase's last flush of its own. */
  #unflushed = 0;

  constructor(phase: Phase, imageSize: number, streams: Random) {
    const { mix, blockSizes, pattern } = phase;
    this.#phase = phase;
    this.#ops = new Weighted([
      ['read', mix.read],
      ['write', mix.write],
      ['flush', mix.flush],
      ['discard', mix.discard],
      ['write-zeroes', mix.writeZeroes],
    ]);
    this.#sizes = new Weighted(blockSizes.map(({ size, weight }) => [size, weight]));
    this.#random = new Random(streams.below(Number.MAX_SAFE_INTEGER));
    const blockSizeMax = Math.max(...blockSizes.map(({ size }) => size));
    const space = { ...regionOf(pattern, imageSize), blockSizeMax };
    this.#addresses = createAddressPattern(pattern, space, streams.below(Number.MAX_SAFE_INTEGER));
  }

  /** Starts a turn of the phase. */
  begin(): void {
    this.#requestsLeft = this.#phase.requests ?? Infinity;
    this.#bytesLeft = this.#phase.bytes ?? Infinity;
  }

  /** The next request of this turn, or `undefined` when the turn is over. */
  next(): Request | undefined {
    const { flushEvery, fuaShare, unmap } = this.#phase;
    if (flushEvery > 0 && this.#unflushed >= flushEvery) {
      this.#unflushed = 0;
      return FLUSH;
    }
    if (this.#requestsLeft <= 0 || this.#bytesLeft <= 0) return undefined;
    this.#requestsLeft--;
    const op = this.#ops.draw(this.#random);
    if (op === 'flush') {
      this.#unflushed = 0;
      return FLUSH;
    }
    const length = this.#sizes.draw(this.#random);
    const offset = this.#addresses.next(length);
    this.#bytesLeft -= length;
    if (op !== 'read') this.#unflushed++;
    const fua = op === 'write' && fuaShare > 0 && this.#random.chance(fuaShare);
    return { op, offset, length, fua, unmap: unmap && op === 'write-zeroes', timeNs: 0 };
  }
}

/** A choice by weight. Values of weight 0 never come up; a single value costs no random number. */
class Weighted<T> {
  readonly #first: T;
  readonly #values: readonly T[];
  readonly #cumulative: Float64Array;
  readonly #total: number;

  constructor(entries: readonly (readonly [T, number])[]) {
    const possible = entries.filter(([, weight]) => weight > 0);
    let sum = 0;
    this.#values = possible.map(([value]) => value);
    this.#cumulative = Float64Array.from(possible, ([, weight]) => (sum += weight));
    this.#total = sum;
    // The schema asks for a weight above 0.
    this.#first = this.#values[0] as T;
  }

  draw(random: Random): T {
    if (this.#values.length === 1) return this.#first;
    const point = random.fraction() * this.#total;
    let index = 0;
    while (point >= (this.#cumulative[index] ?? Infinity)) index++;
    return this.#values[index] ?? this.#first;
  }
}
