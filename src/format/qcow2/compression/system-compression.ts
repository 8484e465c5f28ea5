/**
 * Compressed clusters by the system's libz and libzstd, which are those that the system's QEMU
 * uses: the same cluster packs to the same bytes. They are called through koffi, loaded at first
 * use; if they are not available the answer is a reason instead.
 *
 * Invariants:
 * - Streams and scratch memory are made once and used again. Synchronous calls share one stream, as
 *   none overlaps another; a call on another thread has a stream of its own.
 * - Node exports zlib's and zstd's names itself, of other versions: the libraries are bound to
 *   their own symbols (RTLD_DEEPBIND), or else they would call into Node's.
 */

import { createRequire } from 'node:module';
import type * as Koffi from 'koffi';
import { assertInvariant } from '../../../core/error.ts';
import type { CompressionType } from '../../image-shape.ts';
import { DEFLATE, type ClusterCodec } from './cluster-codec.ts';

export type LoadedCodec =
  | { readonly ok: true; readonly codec: ClusterCodec; readonly version: string }
  | { readonly ok: false; readonly reason: string };

const LIBRARY: Readonly<Record<CompressionType, string>> = { zlib: 'libz.so.1', zstd: 'libzstd.so.1' };

/** Where `long` and pointers have 64 bits, as the layouts below say. */
const ARCHITECTURES_64_BIT = ['x64', 'arm64', 'riscv64', 'loong64', 'ppc64', 's390x'];

/** Loads the system's codec of a type. */
export function loadSystemCodec(type: CompressionType): LoadedCodec {
  if (process.platform !== 'linux' || !ARCHITECTURES_64_BIT.includes(process.arch)) {
    return {
      ok: false,
      reason: `the system's ${type} is not called on ${process.platform}, ${process.arch}`,
    };
  }
  try {
    const koffi = createRequire(import.meta.url)('koffi') as typeof Koffi;
    // Other C libraries have no RTLD_DEEPBIND.
    koffi.load(null).func('const char *gnu_get_libc_version()');
    const library = koffi.load(LIBRARY[type], { deep: true });
    return type === 'zlib' ? bindZlib(koffi, library) : bindZstd(koffi, library);
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    return { ok: false, reason: `${LIBRARY[type]} of the system could not be loaded: ${why}` };
  }
}

// ── zlib ────────────────────────────────────────────────────────────────────────────────────────

const Z_OK = 0;
const Z_STREAM_END = 1;
const Z_FINISH = 4;
const Z_DEFLATED = 8;

/**
 * `z_stream` of zlib.h where pointers and `unsigned long` have 64 bits:
 *
 *     0 next_in   8 avail_in u32   16 total_in    24 next_out   32 avail_out u32   40 total_out   48 msg
 *    56 state    64 zalloc         72 zfree       80 opaque     88 data_type i32   96 adler      104 reserved
 */
const STREAM = { size: 112, nextIn: 0, availIn: 8, nextOut: 24, availOut: 32 } as const;

type StreamCall = Koffi.KoffiFunc<(stream: unknown, flush?: number) => number>;

function bindZlib(koffi: typeof Koffi, library: Koffi.LibraryHandle): LoadedCodec {
  const version = (library.func('const char *zlibVersion()') as () => string)();
  const deflateInit = library.func(
    'int deflateInit2_(void *stream, int level, int method, int windowBits, int memLevel, int strategy, const char *version, int size)',
  );
  const inflateInit = library.func(
    'int inflateInit2_(void *stream, int windowBits, const char *version, int size)',
  );
  const call = (definition: string): StreamCall => library.func(definition) as StreamCall;
  const { level, windowBits, memLevel } = DEFLATE;
  const deflateCalls: ZlibCalls = {
    run: call('int deflate(void *stream, int flush)'),
    reset: call('int deflateReset(void *stream)'),
    start: (stream) =>
      deflateInit(stream, level, Z_DEFLATED, -windowBits, memLevel, 0, version, STREAM.size) as number,
  };
  const deflate = new ZlibStream(koffi, deflateCalls);
  const apart = new Spares(() => new ZlibStream(koffi, deflateCalls));
  const inflate = new ZlibStream(koffi, {
    run: call('int inflate(void *stream, int flush)'),
    reset: call('int inflateReset(void *stream)'),
    start: (stream) => inflateInit(stream, -windowBits, version, STREAM.size) as number,
  });
  const codec: ClusterCodec = {
    compress: (cluster, limit) => deflate.run(cluster, limit),
    compressApart: (cluster, limit) => apart.lend((stream) => stream.runApart(cluster, limit)),
    decompress: (stored, target) => {
      const unpacked = inflate.run(stored, target.byteLength);
      if (unpacked?.byteLength !== target.byteLength) return false;
      target.set(unpacked);
      return true;
    },
  };
  return { ok: true, codec, version: `zlib ${version}` };
}

interface ZlibCalls {
  readonly start: (stream: unknown) => number;
  readonly reset: StreamCall;
  readonly run: StreamCall;
}

/** A `z_stream` that packs, or one that unpacks, whole streams one after another. */
class ZlibStream {
  readonly #calls: ZlibCalls;
  readonly #stream: NativeMemory;
  readonly #pointers: BigUint64Array;
  readonly #counts: Uint32Array;
  readonly #input: NativeMemory;
  readonly #output: NativeMemory;

  constructor(koffi: typeof Koffi, calls: ZlibCalls) {
    this.#calls = calls;
    this.#stream = new NativeMemory(koffi, STREAM.size);
    this.#stream.bytes.fill(0);
    this.#pointers = new BigUint64Array(this.#stream.bytes.buffer);
    this.#counts = new Uint32Array(this.#stream.bytes.buffer);
    this.#input = new NativeMemory(koffi, 0);
    this.#output = new NativeMemory(koffi, 0);
    const status = calls.start(this.#stream.pointer);
    if (status !== Z_OK) throw new Error(`zlib did not start: status ${String(status)}`);
  }

  /**
   * What `input` becomes, valid until the next call; `undefined` if that is no whole stream of at
   * most `limit` bytes.
   */
  run(input: Uint8Array, limit: number): Uint8Array | undefined {
    this.#begin(input, limit);
    return this.#calls.run(this.#stream.pointer, Z_FINISH) === Z_STREAM_END ? this.#result(limit) : undefined;
  }

  /** As `run`, on another thread; the answer belongs to the caller. */
  async runApart(input: Uint8Array, limit: number): Promise<Uint8Array | undefined> {
    this.#begin(input, limit);
    const status = await onAnotherThread<number>((done) =>
      this.#calls.run.async(this.#stream.pointer, Z_FINISH, done),
    );
    return status === Z_STREAM_END ? this.#result(limit).slice() : undefined;
  }

  #begin(input: Uint8Array, limit: number): void {
    this.#input.ensure(input.byteLength);
    this.#input.bytes.set(input);
    this.#output.ensure(limit);
    assertInvariant(this.#calls.reset(this.#stream.pointer) === Z_OK, 'a zlib stream cannot be reset');
    this.#pointers[STREAM.nextIn / 8] = this.#input.pointer;
    this.#counts[STREAM.availIn / 4] = input.byteLength;
    this.#pointers[STREAM.nextOut / 8] = this.#output.pointer;
    this.#counts[STREAM.availOut / 4] = limit;
  }

  #result(limit: number): Uint8Array {
    return this.#output.bytes.subarray(0, limit - (this.#counts[STREAM.availOut / 4] ?? 0));
  }
}

/** What koffi's `async` of a function hands to its last argument. */
function onAnotherThread<T>(call: (done: (error: unknown, answer: T) => void) => void): Promise<T> {
  return new Promise((resolve, reject) => {
    call((error, answer) => {
      if (error === null || error === undefined) resolve(answer);
      else {
        reject(
          error instanceof Error ? error : new Error('the library could not be called', { cause: error }),
        );
      }
    });
  });
}

/** Things that are used by one at a time, and made when all are in use. */
class Spares<Thing> {
  readonly #make: () => Thing;
  readonly #idle: Thing[] = [];

  constructor(make: () => Thing) {
    this.#make = make;
  }

  async lend<T>(use: (thing: Thing) => Promise<T>): Promise<T> {
    const thing = this.#idle.pop() ?? this.#make();
    try {
      return await use(thing);
    } finally {
      this.#idle.push(thing);
    }
  }
}

/** Memory outside of JavaScript's, at an address that stays. */
class NativeMemory {
  readonly #koffi: typeof Koffi;
  pointer = 0n;
  bytes = new Uint8Array(0);

  constructor(koffi: typeof Koffi, length: number) {
    this.#koffi = koffi;
    this.ensure(length);
  }

  /** Makes room for `length` bytes; what was there is lost if it grows. */
  ensure(length: number): void {
    if (length <= this.bytes.byteLength) return;
    const old = this.pointer;
    this.pointer = this.#koffi.alloc('uint8_t', length) as bigint;
    this.bytes = new Uint8Array(this.#koffi.view(this.pointer, length));
    if (old !== 0n) this.#koffi.free(old);
  }
}

// ── zstd ────────────────────────────────────────────────────────────────────────────────────────

const ZSTD_END = 2;
const ZSTD_RESET_SESSION = 1;

/** `dst, capacity, &position, src, size, &position`; positions are arrays of one. */
type ZstdStep = Koffi.KoffiFunc<
  (
    context: unknown,
    target: Uint8Array | bigint,
    capacity: number,
    targetAt: number[],
    source: Uint8Array | bigint,
    size: number,
    sourceAt: number[],
    end?: number,
  ) => number | bigint
>;

function bindZstd(koffi: typeof Koffi, library: Koffi.LibraryHandle): LoadedCodec {
  const version = (library.func('const char *ZSTD_versionString()') as () => string)();
  const createPacker = library.func('void *ZSTD_createCCtx()');
  const packer: unknown = createPacker();
  const unpacker: unknown = library.func('void *ZSTD_createDCtx()')();
  if (packer === null || unpacker === null) throw new Error('out of memory');
  const resetPacker = library.func('size_t ZSTD_CCtx_reset(void *context, int directive)');
  const resetUnpacker = library.func('size_t ZSTD_DCtx_reset(void *context, int directive)');
  const isError = library.func('unsigned int ZSTD_isError(size_t code)') as (code: number | bigint) => number;
  const arguments_ =
    'void *context, void *dst, size_t capacity, _Inout_ size_t *dstAt, const void *src, size_t size, _Inout_ size_t *srcAt';
  const compress = library.func(`size_t ZSTD_compressStream2_simpleArgs(${arguments_}, int end)`) as ZstdStep;
  const decompress = library.func(`size_t ZSTD_decompressStream_simpleArgs(${arguments_})`) as ZstdStep;
  let packed = new Uint8Array(0);
  const apart = new Spares(() => {
    const context: unknown = createPacker();
    if (context === null) throw new Error('out of memory');
    return { context, input: new NativeMemory(koffi, 0), output: new NativeMemory(koffi, 0) };
  });

  const codec: ClusterCodec = {
    compress: (cluster, limit) => {
      if (packed.byteLength < limit) packed = new Uint8Array(limit);
      resetPacker(packer, ZSTD_RESET_SESSION);
      const at = [0];
      // Anything left to flush means that it did not fit.
      const left = compress(packer, packed, limit, at, cluster, cluster.byteLength, [0], ZSTD_END);
      return Number(left) === 0 ? packed.subarray(0, at[0]) : undefined;
    },
    compressApart: (cluster, limit) =>
      apart.lend(async ({ context, input, output }) => {
        input.ensure(cluster.byteLength);
        input.bytes.set(cluster);
        output.ensure(limit);
        resetPacker(context, ZSTD_RESET_SESSION);
        const at = [0];
        const size = cluster.byteLength;
        const left = await onAnotherThread<number | bigint>((done) =>
          compress.async(context, output.pointer, limit, at, input.pointer, size, [0], ZSTD_END, done),
        );
        return Number(left) === 0 ? output.bytes.slice(0, at[0]) : undefined;
      }),
    decompress: (stored, target) => {
      resetUnpacker(unpacker, ZSTD_RESET_SESSION);
      const { byteLength: size } = stored;
      const { byteLength: capacity } = target;
      const targetAt = [0];
      const sourceAt = [0];
      let left: number | bigint = 1;
      while ((targetAt[0] ?? capacity) < capacity) {
        const before = [targetAt[0], sourceAt[0]];
        left = decompress(unpacker, target, capacity, targetAt, stored, size, sourceAt);
        if (isError(left) !== 0) return false;
        if (targetAt[0] === before[0] && sourceAt[0] === before[1]) return false;
      }
      // More than a cluster would still be to come.
      return Number(left) === 0;
    },
  };
  return { ok: true, codec, version: `zstd ${version}` };
}
