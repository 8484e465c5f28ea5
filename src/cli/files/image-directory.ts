/**
 * Where the images of timed cells lie: the directory that the user named, or a fresh one.
 *
 * Invariants: a fresh directory is gone when the program ends, and after a kill with the next run;
 * of a directory that the user named only this program's own files are removed.
 */

import { join } from 'node:path';

import { Qcow2BenchError, systemCode } from '../../core/error.ts';
import { mkdtempSync, readdirSync, rmSync, temporaryDirectory } from '../../core/host-fs.ts';
import { probeCapabilities } from '../../device/capabilities.ts';
import { FileStorage } from '../../device/file-storage.ts';
import { removeLeftovers, temporaryPrefix } from '../../device/temporary-file.ts';

export class ImageDirectory implements Disposable {
  readonly path: string;
  readonly storage: FileStorage;
  /** Begins the names of this process's files. */
  readonly filePrefix = temporaryPrefix();
  readonly #isFresh: boolean;

  /**
   * @param directory default: a fresh one where the system keeps temporary files.
   * @throws Qcow2BenchError `directory-missing`, `not-a-directory`, `directory-unwritable`.
   */
  constructor(directory?: string) {
    this.#isFresh = directory === undefined;
    removeLeftovers(directory ?? temporaryDirectory());
    this.path = directory ?? makeFresh();
    try {
      this.storage = new FileStorage(this.path, probeCapabilities(this.path), { locks: false });
    } catch (error) {
      if (this.#isFresh) this.#remove();
      throw error;
    }
    process.on('exit', this.#remove);
  }

  [Symbol.dispose](): void {
    process.off('exit', this.#remove);
    this.#remove();
  }

  readonly #remove = (): void => {
    if (this.#isFresh) {
      rmSync(this.path, { recursive: true, force: true });
      return;
    }
    for (const name of readdirSync(this.path)) {
      if (name.startsWith(`${this.filePrefix}-`)) rmSync(join(this.path, name), { force: true });
    }
  };
}

function makeFresh(): string {
  try {
    return mkdtempSync(join(temporaryDirectory(), `${temporaryPrefix()}-`));
  } catch (error) {
    const reason = systemCode(error) ?? String(error);
    throw new Qcow2BenchError(
      'directory-unwritable',
      `cannot create a directory here (${reason}): name one with --dir`,
      { path: temporaryDirectory() },
      error,
    );
  }
}
