/**
 * Writes traces, plain or compressed, one request at a time.
 *
 * Invariants:
 * - What it writes, the reader takes: a request that no trace can hold (out of order, out of range)
 *   is refused before anything of it is written. What the chosen format does not hold is left out
 *   and counted by `TraceLosses`.
 * - Bounded memory: `write` answers a promise when the disk is behind; a caller that waits for it
 *   is never ahead by more than a few buffers.
 * - `close` alone makes the file whole. The same requests and facts give the same bytes.
 */

import { PassThrough } from 'node:stream';
import type { Duplex, Writable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { constants, createGzip, createZstdCompress } from 'node:zlib';

import { createWriteStream } from '../../core/host-fs.ts';
import { writeError } from '../../core/write-error.ts';
import { LIMITS } from '../../core/limits.ts';
import type { Request } from '../request.ts';
import { badTrace, brokenRule, brokenSizeRule } from './request-rules.ts';
import { createSparseFile, ZEROES } from './sparse-file.ts';
import {
  createEncoder,
  type RecordEncoder,
  type TraceEncoder,
  type WritableFormat,
} from './trace-encoder.ts';

export const TRACE_COMPRESSIONS = ['none', 'gzip', 'zstd'] as const;
export type TraceCompression = (typeof TRACE_COMPRESSIONS)[number];

/** Characters gathered before they go to the stream. */
const BUFFER_CHARACTERS = 64 * 1024;
const GZIP_LEVEL = 9;
/** Higher levels gain little on such text and take a hundred MiB. */
const ZSTD_LEVEL = 9;

export interface CreateTraceOptions {
  /** Bytes of the recorded device. */
  readonly virtualSize: number;
  /** Default: native. */
  readonly format?: WritableFormat | undefined;
  /** How many requests will be written, for formats that say so in their head (`dm-log-writes`). */
  readonly count?: number | undefined;
  /**
   * Facts for the header of a native trace, in this order. Keys are words of letters, digits and
   * hyphens; values one line.
   */
  readonly provenance?: Iterable<readonly [string, string]> | undefined;
  /** Default: by the name's ending, `.gz` or `.zst`. */
  readonly compression?: TraceCompression | undefined;
  /** Written to and ended in place of a file at the path, which then only names it. */
  readonly stream?: Writable | undefined;
}

export class TraceWriter implements AsyncDisposable {
  readonly #path: string;
  readonly #virtualSize: number;
  readonly #encoder: TraceEncoder;
  readonly #stream: Compressor;
  /** Settles when everything is in the file; rejects with the system's error. */
  readonly #done: Promise<void>;
  #failure: unknown;
  #buffered = '';
  #timeNs = 0;
  #count = 0;
  #closed = false;

  /**
   * Creates the file at `path`, or empties it. The system's refusal to do so shows in `write` or
   * `close`.
   * @throws Qcow2BenchError `bad-trace` if the size or a fact cannot be in a trace.
   */
  constructor(path: string, options: CreateTraceOptions) {
    const { virtualSize, format = 'native', count, provenance = [], compression, stream } = options;
    const facts = [...provenance];
    const rule = brokenSizeRule(virtualSize) ?? brokenFactRule(facts);
    if (rule !== undefined) throw badTrace(rule, { path });
    this.#path = path;
    this.#virtualSize = virtualSize;
    this.#encoder = createEncoder(format, { virtualSize, facts, count: count ?? 0 });
    const packing = compression ?? compressionOf(path);
    this.#stream = createCompressor(packing);
    const isSparse = this.#encoder.unit === 'record' && packing === 'none';
    this.#done = pipeline(this.#stream, stream ?? createFile(path, isSparse));
    this.#done.catch((error: unknown) => (this.#failure = error));
    if (this.#encoder.unit === 'line') this.#buffered = this.#encoder.head;
    else this.#stream.write(this.#encoder.head);
  }

  /** Requests written so far. */
  get count(): number {
    return this.#count;
  }

  /**
   * Adds a request; a promise means: wait before the next one.
   * @throws Qcow2BenchError `bad-trace` if the request cannot be in the trace, or the file cannot
   *   be written.
   */
  write(request: Request): undefined | Promise<void> {
    const rule = this.#brokenRule(request);
    if (rule !== undefined) {
      throw badTrace(`request ${String(this.#count)} cannot be recorded: ${rule}`, { path: this.#path });
    }
    if (this.#failure !== undefined) throw this.#writeFailure(this.#failure);
    this.#timeNs = request.timeNs;
    this.#count++;
    if (this.#encoder.unit === 'record') return this.#writeRecord(this.#encoder, request);
    this.#buffered += this.#encoder.line(request);
    return this.#buffered.length < BUFFER_CHARACTERS ? undefined : this.#flushBuffer();
  }

  /**
   * Hands what was written so far to the system, so that it can be read if the program is killed: a
   * compressed file can be unpacked up to here.
   * @throws Qcow2BenchError `bad-trace` if the file cannot be written.
   */
  async checkpoint(): Promise<void> {
    if (this.#closed) return;
    await this.#flushBuffer();
    await new Promise<void>((resolve) => {
      const { flush } = this.#stream;
      this.#stream.once('close', resolve);
      const done = (): void => {
        this.#stream.off('close', resolve);
        resolve();
      };
      if (flush === undefined || this.#stream.destroyed) done();
      else flush.call(this.#stream, done);
    });
    if (this.#failure !== undefined) throw this.#writeFailure(this.#failure);
  }

  /**
   * Writes what is left and closes the file. Does nothing the second time, or after a failed
   * `write`.
   */
  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    try {
      this.#stream.end(this.#encoder.unit === 'line' ? this.#buffered + this.#encoder.tail() : undefined);
      await this.#done;
    } catch (error) {
      throw this.#writeFailure(error);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  #brokenRule({ op, offset, length, timeNs, fua, unmap }: Request): string | undefined {
    if (!Number.isSafeInteger(timeNs) || timeNs < this.#timeNs) {
      return `time ${String(timeNs)} is not a whole number of nanoseconds from ${String(this.#timeNs)}, the time of the previous request`;
    }
    if (fua && (op === 'read' || op === 'flush')) return `a ${op} has no FUA flag`;
    if (unmap && op !== 'write-zeroes') return `a ${op} has no unmap flag`;
    if (op === 'flush') {
      return offset === 0 && length === 0 ? undefined : 'a flush has no offset and no length';
    }
    if (!Number.isSafeInteger(offset) || !Number.isSafeInteger(length) || offset < 0 || length < 0) {
      return 'offset and length are whole numbers of bytes from 0';
    }
    return brokenRule(op, offset, length, this.#virtualSize);
  }

  #flushBuffer(): undefined | Promise<void> {
    const text = this.#buffered;
    this.#buffered = '';
    return this.#send(text);
  }

  /** A record and the zeroes that represent its data. */
  #writeRecord(encoder: RecordEncoder, request: Request): undefined | Promise<void> {
    const { sector, dataBytes } = encoder.record(request);
    const pending = this.#send(sector);
    if (pending === undefined && dataBytes <= ZEROES.length) {
      return dataBytes === 0 ? undefined : this.#send(ZEROES.subarray(0, dataBytes));
    }
    return this.#sendZeroesAfter(pending, dataBytes);
  }

  async #sendZeroesAfter(pending: undefined | Promise<void>, bytes: number): Promise<void> {
    await pending;
    for (let left = bytes; left > 0; left -= ZEROES.length) await this.#send(ZEROES.subarray(0, left));
  }

  #send(part: string | Uint8Array): undefined | Promise<void> {
    if (this.#stream.write(part)) return undefined;
    // A stream that has failed already sends no further event.
    if (this.#stream.destroyed) return this.#failed();
    return new Promise((resolve, reject) => {
      const settle = () => {
        this.#stream.off('drain', settle).off('close', settle);
        if (this.#failure === undefined) resolve();
        else reject(this.#writeFailure(this.#failure));
      };
      this.#stream.on('drain', settle).on('close', settle);
    });
  }

  async #failed(): Promise<void> {
    try {
      await this.#done;
    } catch (error) {
      throw this.#writeFailure(error);
    }
  }

  /** The error to throw. It is thrown once: disposing of the writer afterwards must not hide it. */
  #writeFailure(error: unknown): Error {
    this.#closed = true;
    return writeError(this.#path, error, 'bad-trace');
  }
}

/**
 * Writes a whole trace.
 * @returns how many requests it holds.
 * @throws Qcow2BenchError `bad-trace`; the file then holds what came before.
 */
export async function writeTrace(
  path: string,
  requests: Iterable<Request> | AsyncIterable<Request>,
  options: CreateTraceOptions,
): Promise<number> {
  await using writer = new TraceWriter(path, options);
  for await (const request of requests) {
    const pending = writer.write(request);
    if (pending !== undefined) await pending;
  }
  return writer.count;
}

function createFile(path: string, isSparse: boolean): Writable {
  return isSparse ? createSparseFile(path) : createWriteStream(path);
}

/** The compression that a file's name asks for. */
export function compressionOf(path: string): TraceCompression {
  if (path.endsWith('.gz')) return 'gzip';
  return path.endsWith('.zst') ? 'zstd' : 'none';
}

/** `flush` makes everything so far come out. */
type Compressor = Duplex & { flush?: (done: () => void) => void };

function createCompressor(compression: TraceCompression): Compressor {
  switch (compression) {
    case 'none':
      return new PassThrough();
    case 'gzip':
      return createGzip({ level: GZIP_LEVEL });
    case 'zstd':
      return createZstdCompress({
        params: { [constants.ZSTD_c_compressionLevel]: ZSTD_LEVEL, [constants.ZSTD_c_checksumFlag]: 1 },
      });
  }
}

function brokenFactRule(facts: readonly (readonly [string, string])[]): string | undefined {
  const seen = new Set(['virtual-size']);
  for (const [key, value] of facts) {
    if (!/^[A-Za-z][A-Za-z0-9-]*$/.test(key)) {
      return `'${key}' is not a valid header key: use letters, digits and hyphens`;
    }
    if (seen.has(key)) return `the key '${key}' is duplicated in the header, or is reserved`;
    if (/[\r\n]/.test(value)) return `the value of '${key}' has more than one line`;
    if (Buffer.byteLength(value) + key.length + 2 > LIMITS.traceLineBytes) {
      return `the value of '${key}' is too long`;
    }
    seen.add(key);
  }
  return undefined;
}
