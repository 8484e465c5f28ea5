/**
 * Linux's FIEMAP: the extents of a file as its file system has them.
 *
 * It is asked through libc's `ioctl` and koffi, loaded at first use. If it is not available, or the
 * file system has no answer (tmpfs), a file has no extents that are known.
 */

import { createRequire } from 'node:module';
import type * as Koffi from 'koffi';

import { viewOf } from '../core/bytes.ts';

/** Bytes of a file, and where they are on the device. */
export interface MappedExtent {
  readonly offset: number;
  readonly length: number;
  /** Bytes from the start of the device. */
  readonly physical: number;
  /** Whether the space is only reserved: it reads as zeroes. */
  readonly isUnwritten: boolean;
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

/** The extents of an open file that begin before `size`, in order. */
export function* mappedExtents(fd: number, size: number): Generator<MappedExtent, undefined> {
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
      const length = Number(view.getBigUint64(at + 16, true));
      const physical = Number(view.getBigUint64(at + 8, true));
      flags = view.getUint32(at + 40, true);
      if (offset < size) yield { offset, length, physical, isUnwritten: (flags & FLAG_UNWRITTEN) !== 0 };
      start = offset + length;
    }
    if ((flags & FLAG_LAST) !== 0) return undefined;
  }
  return undefined;
}

/**
 * Pieces in which an open file is on the device, as `filefrag` counts them: an extent that is as far
 * from the one before it on the device as in the file continues its piece.
 */
export function fragmentCount(fd: number, size: number): number {
  let fragments = 0;
  let displacement: number | undefined;
  for (const { offset, physical } of mappedExtents(fd, size)) {
    if (physical - offset !== displacement) fragments++;
    displacement = physical - offset;
  }
  return fragments;
}

function bind(): NativeIoctl | 'missing' {
  if (process.platform !== 'linux') return 'missing';
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
