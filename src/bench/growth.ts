/**
 * The size of an image over a counting pass.
 *
 * Invariant: the first point is that of the open image and the last that of the closed one; between
 * them there are at most `POINTS_MAX`, evenly spread.
 */

import { AccountedStorage } from '../device/accounted-storage.ts';
import type { Storage } from '../device/storage.ts';
import { dataFileName } from '../format/image-shape.ts';
import type { GrowthPoint } from '../result/schema.ts';
import type { PassProgress } from './engine.ts';

const POINTS_MAX = 128;

export class GrowthWatch {
  readonly #storage: AccountedStorage;
  readonly #names: readonly string[];
  #points: GrowthPoint[] = [];
  /** Of the looks, each so many is kept. */
  #step = 1;
  #looks = 0;
  #requests = 0;

  /** `undefined` of a storage that keeps no account. */
  static of(storage: Storage, imageName: string): GrowthWatch | undefined {
    return storage instanceof AccountedStorage ? new GrowthWatch(storage, imageName) : undefined;
  }

  private constructor(storage: AccountedStorage, imageName: string) {
    this.#storage = storage;
    this.#names = [imageName, dataFileName(imageName)];
    this.#points.push(this.#point());
  }

  /** Calls `progress`, and looks at the files. */
  during(progress: PassProgress | undefined): PassProgress {
    return (requestsDone) => {
      this.#requests = requestsDone;
      if (++this.#looks % this.#step === 0) this.#points.push(this.#point());
      if (this.#points.length > POINTS_MAX) {
        this.#points = this.#points.filter((_, index) => index % 2 === 0);
        this.#step *= 2;
      }
      return progress?.(requestsDone);
    };
  }

  /** All points; call it when the image is closed. */
  points(): readonly GrowthPoint[] {
    return [...this.#points, this.#point()];
  }

  #point(): GrowthPoint {
    return { requests: this.#requests, ...this.#storage.usage((name) => this.#names.includes(name)) };
  }
}
