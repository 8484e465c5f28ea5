/**
 * What a client sends, byte-exact: asked for in pieces of known length.
 *
 * Invariants:
 * - At most `BUFFERED_MAX` bytes or `CHUNKS_MAX` chunks, and one chunk more, wait here; then the
 *   socket is paused, and the client with it.
 * - What a client sent before it closed its side is still read. Once the connection is gone, which
 *   shows at the latest when a reply cannot be sent, the rest is dropped.
 * - One reader waits at a time. `take` returns a view of memory that is never written again.
 */

import type { Socket } from 'node:net';

const BUFFERED_MAX = 128 * 1024;
/** A chunk of one byte costs hundreds. */
const CHUNKS_MAX = 64;

export class SocketReader {
  readonly #socket: Socket;
  readonly #chunks: Buffer[] = [];
  /** Bytes of the first chunk that were taken. */
  #taken = 0;
  #buffered = 0;
  #ended = false;
  #wake: (() => void) | undefined;
  /** Whether data of a request have begun and not ended: the client has to send the rest. */
  isFilling = false;

  constructor(socket: Socket) {
    this.#socket = socket;
    socket.on('data', (chunk: Buffer) => {
      this.#chunks.push(chunk);
      this.#buffered += chunk.byteLength;
      if (this.#isFull) socket.pause();
      this.#wake?.();
    });
    const end = (): void => {
      this.#ended = true;
      this.#wake?.();
    };
    // An error is followed by `close`; that the client is gone is all there is to know.
    socket
      .on('error', () => undefined)
      .on('end', end)
      .on('close', () => {
        this.#chunks.length = 0;
        this.#buffered = 0;
        this.#taken = 0;
        end();
      });
  }

  get #isFull(): boolean {
    return this.#buffered >= BUFFERED_MAX || this.#chunks.length >= CHUNKS_MAX;
  }

  /** The next `length` bytes if they are here. */
  take(length: number): Buffer | undefined {
    if (this.#buffered < length) return undefined;
    const first = this.#chunks[0];
    if (first !== undefined && first.byteLength - this.#taken >= length) {
      const bytes = first.subarray(this.#taken, this.#taken + length);
      this.#advance(length);
      return bytes;
    }
    const bytes = Buffer.alloc(length);
    this.#copy(bytes, 0);
    return bytes;
  }

  /** The next `length` bytes if they are here and in one piece, so that they need not be copied. */
  takeWhole(length: number): Buffer | undefined {
    const first = this.#chunks[0];
    if (first === undefined || first.byteLength - this.#taken < length) return undefined;
    return this.take(length);
  }

  /** The next `length` bytes, few; `undefined` if the client leaves before. */
  async bytes(length: number): Promise<Buffer | undefined> {
    while (this.#buffered < length) {
      if (this.#ended) return undefined;
      await this.#more();
    }
    return this.take(length);
  }

  /** Fills `target`, of any length; false if the client leaves before. */
  async fill(target: Uint8Array): Promise<boolean> {
    this.isFilling = true;
    try {
      let done = this.#copy(target, 0);
      while (done < target.byteLength) {
        if (this.#ended) return false;
        await this.#more();
        done += this.#copy(target, done);
      }
      return true;
    } finally {
      this.isFilling = false;
    }
  }

  /** Reads `length` bytes and forgets them; false if the client leaves before. */
  async skip(length: number): Promise<boolean> {
    let left = length;
    for (;;) {
      const now = Math.min(left, this.#buffered);
      for (let rest = now; rest > 0;) {
        const piece = Math.min(rest, (this.#chunks[0]?.byteLength ?? 0) - this.#taken);
        this.#advance(piece);
        rest -= piece;
      }
      left -= now;
      if (left === 0) return true;
      if (this.#ended) return false;
      await this.#more();
    }
  }

  /** Copies what is here to `target` from `at` on; bytes copied. */
  #copy(target: Uint8Array, at: number): number {
    let done = 0;
    for (
      let first = this.#chunks[0];
      first !== undefined && at + done < target.byteLength;
      first = this.#chunks[0]
    ) {
      const piece = Math.min(first.byteLength - this.#taken, target.byteLength - at - done);
      target.set(first.subarray(this.#taken, this.#taken + piece), at + done);
      this.#advance(piece);
      done += piece;
    }
    return done;
  }

  /** Takes `length` bytes off the first chunk. */
  #advance(length: number): void {
    this.#taken += length;
    this.#buffered -= length;
    if (this.#taken === this.#chunks[0]?.byteLength) {
      this.#chunks.shift();
      this.#taken = 0;
    }
    if (!this.#isFull && this.#socket.isPaused()) this.#socket.resume();
  }

  #more(): Promise<void> {
    return new Promise((resolve) => {
      this.#wake = () => {
        this.#wake = undefined;
        resolve();
      };
    });
  }
}
