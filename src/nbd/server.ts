/**
 * An NBD server for one export: accepts clients, and ends on demand with no request in flight.
 *
 * Invariants:
 * - Whatever a client does, the server and its other clients go on.
 * - Memory is bounded: per client, and for all of them (`NBD_MEMORY`).
 * - A client that uses the export is never disconnected for being idle: a guest may be for hours.
 *   At the limit of users a further client gets an error when it chooses the export; there are
 *   always more places for connections than for users.
 * - A client chooses the export, and takes its last replies, within a time limit. At the limit of
 *   connections the oldest one that does neither makes room for a new one.
 * - What is said of clients is bounded (`client-notes.ts`).
 * - After `stop` nothing touches the image any more: requests in flight were ended, later ones not
 *   begun.
 */

import { createServer, type Server, type Socket } from 'node:net';

import { assertInvariant, Qcow2BenchError } from '../core/error.ts';
import { ClientNotes, type NoteKind } from './client-notes.ts';
import { negotiate } from './handshake.ts';
import { listenOn, type BoundAddress, type ListenAddress } from './listen-address.ts';
import { MemoryBudget, type BudgetLimits, type ClientMemory } from './memory-budget.ts';
import type { NbdExport } from './nbd-export.ts';
import { NBD_LIMITS, NBD_MEMORY } from './protocol.ts';
import { ReplyQueue } from './reply-queue.ts';
import { SocketReader } from './socket-reader.ts';
import { TransferBuffers } from './transfer-buffers.ts';
import { transmit } from './transmission.ts';

export interface NbdServerOptions {
  readonly served: NbdExport;
  /** The only name that clients may ask for; left out, any name is accepted. */
  readonly exportName?: string | undefined;
  /**
   * A line about a client that broke the protocol, or a request that failed; the server bounds
   * their number.
   */
  readonly note: (text: string) => void;
  /** Called each time when the last of the clients that used the export has left. */
  readonly onIdle?: (() => void) | undefined;
  /** A bug in qcow2-bench; the server is to be stopped. */
  readonly onDefect: (error: unknown) => void;
  /** Default: `NBD_LIMITS.silenceMs`. */
  readonly silenceMs?: number | undefined;
  /** Default: `NBD_MEMORY`. */
  readonly memory?: BudgetLimits | undefined;
}

interface Connection {
  readonly socket: Socket;
  readonly note: (kind: NoteKind, text: string) => void;
  /** Only `active` has no time limit. */
  phase: 'handshake' | 'active' | 'closing' | 'dropped';
  /** Whether it is counted in `users`. */
  isUser: boolean;
  timer: NodeJS.Timeout | undefined;
}

export class NbdServer {
  readonly #options: NbdServerOptions;
  readonly #server: Server;
  readonly #budget: MemoryBudget;
  readonly #buffers = new TransferBuffers();
  readonly #notes: ClientNotes;
  /** The connections that are open, oldest first, each with what ends when it is done. */
  readonly #connections = new Map<Connection, Promise<void>>();
  /** Those of them that went on to requests. */
  #users = 0;
  #count = 0;
  #stopped = false;

  constructor(options: NbdServerOptions) {
    this.#options = options;
    this.#budget = new MemoryBudget(options.memory ?? NBD_MEMORY);
    this.#notes = new ClientNotes(options.note);
    this.#server = createServer({ noDelay: true, keepAlive: true, allowHalfOpen: true }, (socket) =>
      this.#accept(socket),
    );
  }

  /** @throws Qcow2BenchError `nbd-listen-failed`, `socket-in-use`, `not-a-socket`. */
  async listen(address: ListenAddress): Promise<BoundAddress> {
    return listenOn(this.#server, address, this.#options.exportName);
  }

  /** How many clients use the export. */
  get users(): number {
    return this.#users;
  }

  /** Bytes that requests of all clients hold. */
  get heldBytes(): number {
    return this.#budget.heldBytes;
  }

  /** Stops accepting, ends requests in flight, and closes all connections. */
  async stop(): Promise<void> {
    this.#stopped = true;
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()));
    const connections = [...this.#connections];
    // A reader that waits for a client thereby learns that there is none.
    for (const [{ socket }] of connections) socket.destroy();
    await Promise.all(connections.map(([, done]) => done));
    await closed;
    this.#notes.finish();
  }

  #accept(socket: Socket): void {
    if (this.#stopped) {
      socket.on('error', () => undefined).destroy();
      return;
    }
    this.#makeRoom();
    const number = ++this.#count;
    const note = (kind: NoteKind, text: string): void =>
      this.#notes.note(kind, `connection ${String(number)}: ${text}`);
    const connection: Connection = { socket, note, phase: 'handshake', isUser: false, timer: undefined };
    this.#limitTime(connection, 'no export was chosen');
    const memory = this.#budget.open({
      isAwaited: () => replies.queuedBytes > 0 || reader.isFilling,
      drop: () => this.#drop(connection, 'stalled', 'holds memory that others are waiting for, and is idle'),
    });
    const reader = new SocketReader(socket);
    const replies = new ReplyQueue(socket);
    const closed = new Promise<void>((resolve) => {
      socket.once('close', () => {
        memory.leave();
        resolve();
      });
    });
    const done = this.#serve(connection, { reader, replies, memory })
      .catch(this.#options.onDefect)
      .then(() => closed)
      .finally(() => {
        clearTimeout(connection.timer);
        memory.close();
        this.#connections.delete(connection);
      });
    this.#connections.set(connection, done);
  }

  async #serve(
    connection: Connection,
    client: { readonly reader: SocketReader; readonly replies: ReplyQueue; readonly memory: ClientMemory },
  ): Promise<void> {
    const { served, exportName } = this.#options;
    const { note } = connection;
    const buffers = this.#buffers;
    try {
      const { size, readOnly } = served;
      const admit = (): string | undefined => this.#admit(connection);
      const features = await negotiate({ ...client, size, readOnly, exportName, admit });
      if (features === undefined || connection.phase === 'dropped') return;
      const isStopped = (): boolean => this.#stopped;
      const noteFailure = (text: string): void => note('failed', text);
      await transmit({ ...client, buffers, served, features, note: noteFailure, isStopped });
    } catch (error) {
      if (!(error instanceof Qcow2BenchError)) throw error;
      note('protocol', `${error.message}; closed`);
    } finally {
      if (connection.isUser) {
        this.#users--;
        if (this.#users === 0) this.#options.onIdle?.();
      }
      this.#close(connection, client.replies);
    }
  }

  /** Lets the client use the export; answers why it may not. */
  #admit(connection: Connection): string | undefined {
    if (this.#users >= NBD_LIMITS.users) {
      const reason = `the export already has ${String(NBD_LIMITS.users)} clients, the maximum`;
      connection.note('refused', `refused: ${reason}`);
      return `${reason}: try again when one disconnects`;
    }
    clearTimeout(connection.timer);
    connection.phase = 'active';
    connection.isUser = true;
    this.#users++;
    return undefined;
  }

  /** Lets the last replies leave, for a while. */
  #close(connection: Connection, replies: ReplyQueue): void {
    if (replies.queuedBytes === 0 || connection.phase === 'dropped') {
      connection.socket.destroy();
      return;
    }
    connection.phase = 'closing';
    this.#limitTime(connection, 'the last replies were not read');
    connection.socket.destroySoon();
  }

  #limitTime(connection: Connection, reason: string): void {
    const ms = this.#options.silenceMs ?? NBD_LIMITS.silenceMs;
    clearTimeout(connection.timer);
    connection.timer = setTimeout(
      () => this.#drop(connection, 'late', `${reason} within ${String(ms / 1000)} s`),
      ms,
    );
  }

  #drop(connection: Connection, kind: NoteKind, reason: string): void {
    if (connection.phase === 'dropped') return;
    connection.phase = 'dropped';
    connection.note(kind, `${reason}; closed`);
    connection.socket.destroy();
  }

  /** Before another connection is open, at the limit: the oldest that is silent leaves. */
  #makeRoom(): void {
    const open = [...this.#connections.keys()].filter(({ phase }) => phase !== 'dropped');
    if (open.length < NBD_LIMITS.connections) return;
    const silent = open.find(({ phase }) => phase !== 'active');
    assertInvariant(silent !== undefined, 'as many users as connections');
    this.#drop(silent, 'displaced', 'closed to admit a new connection');
  }
}
