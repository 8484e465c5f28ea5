/**
 * What guest writes carry. The n-th write (counting writes only, from 0) gets the same bytes
 * whatever the format, the cache mode or the queue depth.
 *
 * Invariants:
 * - Buffers are page memory, which O_DIRECT takes without a copy.
 * - A slot's buffer is refilled only when the slot's request is done.
 * - A length that a slot had before costs no memory: its view is kept.
 */

import { allocatePages } from '../core/page-memory.ts';
import { Random } from '../core/random.ts';

export const PAYLOAD_KINDS = ['pattern', 'random', 'zero'] as const;
/**
 * `pattern`: all bytes are n mod 255 + 1, as `qemu-io -c "write -P BYTE"` makes them; `random`:
 * seeded, does not compress; `zero`.
 */
export type PayloadKind = (typeof PAYLOAD_KINDS)[number];

/**
 * The smallest buffer; larger ones double, so that growing sizes do not leave a trail of outgrown
 * buffers.
 */
const BUFFER_BYTES_MIN = 4096;
/** Views kept a slot: more lengths than any workload mixes; a trace with more makes views again. */
const VIEWS_MAX = 256;

/** The memory of one request in flight. */
interface SlotBuffer {
  readonly memory: Uint8Array;
  readonly views: Map<number, Uint8Array>;
}

/** Bytes of the pool that random payloads are windows of: a prime count, so that writes differ. */
const RANDOM_POOL_BYTES = 1_048_573;

export class Payload {
  readonly #kind: PayloadKind;
  readonly #pool: Uint8Array;
  readonly #slots: SlotBuffer[] = [];

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
    let buffer = this.#slots[slot];
    if (buffer === undefined || buffer.memory.byteLength < length) {
      let size = buffer?.memory.byteLength ?? BUFFER_BYTES_MIN;
      while (size < length) size *= 2;
      buffer = { memory: allocatePages(size), views: new Map() };
      this.#slots[slot] = buffer;
    }
    let view = buffer.views.get(length);
    if (view === undefined) {
      view = buffer.memory.subarray(0, length);
      if (buffer.views.size < VIEWS_MAX) buffer.views.set(length, view);
    }
    return view;
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
