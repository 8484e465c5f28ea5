/**
 * The directory in which a file is to be made: that it is one and takes files, in the same words
 * for every file.
 */

import { constants } from 'node:fs';

import { Qcow2BenchError, systemCode } from '../core/error.ts';
import { accessSync, statSync } from '../core/host-fs.ts';
import { errnoAdvice } from '../core/system-error-name.ts';

/**
 * @throws Qcow2BenchError `directory-missing`, `not-a-directory`, or `directory-unwritable` if it
 *   cannot be looked at.
 */
export function checkDirectory(path: string): void {
  let isDirectory: boolean | undefined;
  try {
    isDirectory = statSync(path, { throwIfNoEntry: false })?.isDirectory();
  } catch (error) {
    throw systemCode(error) === 'ENOTDIR' ? noDirectory(path, error) : directoryUnwritable(path, error);
  }
  if (isDirectory === undefined) throw directoryMissing(path);
  if (!isDirectory) throw noDirectory(path);
}

/**
 * @throws Qcow2BenchError as `checkDirectory`, and `directory-unwritable` if no file can be made
 *   there.
 */
export function checkWritableDirectory(path: string): void {
  checkDirectory(path);
  try {
    accessSync(path, constants.W_OK | constants.X_OK);
  } catch (error) {
    throw directoryUnwritable(path, error);
  }
}

export function directoryMissing(path: string, cause?: unknown): Qcow2BenchError {
  const message = 'the directory does not exist: create it or name another';
  return new Qcow2BenchError('directory-missing', message, { path }, cause);
}

export function noDirectory(path: string, cause?: unknown): Qcow2BenchError {
  return new Qcow2BenchError('not-a-directory', 'is not a directory: name another', { path }, cause);
}

export function directoryUnwritable(path: string, cause: unknown): Qcow2BenchError {
  const name = systemCode(cause) ?? String(cause);
  const advice = errnoAdvice(name) ?? 'change its permissions or name another';
  return new Qcow2BenchError(
    'directory-unwritable',
    `no file can be created in this directory (${name}): ${advice}`,
    { path },
    cause,
  );
}
