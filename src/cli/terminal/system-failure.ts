/** Errors of the system in words, where no part of the program has described them. */

import { systemCode } from '../../core/error.ts';
import { errnoMeaning } from '../../core/system-error-name.ts';

/** `no space left on device (ENOSPC)`. */
export function meaningOf(error: Error): string {
  const code = systemCode(error);
  if (code === undefined) return error.message;
  const meaning = errnoMeaning(code);
  return meaning === undefined ? code : `${meaning} (${code})`;
}

/**
 * What the system refused, with the system call and the path; `undefined` if the error is not of a
 * system call.
 */
export function systemFailure(error: unknown): string | undefined {
  if (!(error instanceof Error) || !('syscall' in error) || typeof error.syscall !== 'string') {
    return undefined;
  }
  if (systemCode(error) === undefined) return undefined;
  const place = 'path' in error && typeof error.path === 'string' ? `${error.path}: ` : '';
  return `${place}${error.syscall} failed: ${meaningOf(error)}`;
}
