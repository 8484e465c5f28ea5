/**
 * Linux's locks of an open file description (`F_OFD_SETLK`), which Node does not offer: on single
 * bytes of a file, without waiting. The kernel drops them when the last descriptor of the
 * description is closed, so a process that is killed leaves none.
 *
 * `fcntl` is called in libc through koffi, loaded at first use; where there is none, the answer is
 * a reason.
 */

import { endianness } from 'node:os';
import type * as Koffi from 'koffi';
import { errnoName } from '../core/system-error-name.ts';
import { systemError } from './host-error.ts';
import { loadLibc } from './libc.ts';

export interface OfdLocks {
  /** Takes a read lock of one byte; false where another description has a write lock there. */
  readLock(fd: number, byte: number): boolean;
  /** Takes a write lock of one byte; false where another description has any lock there. */
  writeLock(fd: number, byte: number): boolean;
  /** Whether another description has any lock of the byte. */
  isLockedElsewhere(fd: number, byte: number): boolean;
}

export type LoadedOfdLocks =
  { readonly ok: true; readonly locks: OfdLocks } | { readonly ok: false; readonly reason: string };

// Commands and types, from linux/fcntl.h.
const OFD_GETLK = 36;
const OFD_SETLK = 37;
const READ_LOCK = 0;
const WRITE_LOCK = 1;
const UNLOCKED = 2;

/**
 *     struct flock, where off_t has 64 bits, in the byte order of the machine
 *
 *     0      2        4      8              16             24     28     32
 *     │ type │ whence │  –   │    start     │    length    │ pid  │  –   │
 *
 * `whence` 0 counts `start` from the file's begin; `pid` must be 0.
 */
const FLOCK = { size: 32, type: 0, start: 8, length: 16 } as const;
const IS_LITTLE_ENDIAN = endianness() === 'LE';

type NativeFcntl = (fd: number, command: number, lock: Uint8Array) => number;

let loaded: LoadedOfdLocks | undefined;

/**
 * The binding, or why there is none. Both functions throw like `node:fs`, with `code` and
 * `syscall`.
 */
export function loadOfdLocks(): LoadedOfdLocks {
  loaded ??= load();
  return loaded;
}

function load(): LoadedOfdLocks {
  const loading = loadLibc('fcntl');
  if (!loading.ok) return loading;
  const { koffi, libc } = loading;
  return { ok: true, locks: bind(koffi, libc) };
}

function bind(koffi: typeof Koffi, libc: Koffi.LibraryHandle): OfdLocks {
  // Variadic in C; on these architectures a third argument is passed alike either way.
  const native = libc.func('int fcntl(int fd, int command, void *lock)') as NativeFcntl;

  /** The error's code, or `undefined` and the answer in `lock`. */
  const call = (fd: number, command: number, lock: Uint8Array): string | undefined => {
    while (native(fd, command, lock) === -1) {
      const code = errnoName(koffi.errno());
      if (code !== 'EINTR') return code;
    }
    return undefined;
  };
  const take = (type: number, fd: number, byte: number): boolean => {
    const code = call(fd, OFD_SETLK, flock(type, byte));
    if (code === 'EAGAIN' || code === 'EACCES') return false;
    if (code !== undefined) throw systemError(code, 'fcntl');
    return true;
  };
  return {
    readLock: (fd, byte) => take(READ_LOCK, fd, byte),
    writeLock: (fd, byte) => take(WRITE_LOCK, fd, byte),
    isLockedElsewhere: (fd, byte) => {
      const lock = flock(WRITE_LOCK, byte);
      const code = call(fd, OFD_GETLK, lock);
      if (code !== undefined) throw systemError(code, 'fcntl');
      return new DataView(lock.buffer).getInt16(FLOCK.type, IS_LITTLE_ENDIAN) !== UNLOCKED;
    },
  };
}

function flock(type: number, byte: number): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(FLOCK.size);
  const view = new DataView(bytes.buffer);
  view.setInt16(FLOCK.type, type, IS_LITTLE_ENDIAN);
  view.setBigInt64(FLOCK.start, BigInt(byte), IS_LITTLE_ENDIAN);
  view.setBigInt64(FLOCK.length, 1n, IS_LITTLE_ENDIAN);
  return bytes;
}
