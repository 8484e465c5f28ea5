/** Image files in a directory of the host. */

import { dirname, relative, resolve, sep } from 'node:path';
import { Qcow2BenchError } from '../core/error.ts';
import { existsSync, realpathSync, rmSync, statSync } from '../core/host-fs.ts';
import type { Capabilities } from './capabilities.ts';
import { copyFile } from './file-copy.ts';
import { hostError } from './host-error.ts';
import { HostFile } from './host-file.ts';
import { noDirect, refuseOtherThanRegular } from './host-file-open.ts';
import { OverlappedFile } from './overlapped-file.ts';
import { claimPlace, settleClaims } from './place-claim.ts';
import type { CreateOptions, OpenOptions, RenameOptions, Storage } from './storage.ts';
import { putInPlace, temporaryPath } from './temporary-file.ts';

export class FileStorage implements Storage {
  readonly kind = 'file';
  readonly capabilities: Capabilities;
  /** Absolute. */
  readonly directory: string;

  readonly #locks: boolean;

  /**
   * @param capabilities what a probe found for `directory`; see `probeCapabilities`.
   * @param options `locks`: false where this process makes all files and no other uses them.
   *   Default true.
   */
  constructor(
    directory: string,
    capabilities: Capabilities,
    { locks = true }: { readonly locks?: boolean } = {},
  ) {
    this.directory = resolve(directory);
    this.#locks = locks;
    this.capabilities = capabilities;
  }

  create(name: string, options: CreateOptions = {}): HostFile {
    const path = this.pathOf(name);
    return new HostFile(path, {
      label: options.label ?? 'image',
      create: options.overwrite === true ? 'overwrite' : 'new',
      direct: this.#direct(path, options.direct),
      lock: this.#locks ? { kind: 'replacer' } : undefined,
      canZeroRange: this.capabilities.zeroRange.ok,
      canPunchHole: this.capabilities.punchHole.ok,
    });
  }

  open(name: string, options: OpenOptions = {}): HostFile | OverlappedFile {
    const path = this.pathOf(name);
    const file = new HostFile(path, {
      label: options.label ?? 'image',
      shownPath: options.shownPath,
      readOnly: options.readOnly,
      direct: this.#direct(path, options.direct),
      lock: this.#locks ? options.lock : undefined,
      canZeroRange: this.capabilities.zeroRange.ok,
      canPunchHole: this.capabilities.punchHole.ok,
    });
    return options.overlap === true ? new OverlappedFile(file) : file;
  }

  realName(name: string): string {
    return followLinks(resolve(this.directory, name));
  }

  exists(name: string): boolean {
    return existsSync(this.pathOf(name));
  }

  temporaryName(name: string): string {
    return relative(this.directory, temporaryPath(dirname(this.pathOf(name))));
  }

  copyIn(path: string, name: string, signal?: AbortSignal): Promise<void> {
    return copyFile(path, this.pathOf(name), signal);
  }

  remove(name: string): void {
    const path = this.pathOf(name);
    try {
      settleClaims(path, 'undone');
      rmSync(path, { force: true });
    } catch (error) {
      throw hostError('host-remove-failed', { path }, error);
    }
  }

  rename(name: string, newName: string, options: RenameOptions): void {
    const path = this.pathOf(name);
    const newPath = this.pathOf(newName);
    // A rename would put a file in the place of a device.
    refuseOtherThanRegular(newPath);
    // A program that has the file open would go on with one that has no name any more.
    const replaced = options.overwrite && existsSync(newPath) ? this.#locked(newPath) : undefined;
    try {
      if (options.before !== undefined && (options.overwrite || !existsSync(newPath))) {
        claimPlace({ temporary: path, path: newPath, follower: this.pathOf(options.before) });
      }
      putInPlace(path, newPath, options);
      settleClaims(path, 'kept');
    } catch (error) {
      if (error instanceof Qcow2BenchError) throw error;
      throw hostError('host-rename-failed', { path: newPath }, error);
    } finally {
      replaced?.close();
    }
  }

  describe(): string {
    const { fileSystem } = this.capabilities;
    return `directory ${this.directory}${fileSystem === undefined ? '' : ` (${fileSystem})`}`;
  }

  /**
   * The absolute path of a file. Names come from images too, whose authors are not trusted.
   *
   * @throws Qcow2BenchError `name-outside-directory`.
   */
  pathOf(name: string): string {
    const path = resolve(this.directory, name);
    const inside = relative(this.directory, path);
    if (inside === '' || inside === '..' || inside.startsWith(`..${sep}`) || resolve(inside) === inside) {
      throw new Qcow2BenchError(
        'name-outside-directory',
        `'${name}' is not a file below this directory: other files are not opened`,
        { path: this.directory },
      );
    }
    return path;
  }

  #locked(path: string): HostFile {
    const lock = this.#locks ? ({ kind: 'replacer' } as const) : undefined;
    return new HostFile(path, { label: 'image', readOnly: true, lock });
  }

  #direct(path: string, wanted: boolean | undefined): boolean {
    if (wanted !== true) return false;
    const { direct } = this.capabilities;
    if (!direct.ok) throw noDirect(path, direct.reason);
    return true;
  }
}

/**
 * The path with symbolic links followed; as it is if it cannot be: opening it then fails and names
 * the reason.
 */
export function followLinks(path: string): string {
  try {
    return realpathSync(path);
  } catch {
    return path;
  }
}

/** What a file has in common under all its names; of one that is not there, its path. */
export function fileIdentity(path: string): string {
  const found = statSync(path, { bigint: true, throwIfNoEntry: false });
  return found === undefined ? resolve(path) : `${String(found.dev)}:${String(found.ino)}`;
}
