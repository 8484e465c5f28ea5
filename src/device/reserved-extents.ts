/**
 * Linux's FIEMAP: where a file has space that was reserved and never written. SEEK_DATA calls that
 * a hole, but to write there costs less, and programs that look at a file's blocks see it.
 *
 * It is asked through libc's `ioctl` and koffi, loaded at first use. If it is not available, or the
 * file system has no answer (tmpfs), a file has no reservations: what is true of most.
 */

import { createRequire } from 'node:module';
import type * as Koffi from 'koffi';

import { viewOf } from '../core/bytes.ts';
import { loadFallocate } from './fallocate.ts';

/** Bytes of a file. */
export interface ReservedExtent {
  readonly offset: number;
  readonly length: number;
}

type NativeIoctl = (fd: number, request: number, argument: Uint8Array) => number;

/*
 *  struct fiemap, from linux/fiemap.h (little-endian on all that have this binding)
 *   0  fm_start            8  fm_length
 *  16  fm_flags           20  fm_mapped_extents   24  fm_extent_count   28  reserved
 *  32  fm_extents: 56 bytes each
 *       0  fe_logical      8  fe_physical         16  fe_length         24  reserved
 *      40  fe_flags       44  reserved
 */
const FS_IOC_FIEMAP = 0xc020660b;
const HEADER_BYTES = 32;
const EXTENT_BYTES = 56;
const EXTENTS_AT_ONCE = 256;
const FLAG_LAST = 0x1;
const FLAG_UNWRITTEN = 0x800;

let native: NativeIoctl | 'missing' | undefined;

/** The reservations of an open file that are before `size`, in order. */
export function* reservedExtents(fd: number, size: number): Generator<ReservedExtent, undefined> {
  native ??= bind();
  if (native === 'missing') return undefined;
  const map = new Uint8Array(HEADER_BYTES + EXTENTS_AT_ONCE * EXTENT_BYTES);
  const view = viewOf(map);
  for (let start = 0; start < size;) {
    view.setBigUint64(0, BigInt(start), true);
    view.setBigUint64(8, BigInt(size - start), true);
    view.setUint32(24, EXTENTS_AT_ONCE, true);
    if (native(fd, FS_IOC_FIEMAP, map) !== 0) return undefined;
    const mapped = view.getUint32(20, true);
    if (mapped === 0) return undefined;
    let flags = 0;
    for (let index = 0; index < mapped; index++) {
      const at = HEADER_BYTES + index * EXTENT_BYTES;
      const offset = Number(view.getBigUint64(at, true));
      const end = offset + Number(view.getBigUint64(at + 16, true));
      flags = view.getUint32(at + 40, true);
      if ((flags & FLAG_UNWRITTEN) !== 0 && offset < size) {
        yield { offset, length: Math.min(end, size) - offset };
      }
      start = end;
    }
    if ((flags & FLAG_LAST) !== 0) return undefined;
  }
  return undefined;
}

/** Reserves the same in another file, as far as that is possible here. */
export function reserveExtents(fd: number, extents: Iterable<ReservedExtent>): void {
  const binding = loadFallocate();
  if (!binding.ok) return;
  for (const { offset, length } of extents) binding.fallocate.reserve(fd, offset, length);
}

function bind(): NativeIoctl | 'missing' {
  if (!loadFallocate().ok) return 'missing';
  try {
    const koffi = createRequire(import.meta.url)('koffi') as typeof Koffi;
    // A null path is the running program, which has libc loaded whatever its file is called.
    return koffi
      .load(null)
      .func('int ioctl(int fd, unsigned long request, _Inout_ uint8_t *argument)') as NativeIoctl;
  } catch {
    return 'missing';
  }
}
