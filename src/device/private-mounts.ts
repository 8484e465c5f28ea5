/**
 * Mounts that only this process and its children see.
 *
 * Invariant: whatever ends the process, a kill too, ends its mounts: they are in a mount namespace
 * of its own, which the kernel takes down with its last process. So no list of mounts has to be
 * kept, and no run can touch those of another.
 *
 * A namespace belongs to a thread: libuv's threads that started earlier do not see the mounts. Files
 * there are opened and removed by the main thread, as `HostFile` does; an open file works anywhere.
 */

import { closeSync, constants } from 'node:fs';

import { openSync } from '../core/host-fs.ts';
import { errnoName } from '../core/system-error-name.ts';
import { systemError } from './host-error.ts';
import { loadLibc } from './libc.ts';

// From sched.h and sys/mount.h.
const CLONE_NEWNS = 0x2_0000;
const MS_REC = 0x4000;
const MS_SLAVE = 1 << 19;
const MNT_DETACH = 2;

/** Functions of libc, each of which throws as `node:fs` does. */
interface MountCalls {
  unshare(flags: number): void;
  mount(...call: MountArguments): void;
  umount2(target: string, flags: number): void;
  syncfs(fd: number): void;
}

type MountArguments = readonly [
  source: string | null,
  target: string,
  type: string | null,
  flags: number,
  data: string | null,
];

let isPrivate = false;

/**
 * Mounts `source` at the directory `target`.
 *
 * @param options of the file system, as after `mount -o`; not those of `mount` itself.
 * @throws an error as `node:fs`: `EPERM` without the right to mount, `ENODEV` if the kernel has no
 *   such file system.
 */
export function mountPrivately(source: string, target: string, type: string, options: string): void {
  const calls = mountCalls();
  if (!isPrivate) {
    calls.unshare(CLONE_NEWNS);
    // What the system mounts later still appears here; what is mounted here appears nowhere else.
    calls.mount(null, '/', null, MS_REC | MS_SLAVE, null);
    isPrivate = true;
  }
  calls.mount(source, target, type, 0, options);
}

/** Ends a mount; if one of its files is still open, as soon as it is closed. */
export function unmountPrivately(target: string): void {
  const calls = mountCalls();
  try {
    calls.umount2(target, 0);
  } catch {
    calls.umount2(target, MNT_DETACH);
  }
}

/** Writes all that the file system at `directory` has not written yet to its device. */
export function syncFileSystem(directory: string): void {
  const fd = openSync(directory, constants.O_RDONLY);
  try {
    mountCalls().syncfs(fd);
  } finally {
    closeSync(fd);
  }
}

let bound: MountCalls | undefined;

function mountCalls(): MountCalls {
  bound ??= bind();
  return bound;
}

function bind(): MountCalls {
  const loading = loadLibc('mount');
  if (!loading.ok) throw systemError('ENOSYS', 'mount');
  const { koffi, libc } = loading;
  // The declaration says what the arguments are.
  const checked =
    (name: string, declaration: string) =>
    (...args: readonly unknown[]): void => {
      const call = libc.func(declaration) as (...args: readonly unknown[]) => number;
      if (call(...args) !== 0) throw systemError(errnoName(koffi.errno()), name);
    };
  return {
    unshare: checked('unshare', 'int unshare(int flags)'),
    mount: checked(
      'mount',
      'int mount(const char *source, const char *target, const char *type, unsigned long flags, const char *data)',
    ),
    umount2: checked('umount2', 'int umount2(const char *target, int flags)'),
    syncfs: checked('syncfs', 'int syncfs(int fd)'),
  };
}
