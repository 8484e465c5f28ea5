/**
 * The files that a command reads, changes and makes, checked against one another before it begins.
 *
 * Invariants:
 * - No output is an input or another output, whatever the names, symbolic links and hard links; the files behind an
 *   image are inputs too. Files are compared by `stat`: none is opened because an image or a link names it, except
 *   backing files that the command is allowed to open.
 * - An existing file is replaced only with `--overwrite`, or where it is what the command itself writes there (see
 *   `output-kinds`).
 * - The folder of an output exists, or is one of the program's own defaults.
 */

import { dirname } from 'node:path';

import { Qcow2BenchError, systemCode } from '../../core/error.ts';
import { existsSync, mkdirSync, statSync } from '../../core/host-fs.ts';
import { outputPlace } from '../../device/output-place.ts';
import { fileExists, realOutputPath } from '../../device/temporary-file.ts';
import { imageFiles, type ImageFilesRules } from '../../image/image-files.ts';
import { flag } from './option-kinds.ts';
import type { OutputKind } from './output-kinds.ts';
import { UsageError } from '../terminal/usage-error.ts';

/** What lets a command replace a file; `--force` was its name in some commands. */
export const OVERWRITE_OPTIONS = {
  overwrite: flag('Replace an existing file'),
  force: { ...flag('Another name of --overwrite'), hidden: true },
} as const;

export interface FileUse {
  readonly role: 'reads' | 'changes' | 'makes';
  /** The option or argument that names it: `--out`, `IMAGE`. */
  readonly what: string;
  readonly path: string;
  /** An image is read as well with the files behind it, as far as these rules allow to open them. */
  readonly image?: ImageFilesRules;
  /** Of what is made. */
  readonly kind?: OutputKind;
  /** Of what is made: the user named no other place, so its folder may be made too. */
  readonly isDefault?: boolean;
}

/** Nothing where there is no path. */
export function reads(what: string, ...paths: readonly (string | undefined)[]): readonly FileUse[] {
  return given(paths).map((path) => ({ role: 'reads', what, path }));
}

export function readsImage(
  what: string,
  path: string | undefined,
  image: ImageFilesRules = {},
): readonly FileUse[] {
  return given([path]).map((each) => ({ role: 'reads', what, path: each, image }));
}

export function changesImage(
  what: string,
  path: string | undefined,
  image: ImageFilesRules = {},
): readonly FileUse[] {
  return given([path]).map((each) => ({ role: 'changes', what, path: each, image }));
}

/** @param usual the option's default. */
export function makes(
  kind: OutputKind,
  what: string,
  path: string | undefined,
  usual?: string,
): readonly FileUse[] {
  return given([path]).map((each) => ({ role: 'makes', what, path: each, kind, isDefault: each === usual }));
}

/**
 * @throws UsageError if an output is an input or another output; Qcow2BenchError `file-exists`, `directory-missing`,
 *   `not-a-directory`, `not-an-output`.
 */
export async function checkFiles(
  uses: readonly FileUse[],
  { overwrite }: { readonly overwrite: boolean },
): Promise<void> {
  refuseSameFile(await withFilesBehind(uses));
  const made = uses.filter(({ role }) => role === 'makes');
  for (const use of made) checkFolder(use);
  for (const { path, kind } of made) if (kind === 'image') refuseStream(path);
  for (const use of made) if (!overwrite) await refuseExisting(use);
}

/** Whether text for `path` goes to this process's standard output, where an answer would mix with it. */
export function isStandardOutput(path: string | undefined): boolean {
  if (path === undefined) return false;
  const place = outputPlace(path);
  return place.kind === 'descriptor' && place.descriptor === 1;
}

function given(paths: readonly (string | undefined)[]): readonly string[] {
  return paths.filter((path) => path !== undefined);
}

/** The uses, and each file behind an image as one that is read. */
async function withFilesBehind(uses: readonly FileUse[]): Promise<readonly FileUse[]> {
  // A file that does not exist yet is behind no image that can be opened.
  const isOverSomething = uses.some(({ role, path }) => role === 'makes' && existsSync(path));
  if (!isOverSomething) return uses;
  const behind = uses.map(async ({ what, path, image }) => {
    const files = image === undefined ? [] : await imageFiles(path, image);
    return reads(`a file behind ${what}`, ...files);
  });
  return [...uses, ...(await Promise.all(behind)).flat()];
}

function refuseSameFile(uses: readonly FileUse[]): void {
  const seen = new Map<string, FileUse>();
  // Outputs last: the message names the output first.
  const ordered = [...uses].toSorted((a, b) => Number(a.role === 'makes') - Number(b.role === 'makes'));
  for (const use of ordered) {
    const identity = identityOf(use.path);
    if (identity === undefined) continue;
    const other = seen.get(identity);
    if (other === undefined) seen.set(identity, use);
    else if (use.role === 'makes') {
      const verb = other.role === 'makes' ? 'is another output' : `the command ${other.role}`;
      throw new UsageError(
        `${use.what} ${use.path} is the same file as ${other.what} ${other.path}, which ${verb}; name another file`,
      );
    }
  }
}

/** By device and inode, or by path where there is no file yet; `undefined` of a terminal or `/dev/null`. */
function identityOf(path: string): string | undefined {
  try {
    const found = statSync(path, { bigint: true, throwIfNoEntry: false });
    if (found === undefined) return realOutputPath(path);
    return found.isCharacterDevice() ? undefined : `${String(found.dev)}:${String(found.ino)}`;
  } catch {
    return realOutputPath(path); // Opening it fails the same way and names the reason.
  }
}

function checkFolder({ path, isDefault }: FileUse): void {
  const folder = dirname(realOutputPath(path));
  try {
    if (isDefault) mkdirSync(folder, { recursive: true });
    if (statSync(folder).isDirectory()) return;
  } catch (error) {
    const code = systemCode(error);
    if (code === 'ENOENT') {
      const message = 'folder does not exist; create it first';
      throw new Qcow2BenchError('directory-missing', message, { path: dirname(path) }, error);
    }
    if (code !== 'ENOTDIR' && code !== 'EEXIST') {
      const message = `folder cannot be used (${code ?? String(error)}); name another one`;
      throw new Qcow2BenchError('write-failed', message, { path: dirname(path) }, error);
    }
  }
  throw new Qcow2BenchError('not-a-directory', 'is not a folder; name another one', { path: dirname(path) });
}

/** Also with `--overwrite`: `/dev/stdout` would be replaced by a file. */
function refuseStream(path: string): void {
  if (outputPlace(path).kind === 'file') return;
  const message = 'is a stream, and an image is a regular file; name a file';
  throw new Qcow2BenchError('not-an-output', message, { path });
}

async function refuseExisting({ path, kind }: FileUse): Promise<void> {
  if (kind === undefined || kind === 'socket') return;
  if (kind === 'image') {
    if (statSync(path, { throwIfNoEntry: false })?.isFile() === true) throw fileExists(path);
    return;
  }
  const place = outputPlace(path);
  if (place.kind !== 'file' || !place.exists) return;
  // Loaded only here: every command is checked, and few meet a file.
  const { isReplaceable, OUTPUT_KINDS } = await import('./output-kinds.ts');
  if (isReplaceable(place.path, kind)) return;
  throw fileExists(path, undefined, OUTPUT_KINDS[kind].replaces);
}
