/**
 * Names and meanings of the errors of system calls. Node has them from libuv, whose list lacks some
 * that Linux gives, such as a used-up quota: for those it answers `Unknown system error -122`, or
 * `UNKNOWN` from its fast paths (`writeSync`).
 */

import { getSystemErrorMap } from 'node:util';

/**
 * Errors of Linux (asm-generic/errno.h) that libuv does not name, and that a file, a device or a
 * socket may give.
 */
const LINUX: ReadonlyMap<number, readonly [name: string, meaning: string]> = new Map([
  [8, ['ENOEXEC', 'the file is not an executable program']],
  [10, ['ECHILD', 'there is no child process']],
  [15, ['ENOTBLK', 'a block device is required']],
  [33, ['EDOM', 'an argument is out of its domain']],
  [35, ['EDEADLK', 'the lock would deadlock']],
  [37, ['ENOLCK', 'no locks are available']],
  [42, ['ENOMSG', 'there is no message of this type']],
  [43, ['EIDRM', 'the identifier was removed']],
  [52, ['EBADE', 'an exchange is invalid']],
  [53, ['EBADR', 'a request descriptor is invalid']],
  [60, ['ENOSTR', 'the device is not a stream']],
  [62, ['ETIME', 'a timer has expired']],
  [63, ['ENOSR', 'no stream resources are left']],
  [66, ['EREMOTE', 'the object is remote']],
  [67, ['ENOLINK', 'the link was severed']],
  [70, ['ECOMM', 'sending failed']],
  [72, ['EMULTIHOP', 'the path leads through several hosts']],
  [74, ['EBADMSG', 'stored data is damaged (bad message or checksum)']],
  [76, ['ENOTUNIQ', 'the name is not unique on the network']],
  [77, ['EBADFD', 'the file descriptor is in a bad state']],
  [78, ['EREMCHG', 'the remote address changed']],
  [85, ['ERESTART', 'the system call was interrupted']],
  [87, ['EUSERS', 'too many users']],
  [96, ['EPFNOSUPPORT', 'the protocol family is not supported']],
  [102, ['ENETRESET', 'the network dropped the connection']],
  [115, ['EINPROGRESS', 'the operation is in progress']],
  [116, ['ESTALE', 'the file handle is stale: the file was removed or replaced on its server']],
  [117, ['EUCLEAN', 'the file system is damaged and needs a check']],
  [121, ['EREMOTEIO', 'the remote side reported an input/output error']],
  [122, ['EDQUOT', 'the disk quota is used up']],
  [123, ['ENOMEDIUM', 'the drive has no medium']],
  [124, ['EMEDIUMTYPE', 'the medium is of the wrong type']],
  [125, ['ECANCELED', 'the operation was cancelled']],
  [126, ['ENOKEY', 'a required key is not available']],
  [127, ['EKEYEXPIRED', 'a key has expired']],
  [128, ['EKEYREVOKED', 'a key was revoked']],
  [129, ['EKEYREJECTED', 'a key was rejected']],
  [130, ['EOWNERDEAD', 'the owner of a lock died']],
  [131, ['ENOTRECOVERABLE', 'the state is not recoverable']],
  [132, ['ERFKILL', 'a radio switch forbids the operation']],
]);

/** What to do about those that a user can change something about. */
const ADVICE: Readonly<Record<string, string>> = {
  ENOSPC: 'the file system is full: free space there or use another directory',
  EDQUOT: 'the disk quota is used up: free space there or use another directory',
  EFBIG:
    'the file would exceed the largest size allowed for files: use a smaller image or another file system',
  EIO: 'the storage reported an I/O error: check the kernel log',
  EACCES: 'permission is denied: change the permissions or use another path',
  EPERM: 'the operation is not permitted: change the permissions or attributes (lsattr), or use another path',
  EROFS: 'the file system is read-only: use another directory',
  ENOENT: 'no such file or directory: check the path',
  ENOTDIR: 'a part of the path is not a directory: check the path',
  EISDIR: 'the path is a directory: name a file',
  ELOOP: 'the path has too many symbolic links: check the path',
  ENAMETOOLONG: 'the name is too long: use a shorter one',
  EMFILE: 'too many files are open: raise the limit (ulimit -n)',
  ENFILE: 'the system has too many files open',
  EINVAL: 'the system does not accept these arguments here',
  ENOTSUP: 'the file system does not support the operation',
};

/** The name of a positive error number: `ENOSPC`; `errno 999` where it has none. */
export function errnoName(errno: number): string {
  return entryOf(errno)?.[0] ?? `errno ${String(errno)}`;
}

/** What an error's name means: `no space left on device`. */
export function errnoMeaning(name: string): string | undefined {
  for (const [known, meaning] of [...getSystemErrorMap().values(), ...LINUX.values()]) {
    if (known === name) return meaning;
  }
  return undefined;
}

/** What an error's name means, and what to do about it where that is known. */
export function errnoAdvice(name: string): string | undefined {
  return ADVICE[name] ?? errnoMeaning(name);
}

/** The name for an error code as `node:fs` gives it, with `errno` beside it. */
export function completeCode(code: string, errno: unknown): string {
  const isUnknown = code === 'UNKNOWN' || code.startsWith('Unknown system error');
  return isUnknown && typeof errno === 'number' ? errnoName(Math.abs(errno)) : code;
}

function entryOf(errno: number): readonly [name: string, meaning: string] | undefined {
  const named = getSystemErrorMap().get(-errno);
  if (named !== undefined) return named;
  return process.platform === 'linux' ? LINUX.get(errno) : undefined;
}
