/**
 * Opening the files an image says it is backed by, or that it keeps its data in. An image may come
 * from a stranger, so its word is not enough to open a file.
 *
 * Invariants:
 * - A backing file is opened only below the allowed directory (that of the image first asked for,
 *   unless the caller names another), or anywhere if the caller says so. Where the files can tell,
 *   links are followed first.
 * - Its format is named by the image or by the caller; it is never guessed from content, which a
 *   guest can write.
 * - Names are plain paths: QEMU's `json:` and `protocol:` names are refused.
 * - A chain ends: no file is in it twice, and it has at most `LIMITS.backingChainDepth` backing
 *   files.
 */

import { dirname, isAbsolute, join, normalize, relative, resolve, sep } from 'node:path';
import { Qcow2BenchError } from '../core/error.ts';
import { LIMITS } from '../core/limits.ts';
import type { BlockDevice } from '../device/block-device.ts';
import type { LockedContents } from '../device/image-lock.ts';
import type { DiskImage, Format } from './disk-image.ts';
import { FORMAT_FACTS, formatList } from './formats.ts';
import type { BackingReference, OpenBacking, OpenDataFile } from './image-options.ts';

/** A file of an image that is opened. */
export interface LabelledFile {
  readonly label: string;
  readonly readOnly: boolean;
  /** By which it is locked. */
  readonly contents: LockedContents;
}

/** Where image files come from: the caller wraps its storage and filters in this. */
export interface ImageFiles {
  /**
   * Opens an existing file; the device takes requests of any alignment.
   *
   * @param name a path, absolute or relative to wherever this source looks.
   */
  open(name: string, options: LabelledFile): BlockDevice;
  /**
   * The name with symbolic links followed, or as it is if nothing is there; left out by sources
   * without links.
   */
  realName?(name: string): string;
}

/** What the caller allows of backing files. */
export interface BackingPolicy {
  /** Backing files must be below it. Default: the directory of the image that was asked for. */
  readonly allowedDirectory?: string | undefined;
  /** They may be anywhere. Default false. */
  readonly allowAnywhere?: boolean | undefined;
  /**
   * The format of those whose overlay names none, or none that is supported. Default: such an
   * overlay is refused.
   */
  readonly unnamedFormat?: Format | undefined;
  /**
   * The external data file of the image on top, wherever it is, in place of the one that the image
   * names.
   */
  readonly dataFile?: string | undefined;
}

export interface BackingChainOptions {
  readonly files: ImageFiles;
  readonly policy: BackingPolicy;
  /** The image on top. */
  readonly name: string;
  /** Opens a backing file read-only as an image of its format. */
  readonly openFormat: (format: Format, device: BlockDevice, next: OpenNext) => Promise<DiskImage>;
}

/** A backing file that may be opened. */
export interface BackingPlace {
  /** For `ImageFiles.open`. */
  readonly name: string;
  readonly format: Format;
}

/** What an image of the chain opens the files behind it with. */
export interface OpenNext {
  readonly openBacking: OpenBacking;
  readonly openDataFile: OpenDataFile;
}

/** Which file of an image an error is about. */
type FileRole = 'backing' | 'data';

/**
 * What the image on top is given to open its backing file with.
 *
 * Its answer rejects with Qcow2BenchError `backing-protocol`, `backing-not-allowed`,
 * `backing-format-missing`, `backing-loop`, `backing-chain-too-deep`, or what opening the file or
 * its format throws.
 */
export function backingOpener(options: BackingChainOptions): OpenBacking {
  return openerBelow(options, [options.name]);
}

/**
 * The backing file of the last image of `chain`, if the rules allow that it is opened; nothing is.
 *
 * @param chain names from the image on top down to the overlay, all of them opened by these rules
 * @throws Qcow2BenchError as `backingOpener` before it opens anything
 */
export function backingPlace(
  options: Pick<BackingChainOptions, 'files' | 'policy' | 'name'>,
  chain: readonly [string, ...string[]],
  reference: BackingReference,
): BackingPlace {
  const { files, policy } = options;
  const overlay = chain.at(-1) ?? options.name;
  const name = resolveName(overlay, reference.name, 'backing');
  checkAllowed(name, overlay, options, 'backing');
  checkChain(name, chain, files);
  const format = reference.format ?? policy.unnamedFormat;
  if (format === undefined) throw unknownFormat(reference, overlay);
  return { name, format };
}

function unknownFormat({ name, otherFormat }: BackingReference, overlay: string): Qcow2BenchError {
  if (otherFormat !== undefined) {
    return new Qcow2BenchError(
      'unsupported-backing-format',
      `the image names the format '${otherFormat}' for its backing file '${name}', which is not ${formatList()}: give its real format with --backing-format`,
      { path: overlay },
    );
  }
  return new Qcow2BenchError(
    'backing-format-missing',
    `the image names no format for its backing file '${name}', and formats of backing files are not detected, because a guest controls the content: give it with --backing-format`,
    { path: overlay },
  );
}

/** Opens the external data file of the image `overlay`, under the rules for backing files. */
export function dataFileOpener(
  options: Pick<BackingChainOptions, 'files' | 'policy' | 'name'>,
  file: { readonly image: string; readonly label: string; readonly readOnly: boolean },
): OpenDataFile {
  return (stored) => {
    const { files } = options;
    const { image, label, readOnly } = file;
    const { dataFile } = options.policy;
    if (label === 'data' && dataFile !== undefined) {
      refuseImageItself(dataFile, dataFile, image, files);
      return files.open(dataFile, { label, readOnly, contents: 'data' });
    }
    if (stored === undefined) {
      throw new Qcow2BenchError(
        'data-file-unnamed',
        'the image has an external data file but does not name it: give it with --data-file-path (convert copies the disk)',
        { path: image },
      );
    }
    const name = resolveName(image, stored, 'data');
    checkAllowed(name, image, options, 'data');
    refuseImageItself(name, stored, image, files);
    try {
      return files.open(name, { label, readOnly, contents: 'data' });
    } catch (error) {
      throw unopenedFile(error, { name, role: 'data', overlay: image });
    }
  };
}

/** @param shown the data file's name, as the image or the user has it. */
function refuseImageItself(name: string, shown: string, image: string, files: ImageFiles): void {
  if (resolve(realName(files, name)) !== resolve(realName(files, image))) return;
  throw new Qcow2BenchError('data-file-is-image', `the data file '${shown}' is the image itself`, {
    path: image,
  });
}

/** @param chain names from the top down to the image whose backing file is to be opened. */
function openerBelow(options: BackingChainOptions, chain: readonly [string, ...string[]]): OpenBacking {
  return async (reference) => {
    const { name, format } = backingPlace(options, chain, reference);
    const label = `backing:${String(chain.length - 1)}`;
    const device = openedBacking(options.files, name, { label, format, overlay: chain.at(-1) });
    return options.openFormat(format, device, {
      openBacking: openerBelow(options, [...chain, name]),
      openDataFile: dataFileOpener(options, { image: name, label: `${label}:data`, readOnly: true }),
    });
  };
}

function openedBacking(
  files: ImageFiles,
  name: string,
  { label, format, overlay }: { label: string; format: Format; overlay: string | undefined },
): BlockDevice {
  try {
    return files.open(name, { label, readOnly: true, contents: contentsOf(format) });
  } catch (error) {
    throw unopenedFile(error, { name, role: 'backing', overlay });
  }
}

/**
 * The error to throw for one that opening a file behind an image threw: it names the image that
 * leads there.
 */
export function unopenedFile(
  error: unknown,
  { name, role, overlay }: { name: string; role: FileRole; overlay: string | undefined },
): unknown {
  if (!(error instanceof Qcow2BenchError)) return error;
  const place = { path: overlay };
  if (error.code !== 'file-missing') {
    return new Qcow2BenchError(
      error.code,
      `its ${role} file cannot be opened: ${error.message}`,
      place,
      error.cause,
    );
  }
  const remedy = {
    backing: 'set its new path with rebase --unsafe --backing FILE --backing-format FORMAT',
    data: 'create a link there to its new path, or give that with --data-file-path where the command has it',
  };
  return new Qcow2BenchError(
    error.code,
    `its ${role} file '${name}' is missing: restore it, or ${remedy[role]}`,
    place,
    error.cause,
  );
}

/** The error of a data file that was given for an image which has none. */
export function withoutDataFile(path: string): Qcow2BenchError {
  return new Qcow2BenchError('no-data-file', 'the image has no external data file: omit --data-file-path', {
    path,
  });
}

/** What the file of an image holds. */
export function contentsOf(format: Format): LockedContents {
  return FORMAT_FACTS[format].contents;
}

function resolveName(overlay: string, name: string, role: FileRole): string {
  if (name.includes('\0')) {
    throw new Qcow2BenchError(`${role}-protocol`, `the ${role} file's name contains a zero byte`, {
      path: overlay,
    });
  }
  // A colon before the first slash makes QEMU read a protocol; a drive letter is one character.
  if (/^[^/\\]{2,}?:/.test(name)) {
    throw new Qcow2BenchError(
      `${role}-protocol`,
      `the ${role} file '${name}' is not a plain path: names with a protocol (json:, nbd:, file: …) are not opened; write './' before a path that contains a colon`,
      { path: overlay },
    );
  }
  return isAbsolute(name) ? normalize(name) : join(dirname(overlay), name);
}

function checkAllowed(
  name: string,
  overlay: string,
  options: Pick<BackingChainOptions, 'files' | 'policy' | 'name'>,
  role: FileRole,
): void {
  const { files, policy } = options;
  if (policy.allowAnywhere === true) return;
  const directory = policy.allowedDirectory ?? dirname(options.name);
  const isInside = lies(name, directory) && lies(realName(files, name), realName(files, directory));
  if (isInside) return;
  throw new Qcow2BenchError(
    `${role}-not-allowed`,
    `the ${role} file '${name}' is not below the allowed directory '${directory}': allow another directory with --backing-dir, or any with --any-backing`,
    { path: overlay },
  );
}

function checkChain(name: string, chain: readonly string[], files: ImageFiles): void {
  const target = resolve(realName(files, name));
  if (chain.some((member) => resolve(realName(files, member)) === target)) {
    throw new Qcow2BenchError(
      'backing-loop',
      `the backing file '${name}' is already in the chain ${chain.join(' → ')}: the chain is a loop`,
      { path: chain.at(-1) },
    );
  }
  if (chain.length > LIMITS.backingChainDepth) {
    throw new Qcow2BenchError(
      'backing-chain-too-deep',
      `the chain has more than ${String(LIMITS.backingChainDepth)} backing files: shorten it with convert or rebase`,
      { path: chain.at(-1) },
    );
  }
}

function realName(files: ImageFiles, name: string): string {
  return files.realName?.(name) ?? name;
}

function lies(name: string, directory: string): boolean {
  const path = relative(resolve(directory), resolve(name));
  return path !== '' && path !== '..' && !path.startsWith(`..${sep}`) && !isAbsolute(path);
}
