/**
 * What the watchdog and the worker of the fuzzer tell each other: the order, which image is being
 * tested, how it ended.
 */

import type { BaseFormat } from './base-images.ts';

export interface WorkerOrder {
  /** Of the first round. */
  readonly seed: number;
  /** Images of a round. */
  readonly runs: number;
  readonly rounds: number;
  /** Begins no further image after so many milliseconds. */
  readonly forMs?: number | undefined;
  /** Of a failure found before: goes to it at once. */
  readonly path?: string | undefined;
  /** Planted into the image of that index, to see the watchdog bark. */
  readonly trap?: { readonly index: number; readonly kind: 'loop' | 'heap' | 'bytes' } | undefined;
  /** Of the images; default: all. */
  readonly format?: BaseFormat | undefined;
  /** Where images are kept. */
  readonly folder: string;
  /** For files that are not needed after the worker has ended. */
  readonly scratch: string;
  /** Of `STATE_BYTES`: read while the worker is busy. */
  readonly state: SharedArrayBuffer;
}

export type FuzzEnding =
  | { readonly kind: 'done'; readonly images: number; readonly asked: number }
  | {
      readonly kind: 'failed';
      readonly seed: number;
      /** Of fast-check: with the seed it repeats the failure. */
      readonly path: string;
      readonly text: string;
      /** Where the image was saved. */
      readonly file: string;
    };

/** The file of the image being tested, in the folder. */
export const UNDER_WAY = 'under-way.img';

/** Three numbers: seed, index of the image in its round, when it was begun. */
export const STATE_BYTES = 3 * Float64Array.BYTES_PER_ELEMENT;

export interface Place {
  readonly seed: number;
  readonly path: string;
  /** From `Date.now`; 0 if no image is being tested. */
  readonly startedMs: number;
}

/** An image that is tried while a failure shrinks has the index of that failure. */
export function begin(
  state: SharedArrayBuffer,
  image: { readonly seed: number; readonly index: number },
): void {
  new Float64Array(state).set([image.seed, image.index, Date.now()]);
}

export function finish(state: SharedArrayBuffer): void {
  new Float64Array(state)[2] = 0;
}

export function placeOf(state: SharedArrayBuffer): Place {
  const [seed = 0, index = 0, startedMs = 0] = new Float64Array(state);
  return { seed, path: String(index), startedMs };
}
