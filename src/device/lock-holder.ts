/**
 * Which process has a byte of a file locked. `/proc/locks` names none for locks of an open file
 * description, so the descriptors of all processes are looked through, as far as this one may see
 * them.
 *
 * Invariants: a process that cannot be looked at is passed over; no file but those of /proc is
 * opened; the number of descriptors that are looked at is bounded.
 */

import { fstatSync } from 'node:fs';
import { basename, join } from 'node:path';

import { readFileSync, readdirSync, statSync } from '../core/host-fs.ts';

export interface LockHolder {
  readonly pid: number;
  /** The name of its file: `qemu-nbd`, `node`. */
  readonly program: string;
}

/** Read in some 10 µs each. */
const DESCRIPTORS_MAX = 50_000;

/**
 * The first process found with a lock of the byte through another descriptor than `own`;
 * `undefined` if none is.
 */
export function lockHolder(own: number, byte: number): LockHolder | undefined {
  const file = fstatSync(own);
  let left = DESCRIPTORS_MAX;
  for (const pid of entriesOf('/proc').filter((name) => /^\d+$/.test(name))) {
    const directory = join('/proc', pid);
    for (const fd of entriesOf(join(directory, 'fdinfo'))) {
      if (left-- === 0) return undefined;
      if (Number(pid) === process.pid && Number(fd) === own) continue;
      if (!hasLock(textOf(join(directory, 'fdinfo', fd)), file.ino, byte)) continue;
      if (!leadsTo(join(directory, 'fd', fd), file)) continue;
      return { pid: Number(pid), program: programOf(directory) };
    }
  }
  return undefined;
}

/** By its first argument: the kernel's own name is that of a thread. */
function programOf(directory: string): string {
  const [first = ''] = textOf(join(directory, 'cmdline')).split('\0');
  return basename(first) || textOf(join(directory, 'comm')).trim() || 'a process';
}

/**
 * Lines as `lock: 1: OFDLCK ADVISORY READ -1 fe:00:2146328 100 101`: device and inode, first and
 * last byte.
 */
function hasLock(fdinfo: string, inode: number, byte: number): boolean {
  for (const [, ino, first, last] of fdinfo.matchAll(LOCK_LINE)) {
    if (Number(ino) !== inode || Number(first) > byte) continue;
    if (last === 'EOF' || Number(last) >= byte) return true;
  }
  return false;
}

const LOCK_LINE = /^lock:.*\s[0-9a-f]+:[0-9a-f]+:(\d+) (\d+) (\d+|EOF)$/gm;

function leadsTo(link: string, file: { readonly dev: number; readonly ino: number }): boolean {
  try {
    const { dev, ino } = statSync(link);
    return dev === file.dev && ino === file.ino;
  } catch {
    return false;
  }
}

/** Empty for processes that end meanwhile or belong to others. */
function entriesOf(directory: string): readonly string[] {
  try {
    return readdirSync(directory);
  } catch {
    return [];
  }
}

function textOf(file: string): string {
  try {
    return readFileSync(file, 'latin1');
  } catch {
    return '';
  }
}
