/**
 * Locks of image files, those of QEMU: what a process does with an image, and what it denies others
 * meanwhile, is a read lock of one byte each. No byte's content is read or written, and a file may
 * be shorter.
 *
 *     byte      100   101   102   103             200   201   202   203
 *     means     R     W     U     S               R     W     U     S
 *               this process does it              this process denies it to others
 *
 *     R consistent reads, W writes, U writes that change no data (unused here), S changes of the file's size
 *
 * Invariants:
 * - All own locks are taken first; then each byte that would contradict one is tested: of two that
 *   open at once at most one succeeds.
 * - Locks are held until the file is closed; nothing is locked while it is open.
 * - A file that is to be emptied is locked before.
 */

import { Qcow2BenchError, systemCode } from '../core/error.ts';
import { hostError } from './host-error.ts';
import { lockHolder } from './lock-holder.ts';
import { loadOfdLocks, type LoadedOfdLocks, type OfdLocks } from './ofd-lock.ts';

/**
 * What a file holds: an image's `metadata` (qcow2 and QED files), all of a `raw` disk, or the guest
 * `data` of an image that keeps its metadata elsewhere. Metadata have one writer; a raw disk may
 * have several, as in QEMU. A raw disk that gets another size is locked like `data`.
 */
export type LockedContents = 'metadata' | 'raw' | 'data';

export type LockRole =
  | { readonly kind: 'user'; readonly contents: LockedContents; readonly readOnly: boolean }
  /** Reads, whatever others do. */
  | { readonly kind: 'shared-reader' }
  /** Copies the file, which is to stay as it is meanwhile, raw disks too. */
  | { readonly kind: 'copier' }
  /** Replaces all that the file holds. */
  | { readonly kind: 'replacer' };

const READ = 0;
const WRITE = 1;
const RESIZE = 3;

const DOES_BYTE = 100;
const DENIES_BYTE = 200;

interface Permissions {
  readonly does: readonly number[];
  readonly denies: readonly number[];
}

const READER: Readonly<Record<LockedContents, Permissions>> = {
  metadata: { does: [READ], denies: [WRITE, RESIZE] },
  raw: { does: [READ], denies: [RESIZE] },
  data: { does: [READ], denies: [RESIZE] },
};
const WRITER: Readonly<Record<LockedContents, Permissions>> = {
  metadata: { does: [READ, WRITE, RESIZE], denies: [WRITE, RESIZE] },
  raw: { does: [READ, WRITE], denies: [RESIZE] },
  data: { does: [READ, WRITE, RESIZE], denies: [RESIZE] },
};
const COPIER: Permissions = { does: [READ], denies: [WRITE, RESIZE] };
const SHARED_READER: Permissions = { does: [READ], denies: [] };
const REPLACER: Permissions = { does: [WRITE, RESIZE], denies: [RESIZE] };

function permissionsOf(role: LockRole): Permissions {
  switch (role.kind) {
    case 'user':
      return (role.readOnly ? READER : WRITER)[role.contents];
    case 'shared-reader':
      return SHARED_READER;
    case 'copier':
      return COPIER;
    case 'replacer':
      return REPLACER;
  }
}

/** What a system or a file system without such locks answers. */
const UNSUPPORTED = ['EINVAL', 'ENOLCK', 'ENOSYS', 'ENOTSUP', 'EOPNOTSUPP'];

let onUnlockedWrite: ((path: string, reason: string) => void) | undefined;

/** Has `listener` called, once, when a file is written that cannot be locked. */
export function watchUnlockedWrites(listener: (path: string, reason: string) => void): void {
  onUnlockedWrite = listener;
}

/**
 * Locks the open file `fd` until it is closed. Where there are no such locks nothing is locked, and
 * that is no error.
 *
 * @param loaded default: the system's.
 * @throws Qcow2BenchError `image-locked`; `host-open-failed` where locking fails otherwise.
 */
export function lockImage(
  fd: number,
  path: string,
  role: LockRole,
  loaded: LoadedOfdLocks = loadOfdLocks(),
): void {
  const permissions = permissionsOf(role);
  const unlocked = loaded.ok ? take(loaded.locks, fd, { path, permissions }) : loaded.reason;
  if (unlocked === undefined || !permissions.does.includes(WRITE)) return;
  onUnlockedWrite?.(path, unlocked);
  onUnlockedWrite = undefined;
}

/** Why there are no locks here, if so. */
function take(
  locks: OfdLocks,
  fd: number,
  { path, permissions }: { readonly path: string; readonly permissions: Permissions },
): string | undefined {
  const { does, denies } = permissions;
  const own = [...does.map((each) => DOES_BYTE + each), ...denies.map((each) => DENIES_BYTE + each)];
  const contrary = [...does.map((each) => DENIES_BYTE + each), ...denies.map((each) => DOES_BYTE + each)];
  try {
    const conflict =
      own.find((byte) => !locks.readLock(fd, byte)) ??
      contrary.find((byte) => locks.isLockedElsewhere(fd, byte));
    if (conflict === undefined) return undefined;
    throw imageLocked(fd, path, { byte: conflict, permissions });
  } catch (error) {
    if (error instanceof Qcow2BenchError) throw error;
    const code = systemCode(error);
    if (code === undefined || !UNSUPPORTED.includes(code)) {
      throw hostError('host-open-failed', { path }, error);
    }
    return `its file system answers ${code}`;
  }
}

function imageLocked(
  fd: number,
  path: string,
  { byte, permissions }: { readonly byte: number; readonly permissions: Permissions },
): Qcow2BenchError {
  const holder = lockHolder(fd, byte);
  const who = holder === undefined ? 'another process' : `${holder.program} (pid ${String(holder.pid)})`;
  // Of a byte that could not be locked itself, someone has a write lock, which QEMU never takes.
  const act = ACTS[byte] ?? 'has locked it';
  const isReader = !permissions.does.includes(WRITE);
  const remedy = isReader
    ? 'stop it first; info, map, check, convert and snapshot --list can read it anyway with --force-share'
    : 'stop it first';
  return new Qcow2BenchError('image-locked', `the image is in use: ${who} ${act}; ${remedy}`, { path });
}

const ACTS: Readonly<Record<number, string>> = {
  [DOES_BYTE + WRITE]: 'has it open for writing',
  [DOES_BYTE + RESIZE]: 'has it open and may change its size',
  [DENIES_BYTE + READ]: 'has it open and blocks readers',
  [DENIES_BYTE + WRITE]: 'has it open and blocks writers',
  [DENIES_BYTE + RESIZE]: 'has it open and blocks resizing',
};
