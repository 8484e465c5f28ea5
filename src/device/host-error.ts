/**
 * Errors of the operating system, as one sentence: what was tried, the system's code, what it
 * means here and what to do. The system's error stays in `cause`.
 */

import { Qcow2BenchError, systemCode, type ErrorPlace } from '../core/error.ts';
import { errnoAdvice } from '../core/system-error-name.ts';

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

/**
 * Wraps `cause`, an error that a system call gave, thrown by `node:fs` or made by `systemError`.
 */
export function hostError(code: HostErrorCode, place: ErrorPlace, cause: unknown): Qcow2BenchError {
  const name = systemCode(cause);
  const what = ATTEMPTS[code];
  if (name === undefined) return new Qcow2BenchError(code, `${what} failed: ${String(cause)}`, place, cause);
  const meaning = errnoAdvice(name);
  const tail = meaning === undefined ? '' : `: ${meaning}`;
  return new Qcow2BenchError(code, `${what} failed with ${name}${tail}`, place, cause);
}

/** What the system answers where it or the file system has no such operation at all. */
const UNSUPPORTED = ['ENOTSUP', 'EOPNOTSUPP', 'ENOSYS', 'ENODEV', 'ENOTTY'];

/**
 * Whether an operation failed because this place does not have it: the next attempt would fail as
 * well.
 */
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
