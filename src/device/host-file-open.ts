/**
 * Opening and creating host files: which files are taken, and every way in which that fails, each
 * with an error of its own.
 *
 * Invariants: only regular files and block devices are opened, and nothing blocks on a FIFO; a
 * device is never created, emptied or replaced; an existing file is replaced only when that was
 * asked for, and emptied only when it is locked; O_DIRECT is there or the file is not opened.
 */

import { closeSync, constants, fstatSync, ftruncateSync, type Stats } from 'node:fs';
import { dirname } from 'node:path';
import { Qcow2BenchError, systemCode } from '../core/error.ts';
import { openSync, rmSync, statSync } from '../core/host-fs.ts';
import { O_DIRECT, probeRequestAlignment } from './direct-io.ts';
import { hostError } from './host-error.ts';
import { endOfFile } from './hole-seek.ts';
import { lockImage, type LockRole } from './image-lock.ts';
import { mountPointOf } from './mount-point.ts';
import { directoryMissing, directoryUnwritable, noDirectory } from './output-directory.ts';
import { fileExists } from './temporary-file.ts';

export interface HostFileOptions {
  readonly label: string;
  /**
   * `existing` opens, `new` refuses a file that is there, `overwrite` empties it. Default
   * `existing`.
   */
  readonly create?: 'existing' | 'new' | 'overwrite' | undefined;
  readonly readOnly?: boolean | undefined;
  /** Open with O_DIRECT. Default false. */
  readonly direct?: boolean | undefined;
  /** Default: the file is not locked. */
  readonly lock?: LockRole | undefined;
  /**
   * False where zero-range is known not to work; what was not tried is true, and found out by
   * trying. Default true.
   */
  readonly canZeroRange?: boolean | undefined;
  /** The same of holes. Default true. */
  readonly canPunchHole?: boolean | undefined;
}

export interface OpenedHostFile {
  readonly fd: number;
  /** Bytes. */
  readonly size: number;
  /** Bytes; 1 without O_DIRECT. */
  readonly requestAlignment: number;
  /** A block device: its size stays. */
  readonly isDevice: boolean;
}

export function openHostFile(path: string, options: HostFileOptions): OpenedHostFile {
  const create = options.create ?? 'existing';
  refuseOtherThanRegular(path, { devices: create === 'existing' });
  const fd = openDescriptor(path, openFlags(path, options));
  try {
    const stat = fstatSync(fd);
    const isDevice = create === 'existing' && stat.isBlockDevice();
    if (!stat.isFile() && !isDevice) throw notRegular(path);
    if (options.lock !== undefined) lockImage(fd, path, options.lock);
    if (create === 'overwrite') ftruncateSync(fd, 0);
    const requestAlignment = options.direct === true ? probeRequestAlignment(fd) : 1;
    const size = isDevice ? sizeOfDevice(fd, path) : stat.size;
    return { fd, size: create === 'overwrite' ? 0 : size, requestAlignment, isDevice };
  } catch (error) {
    closeSync(fd);
    throw error instanceof Qcow2BenchError ? error : hostError('host-open-failed', { path }, error);
  }
}

/** The system gives a device no size but where its end is. */
function sizeOfDevice(fd: number, path: string): number {
  const size = endOfFile(fd);
  if (size !== undefined) return size;
  throw new Qcow2BenchError(
    'device-size-unknown',
    'the size of the block device cannot be read without the koffi package: install it, or use a file',
    { path },
  );
}

function openFlags(path: string, options: HostFileOptions): number {
  let flags = options.readOnly === true ? constants.O_RDONLY : constants.O_RDWR;
  if (options.create === 'new') flags |= constants.O_CREAT | constants.O_EXCL;
  if (options.create === 'overwrite') flags |= constants.O_CREAT;
  if (options.direct === true) {
    if (O_DIRECT === undefined) throw noDirect(path, `${process.platform} has no O_DIRECT`);
    flags |= O_DIRECT;
  }
  return flags;
}

function openDescriptor(path: string, flags: number): number {
  try {
    return openSync(path, flags, 0o644);
  } catch (error) {
    const code = systemCode(error);
    if (code === 'EEXIST') {
      throw fileExists(path, error);
    }
    if (code === 'ENOENT' && (flags & constants.O_CREAT) === 0) {
      throw new Qcow2BenchError('file-missing', 'no such file: check the path', { path }, error);
    }
    if (code === 'EINVAL' && O_DIRECT !== undefined && (flags & O_DIRECT) !== 0) {
      // Linux creates the file before it finds that the flag is refused; with O_EXCL it is ours.
      if ((flags & constants.O_EXCL) !== 0) rmSync(path, { force: true });
      const type = mountPointOf(dirname(path))?.type ?? '(of unknown type)';
      throw noDirect(path, `its file system ${type} has no O_DIRECT`, error);
    }
    if ((flags & constants.O_CREAT) !== 0) throw notCreated(path, error);
    throw hostError('host-open-failed', { path }, error);
  }
}

/** The error of a file that cannot be created, by what keeps its directory from taking it. */
function notCreated(path: string, cause: unknown): Qcow2BenchError {
  const directory = dirname(path);
  const code = systemCode(cause);
  if (code === 'ENOENT' || code === 'ENOTDIR') {
    const stat = statOrUndefined(directory);
    if (stat === undefined) return directoryMissing(directory);
    if (!stat.isDirectory()) return noDirectory(directory);
  }
  const isRefused = code === 'EACCES' || code === 'EPERM' || code === 'EROFS';
  // Of a file that exists, its own permissions are in the way.
  if (isRefused && statOrUndefined(path) === undefined) return directoryUnwritable(directory, cause);
  return hostError('host-open-failed', { path }, cause);
}

function statOrUndefined(path: string): Stats | undefined {
  try {
    return statSync(path, { throwIfNoEntry: false });
  } catch {
    return undefined;
  }
}

/** The error of a file that cannot be opened with O_DIRECT; `reason` names its file system. */
export function noDirect(path: string, reason: string, cause?: unknown): Qcow2BenchError {
  return new Qcow2BenchError(
    'no-o-direct',
    `the cache modes none and directsync need O_DIRECT, but ${reason}: use another directory or cache mode`,
    { path },
    cause,
  );
}

/**
 * Looked at before opening too: opening a FIFO waits for its other end, opening a device may act on
 * it.
 *
 * @param options `devices`: take a block device too. Default false.
 * @throws Qcow2BenchError `not-a-regular-file`
 */
export function refuseOtherThanRegular(
  path: string,
  { devices = false }: { readonly devices?: boolean } = {},
): void {
  let stat;
  try {
    stat = statSync(path, { throwIfNoEntry: false });
  } catch {
    return; // Opening fails the same way and names the reason.
  }
  if (stat === undefined || stat.isFile() || (devices && stat.isBlockDevice())) return;
  throw notRegular(path);
}

function notRegular(path: string): Qcow2BenchError {
  return new Qcow2BenchError(
    'not-a-regular-file',
    'an image must be a regular file, or a block device that is there already, not a directory, socket or pipe: name another',
    { path },
  );
}
