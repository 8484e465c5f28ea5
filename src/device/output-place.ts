/**
 * What lies where an output is to be written: nothing or a regular file, which a finished file replaces; or a stream
 * (a pipe, a terminal, `/dev/stdout`), which is written to.
 *
 * Invariant: a directory, a block device and a socket are never written to.
 */

import { statSync } from 'node:fs';

import { hostPath } from '../core/byte-text.ts';
import { Qcow2BenchError, systemCode } from '../core/error.ts';
import { realOutputPath } from './temporary-file.ts';

export type OutputPlace =
  | {
      readonly kind: 'file';
      /** Absolute, symbolic links followed. */
      readonly path: string;
      readonly exists: boolean;
    }
  /** One of this process's own: opened again, a redirected file would be written from its beginning. */
  | { readonly kind: 'descriptor'; readonly descriptor: number }
  | { readonly kind: 'stream' };

const DESCRIPTORS: Readonly<Record<string, number>> = { '/dev/stdin': 0, '/dev/stdout': 1, '/dev/stderr': 2 };
const DESCRIPTOR_PATH = /^\/(?:dev|proc\/self)\/fd\/(\d+)$/;

/** @throws Qcow2BenchError `not-an-output`, or `write-failed` with the system's reason. */
export function outputPlace(path: string): OutputPlace {
  const descriptor = DESCRIPTORS[path] ?? DESCRIPTOR_PATH.exec(path)?.[1];
  if (descriptor !== undefined) return { kind: 'descriptor', descriptor: Number(descriptor) };
  let found;
  try {
    found = statSync(hostPath(path), { throwIfNoEntry: false });
  } catch (error) {
    const message = `cannot be written (${systemCode(error) ?? String(error)})`;
    throw new Qcow2BenchError('write-failed', message, { path }, error);
  }
  if (found === undefined || found.isFile()) {
    return { kind: 'file', path: realOutputPath(path), exists: found !== undefined };
  }
  if (found.isFIFO() || found.isCharacterDevice()) return { kind: 'stream' };
  const what = found.isDirectory() ? 'a directory' : found.isSocket() ? 'a socket' : 'a block device';
  throw new Qcow2BenchError('not-an-output', `is ${what}, which no output replaces: name a file`, { path });
}
