/**
 * Cuts a stream of chunks into binary records, passing over the data between them without keeping
 * it.
 *
 * Invariants: a record is `bytes` from `start`, valid until the next call; of the chunks before,
 * only an unfinished record is kept. `offset` is where in the unpacked file the record begins.
 */

export class RecordScanner {
  bytes: Uint8Array = new Uint8Array(0);
  start = 0;
  /** Bytes of the unpacked file before the present record. */
  offset = 0;
  /** Number of the present record, from 1. */
  record = 0;

  #next = 0;
  /** Where `bytes` begins in the file. */
  #origin = 0;
  #toSkip = 0;

  /**
   * Adds a chunk; all whole records of the one before must have been taken. The chunk is not
   * changed.
   */
  push(chunk: Uint8Array): void {
    const rest = this.bytes.subarray(this.#next);
    this.#origin += this.#next;
    this.#next = 0;
    if (rest.length === 0) {
      this.bytes = chunk;
    } else {
      const joined = new Uint8Array(rest.length + chunk.length);
      joined.set(rest);
      joined.set(chunk, rest.length);
      this.bytes = joined;
    }
    this.skip(0);
  }

  /** Moves to the next record of `length` bytes; false if it is not there as a whole. */
  advance(length: number): boolean {
    if (this.#toSkip > 0 || this.#next + length > this.bytes.length) return false;
    this.start = this.#next;
    this.offset = this.#origin + this.start;
    this.#next += length;
    this.record++;
    return true;
  }

  /** Passes over `length` bytes, of this chunk and those that come. */
  skip(length: number): void {
    this.#toSkip += length;
    const here = Math.min(this.#toSkip, this.bytes.length - this.#next);
    this.#next += here;
    this.#toSkip -= here;
  }

  /** Whether data that is passed over goes on in the next chunk. */
  get isSkipping(): boolean {
    return this.#toSkip > 0;
  }

  /** Whether the file may end here: no record and no data has begun. */
  get isBetweenRecords(): boolean {
    return this.#toSkip === 0 && this.#next === this.bytes.length;
  }

  /** Bytes of a record that has not ended yet. */
  get unfinishedBytes(): number {
    return this.bytes.length - this.#next;
  }

  /** Where the next record, or what there is of it, begins in the unpacked file. */
  get nextOffset(): number {
    return this.#origin + this.#next;
  }
}
