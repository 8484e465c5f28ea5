/**
 * Replacing a file so that a reader, or a run after an interruption, finds the old text or the new one whole.
 *
 * Invariant: only regular files are ever replaced by a rename. A device or a pipe (`/dev/stdout`) is written
 * to, and a symbolic link stays a link.
 */

import {
  closeSync,
  fsyncSync,
  openSync,
  realpathSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
  type Stats,
} from 'node:fs';
import { basename, dirname, join } from 'node:path';

import { Qcow2BenchError, systemCode } from '../core/error.ts';

/**
 * Writes `text` to `path` in UTF-8.
 *
 * @param options.durable also waits until the text is on stable storage.
 * @throws Qcow2BenchError `write-failed` with the system's error as its cause; what stood there still stands.
 */
export function replaceFile(path: string, text: string, options: { readonly durable: boolean }): void {
  try {
    const existing = statSync(path, { throwIfNoEntry: false });
    if (existing !== undefined && !existing.isFile()) writeThrough(path, text, existing);
    else replaceByRename(existing === undefined ? path : realpathSync(path), text, options.durable);
  } catch (error) {
    if (error instanceof Qcow2BenchError) throw error;
    const code = systemCode(error) ?? 'unknown error';
    const message = `cannot be written (${code}): check that the directory exists, is writable and has space`;
    throw new Qcow2BenchError('write-failed', message, { path }, error);
  }
}

function writeThrough(path: string, text: string, existing: Stats): void {
  if (existing.isDirectory()) {
    throw new Qcow2BenchError('write-failed', 'is a directory: name a file', { path });
  }
  writeFileSync(path, text);
}

function replaceByRename(path: string, text: string, durable: boolean): void {
  const temporary = join(dirname(path), `.${basename(path)}.${String(process.pid)}.tmp`);
  try {
    const file = openSync(temporary, 'w');
    try {
      writeFileSync(file, text);
      if (durable) fsyncSync(file);
    } finally {
      closeSync(file);
    }
    renameSync(temporary, path);
  } catch (error) {
    rmSync(temporary, { force: true });
    throw error;
  }
}
