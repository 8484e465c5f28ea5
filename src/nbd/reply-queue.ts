/**
 * What the server sends to one client, and how much of it waits.
 *
 * Invariants: `queuedBytes` is what was given to the socket and has not left it; producers of
 * replies stop when it grows, so a client that never reads costs bounded memory. Sending to a
 * client that left does nothing.
 */

import type { Socket } from 'node:net';

export class ReplyQueue {
  readonly #socket: Socket;
  #queuedBytes = 0;
  #onSent: () => void = () => undefined;

  constructor(socket: Socket) {
    this.#socket = socket;
  }

  get queuedBytes(): number {
    return this.#queuedBytes;
  }

  /** Called when `queuedBytes` became less. */
  set onSent(onSent: () => void) {
    this.#onSent = onSent;
  }

  /**
   * Bytes are not to be changed until `release` is called, which happens once, also if the client
   * is gone.
   */
  send(head: Uint8Array, data?: Uint8Array, release?: () => void): void {
    const length = head.byteLength + (data?.byteLength ?? 0);
    this.#queuedBytes += length;
    const sent = (): void => {
      this.#queuedBytes -= length;
      release?.();
      this.#onSent();
    };
    if (data === undefined) {
      this.#socket.write(head, sent);
      return;
    }
    // Corked, both go out in one system call.
    this.#socket.cork();
    this.#socket.write(head);
    this.#socket.write(data, sent);
    this.#socket.uncork();
  }
}
