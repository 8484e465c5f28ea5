/**
 * Linux's `lseek` with SEEK_DATA and SEEK_HOLE: where a file has bytes and where it has none,
 * without reading it.
 *
 * It is called in libc through koffi, loaded at first use. If it is not available, or the file
 * system does not answer, a file is all data, which is always true though it says less. All other
 * requests name their offset, so moving the file's position disturbs none.
 */

import { createRequire } from 'node:module';
import type * as Koffi from 'koffi';

/** A stretch of one kind that begins at the offset asked for. */
export interface FileExtent {
  readonly isData: boolean;
  /** Bytes; at least 1. */
  readonly length: number;
}

type NativeSeek = (fd: number, offset: number, whence: number) => number | bigint;

// Whence, from linux/fs.h.
const SEEK_END = 2;
const SEEK_DATA = 3;
const SEEK_HOLE = 4;

let native: NativeSeek | 'missing' | undefined;

/**
 * What is at `offset` of an open file.
 *
 * @param range bytes; `offset` is before `size`, the file's length.
 */
export function extentOfFile(
  fd: number,
  range: { readonly offset: number; readonly size: number },
): FileExtent {
  const { offset, size } = range;
  native ??= bind();
  if (native === 'missing') return { isData: true, length: size - offset };
  const hole = Number(native(fd, offset, SEEK_HOLE));
  if (hole > offset) return { isData: true, length: Math.min(hole, size) - offset };
  // Either a hole begins here, or the file system has no answer; the second call decides.
  if (hole < 0) return { isData: true, length: size - offset };
  const data = Number(native(fd, offset, SEEK_DATA));
  // Negative: no data follow (ENXIO), so the hole reaches to the end.
  return { isData: false, length: (data > offset ? Math.min(data, size) : size) - offset };
}

/** Where an open file or block device ends; `undefined` if it cannot be asked. */
export function endOfFile(fd: number): number | undefined {
  native ??= bind();
  if (native === 'missing') return undefined;
  const end = Number(native(fd, 0, SEEK_END));
  return end < 0 ? undefined : end;
}

function bind(): NativeSeek | 'missing' {
  if (process.platform !== 'linux') return 'missing';
  try {
    const koffi = createRequire(import.meta.url)('koffi') as typeof Koffi;
    // A null path is the running program, which has libc loaded whatever its file is called.
    return koffi.load(null).func('int64_t lseek(int fd, int64_t offset, int whence)') as NativeSeek;
  } catch {
    return 'missing';
  }
}
