/**
 * Loop devices of Linux: a file as a block device, and what the kernel counts of its requests.
 *
 * Invariant: a device is attached so that the kernel detaches it when its last user ends
 * (LO_FLAGS_AUTOCLEAR): a mounted file system, or this process. Nothing is left to detach, not even
 * after a kill.
 */

import { closeSync, constants } from 'node:fs';

import { viewOf } from '../core/bytes.ts';
import { openSync, readFileSync } from '../core/host-fs.ts';
import { errnoName } from '../core/system-error-name.ts';
import { systemError } from './host-error.ts';
import { loadLibc, type LoadedLibc } from './libc.ts';

export interface LoopDevice {
  /** `/dev/loop3`. */
  readonly path: string;
  /** `loop3`. */
  readonly name: string;
  /** Whether requests pass the page cache of the file system with the file by. */
  readonly isDirect: boolean;
  /** Ends this process's use of the device; a file system that is mounted from it stays. */
  release(): void;
}

const LOOP_CONTROL = '/dev/loop-control';
// From linux/loop.h.
const LOOP_CTL_GET_FREE = 0x4c82;
const LOOP_CONFIGURE = 0x4c0a;
/*
 *  struct loop_config: u32 fd, u32 block_size, struct loop_info64 info, 64 reserved bytes;
 *  lo_flags is at 52 of loop_info64
 */
const CONFIG_BYTES = 304;
const FLAGS_AT = 8 + 52;
const LO_FLAGS_AUTOCLEAR = 4;
const LO_FLAGS_DIRECT_IO = 16;
/** Another process may take the free device first. */
const ATTEMPTS = 16;

/**
 * Attaches an open file to a free loop device, with direct I/O where the file's place has it.
 *
 * @throws an error as `node:fs`: `EACCES` and `ENOENT` of `/dev/loop-control`, `EBUSY` and others.
 */
export function attachLoop(fd: number): LoopDevice {
  const libc = loadLibc('ioctl');
  if (!libc.ok) throw systemError('ENOSYS', 'ioctl');
  const control = openSync(LOOP_CONTROL, constants.O_RDWR);
  try {
    for (let attempt = 1; ; attempt++) {
      const number = ioctl(libc, control, LOOP_CTL_GET_FREE);
      const name = `loop${String(number)}`;
      const path = `/dev/${name}`;
      const loop = openSync(path, constants.O_RDWR);
      try {
        configure(libc, loop, fd);
        return { path, name, isDirect: isDirect(name), release: () => closeSync(loop) };
      } catch (error) {
        closeSync(loop);
        if (attempt === ATTEMPTS || (error as { readonly code?: string }).code !== 'EBUSY') throw error;
      }
    }
  } finally {
    closeSync(control);
  }
}

type Libc = LoadedLibc & { readonly ok: true };
type NativeIoctl = (fd: number, request: number, argument: Uint8Array | null) => number;

function ioctl(
  { koffi, libc }: Libc,
  fd: number,
  request: number,
  argument: Uint8Array | null = null,
): number {
  const native = libc.func(
    'int ioctl(int fd, unsigned long request, _Inout_ uint8_t *argument)',
  ) as NativeIoctl;
  const answer = native(fd, request, argument);
  if (answer < 0) throw systemError(errnoName(koffi.errno()), 'ioctl');
  return answer;
}

function configure(libc: Libc, loop: number, fd: number): void {
  const config = new Uint8Array(CONFIG_BYTES);
  const view = viewOf(config);
  view.setUint32(0, fd, true);
  view.setUint32(FLAGS_AT, LO_FLAGS_AUTOCLEAR | LO_FLAGS_DIRECT_IO, true);
  ioctl(libc, loop, LOOP_CONFIGURE, config);
}

/** The kernel falls back to the page cache by itself. */
function isDirect(name: string): boolean {
  try {
    return readFileSync(`/sys/block/${name}/loop/dio`, 'latin1').trim() === '1';
  } catch {
    return false;
  }
}

/** Requests that a block device completed since it was attached to anything; bytes of each kind. */
export interface DeviceStat {
  readonly reads: number;
  readonly readBytes: number;
  readonly writes: number;
  readonly writeBytes: number;
  readonly discards: number;
  readonly discardBytes: number;
  /** `undefined` before Linux 5.5, which counts none. */
  readonly flushes: number | undefined;
}

const SECTOR = 512;

/** What the kernel has counted for the device, a name such as `loop3`. */
export function deviceStat(name: string): DeviceStat {
  return parseDeviceStat(readFileSync(`/sys/block/${name}/stat`, 'latin1'));
}

/** Text in the form of Linux's Documentation/block/stat.rst. */
export function parseDeviceStat(text: string): DeviceStat {
  const fields = text.trim().split(/\s+/).map(Number);
  const at = (index: number): number => fields[index] ?? 0;
  return {
    reads: at(0),
    readBytes: at(2) * SECTOR,
    writes: at(4),
    writeBytes: at(6) * SECTOR,
    discards: at(11),
    discardBytes: at(13) * SECTOR,
    flushes: fields[15],
  };
}
