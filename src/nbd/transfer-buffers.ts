/**
 * Memory for the data of all clients' requests, used again: touching fresh pages costs about as
 * much as moving the data.
 *
 * Invariants: a buffer is given back at most once; what is kept for use again is bounded, the rest
 * is left to the collector. Lengths are rounded up to powers of two, so that buffers fit again.
 */

/** Bytes kept for use again. */
const KEPT_BYTES_MAX = 8 * 1024 * 1024;
const SIZE_MIN = 4096;

export class TransferBuffers {
  readonly #kept = new Map<number, Uint8Array[]>();
  #keptBytes = 0;

  /** `length` bytes with any content. */
  take(length: number): Uint8Array {
    const size = bufferSize(length);
    const kept = this.#kept.get(size)?.pop();
    if (kept === undefined) return Buffer.allocUnsafeSlow(size).subarray(0, length);
    this.#keptBytes -= size;
    return kept.subarray(0, length);
  }

  giveBack(bytes: Uint8Array): void {
    const size = bufferSize(bytes.byteLength);
    if (this.#keptBytes + size > KEPT_BYTES_MAX) return;
    this.#keptBytes += size;
    const whole = new Uint8Array(bytes.buffer, bytes.byteOffset, size);
    const kept = this.#kept.get(size);
    if (kept === undefined) this.#kept.set(size, [whole]);
    else kept.push(whole);
  }
}

/** Bytes of the buffer that `length` bytes come in. */
export function bufferSize(length: number): number {
  let size = SIZE_MIN;
  while (size < length) size *= 2;
  return size;
}
