/**
 * Claims on the place of a file that belongs to another, as a data file to its image: two renames
 * are not one step, and a process may be killed between them.
 *
 * Before the first file gets its name, both it and the file that it replaces get a second one,
 * which begins as the temporary name of the second file does. The claims go when the second file
 * has its name, too. Until then, and after a kill, they lead back: what was replaced returns, and
 * what was new goes.
 *
 * Invariants:
 * - Only a file that the claims name is removed or replaced, and a new one only if nothing wrote to
 *   it since.
 * - Where the system has no hard links, or the files have different directories, there are no
 *   claims. Only `create --data-file-name` puts the files into two directories. What a kill leaves
 *   then is in docs/cli.md, "Output files".
 */

import { createHash } from 'node:crypto';
import { basename, dirname, join } from 'node:path';

import { existsSync, linkSync, renameSync, rmSync, statSync } from '../core/host-fs.ts';

const TEMPORARY_END = '.tmp';
/**
 * The beginning, the hash of the name that is claimed, and which file this is; of the new one when
 * it was last written to.
 */
const CLAIM = /^(.+)\.([0-9a-f]{8})\.(?:old|(\d+)\.new)$/;

export interface ClaimedPlace {
  /** The file that is going to have the name `path`. */
  readonly temporary: string;
  readonly path: string;
  /** The temporary name of the file that follows. */
  readonly follower: string;
}

interface Claim {
  /** `undefined` where no file has the name any more. */
  readonly path: string | undefined;
  readonly oldPath: string;
  readonly newPath: string;
  /** Of the new file, when it was claimed: another time means that somebody wrote to it. */
  readonly modifiedNs: bigint | undefined;
}

/**
 * Of this process, by the temporary name of the file that follows: several files may come before
 * it.
 */
const open = new Map<string, readonly Claim[]>();

/** To be called before `temporary` is renamed to `path`. */
export function claimPlace({ temporary, path, follower }: ClaimedPlace): void {
  if (dirname(path) !== dirname(follower)) return;
  const begin = `${beginOf(follower)}.${hashOf(basename(path))}`;
  const modifiedNs = statSync(temporary, { bigint: true }).mtimeNs;
  const claim = { path, oldPath: `${begin}.old`, newPath: `${begin}.${String(modifiedNs)}.new`, modifiedNs };
  try {
    if (existsSync(path)) linkSync(path, claim.oldPath);
    linkSync(temporary, claim.newPath);
  } catch {
    rmSync(claim.oldPath, { force: true });
    return;
  }
  open.set(follower, [...(open.get(follower) ?? []), claim]);
}

/** To be called when the file that follows has its name, or never will. */
export function settleClaims(follower: string, outcome: 'kept' | 'undone'): void {
  const claims = open.get(follower) ?? [];
  open.delete(follower);
  for (const claim of claims) settle(claim, { isFinished: outcome === 'kept' });
}

/**
 * Settles the claims that a killed process left, before its other leftovers are removed. What
 * cannot be settled stays.
 *
 * @param leftovers which of the names in the directory are those of killed processes
 */
export function settleLeftClaims(
  directory: string,
  { names, leftovers }: { readonly names: readonly string[]; readonly leftovers: readonly string[] },
): void {
  const groups = Map.groupBy(leftovers.filter(isClaim), (name) => CLAIM.exec(name)?.slice(1, 3).join('.'));
  for (const [begin, files] of groups) {
    const [, follower = '', hash = ''] = CLAIM.exec(files[0] ?? '') ?? [];
    const newName = files.find((name) => name.endsWith('.new'));
    const name = names.find((each) => hashOf(each) === hash);
    const claim: Claim = {
      path: name === undefined ? undefined : join(directory, name),
      oldPath: join(directory, `${begin ?? ''}.old`),
      newPath: join(directory, newName ?? `${begin ?? ''}.new`),
      modifiedNs: newName === undefined ? undefined : BigInt(CLAIM.exec(newName)?.[3] ?? 0),
    };
    const followed = statSync(join(directory, follower + TEMPORARY_END), { throwIfNoEntry: false });
    try {
      // A second name is the final one.
      settle(claim, { isFinished: followed?.nlink !== 1 });
    } catch {
      continue;
    }
  }
}

export function isClaim(name: string): boolean {
  return CLAIM.test(name);
}

function settle(
  { path, oldPath, newPath, modifiedNs }: Claim,
  { isFinished }: { readonly isFinished: boolean },
): void {
  const found = path === undefined ? undefined : statsOf(path);
  if (!isFinished) {
    const hasOld = existsSync(oldPath);
    const isNew = found !== undefined && found.ino === statsOf(newPath)?.ino;
    if (path !== undefined && isNew && found.mtimeNs === modifiedNs) {
      if (hasOld) renameSync(oldPath, path);
      else rmSync(path);
    } else if (hasOld && found?.ino !== statsOf(oldPath)?.ino) {
      // Another file has the name, or this one was written to: what was there before is kept beside
      // it.
      return;
    }
  }
  rmSync(oldPath, { force: true });
  rmSync(newPath, { force: true });
}

function statsOf(path: string): { readonly ino: bigint; readonly mtimeNs: bigint } | undefined {
  return statSync(path, { bigint: true, throwIfNoEntry: false });
}

function beginOf(follower: string): string {
  return follower.slice(0, -TEMPORARY_END.length);
}

function hashOf(name: string): string {
  return createHash('sha256').update(name).digest('hex').slice(0, 8);
}
