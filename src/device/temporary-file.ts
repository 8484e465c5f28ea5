/**
 * Temporary files: their names, how they become the file that was asked for, and how those of a
 * killed process are removed.
 *
 * Invariants:
 * - A name holds host, process and thread and a number, so no two running processes share one.
 * - A temporary file becomes the finished file in one step, by a link or a rename: at its final
 *   name there is the old file or the new one whole, never a part.
 * - Only files that this user made on this host, by a process that has ended, are removed as
 *   leftovers.
 */

import { createHash } from 'node:crypto';
import { hostname } from 'node:os';
import { basename, dirname, join, resolve } from 'node:path';
import { threadId } from 'node:worker_threads';

import { Qcow2BenchError, systemCode } from '../core/error.ts';
import {
  chmodSync,
  chownSync,
  existsSync,
  linkSync,
  lstatSync,
  readFileSync,
  readdirSync,
  readlinkSync,
  realpathSync,
  renameSync,
  rmSync,
  statSync,
} from '../core/host-fs.ts';
import { isClaim, settleLeftClaims } from './place-claim.ts';

/** Symbolic links that are followed one after the other, as by Linux. */
const LINKS_MAX = 40;
/**
 * `qcow2-bench-HOST-PID-START`; the start is in clock ticks since the system's boot, 0 where the
 * system has none.
 */
const LEFTOVER = /^\.?qcow2-bench-([0-9a-f]{6})-(\d+)-(\d+)-/;

let counter = 0;
let prefix: string | undefined;
const cleaned = new Set<string>();

/** Begins the names of all temporary files and folders of this process. */
export function temporaryPrefix(): string {
  prefix ??= `qcow2-bench-${hostTag()}-${String(process.pid)}-${startOf(process.pid) ?? '0'}`;
  return prefix;
}

/** A free name in `directory`, out of which leftovers were removed. The file is not made. */
export function temporaryPath(directory: string): string {
  removeLeftovers(directory);
  return join(directory, `.${temporaryPrefix()}-${String(threadId)}-${String(counter++)}.tmp`);
}

/**
 * Removes what killed processes left in `directory`; looks once a process. A file that cannot be
 * removed stays.
 */
export function removeLeftovers(directory: string): void {
  const absolute = resolve(directory);
  if (cleaned.has(absolute)) return;
  cleaned.add(absolute);
  let names: readonly string[];
  try {
    names = readdirSync(absolute);
  } catch {
    return; // What is done there next fails the same way and names the reason.
  }
  const leftovers = names.filter((name) => isLeftover(name) && isOwn(join(absolute, name)));
  settleLeftClaims(absolute, { names, leftovers });
  for (const name of leftovers.filter((each) => !isClaim(each))) {
    try {
      rmSync(join(absolute, name), { recursive: true, force: true });
    } catch {
      continue;
    }
  }
}

/**
 * Removes a temporary file that is not needed any more, as far as that goes: what stays is a
 * leftover.
 */
export function discardTemporary(path: string): void {
  try {
    rmSync(path, { force: true });
  } catch {
    // Whatever led here is the error to report.
  }
}

function isOwn(path: string): boolean {
  return lstatSync(path, { throwIfNoEntry: false })?.uid === process.getuid?.();
}

/**
 * Gives a finished file its final name. A file that is replaced passes on its permissions and,
 * where allowed, its owner.
 *
 * @throws Qcow2BenchError `file-exists` unless `overwrite` is given; or the system's error.
 */
export function putInPlace(
  temporary: string,
  path: string,
  { overwrite }: { readonly overwrite: boolean },
): void {
  if (!overwrite && linked(temporary, path)) {
    rmSync(temporary);
    return;
  }
  if (!overwrite && existsSync(path)) throw fileExists(path);
  keepAttributes(path, temporary);
  renameSync(temporary, path);
}

/** The error of an output that is in the way of another file; `kind` says what it is not. */
export function fileExists(path: string, cause?: unknown, kind?: string): Qcow2BenchError {
  const what = kind === undefined ? 'file exists' : `file exists and is not ${kind}`;
  return new Qcow2BenchError('file-exists', `${what}; use --overwrite to replace it`, { path }, cause);
}

/** An error about a temporary file as one about the file that it was to become. */
export function aboutFinalFile(error: unknown, { temporary, path }: TemporaryFile): unknown {
  if (!(error instanceof Qcow2BenchError) || error.path !== temporary) return error;
  const { code, message, offset, line, cause } = error;
  const text = message.slice(message.indexOf(': ', temporary.length) + 2);
  return new Qcow2BenchError(code, text, { path, offset, line }, cause);
}

/** The same by names within a storage: the error knows where that is. */
export function aboutFinalName(error: unknown, temporaryName: string, name: string): unknown {
  if (!(error instanceof Qcow2BenchError) || error.path?.endsWith(temporaryName) !== true) return error;
  const path = error.path.slice(0, -temporaryName.length) + name;
  return aboutFinalFile(error, { temporary: error.path, path });
}

export interface TemporaryFile {
  readonly temporary: string;
  /** What it becomes. */
  readonly path: string;
}

const DESCRIPTORS: Readonly<Record<string, number>> = { '/dev/stdin': 0, '/dev/stdout': 1, '/dev/stderr': 2 };
const DESCRIPTOR_PATH = new RegExp(`^/(?:dev/fd|proc/(?:self|${String(process.pid)})/fd)/(\\d+)$`);

/**
 * The descriptor of this process that an absolute path names: `/dev/stdout`, `/dev/fd/N` and what
 * they link to.
 */
export function ownDescriptor(path: string): number | undefined {
  const found = DESCRIPTORS[path] ?? DESCRIPTOR_PATH.exec(path)?.[1];
  return found === undefined ? undefined : Number(found);
}

/**
 * The absolute path of the file that writing to `path` would make or change: symbolic links
 * followed, also one that leads to no file yet, but not a descriptor of this process. Unchanged if
 * the system does not report it.
 */
export function realOutputPath(path: string): string {
  let current = resolve(path);
  if (ownDescriptor(current) !== undefined) return current;
  try {
    for (let links = 0; links < LINKS_MAX; links++) {
      current = join(realpathSync(dirname(current)), basename(current));
      if (ownDescriptor(current) !== undefined) return current;
      if (lstatSync(current, { throwIfNoEntry: false })?.isSymbolicLink() !== true) return current;
      current = resolve(dirname(current), readlinkSync(current));
    }
  } catch {
    return current;
  }
  return current;
}

/**
 * Gives the file a second name, which unlike a rename never replaces one; false where there are no
 * such links.
 */
function linked(path: string, newPath: string): boolean {
  try {
    linkSync(path, newPath);
    return true;
  } catch (error) {
    if (systemCode(error) === 'EEXIST') throw fileExists(newPath, error);
    return false;
  }
}

function keepAttributes(from: string, to: string): void {
  const old = statSync(from, { throwIfNoEntry: false });
  if (old === undefined) return;
  try {
    chownSync(to, old.uid, old.gid);
  } catch {
    // Only root gives files away: the new file is then this user's.
  }
  chmodSync(to, old.mode & 0o7777);
}

function isLeftover(name: string): boolean {
  const [, host, pid, start] = LEFTOVER.exec(name) ?? [];
  if (host !== hostTag()) return false;
  return !isRunning(Number(pid), start);
}

function isRunning(pid: number, start: string | undefined): boolean {
  const found = startOf(pid);
  if (start !== '0' && (found !== undefined || existsSync('/proc/self/stat'))) return found === start;
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return systemCode(error) !== 'ESRCH';
  }
}

/**
 * When a process started, to distinguish it from a later process with the same PID; see proc(5),
 * field 22 of stat.
 */
function startOf(pid: number): string | undefined {
  try {
    const stat = readFileSync(`/proc/${String(pid)}/stat`, 'latin1');
    // The name, field 2, is in parentheses and may hold anything.
    return stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19];
  } catch {
    return undefined;
  }
}

/** Containers share folders, but not process numbers. */
function hostTag(): string {
  let space = '';
  try {
    space = readlinkSync('/proc/self/ns/pid');
  } catch {
    // A system without such name spaces.
  }
  return createHash('sha256').update(`${hostname()} ${space}`).digest('hex').slice(0, 6);
}
