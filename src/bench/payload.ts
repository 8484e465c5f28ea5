/**
 * What guest writes carry. The n-th write (counting writes only, from 0) gets the same bytes whatever the
 * format, the cache mode or the queue depth.
 *
 * Invariants: buffers are page memory, which O_DIRECT takes without a copy; a buffer is filled anew only when
 * its slot's request is done.
 */

import { allocatePages } from '../core/page-memory.ts';
import { Random } from '../core/random.ts';

export const PAYLOAD_KINDS = ['pattern', 'random', 'zero'] as const;
/**
 * `pattern`: all bytes are n mod 255 + 1, as `qemu-io -c "write -P BYTE"` makes them; `random`: seeded, does not
 * compress; `zero`.
 */
export type PayloadKind = (typeof PAYLOAD_KINDS)[number];

/** Bytes of the pool that random payloads are windows of: a prime count, so that writes differ. */
const RANDOM_POOL_BYTES = 1_048_573;

export class Payload {
  readonly #kind: PayloadKind;
  readonly #pool: Uint8Array;
  readonly #buffers: Uint8Array[] = [];

  constructor(kind: PayloadKind, seed: number) {
    this.#kind = kind;
    this.#pool = kind === 'random' ? randomPool(seed) : new Uint8Array(0);
  }

  /**
   * The bytes of write number `writeIndex`.
   *
   * @param slot which of the requests in flight it is for: one buffer a slot
   */
  fill(slot: number, writeIndex: number, length: number): Uint8Array {
    const bytes = this.buffer(slot, length);
    switch (this.#kind) {
      case 'pattern':
        return bytes.fill((writeIndex % 255) + 1);
      case 'zero':
        return bytes.fill(0);
      case 'random':
        this.#copyRandom(bytes, writeIndex);
        return bytes;
    }
  }

  /** A buffer of `length` bytes that belongs to `slot`: for reads, contents undefined. */
  buffer(slot: number, length: number): Uint8Array {
    let buffer = this.#buffers[slot];
    if (buffer === undefined || buffer.byteLength < length) {
      buffer = allocatePages(Math.max(length, 4096));
      this.#buffers[slot] = buffer;
    }
    return buffer.byteLength === length ? buffer : buffer.subarray(0, length);
  }

  #copyRandom(bytes: Uint8Array, writeIndex: number): void {
    let from = (writeIndex * 4093) % RANDOM_POOL_BYTES;
    for (let done = 0; done < bytes.byteLength;) {
      const part = Math.min(bytes.byteLength - done, RANDOM_POOL_BYTES - from);
      bytes.set(this.#pool.subarray(from, from + part), done);
      done += part;
      from = 0;
    }
  }
}

function randomPool(seed: number): Uint8Array {
  const random = new Random(seed);
  const pool = new Uint8Array(RANDOM_POOL_BYTES);
  const view = new DataView(pool.buffer);
  for (let at = 0; at + 4 <= pool.byteLength; at += 4) view.setUint32(at, random.uint32());
  return pool;
}
