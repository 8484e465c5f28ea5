/**
 * Cuts a stream of chunks into lines without making a string of any.
 *
 * Invariants: a line is the bytes `start` to `end` of `bytes`, without its line feed (and without a
 * carriage return before it); it is valid until the next call. A line longer than the limit is
 * reported, not kept.
 */

const LINE_FEED = 0x0a;
const CARRIAGE_RETURN = 0x0d;

export class LineScanner {
  /** The buffer that holds the present line. */
  bytes: Uint8Array = new Uint8Array(0);
  start = 0;
  end = 0;
  /** Number of the present line, from 1. */
  line = 0;

  readonly #lengthMax: number;
  /** Where the next line begins. */
  #next = 0;
  /** The chunk after `bytes`, which hold a line that began in the chunk before. */
  #chunk: Uint8Array | undefined;
  /** Where the chunk goes on after that line. */
  #chunkNext = 0;

  constructor({ lengthMax }: { readonly lengthMax: number }) {
    this.#lengthMax = lengthMax;
  }

  /** Adds a chunk; all lines of the one before must have been taken. The chunk is not changed. */
  push(given: Uint8Array): void {
    // A buffer is another class of array: code that meets both is slower with each.
    const chunk = new Uint8Array(given.buffer, given.byteOffset, given.length);
    const rest = this.bytes.subarray(this.#next);
    this.#next = 0;
    if (rest.length === 0) {
      this.bytes = chunk;
      return;
    }
    // Only the line that goes over the border is copied.
    const feed = feedFrom(chunk, 0);
    const end = Math.min(feed + 1, chunk.length);
    const joined = new Uint8Array(rest.length + end);
    joined.set(rest);
    joined.set(chunk.subarray(0, end), rest.length);
    this.bytes = joined;
    if (end < chunk.length) {
      this.#chunk = chunk;
      this.#chunkNext = end;
    }
  }

  /** Moves to the next line; false if no whole line is left. Call `unfinishedTooLong` then. */
  advance(): boolean {
    let feed = feedFrom(this.bytes, this.#next);
    if (feed === this.bytes.length) {
      if (this.#chunk === undefined) return false;
      this.bytes = this.#chunk;
      this.#next = this.#chunkNext;
      this.#chunk = undefined;
      feed = feedFrom(this.bytes, this.#next);
      if (feed === this.bytes.length) return false;
    }
    this.start = this.#next;
    this.end = feed > this.start && this.bytes[feed - 1] === CARRIAGE_RETURN ? feed - 1 : feed;
    this.#next = feed + 1;
    this.line++;
    return true;
  }

  /** Whether the present line is longer than the limit. */
  get tooLong(): boolean {
    return this.end - this.start > this.#lengthMax;
  }

  /** Bytes after the last line feed: a line that has not ended yet. */
  get unfinishedBytes(): number {
    return this.bytes.length - this.#next;
  }

  /** Whether the line that has not ended yet is longer than the limit already. */
  get unfinishedTooLong(): boolean {
    return this.unfinishedBytes > this.#lengthMax;
  }
}

/**
 * Where the next line feed is; the end if there is none. Lines are short: a call of `indexOf` costs
 * more than the bytes of one.
 */
function feedFrom(bytes: Uint8Array, start: number): number {
  const end = bytes.length;
  let at = start;
  while (at < end && bytes[at] !== LINE_FEED) at++;
  return at;
}
