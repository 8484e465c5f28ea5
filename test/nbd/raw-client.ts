/**
 * A client that sends whatever a test wants, and reads what comes: for promises about clients that
 * misbehave.
 */

import { connect, type Socket } from 'node:net';
import { once } from 'node:events';

export class RawClient {
  readonly socket: Socket;
  readonly #chunks: Buffer[] = [];
  #closed = false;
  #wake: (() => void) | undefined;

  private constructor(socket: Socket) {
    this.socket = socket;
    socket.on('data', (chunk) => {
      this.#chunks.push(chunk);
      this.#wake?.();
    });
    socket.on('error', () => undefined);
    socket.on('close', () => {
      this.#closed = true;
      this.#wake?.();
    });
  }

  static async connect(path: string): Promise<RawClient> {
    const socket = connect(path);
    await once(socket, 'connect');
    return new RawClient(socket);
  }

  /** Numbers are of 32 bits, big-endian. */
  send(...parts: readonly (number | Uint8Array)[]): void {
    for (const part of parts) this.socket.write(typeof part === 'number' ? word(part) : part);
  }

  /** The next `length` bytes; rejects if the server closes before. */
  async read(length: number): Promise<Buffer> {
    for (;;) {
      const all = Buffer.concat(this.#chunks.splice(0));
      if (all.length >= length) {
        if (all.length > length) this.#chunks.push(all.subarray(length));
        return all.subarray(0, length);
      }
      if (all.length > 0) this.#chunks.push(all);
      if (this.#closed) throw new Error(`closed after ${String(all.length)} of ${String(length)} bytes`);
      await this.#change();
    }
  }

  /** Resolves when the server has closed the connection. */
  async closed(): Promise<void> {
    while (!this.#closed) await this.#change();
  }

  /**
   * Greeting and EXPORT_NAME: the shortest way to requests, with simple replies. Answers the
   * export's size.
   */
  async go(): Promise<number> {
    await this.read(18);
    // Client flags: fixed newstyle, no zeroes. Then the magic IHAVEOPT, the option and an empty
    // name.
    this.send(3, 0x49484156, 0x454f5054, 1, 0);
    const answer = await this.read(10);
    return Number(answer.readBigUInt64BE(0));
  }

  /** A request with the handle 7. */
  request(
    command: number,
    offset: number,
    length: number,
    { flags = 0, data }: { readonly flags?: number; readonly data?: Uint8Array } = {},
  ): void {
    const header = Buffer.alloc(28);
    header.writeUInt32BE(0x25609513, 0);
    header.writeUInt16BE(flags, 4);
    header.writeUInt16BE(command, 6);
    header.writeUInt32BE(7, 12);
    header.writeBigUInt64BE(BigInt(offset), 16);
    header.writeUInt32BE(length, 24);
    this.send(header);
    if (data !== undefined) this.send(data);
  }

  /** The error of a simple reply; 0 is success. */
  async simpleReply(): Promise<number> {
    const reply = await this.read(16);
    if (reply.readUInt32BE(0) !== 0x67446698) throw new Error('no simple reply');
    return reply.readUInt32BE(4);
  }

  destroy(): void {
    this.socket.destroy();
  }

  #change(): Promise<void> {
    return new Promise((resolve) => {
      this.#wake = resolve;
    });
  }
}

function word(value: number): Uint8Array {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}
