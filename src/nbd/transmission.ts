/**
 * The requests of one client, from its choice of the export until it leaves.
 *
 * Invariants:
 * - Several requests are in flight at once, up to a limit, and are answered as they end.
 * - Memory is bounded: a request is begun, and its data are read, only after its memory was taken
 *   from the client's share of the budget. It is released when the reply has left for the kernel.
 * - After each turn of work the other clients come first.
 * - Requests of a client that has left are dropped; those that were begun are ended.
 * - A request that cannot be served is answered with an error and changes nothing; only one that
 *   makes what follows it unreadable (no magic, more data than may be) ends the connection.
 * - It ends when nothing is in flight any more, whatever the client does.
 */

import { Qcow2BenchError, systemCode } from '../core/error.ts';
import type { Pending } from '../core/pending.ts';
import { allocationStatus } from './allocation-status.ts';
import type { ByteAccess } from './byte-access.ts';
import { brokenProtocol, type NegotiatedFeatures } from './handshake.ts';
import {
  decodeRequest,
  encodeBlockStatus,
  encodeDataHead,
  encodeDone,
  encodeErrorChunk,
  encodeSimpleReply,
  REQUEST_BYTES,
  type NbdRequest,
} from './message-codec.ts';
import type { NbdExport } from './nbd-export.ts';
import { COMMAND, COMMAND_FLAG, NBD_ERROR, NBD_LIMITS, type NbdError } from './protocol.ts';
import type { ReplyQueue } from './reply-queue.ts';
import type { ClientMemory } from './memory-budget.ts';
import type { SocketReader } from './socket-reader.ts';
import { bufferSize, type TransferBuffers } from './transfer-buffers.ts';
import { Turn } from './turn.ts';

export interface TransmissionOptions {
  readonly reader: SocketReader;
  readonly replies: ReplyQueue;
  readonly served: NbdExport;
  /** The client's share of the server's memory. */
  readonly memory: ClientMemory;
  readonly buffers: TransferBuffers;
  readonly features: NegotiatedFeatures;
  /** Asked before each request; true ends the connection. */
  readonly isStopped: () => boolean;
  /** Called for requests that failed though they were good. */
  readonly note: (text: string) => void;
}

/** @throws Qcow2BenchError `nbd-protocol`. */
export async function transmit(options: TransmissionOptions): Promise<void> {
  const transmission = new Transmission(options);
  try {
    await transmission.run();
  } finally {
    await transmission.settled();
  }
}

interface Refusal {
  readonly error: NbdError;
  readonly message: string;
}

class Transmission {
  readonly #options: TransmissionOptions;
  readonly #access: ByteAccess;
  readonly #buffers: TransferBuffers;
  readonly #turn = new Turn();
  #inFlight = 0;
  #wake: (() => void) | undefined;

  constructor(options: TransmissionOptions) {
    this.#options = options;
    this.#access = options.served.access;
    this.#buffers = options.buffers;
  }

  async run(): Promise<void> {
    const { reader, isStopped } = this.#options;
    for (;;) {
      if (this.#turn.isOver) await this.#turn.next();
      const bytes = reader.take(REQUEST_BYTES) ?? (await reader.bytes(REQUEST_BYTES));
      if (bytes === undefined || isStopped()) return;
      const request = decodeRequest(bytes);
      if (request === undefined) throw brokenProtocol('a request does not begin with the magic');
      if (request.command === COMMAND.disconnect) return;
      if (!(await this.#admit(request))) return;
      this.#turn.spend(workOf(request));
      if (!(await this.#take(request))) return;
    }
  }

  /** Resolves when nothing is in flight. */
  async settled(): Promise<void> {
    while (this.#inFlight > 0) await this.#change();
  }

  /** Waits until the request may begin, and takes its memory; false if the client left. */
  async #admit(request: NbdRequest): Promise<boolean> {
    const { memory } = this.#options;
    while (this.#inFlight >= NBD_LIMITS.requestsInFlight) await this.#change();
    const bytes = memoryOf(request);
    return memory.take(bytes) || memory.wait(bytes);
  }

  #change(): Promise<void> {
    return new Promise((resolve) => {
      this.#wake = () => {
        this.#wake = undefined;
        resolve();
      };
    });
  }

  /** Reads what belongs to the request and begins to serve it; false if the client left. */
  async #take(request: NbdRequest): Promise<boolean> {
    const { reader } = this.#options;
    const refusal = this.#refusal(request);
    if (request.command !== COMMAND.write) {
      if (refusal === undefined) this.#begin(request);
      else this.#refuse(request, refusal);
      return true;
    }
    if (request.length > NBD_LIMITS.transferBytes) {
      this.#refuse(request, { error: NBD_ERROR.invalid, message: 'more data than a write may have' });
      throw brokenProtocol(`a write has ${String(request.length)} bytes; the limit is 32 MiB`);
    }
    if (refusal !== undefined) {
      if (!(await reader.skip(request.length))) return false;
      this.#refuse(request, refusal);
      return true;
    }
    const whole = reader.takeWhole(request.length);
    if (whole !== undefined) {
      this.#begin(request, whole);
      return true;
    }
    const bytes = this.#buffers.take(request.length);
    if (!(await reader.fill(bytes))) return false;
    this.#begin(request, bytes, () => this.#buffers.giveBack(bytes));
    return true;
  }

  /**
   * Why the request is not served; `undefined` if it is. Writes past the end lack space, as on a
   * full disk.
   */
  #refusal(request: NbdRequest): Refusal | undefined {
    const { command, flags, length } = request;
    const { served, features } = this.#options;
    const invalid = (message: string): Refusal => ({ error: NBD_ERROR.invalid, message });
    const allowedFlags = this.#allowedFlags(command);
    if (allowedFlags === undefined) return invalid(`unknown command ${String(command)}`);
    if ((flags & ~allowedFlags) !== 0) return invalid(`flags 0x${flags.toString(16)} are not allowed here`);
    if (command === COMMAND.flush) return undefined;
    const isWrite = command === COMMAND.write || command === COMMAND.writeZeroes;
    if (served.readOnly && (isWrite || command === COMMAND.trim)) {
      return { error: NBD_ERROR.perm, message: 'the export is read-only' };
    }
    if (request.offset + length > served.size) {
      const error = isWrite ? NBD_ERROR.noSpace : NBD_ERROR.invalid;
      return { error, message: `the disk ends at ${String(served.size)}` };
    }
    if (command === COMMAND.read && length > NBD_LIMITS.transferBytes) {
      return invalid('a read has at most 32 MiB');
    }
    if (command === COMMAND.blockStatus) {
      if (!features.allocation) return invalid('no context was chosen');
      if (length === 0) return invalid('the range is empty');
    }
    return undefined;
  }

  #allowedFlags(command: number): number | undefined {
    const { fua, noHole, df, reqOne } = COMMAND_FLAG;
    switch (command) {
      case COMMAND.read:
        return fua | (this.#options.features.structured ? df : 0);
      case COMMAND.write:
      case COMMAND.flush:
      case COMMAND.trim:
        return fua;
      case COMMAND.writeZeroes:
        return fua | noHole;
      case COMMAND.blockStatus:
        return fua | reqOne;
      default:
        return undefined;
    }
  }

  /**
   * Serves the request; what can be done at once is done when this returns. `release` is called
   * when it ended.
   */
  #begin(request: NbdRequest, data?: Uint8Array, release?: () => void): void {
    let pending: Pending;
    try {
      pending = this.#serve(request, data);
    } catch (error) {
      this.#fail(request, error);
    }
    if (pending === undefined) release?.();
    else void this.#end(request, pending, release);
  }

  async #end(request: NbdRequest, pending: Promise<void>, release?: () => void): Promise<void> {
    this.#inFlight++;
    try {
      await pending;
    } catch (error) {
      this.#fail(request, error);
    }
    this.#inFlight--;
    release?.();
    this.#wake?.();
  }

  #serve(request: NbdRequest, data: Uint8Array | undefined): Pending {
    const { offset, length, flags } = request;
    const fua = (flags & COMMAND_FLAG.fua) !== 0;
    if (request.command === COMMAND.flush) return this.#done(request, this.#access.flush());
    if (request.command === COMMAND.read) return this.#read(request);
    if (length === 0) return this.#done(request, undefined);
    switch (request.command) {
      case COMMAND.write:
        return this.#done(request, this.#access.write(offset, data ?? NOTHING, { fua }));
      case COMMAND.writeZeroes: {
        const unmap = (flags & COMMAND_FLAG.noHole) === 0;
        return this.#done(request, this.#access.writeZeroes(offset, length, { fua, unmap }));
      }
      case COMMAND.trim:
        return this.#done(request, fua ? this.#trimAndFlush(request) : this.#access.discard(offset, length));
      default:
        return this.#blockStatus(request);
    }
  }

  /** A discard of an image has no FUA: a flush replaces it, as in QEMU's server. */
  async #trimAndFlush({ offset, length }: NbdRequest): Promise<void> {
    await this.#access.discard(offset, length);
    await this.#access.flush();
  }

  #read(request: NbdRequest): Pending {
    const { offset, length } = request;
    const target = this.#buffers.take(length);
    const pending = length === 0 ? undefined : this.#access.read(offset, target);
    if (pending === undefined) this.#sendData(request, target);
    return pending?.then(() => this.#sendData(request, target));
  }

  #sendData(request: NbdRequest, data: Uint8Array): void {
    const { features } = this.#options;
    if (features.structured && data.byteLength === 0) {
      this.#buffers.giveBack(data);
      this.#sendDone(request);
      return;
    }
    this.#reply(request, features.structured ? encodeDataHead(request) : encodeSimpleReply(request, 0), data);
  }

  async #blockStatus(request: NbdRequest): Promise<void> {
    const onlyOne = (request.flags & COMMAND_FLAG.reqOne) !== 0;
    const extents = await allocationStatus(this.#options.served.image, request, { onlyOne });
    this.#reply(request, encodeBlockStatus(request, extents));
  }

  #done(request: NbdRequest, pending: Pending): Pending {
    if (pending === undefined) this.#sendDone(request);
    return pending?.then(() => this.#sendDone(request));
  }

  #sendDone(request: NbdRequest): void {
    const { structured } = this.#options.features;
    this.#reply(request, structured ? encodeDone(request) : encodeSimpleReply(request, 0));
  }

  #refuse(request: NbdRequest, { error, message }: Refusal): void {
    const { structured } = this.#options.features;
    const reply = structured ? encodeErrorChunk(request, error, message) : encodeSimpleReply(request, error);
    this.#reply(request, reply);
  }

  /** Sends the one reply of the request, and releases its memory when it has left. */
  #reply(request: NbdRequest, head: Uint8Array, data?: Uint8Array): void {
    const { replies, memory } = this.#options;
    memory.isMoving = true;
    replies.send(head, data, () => {
      if (data !== undefined) this.#buffers.giveBack(data);
      memory.release(memoryOf(request));
    });
  }

  /** Answers with the error that a good request met. */
  #fail(request: NbdRequest, error: unknown): void {
    const message = error instanceof Error ? error.message : String(error);
    this.#options.note(message);
    this.#refuse(request, { error: errorNumber(error), message });
  }
}

/**
 * Bytes that a request takes from its beginning until its reply has left: its data, and what goes
 * with any reply.
 */
function memoryOf({ command, length }: NbdRequest): number {
  if (command === COMMAND.blockStatus) return BLOCK_STATUS_BYTES;
  if (command !== COMMAND.read && command !== COMMAND.write) return REPLY_BYTES;
  return REPLY_BYTES + bufferSize(Math.min(length, NBD_LIMITS.transferBytes));
}

/**
 * What a request counts for in its client's turn, in bytes moved; roughly as long as it may take.
 */
function workOf({ command, length }: NbdRequest): number {
  switch (command) {
    case COMMAND.trim:
    case COMMAND.writeZeroes:
    case COMMAND.blockStatus:
      return WORK_BYTES_MIN + length / RANGE_SHARE;
    default:
      return WORK_BYTES_MIN + Math.min(length, NBD_LIMITS.transferBytes);
  }
}

/** What the protocol can say of a failure: its system code, if one is at the bottom of it. */
function errorNumber(error: unknown): NbdError {
  for (let cause = error; cause instanceof Error; cause = cause.cause) {
    const code = systemCode(cause);
    if (code === 'ENOSPC' || code === 'EDQUOT' || code === 'EFBIG') return NBD_ERROR.noSpace;
    if (code === 'ENOMEM') return NBD_ERROR.noMemory;
    if (code === 'EPERM' || code === 'EACCES' || code === 'EROFS') return NBD_ERROR.perm;
    if (cause instanceof Qcow2BenchError && cause.cause === undefined) break;
  }
  return NBD_ERROR.io;
}

const NOTHING = new Uint8Array(0);
/** What Node keeps for a reply that waits to be sent, measured, beside its data. */
const REPLY_BYTES = 8192;
const BLOCK_STATUS_BYTES = 8 * NBD_LIMITS.extents + REPLY_BYTES;
/**
 * What a request takes beside its data. A small one takes as long as moving 10 to 20 KiB; with less
 * than that, a flood of them leaves too little of the server's time to a client that reads much at
 * a time.
 */
const WORK_BYTES_MIN = 32 * 1024;
/** A command on a range moves no data but may touch all its tables. */
const RANGE_SHARE = 16;
