/**
 * Appending to a file that several processes append to.
 *
 * Invariants:
 * - What is appended depends on what the file holds: reading and appending are one step, under a
 *   write lock of the file's first byte. Where there are no such locks, a single append remains
 *   whole, as the system appends.
 * - Nothing that the file holds is ever changed. What an append that failed left is taken away.
 */

import { closeSync, constants, fstatSync, fsyncSync, ftruncateSync, readSync, writeSync } from 'node:fs';

import { Qcow2BenchError, systemCode } from '../core/error.ts';
import { openSync } from '../core/host-fs.ts';
import { humanSize } from '../core/size.ts';
import { writeError } from '../core/write-error.ts';
import { loadOfdLocks } from './ofd-lock.ts';

export interface AppendOptions {
  /** Bytes above which the file is refused. */
  readonly sizeMax: number;
  /**
   * What is to follow `content`; `undefined`: nothing. `keep`: bytes of the file that stay, where
   * what a killed process left at its end is to be taken away.
   */
  readonly append: (content: Buffer) => { readonly bytes: Buffer; readonly keep?: number } | undefined;
}

const LOCKED_BYTE = 0;
const WAIT_MS = 20;
const WAITS_MAX = 1500;

/**
 * Makes the file if there is none.
 *
 * @throws Qcow2BenchError `write-failed`, `not-an-output`, `file-locked` after half a minute; what
 *   `append` throws.
 */
export function appendShared(path: string, { sizeMax, append }: AppendOptions): void {
  const file = opened(path);
  try {
    const { size } = fstatSync(file);
    if (size > sizeMax) throw tooLarge(path, sizeMax);
    lock(file, path);
    const content = contentOf(file);
    const added = append(content);
    if (added === undefined) return;
    const { bytes, keep = content.length } = added;
    if (keep + bytes.length > sizeMax) throw tooLarge(path, sizeMax);
    if (keep < content.length) ftruncateSync(file, keep);
    write(file, bytes, keep);
    fsyncSync(file);
  } catch (error) {
    if (error instanceof Qcow2BenchError) throw error;
    throw writeError(path, error);
  } finally {
    closeSync(file);
  }
}

function opened(path: string): number {
  let file: number;
  try {
    file = openSync(path, constants.O_RDWR | constants.O_CREAT | constants.O_APPEND, 0o666);
  } catch (error) {
    throw writeError(path, error);
  }
  if (fstatSync(file).isFile()) return file;
  closeSync(file);
  const message = 'is no regular file, and only such a file can be appended to: name a file';
  throw new Qcow2BenchError('not-an-output', message, { path });
}

function lock(file: number, path: string): void {
  const loaded = loadOfdLocks();
  if (!loaded.ok) return;
  for (let wait = 0; !isLocked(file, loaded.locks); wait++) {
    if (wait === WAITS_MAX) {
      const message = 'is locked by another process: try again when that has ended';
      throw new Qcow2BenchError('file-locked', message, { path });
    }
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, WAIT_MS);
  }
}

/** True as well on a file system without locks. */
function isLocked(file: number, locks: { writeLock(fd: number, byte: number): boolean }): boolean {
  try {
    return locks.writeLock(file, LOCKED_BYTE);
  } catch (error) {
    if (systemCode(error) === 'EINTR') return false;
    return true;
  }
}

function contentOf(file: number): Buffer {
  const content = Buffer.alloc(fstatSync(file).size);
  let at = 0;
  while (at < content.length) {
    const bytes = readSync(file, content, at, content.length - at, at);
    if (bytes === 0) break;
    at += bytes;
  }
  return content.subarray(0, at);
}

/** In one call: what others append at the same time comes before or after it. */
function write(file: number, bytes: Buffer, size: number): void {
  let written: number;
  try {
    written = writeSync(file, bytes);
  } catch (error) {
    ftruncateSync(file, size);
    throw error;
  }
  if (written === bytes.length) return;
  ftruncateSync(file, size);
  throw Object.assign(new Error('short write'), { code: 'ENOSPC' });
}

function tooLarge(path: string, sizeMax: number): Qcow2BenchError {
  const message = `would exceed ${humanSize(sizeMax)}, the most that a history may have: begin another file`;
  return new Qcow2BenchError('history-too-large', message, { path });
}
