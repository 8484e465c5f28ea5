/**
 * The files that a command reads, changes and makes, checked against one another before it begins.
 *
 * Invariants:
 * - No output is an input or another output, whatever the names, symbolic links and hard links; the
 *   files behind an image are inputs too. Files are compared by `stat`: none is opened because an
 *   image or a link names it, except backing files that the command is allowed to open.
 * - An existing file is replaced only with `--overwrite`, or where it is what the command itself
 *   writes there (see `output-kinds`).
 * - The folder of an output exists, or is one of the program's own defaults, and takes files. A
 *   file that is read-only is not replaced.
 */

import { constants } from 'node:fs';
import { dirname } from 'node:path';

import { Qcow2BenchError, systemCode } from '../../core/error.ts';
import { accessSync, existsSync, lstatSync, mkdirSync, statSync } from '../../core/host-fs.ts';
import { writeError } from '../../core/write-error.ts';
import {
  checkDirectory,
  checkWritableDirectory,
  directoryUnwritable,
} from '../../device/output-directory.ts';
import { outputPlace } from '../../device/output-place.ts';
import { fileExists, realOutputPath, removeLeftovers } from '../../device/temporary-file.ts';
import { imageFiles, type ImageFilesRules } from '../../image/image-files.ts';
import { flag } from './option-kinds.ts';
import type { OutputKind } from './output-kinds.ts';
import { UsageError } from '../terminal/usage-error.ts';

/** What lets a command replace a file; `--force` was its name in some commands. */
export const OVERWRITE_OPTIONS = {
  overwrite: flag('Replace an existing file'),
  force: { ...flag('Alias of --overwrite'), hidden: true },
} as const;

export interface FileUse {
  readonly role: 'reads' | 'changes' | 'makes';
  /** The option or argument that names it: `--out`, `IMAGE`. */
  readonly what: string;
  readonly path: string;
  /**
   * An image is read as well with the files behind it, as far as these rules allow to open them.
   */
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

/** A file that is appended to, and made if there is none. */
export function appendsTo(what: string, path: string): FileUse {
  return { role: 'changes', what, path };
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
 * @throws UsageError if an output is an input or another output; Qcow2BenchError `file-exists`,
 *   `directory-missing`, `not-a-directory`, `directory-unwritable`, `not-an-output`, `write-failed`
 *   of a file that is read-only.
 */
export async function checkFiles(
  uses: readonly FileUse[],
  { overwrite }: { readonly overwrite: boolean },
): Promise<void> {
  refuseSameFile(await withFilesBehind(uses));
  const made = uses.filter(({ role }) => role === 'makes');
  // Last the places that may have to be made: nothing is if another is refused.
  for (const use of made.toSorted((a, b) => Number(a.isDefault === true) - Number(b.isDefault === true))) {
    checkFolder(use);
    if (use.kind === 'image') refuseStream(use.path);
    if (!overwrite) await refuseExisting(use);
    checkWritable(use);
  }
}

/**
 * Whether text for `path` goes to this process's standard output, where an answer would mix with
 * it.
 */
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
    return reads(`a backing file of ${what}`, ...files);
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

/**
 * By device and inode, or by path where there is no file yet; `undefined` of a terminal or
 * `/dev/null`.
 */
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
  if (isDefault === true) makeFolder(folder);
  checkDirectory(shownFolder(path, folder));
}

function makeFolder(folder: string): void {
  try {
    mkdirSync(folder, { recursive: true });
  } catch (error) {
    const code = systemCode(error);
    if (code !== 'ENOTDIR' && code !== 'EEXIST') throw directoryUnwritable(dirname(folder), error);
  }
}

/** That a file can be made or replaced at the path: before the work, and not when it is done. */
function checkWritable({ path, kind }: FileUse): void {
  const place = kind === 'socket' ? undefined : outputPlace(path);
  if (place !== undefined && place.kind !== 'file') return;
  checkWritableDirectory(shownFolder(path, dirname(realOutputPath(path))));
  if (place?.exists !== true) return;
  try {
    accessSync(place.path, constants.W_OK);
  } catch (error) {
    throw writeError(path, error);
  }
}

/** As the user named it, unless a link leads somewhere else or the name says nothing. */
function shownFolder(path: string, folder: string): string {
  const named = dirname(path);
  return named === '.' || isLink(path) ? folder : named;
}

function isLink(path: string): boolean {
  try {
    return lstatSync(path, { throwIfNoEntry: false })?.isSymbolicLink() === true;
  } catch {
    return false;
  }
}

/** Also with `--overwrite`: `/dev/stdout` would be replaced by a file. */
function refuseStream(path: string): void {
  if (outputPlace(path).kind === 'file') return;
  const message = 'is a stream, but an image must be a regular file; name a file';
  throw new Qcow2BenchError('not-an-output', message, { path });
}

async function refuseExisting({ path, kind }: FileUse): Promise<void> {
  if (kind === undefined || kind === 'socket') return;
  if (kind === 'image') {
    if (statSync(path, { throwIfNoEntry: false })?.isFile() !== true) return;
    // A killed command may have left it, without the image that it belongs to.
    removeLeftovers(dirname(realOutputPath(path)));
    if (existsSync(path)) throw fileExists(path);
    return;
  }
  const place = outputPlace(path);
  if (place.kind !== 'file' || !place.exists) return;
  // Loaded only here: every command is checked, and few meet a file.
  const { isReplaceable, OUTPUT_KINDS } = await import('./output-kinds.ts');
  if (isReplaceable(place.path, kind)) return;
  throw fileExists(path, undefined, OUTPUT_KINDS[kind].replaces);
}
