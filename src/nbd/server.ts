/**
 * An NBD server for one export: accepts clients, and ends on demand with no request under way.
 *
 * Invariants:
 * - Whatever a client does, the server and its other clients go on.
 * - A client beyond the limit is turned away at once.
 * - After `stop` nothing touches the image any more: requests under way were ended, later ones not begun.
 */

import { createServer, type Server, type Socket } from 'node:net';

import { Qcow2BenchError } from '../core/error.ts';
import { negotiate } from './handshake.ts';
import { listenOn, type BoundAddress, type ListenAddress } from './listen-address.ts';
import type { NbdExport } from './nbd-export.ts';
import { NBD_LIMITS } from './protocol.ts';
import { ReplyQueue } from './reply-queue.ts';
import { SocketReader } from './socket-reader.ts';
import { transmit } from './transmission.ts';

export interface NbdServerOptions {
  readonly served: NbdExport;
  /** A line about a client that broke the protocol, or a request that failed. */
  readonly note: (text: string) => void;
  /** Called each time when the last of the clients that used the export has left. */
  readonly onIdle?: (() => void) | undefined;
  /** A defect of the program; the server is to be stopped. */
  readonly onDefect: (error: unknown) => void;
}

export class NbdServer {
  readonly #options: NbdServerOptions;
  readonly #server: Server;
  /** The connections that are open, each with what ends when it is done. */
  readonly #connections = new Map<Socket, Promise<void>>();
  /** Those of them that went on to requests. */
  #users = 0;
  #count = 0;
  #stopped = false;

  constructor(options: NbdServerOptions) {
    this.#options = options;
    this.#server = createServer({ noDelay: true, allowHalfOpen: true }, (socket) => this.#accept(socket));
  }

  /** @throws Qcow2BenchError `nbd-listen-failed`, `socket-in-use`, `not-a-socket`. */
  async listen(address: ListenAddress): Promise<BoundAddress> {
    return listenOn(this.#server, address);
  }

  /** How many clients use the export. */
  get users(): number {
    return this.#users;
  }

  /** Accepts nobody else, ends what is under way, and closes all connections. */
  async stop(): Promise<void> {
    this.#stopped = true;
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()));
    const connections = [...this.#connections];
    // A reader that waits for a client is thereby told that there is none.
    for (const [socket] of connections) socket.destroy();
    await Promise.all(connections.map(([, done]) => done));
    await closed;
  }

  #accept(socket: Socket): void {
    if (this.#stopped || this.#connections.size >= NBD_LIMITS.connections) {
      socket.on('error', () => undefined).destroy();
      return;
    }
    const number = ++this.#count;
    const note = (text: string): void => this.#options.note(`connection ${String(number)}: ${text}`);
    const closed = new Promise<void>((resolve) => socket.once('close', () => resolve()));
    const done = this.#serve(socket, note)
      .catch(this.#options.onDefect)
      .then(() => closed)
      .finally(() => this.#connections.delete(socket));
    this.#connections.set(socket, done);
  }

  async #serve(socket: Socket, note: (text: string) => void): Promise<void> {
    const { served } = this.#options;
    const reader = new SocketReader(socket);
    const replies = new ReplyQueue(socket);
    try {
      const { size, readOnly } = served;
      const features = await negotiate({ reader, replies, size, readOnly });
      if (features === undefined) return;
      this.#users++;
      try {
        await transmit({ reader, replies, served, features, note, isStopped: () => this.#stopped });
      } finally {
        this.#users--;
        if (this.#users === 0) this.#options.onIdle?.();
      }
    } catch (error) {
      if (!(error instanceof Qcow2BenchError)) throw error;
      note(`${error.message}; closed`);
    } finally {
      this.#close(socket, replies);
    }
  }

  /** Lets the last replies leave, but waits for no client that does not read them. */
  #close(socket: Socket, replies: ReplyQueue): void {
    if (replies.queuedBytes === 0) socket.destroy();
    else socket.destroySoon();
  }
}
