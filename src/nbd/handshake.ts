/**
 * The fixed newstyle negotiation with one client, from the greeting to the choice of the export.
 *
 * Invariants:
 * - There is one export. It has the name that it was given, or goes by any name. Options are
 *   answered in order, the unknown ones with "unsupported".
 * - No data of an option are read into memory before their length was bounded.
 * - A client that breaks the protocol is left with an error that says how.
 */

import { textOfBytes } from '../core/byte-text.ts';
import { Qcow2BenchError } from '../core/error.ts';
import {
  CLIENT_FLAGS_BYTES,
  decodeClientFlags,
  decodeInfoRequest,
  decodeMetaContextRequest,
  decodeOptionHeader,
  encodeAllocationContext,
  encodeExportNameAnswer,
  encodeGreeting,
  encodeInfoBlockSize,
  encodeInfoExport,
  encodeOptionReply,
  encodeServerName,
  OPTION_HEADER_BYTES,
  type ExportFacts,
} from './option-codec.ts';
import {
  ALLOCATION_CONTEXT,
  BLOCK_SIZE,
  HANDSHAKE_FLAG,
  INFO,
  NBD_LIMITS,
  OPTION,
  OPTION_REPLY,
  TRANSMISSION_FLAG,
  type OptionReply,
} from './protocol.ts';
import type { ReplyQueue } from './reply-queue.ts';
import type { SocketReader } from './socket-reader.ts';

/** Characters of a name that a client asked for. */
const NAME_SHOWN = 64;

export interface NegotiatedFeatures {
  /** Replies are structured. */
  readonly structured: boolean;
  /** The client may ask for allocation. */
  readonly allocation: boolean;
}

export interface HandshakeOptions {
  readonly reader: SocketReader;
  readonly replies: ReplyQueue;
  /** Bytes of the export. */
  readonly size: number;
  readonly readOnly: boolean;
  /** The only name that is accepted; `undefined`: any is. */
  readonly exportName: string | undefined;
  /** Asked when the client chooses the export; an answer is why it may not use it. */
  readonly admit: () => string | undefined;
}

/** The client broke the protocol; the connection is to be closed. */
export function brokenProtocol(rule: string): Qcow2BenchError {
  return new Qcow2BenchError('nbd-protocol', rule);
}

/**
 * @returns what was agreed on when the client goes on to requests; `undefined` if it leaves.
 * @throws Qcow2BenchError `nbd-protocol`.
 */
export async function negotiate(options: HandshakeOptions): Promise<NegotiatedFeatures | undefined> {
  return new Handshake(options).run();
}

type Ending = 'go' | 'leave' | undefined;

class Handshake {
  readonly #options: HandshakeOptions;
  #withZeroes = true;
  #structured = false;
  #allocation = false;

  constructor(options: HandshakeOptions) {
    this.#options = options;
  }

  async run(): Promise<NegotiatedFeatures | undefined> {
    const { reader, replies } = this.#options;
    replies.send(encodeGreeting());
    const clientFlags = await reader.bytes(CLIENT_FLAGS_BYTES);
    if (clientFlags === undefined) return undefined;
    this.#takeClientFlags(decodeClientFlags(clientFlags));
    for (let count = 0; ; count++) {
      const bytes = await reader.bytes(OPTION_HEADER_BYTES);
      if (bytes === undefined) return undefined;
      const header = decodeOptionHeader(bytes);
      if (header === undefined) throw brokenProtocol('an option does not begin with IHAVEOPT');
      if (header.length > NBD_LIMITS.optionBytes) {
        this.#reply(header.option, OPTION_REPLY.errorTooBig);
        throw brokenProtocol(`an option of ${String(header.length)} bytes is too long`);
      }
      if (count === NBD_LIMITS.options) throw brokenProtocol(`more than ${String(count)} options`);
      const data = await reader.bytes(header.length);
      if (data === undefined) return undefined;
      const ending = this.#option(header.option, data);
      if (ending === 'leave') return undefined;
      if (ending === 'go') return { structured: this.#structured, allocation: this.#allocation };
      await this.#untilRead();
    }
  }

  #takeClientFlags(flags: number): void {
    const { fixedNewstyle, noZeroes } = HANDSHAKE_FLAG;
    if ((flags & ~(fixedNewstyle | noZeroes)) !== 0) {
      throw brokenProtocol(`the client flags 0x${flags.toString(16)} have bits that were not offered`);
    }
    this.#withZeroes = (flags & noZeroes) === 0;
  }

  /**
   * Answers before the next option is read, so that a client that only asks and never reads gets no
   * further.
   */
  async #untilRead(): Promise<void> {
    const { replies } = this.#options;
    if (replies.queuedBytes <= NBD_LIMITS.optionBytes) return;
    await new Promise<void>((resolve) => {
      replies.onSent = () => {
        if (replies.queuedBytes <= NBD_LIMITS.optionBytes) resolve();
      };
    });
  }

  #option(option: number, data: Uint8Array): Ending {
    switch (option) {
      case OPTION.exportName:
        return this.#exportName(data);
      case OPTION.abort:
        this.#reply(option, OPTION_REPLY.ack);
        return 'leave';
      case OPTION.list:
        return this.#list(data);
      case OPTION.info:
      case OPTION.go:
        return this.#info(option, data);
      case OPTION.structuredReply:
        if (data.byteLength > 0) return this.#reply(option, OPTION_REPLY.errorInvalid);
        this.#structured = true;
        return this.#reply(option, OPTION_REPLY.ack);
      case OPTION.listMetaContext:
      case OPTION.setMetaContext:
        return this.#metaContext(option, data);
      default:
        return this.#reply(option, OPTION_REPLY.errorUnsupported);
    }
  }

  #isExport(name: string): boolean {
    const { exportName } = this.#options;
    return exportName === undefined || name === exportName;
  }

  /** The old way to choose: it has no reply but the export's, so a refusal ends the connection. */
  #exportName(data: Uint8Array): Ending {
    const name = textOfBytes(data);
    if (!this.#isExport(name)) throw brokenProtocol(`the export '${shortened(name)}' does not exist`);
    const refusal = this.#options.admit();
    if (refusal !== undefined) return 'leave';
    this.#options.replies.send(encodeExportNameAnswer(this.#exportFacts(), this.#withZeroes));
    return 'go';
  }

  #list(data: Uint8Array): Ending {
    if (data.byteLength > 0) return this.#reply(OPTION.list, OPTION_REPLY.errorInvalid);
    this.#reply(OPTION.list, OPTION_REPLY.server, encodeServerName(this.#options.exportName ?? ''));
    return this.#reply(OPTION.list, OPTION_REPLY.ack);
  }

  #info(option: typeof OPTION.info | typeof OPTION.go, data: Uint8Array): Ending {
    const request = decodeInfoRequest(data);
    if (request === undefined) return this.#reply(option, OPTION_REPLY.errorInvalid);
    if (!this.#isExport(request.name)) return this.#reply(option, OPTION_REPLY.errorUnknownExport);
    const refusal = option === OPTION.go ? this.#options.admit() : undefined;
    if (refusal !== undefined) return this.#reply(option, OPTION_REPLY.errorPolicy, Buffer.from(refusal));
    const asked = request.kinds.includes(INFO.blockSize);
    const minimum = asked ? BLOCK_SIZE.minimumTold : BLOCK_SIZE.minimumTaken;
    const sizes = { minimum, preferred: BLOCK_SIZE.preferred, maximum: NBD_LIMITS.transferBytes };
    this.#reply(option, OPTION_REPLY.info, encodeInfoExport(this.#exportFacts()));
    this.#reply(option, OPTION_REPLY.info, encodeInfoBlockSize(sizes));
    this.#reply(option, OPTION_REPLY.ack);
    return option === OPTION.go ? 'go' : undefined;
  }

  #metaContext(
    option: typeof OPTION.listMetaContext | typeof OPTION.setMetaContext,
    data: Uint8Array,
  ): Ending {
    const request = decodeMetaContextRequest(data);
    if (request === undefined || !this.#structured) return this.#reply(option, OPTION_REPLY.errorInvalid);
    if (!this.#isExport(request.name)) return this.#reply(option, OPTION_REPLY.errorUnknownExport);
    const isSet = option === OPTION.setMetaContext;
    const found = request.queries.some(
      (query) => query === ALLOCATION_CONTEXT.name || (!isSet && query === 'base:'),
    );
    const isListed = found || (!isSet && request.queries.length === 0);
    if (isSet) this.#allocation = found;
    if (isListed) this.#reply(option, OPTION_REPLY.metaContext, encodeAllocationContext());
    return this.#reply(option, OPTION_REPLY.ack);
  }

  #exportFacts(): ExportFacts {
    const { size, readOnly } = this.#options;
    const flag = TRANSMISSION_FLAG;
    // A flush goes through the one image that all connections share, so it covers what each of them
    // wrote.
    let transmissionFlags = flag.hasFlags | flag.sendFlush | flag.sendFua | flag.canMultiConn;
    transmissionFlags |= readOnly ? flag.readOnly : flag.sendTrim | flag.sendWriteZeroes;
    // An answer to a read is one chunk in any case.
    if (this.#structured) transmissionFlags |= flag.sendDf;
    return { size, transmissionFlags };
  }

  /** Negotiation goes on after it. */
  #reply(option: number, type: OptionReply, data?: Uint8Array): Ending {
    this.#options.replies.send(encodeOptionReply(option, type, data));
    return undefined;
  }
}

/** For a terminal: a client must not make it do things. */
function shortened(name: string): string {
  const plain = name.slice(0, NAME_SHOWN).replaceAll(/\p{C}/gu, '\u{fffd}');
  return name.length <= NAME_SHOWN ? plain : `${plain}…`;
}
