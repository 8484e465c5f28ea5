/**
 * What is where an output is to be written: nothing or a regular file, which a finished file
 * replaces; or a stream (a pipe, a terminal, `/dev/stdout`), which is written to.
 *
 * Invariant: a directory, a block device and a socket are never written to.
 */

import { fstatSync, type Stats } from 'node:fs';

import { Qcow2BenchError } from '../core/error.ts';
import { statSync } from '../core/host-fs.ts';
import { writeError } from '../core/write-error.ts';
import { ownDescriptor, realOutputPath } from './temporary-file.ts';

export type OutputPlace =
  | {
      readonly kind: 'file';
      /** Absolute, symbolic links followed. */
      readonly path: string;
      readonly exists: boolean;
    }
  /**
   * One of this process's own: opened again, a redirected file would be written from its beginning.
   */
  | { readonly kind: 'descriptor'; readonly descriptor: number }
  | { readonly kind: 'stream'; readonly path: string };

/** @throws Qcow2BenchError `not-an-output`, or `write-failed` with the system's reason. */
export function outputPlace(path: string): OutputPlace {
  const real = realOutputPath(path);
  const descriptor = ownDescriptor(real);
  let found: Stats | undefined;
  try {
    found = descriptor === undefined ? statSync(path, { throwIfNoEntry: false }) : fstatSync(descriptor);
  } catch (error) {
    throw writeError(path, error);
  }
  if (descriptor !== undefined && (found?.isFile() === true || found?.isSocket() === true)) {
    return { kind: 'descriptor', descriptor };
  }
  if (found === undefined || found.isFile()) return { kind: 'file', path: real, exists: found !== undefined };
  if (found.isFIFO() || found.isCharacterDevice()) {
    return descriptor === undefined ? { kind: 'stream', path: real } : { kind: 'descriptor', descriptor };
  }
  const what = kindOf(found);
  const orElse = found.isBlockDevice() ? ', or write a disk to it with convert --in-place' : '';
  throw new Qcow2BenchError(
    'not-an-output',
    `is ${what}, which cannot be replaced by an output: name a file${orElse}`,
    { path },
  );
}

function kindOf(found: Stats): string {
  if (found.isDirectory()) return 'a directory';
  if (found.isSocket()) return 'a socket';
  return found.isBlockDevice() ? 'a block device' : 'an internal descriptor';
}
