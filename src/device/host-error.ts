/**
 * Errors of the operating system, told as one sentence: what was tried, the system's code, what it
 * means here and what to do. The system's error stays in `cause`.
 */

import { Qcow2BenchError, systemCode, type ErrorPlace } from '../core/error.ts';
import { errnoMeaning } from '../core/system-error-name.ts';

export type HostErrorCode =
  | 'host-open-failed'
  | 'host-read-failed'
  | 'host-write-failed'
  | 'host-zero-range-failed'
  | 'host-punch-hole-failed'
  | 'host-reserve-failed'
  | 'host-truncate-failed'
  | 'host-sync-failed'
  | 'host-close-failed'
  | 'host-remove-failed'
  | 'host-rename-failed';

const ATTEMPTS: Readonly<Record<HostErrorCode, string>> = {
  'host-open-failed': 'opening the file',
  'host-read-failed': 'a read',
  'host-write-failed': 'a write',
  'host-zero-range-failed': 'zeroing a range',
  'host-punch-hole-failed': 'punching a hole',
  'host-reserve-failed': 'reserving space',
  'host-truncate-failed': 'changing the length',
  'host-sync-failed': 'making the file durable (fdatasync)',
  'host-close-failed': 'closing the file',
  'host-remove-failed': 'removing the file',
  'host-rename-failed': 'giving the finished file its name',
};

const MEANINGS: Readonly<Record<string, string>> = {
  ENOSPC: 'the file system is full: free space there or use another directory',
  EDQUOT: 'the disk quota is used up: free space there or use another directory',
  EFBIG:
    'the file would exceed the largest size allowed for files: use a smaller image or another file system',
  EIO: 'the storage below reported an input/output error: look into the kernel log',
  EACCES: 'permission is denied: change the permissions or use another path',
  EPERM: 'the operation is not permitted: change the permissions or use another path',
  EROFS: 'the file system is read-only: use another directory',
  ENOENT: 'there is no such file or directory: check the path',
  ENOTDIR: 'a part of the path is not a directory: check the path',
  EISDIR: 'it is a directory: name a file',
  ELOOP: 'the path has too many symbolic links: check the path',
  EMFILE: 'too many files are open: raise the limit (ulimit -n)',
  ENFILE: 'the system has too many files open',
  EINVAL: 'the system does not accept these arguments here',
  ENOTSUP: 'the file system does not support the operation',
};

/** Wraps `cause`, an error that a system call gave, thrown by `node:fs` or made by `systemError`. */
export function hostError(code: HostErrorCode, place: ErrorPlace, cause: unknown): Qcow2BenchError {
  const name = systemCode(cause);
  const what = ATTEMPTS[code];
  if (name === undefined) return new Qcow2BenchError(code, `${what} failed: ${String(cause)}`, place, cause);
  const meaning = MEANINGS[name] ?? errnoMeaning(name);
  const tail = meaning === undefined ? '' : `: ${meaning}`;
  return new Qcow2BenchError(code, `${what} failed with ${name}${tail}`, place, cause);
}

/** What the system answers where it or the file system has no such operation at all. */
const UNSUPPORTED = ['ENOTSUP', 'EOPNOTSUPP', 'ENOSYS', 'ENODEV', 'ENOTTY'];

/** Whether an operation failed because this place does not have it: the next attempt would fail as well. */
export function isUnsupported(error: unknown): boolean {
  return UNSUPPORTED.includes(hostCode(error) ?? '');
}

/** The system's code of what a system call threw, bare or wrapped by `hostError`. */
export function hostCode(error: unknown): string | undefined {
  return systemCode(error instanceof Qcow2BenchError ? error.cause : error);
}

/** An error like those of `node:fs`, for system calls made without it. */
export function systemError(code: string, syscall: string): Error {
  return Object.assign(new Error(`${code}, ${syscall}`), { code, syscall });
}
