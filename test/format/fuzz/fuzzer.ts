/**
 * The fuzzer: good images, mutations by fast-check, promises, and now and then QEMU's opinion.
 *
 * A run is known by its seed; a failure also by the path of fast-check, which leads to the smallest
 * set of mutations.
 */

import fc from 'fast-check';

import { makeBaseImages, type BaseFormat, type BaseImage } from './base-images.ts';
import type { FieldMap } from './field-map.ts';
import { fieldsOf } from './image-fields.ts';
import { anyMutation, describeMutation, mutated, type Mutation } from './mutations.ts';
import { holdPromises, type Verdict } from './promises.ts';

/** Mutations of one image. */
const MUTATIONS_MAX = 6;

export interface FuzzOptions {
  readonly seed: number;
  readonly runs: number;
  /** Of a failure found before: goes to it at once. */
  readonly path?: string | undefined;
  /** Begins no further image after this moment, from `performance.now()`. */
  readonly stopAt?: number;
  /**
   * Called for each image before it is tried: its index in the run, or that of the failure that it
   * shrinks.
   */
  readonly onImage?: (image: DamagedImage, index: number) => void;
  /** Judges the verdict of our check. */
  readonly judge?: (image: DamagedImage, verdict: Verdict) => Promise<void>;
}

export interface DamagedImage {
  readonly base: BaseImage;
  readonly bytes: Uint8Array<ArrayBuffer>;
  /** What was done to it, for people. */
  readonly what: readonly string[];
}

export interface Failure {
  readonly seed: number;
  readonly path: string;
  readonly image: DamagedImage;
  readonly error: unknown;
}

export class Fuzzer {
  readonly #bases: readonly (readonly [BaseImage, FieldMap])[];

  private constructor(bases: readonly BaseImage[]) {
    this.#bases = bases.map((base) => [base, fieldsOf(base)]);
  }

  /** @param format of the images; default: all */
  static async make(format?: BaseFormat): Promise<Fuzzer> {
    return new Fuzzer(await makeBaseImages(format));
  }

  /** Tries `runs` images; answers the first failure, shrunk, or undefined. */
  async run(options: FuzzOptions): Promise<Failure | undefined> {
    const { seed, runs, path, stopAt = Infinity, onImage, judge } = options;
    let index = Number(path?.split(':')[0] ?? 0) - 1;
    let hasFailed = false;
    const property = fc.asyncProperty(
      fc.nat({ max: this.#bases.length - 1 }),
      fc.array(anyMutation, { minLength: 1, maxLength: MUTATIONS_MAX }),
      async (base, mutations) => {
        const image = this.#damaged(base, mutations);
        if (!hasFailed) index++;
        if (performance.now() > stopAt) return;
        onImage?.(image, index);
        hasFailed = true;
        const verdict = await holdPromises(image.base, image.bytes);
        await judge?.(image, verdict);
        hasFailed = false;
      },
    );
    const result = await fc.check(property, { seed, numRuns: runs, ...(path !== undefined && { path }) });
    if (!result.failed) return undefined;
    const [base, mutations] = result.counterexample ?? [0, []];
    return {
      seed: result.seed,
      path: result.counterexamplePath ?? '',
      image: this.#damaged(base, mutations),
      error: result.errorInstance,
    };
  }

  #damaged(index: number, mutations: readonly Mutation[]): DamagedImage {
    const [base, map] = this.#bases[index] as readonly [BaseImage, FieldMap];
    const what = mutations.map((mutation) => describeMutation(map, mutation));
    const bytes = mutated(base.bytes, map, mutations);
    base.seal?.(bytes);
    return { base, bytes, what };
  }
}

/** A failure in words. */
export function failureText({ seed, path, image, error }: Failure): string {
  const message = error instanceof Error ? (error.stack ?? error.message) : String(error);
  const done = image.what.map((line) => `  ${line}`).join('\n');
  return `${image.base.name}, seed ${String(seed)}, path ${path}:\n${done}\n${message}`;
}
