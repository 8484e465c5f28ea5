/**
 * Linux's `fallocate`, which Node does not offer: zeroing a range and punching a hole without
 * writing.
 *
 * It is called in libc through koffi, loaded at first use. On another system, or where koffi has no
 * binary, the answer is a reason instead of a function; nothing is emulated here.
 */

import type * as Koffi from 'koffi';
import { errnoName } from '../core/system-error-name.ts';
import { systemError } from './host-error.ts';
import { loadLibc } from './libc.ts';

export interface Fallocate {
  /** The range takes space and keeps its bytes; the file grows to hold it. */
  reserve(fd: number, offset: number, length: number): void;
  /**
   * FALLOC_FL_ZERO_RANGE: the range reads as zeroes and stays allocated; the file grows to hold it.
   */
  zeroRange(fd: number, offset: number, length: number): void;
  /** FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE: the range reads as zeroes and is given back. */
  punchHole(fd: number, offset: number, length: number): void;
}

/** The same in one of libuv's threads. */
export interface AsyncFallocate {
  zeroRange(fd: number, offset: number, length: number): Promise<void>;
  punchHole(fd: number, offset: number, length: number): Promise<void>;
}

interface Binding {
  readonly fallocate: Fallocate;
  readonly inThread: AsyncFallocate;
}

export type LoadedFallocate =
  ({ readonly ok: true } & Binding) | { readonly ok: false; readonly reason: string };

type FallocateArguments = readonly [fd: number, mode: number, offset: number, length: number];

interface NativeFallocate {
  (...args: FallocateArguments): number;
  readonly async: (
    ...args: readonly [...FallocateArguments, (error: Error | null, result: number) => void]
  ) => void;
}

// Modes, from linux/falloc.h.
const RESERVE = 0;
const PUNCH_HOLE_KEEP_SIZE = 0x02 | 0x01;
const ZERO_RANGE = 0x10;

let loaded: LoadedFallocate | undefined;

/**
 * The binding, or why there is none. Both functions throw like `node:fs`, with `code` and
 * `syscall`.
 */
export function loadFallocate(): LoadedFallocate {
  loaded ??= load();
  return loaded;
}

function load(): LoadedFallocate {
  const loading = loadLibc('fallocate');
  if (!loading.ok) return loading;
  const { koffi, libc } = loading;
  return { ok: true, ...bind(koffi, libc) };
}

function bind(koffi: typeof Koffi, libc: Koffi.LibraryHandle): Binding {
  const native = libc.func(
    'int fallocate(int fd, int mode, int64_t offset, int64_t length)',
  ) as NativeFallocate;

  const call = (...args: FallocateArguments): void => {
    while (native(...args) !== 0) {
      const code = errnoName(koffi.errno());
      if (code !== 'EINTR') throw systemError(code, 'fallocate');
    }
  };
  const callInThread = async (...args: FallocateArguments): Promise<void> => {
    const isDone = await new Promise<boolean>((resolve) => {
      try {
        native.async(...args, (error, result) => {
          resolve(error === null && result === 0);
        });
      } catch {
        // Too many are in flight for koffi.
        resolve(false);
      }
    });
    // The thread's errno is gone: a synchronous second call returns the error, or succeeds.
    if (!isDone) call(...args);
  };
  const fallocate: Fallocate = {
    reserve: (fd, offset, length) => {
      call(fd, RESERVE, offset, length);
    },
    zeroRange: (fd, offset, length) => {
      call(fd, ZERO_RANGE, offset, length);
    },
    punchHole: (fd, offset, length) => {
      call(fd, PUNCH_HOLE_KEEP_SIZE, offset, length);
    },
  };
  const inThread: AsyncFallocate = {
    zeroRange: (fd, offset, length) => callInThread(fd, ZERO_RANGE, offset, length),
    punchHole: (fd, offset, length) => callInThread(fd, PUNCH_HOLE_KEEP_SIZE, offset, length),
  };
  return { fallocate, inThread };
}
