/**
 * Reads a file as a stream of bytes, unpacked if it is gzip or Zstandard: by its content, not by
 * its name.
 *
 * Invariants: bounded memory (a few chunks); a compressed file that ends too soon or holds foreign
 * bytes is an error, never a shorter stream. Errors of the system and of the decompressor come out
 * as they are, for the caller to wrap.
 */

import { Readable, pipeline } from 'node:stream';
import type { Duplex } from 'node:stream';
import { createGunzip, createZstdDecompress } from 'node:zlib';

import { systemCode } from '../../core/error.ts';
import { createReadStream } from '../../core/host-fs.ts';
import { STANDARD_INPUT } from './trace-files.ts';
import { ZSTD_MAGIC, ZstdFrame } from '../../core/zstd-frame.ts';

/**
 * Bytes read or unpacked at once: large enough that the cost of a chunk is lost in that of its
 * lines.
 */
const CHUNK_BYTES = 256 * 1024;
/** With no buffer for what was unpacked, all of it is taken before an error ends the stream. */
const UNPACKING = { chunkSize: CHUNK_BYTES, readableHighWaterMark: 1 };
/** The two magic bytes of gzip (RFC 1952, 2.3.1). */
const GZIP_MAGIC = 0x8b1f;

export interface UnpackingObserver {
  /**
   * Where a compressed file ends too soon or is damaged: called after all bytes before it were
   * given, in place of the error.
   */
  readonly onCut?: (() => void) | undefined;
  /** Bytes of the file itself were read, packed or not. */
  readonly onRead?: ((bytes: number) => void) | undefined;
  /** Only these bytes of the file: the first and the last one. */
  readonly range?: { readonly start: number; readonly end: number } | undefined;
}

/** The file's bytes, unpacked. Ending the iteration early closes the file. */
export async function* readUnpacked(
  path: string,
  { onCut, onRead, range }: UnpackingObserver = {},
): AsyncGenerator<Uint8Array, undefined> {
  try {
    yield* unpackedBytes(path, { onRead, range });
  } catch (error) {
    const code = systemCode(error);
    if (onCut === undefined || (code?.startsWith('E') ?? false)) throw error;
    onCut();
  }
  return undefined;
}

async function* unpackedBytes(
  path: string,
  { onRead, range }: Pick<UnpackingObserver, 'onRead' | 'range'>,
): AsyncGenerator<Uint8Array, undefined> {
  // Opening /dev/stdin fails where it is a socket.
  const source =
    path === STANDARD_INPUT
      ? process.stdin
      : createReadStream(path, { highWaterMark: CHUNK_BYTES, ...range });
  try {
    const chunks = new ChunkReader(source, onRead);
    const head = await chunks.take();
    if (head === undefined) return undefined;
    chunks.putBack(head);
    if (startsWith(head, GZIP_MAGIC, 2)) {
      yield* unpack(chunks.all(), createGunzip(UNPACKING));
    } else if (startsWith(head, ZSTD_MAGIC, 4)) {
      yield* unpackZstd(chunks);
    } else {
      yield* chunks.all();
    }
    return undefined;
  } finally {
    source.destroy();
  }
}

/**
 * Frame by frame: Node's decompressor stops after the first one and drops the rest without a word,
 * while several frames in one file are common (`cat a.zst b.zst`, pzstd).
 */
async function* unpackZstd(chunks: ChunkReader): AsyncGenerator<Uint8Array, undefined> {
  for (let next = await chunks.take(); next !== undefined; next = await chunks.take()) {
    chunks.putBack(next);
    const frame = new ZstdFrame();
    const bytes = frameBytes(chunks, frame);
    const first = await bytes.next();
    if (first.done === true) continue;
    if (frame.skippable) {
      while ((await bytes.next()).done !== true);
    } else {
      yield* unpack(prepend(first.value, bytes), createZstdDecompress(UNPACKING));
    }
    if (!frame.complete) throw new Error('unexpected end of file');
  }
  return undefined;
}

/** The bytes of one frame; what follows it goes back to the reader. */
async function* frameBytes(chunks: ChunkReader, frame: ZstdFrame): AsyncGenerator<Uint8Array, undefined> {
  while (!frame.complete) {
    const chunk = await chunks.take();
    if (chunk === undefined) return undefined;
    const end = frame.advance(chunk);
    if (end < chunk.length) chunks.putBack(chunk.subarray(end));
    yield chunk.subarray(0, end);
  }
  return undefined;
}

async function* prepend(
  first: Uint8Array,
  rest: AsyncIterable<Uint8Array>,
): AsyncGenerator<Uint8Array, undefined> {
  yield first;
  yield* rest;
  return undefined;
}

async function* unpack(
  packed: AsyncIterable<Uint8Array>,
  decompressor: Duplex,
): AsyncGenerator<Uint8Array, undefined> {
  // An error of either end destroys the decompressor with it, and the loop below throws it.
  pipeline(Readable.from(packed, { objectMode: false }), decompressor, () => undefined);
  for await (const chunk of decompressor) yield chunk as Uint8Array;
  return undefined;
}

/** Chunks one at a time, with a place for one that was taken too early. */
class ChunkReader {
  readonly #source: AsyncIterator<Uint8Array>;
  readonly #onRead: ((bytes: number) => void) | undefined;
  #returned: Uint8Array | undefined;

  constructor(source: AsyncIterable<Uint8Array>, onRead: ((bytes: number) => void) | undefined) {
    this.#source = source[Symbol.asyncIterator]();
    this.#onRead = onRead;
  }

  async take(): Promise<Uint8Array | undefined> {
    const held = this.#returned;
    this.#returned = undefined;
    if (held !== undefined) return held;
    const next = await this.#source.next();
    if (next.done === true) return undefined;
    this.#onRead?.(next.value.length);
    return next.value;
  }

  putBack(chunk: Uint8Array): void {
    this.#returned = chunk;
  }

  async *all(): AsyncGenerator<Uint8Array, undefined> {
    for (let chunk = await this.take(); chunk !== undefined; chunk = await this.take()) yield chunk;
    return undefined;
  }
}

function startsWith(bytes: Uint8Array, magic: number, length: number): boolean {
  if (bytes.length < length) return false;
  for (let index = 0; index < length; index++) {
    if (bytes[index] !== ((magic >>> (8 * index)) & 0xff)) return false;
  }
  return true;
}
