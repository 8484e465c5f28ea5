/**
 * Writes native traces, plain or compressed, one request at a time.
 *
 * Invariants:
 * - What it writes, the reader takes: a request that a trace cannot hold (out of order, out of range) is
 *   refused before anything of it is written.
 * - Bounded memory: `write` answers a promise when the disk is behind; a caller that waits for it is never
 *   ahead by more than a few buffers.
 * - `close` alone makes the file whole. The same requests and facts give the same bytes.
 */

import { createWriteStream } from 'node:fs';
import { PassThrough } from 'node:stream';
import type { Duplex } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { constants, createGzip, createZstdCompress } from 'node:zlib';

import { systemCode } from '../../core/error.ts';
import { LIMITS } from '../../core/limits.ts';
import { formatNativeHeader, formatNativeRequest } from './native.ts';
import type { Request } from '../request.ts';
import { badTrace, brokenRule, brokenSizeRule } from './request-rules.ts';

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
  /** Facts for the header, in this order. Keys are words of letters, digits and hyphens; values one line. */
  readonly provenance?: Iterable<readonly [string, string]> | undefined;
  /** Default: by the name's ending, `.gz` or `.zst`. */
  readonly compression?: TraceCompression | undefined;
}

export class TraceWriter implements AsyncDisposable {
  readonly #path: string;
  readonly #virtualSize: number;
  readonly #stream: Duplex;
  /** Settles when everything is in the file; rejects with the system's error. */
  readonly #done: Promise<void>;
  #failure: unknown;
  #buffered: string;
  #timeNs = 0;
  #count = 0;
  #closed = false;

  /**
   * Creates the file at `path`, or empties it. The system's refusal to do so shows in `write` or `close`.
   * @throws Qcow2BenchError `bad-trace` if the size or a fact cannot stand in a trace.
   */
  constructor(path: string, { virtualSize, provenance = [], compression }: CreateTraceOptions) {
    const facts = [...provenance];
    const rule = brokenSizeRule(virtualSize) ?? brokenFactRule(facts);
    if (rule !== undefined) throw badTrace(rule, { path });
    this.#path = path;
    this.#virtualSize = virtualSize;
    this.#buffered = formatNativeHeader(virtualSize, facts);
    this.#stream = createCompressor(compression ?? compressionOf(path));
    this.#done = pipeline(this.#stream, createWriteStream(path));
    this.#done.catch((error: unknown) => (this.#failure = error));
  }

  /** Requests written so far. */
  get count(): number {
    return this.#count;
  }

  /**
   * Adds a request; a promise means: wait before the next one.
   * @throws Qcow2BenchError `bad-trace` if the request cannot stand in the trace, or the file cannot be written.
   */
  write(request: Request): undefined | Promise<void> {
    const rule = this.#brokenRule(request);
    if (rule !== undefined) {
      throw badTrace(`request ${String(this.#count)} cannot be recorded: ${rule}`, { path: this.#path });
    }
    if (this.#failure !== undefined) throw this.#writeFailure(this.#failure);
    this.#timeNs = request.timeNs;
    this.#count++;
    this.#buffered += formatNativeRequest(request);
    return this.#buffered.length < BUFFER_CHARACTERS ? undefined : this.#flushBuffer();
  }

  /** Writes what is left and closes the file. Does nothing the second time, or after a failed `write`. */
  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    try {
      this.#stream.end(this.#buffered);
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
      return `time ${String(timeNs)} is no whole number of nanoseconds from ${String(this.#timeNs)}, the time of the one before`;
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
    if (this.#stream.write(text)) return undefined;
    return new Promise((resolve, reject) => {
      const settle = () => {
        this.#stream.off('drain', settle).off('close', settle);
        if (this.#failure === undefined) resolve();
        else reject(this.#writeFailure(this.#failure));
      };
      this.#stream.on('drain', settle).on('close', settle);
    });
  }

  /** The error to throw. It is thrown once: disposing of the writer afterwards must not hide it. */
  #writeFailure(error: unknown): Error {
    this.#closed = true;
    return badTrace(`cannot be written (${systemCode(error) ?? String(error)})`, { path: this.#path }, error);
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

function compressionOf(path: string): TraceCompression {
  if (path.endsWith('.gz')) return 'gzip';
  return path.endsWith('.zst') ? 'zstd' : 'none';
}

function createCompressor(compression: TraceCompression): Duplex {
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
      return `'${key}' is no key of a header line: letters, digits and hyphens`;
    }
    if (seen.has(key)) return `the key '${key}' stands twice in the header, or is reserved`;
    if (/[\r\n]/.test(value)) return `the value of '${key}' is more than one line`;
    if (Buffer.byteLength(value) + key.length + 2 > LIMITS.traceLineBytes) {
      return `the value of '${key}' is too long`;
    }
    seen.add(key);
  }
  return undefined;
}
