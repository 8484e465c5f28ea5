/**
 * Claims on the place of a file that belongs to another, as a data file to its image: two renames are not one step, and a
 * process may be killed between them.
 *
 * Before the first file gets its name, both it and the file that it replaces get a second one, which begins as the
 * temporary name of the second file does. The claims go when the second file has its name, too. Until then, and after a
 * kill, they lead back: what was replaced returns, and what was new goes.
 *
 * Invariants:
 * - Only a file that the claims name is removed or replaced, and a new one only if nothing wrote to it since.
 * - Where the system has no hard links, or the files have different directories, there are no claims.
 */

import { createHash } from 'node:crypto';
import { basename, dirname, join } from 'node:path';

import { existsSync, linkSync, renameSync, rmSync, statSync } from '../core/host-fs.ts';

const TEMPORARY_END = '.tmp';
/** Behind the beginning: the hash of the name that is claimed, and which file this is. */
const CLAIM = /\.([0-9a-f]{8})\.(new|old)$/;

export interface ClaimedPlace {
  /** The file that is going to have the name `path`. */
  readonly temporary: string;
  readonly path: string;
  /** The temporary name of the file that follows. */
  readonly follower: string;
}

/** Of this process, by the temporary name of the file that follows. */
const open = new Map<string, string>();

/** To be called before `temporary` is renamed to `path`. */
export function claimPlace({ temporary, path, follower }: ClaimedPlace): void {
  if (dirname(path) !== dirname(follower)) return;
  const claim = follower.slice(0, -TEMPORARY_END.length) + `.${hashOf(basename(path))}`;
  try {
    if (existsSync(path)) linkSync(path, `${claim}.old`);
    linkSync(temporary, `${claim}.new`);
  } catch {
    rmSync(`${claim}.old`, { force: true });
    return;
  }
  open.set(follower, path);
}

/** To be called when the file that follows has its name, or never will. */
export function settleClaim(follower: string, outcome: 'kept' | 'undone'): void {
  const path = open.get(follower);
  if (path === undefined) return;
  open.delete(follower);
  settle(dirname(path), [basename(path)], {
    claim: basename(follower).slice(0, -TEMPORARY_END.length) + `.${hashOf(basename(path))}`,
    isFinished: outcome === 'kept',
  });
}

/**
 * Settles the claims that a killed process left, before its other leftovers are removed.
 *
 * @param leftovers which of the names in the directory are those of killed processes
 */
export function settleLeftClaims(
  directory: string,
  { names, leftovers }: { readonly names: readonly string[]; readonly leftovers: readonly string[] },
): void {
  const claims = new Set(leftovers.filter(isClaim).map((name) => name.replace(/\.\w+$/, '')));
  for (const claim of claims) {
    const follower = statSync(join(directory, claim.replace(/\.\w+$/, TEMPORARY_END)), {
      throwIfNoEntry: false,
    });
    // A second name is the final one.
    const isFinished = follower?.nlink !== 1;
    settle(directory, names, { claim, isFinished });
  }
}

export function isClaim(name: string): boolean {
  return CLAIM.test(name);
}

/** @param names among which the claimed one is. */
function settle(
  directory: string,
  names: readonly string[],
  { claim, isFinished }: { readonly claim: string; readonly isFinished: boolean },
): void {
  const [oldName, newName] = [join(directory, `${claim}.old`), join(directory, `${claim}.new`)];
  if (!isFinished) {
    const name = names.find((each) => claim.endsWith(`.${hashOf(each)}`));
    const path = join(directory, name ?? '');
    const found = name === undefined ? undefined : statSync(path, { bigint: true, throwIfNoEntry: false });
    const isOld = found?.ino === inodeOf(oldName);
    const isNew = found?.ino === inodeOf(newName);
    if (isNew && existsSync(oldName)) renameSync(oldName, path);
    else if (isNew && found !== undefined && found.mtimeNs < found.ctimeNs) rmSync(path);
    // Something else has the name now: what was there before is kept beside it.
    else if (!isOld && !isNew && existsSync(oldName)) return;
  }
  rmSync(oldName, { force: true });
  rmSync(newName, { force: true });
}

function inodeOf(path: string): bigint | undefined {
  return statSync(path, { bigint: true, throwIfNoEntry: false })?.ino;
}

function hashOf(name: string): string {
  return createHash('sha256').update(name).digest('hex').slice(0, 8);
}
