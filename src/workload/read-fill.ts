/**
 * What a trace reads before it writes there. On a new image such reads find nothing: raw moves the
 * bytes, qcow2 and QED know that there are none. Filled before the run, they cost what they did when
 * they were recorded.
 *
 * Invariants: a sector that was written, zeroed or discarded before it was first read is not
 * filled. Memory is that of two maps, at most 32 MiB each; where a trace touches too much for
 * sectors, larger blocks are filled.
 */

import { SECTOR_SIZE, type Request } from './request.ts';
import { BlockMap } from './trace/block-map.ts';

/** Bytes of a request that fills. */
const FILL_BYTES_MAX = 1024 * 1024;

export class ReadFill {
  /** Bytes read where nothing was written before, each as often as it was read. */
  unwrittenReadBytes = 0;
  readonly #defined = new BlockMap(SECTOR_SIZE);
  readonly #wanted = new BlockMap(SECTOR_SIZE);

  /** The next request of the trace. */
  add({ op, offset, length }: Request): void {
    if (op === 'flush') return;
    if (op !== 'read') {
      this.#defined.add(offset, length);
      return;
    }
    this.#defined.forUnmarked(offset, length, this.#want);
  }

  readonly #want = (offset: number, length: number): void => {
    this.unwrittenReadBytes += length;
    this.#wanted.add(offset, length);
  };

  /** Bytes to fill. */
  get bytes(): number {
    return this.#wanted.count() * this.#wanted.blockSize;
  }

  /** The writes that fill, in order of offset. @param end bytes of the image. */
  *requests(end: number): Generator<Request, undefined> {
    for (const stretch of this.#wanted.stretches()) {
      const stop = Math.min(end, stretch.offset + stretch.length);
      for (let offset = stretch.offset; offset < stop; offset += FILL_BYTES_MAX) {
        const length = Math.min(FILL_BYTES_MAX, stop - offset);
        yield { op: 'write', offset, length, fua: false, unmap: false, timeNs: 0 };
      }
    }
    return undefined;
  }
}
