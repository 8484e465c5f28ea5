/**
 * A file that a command makes: it appears whole or not at all, and never over one that is there unless that was asked
 * for.
 *
 * Invariants: the name is taken at once, so that no other program's file can come between; what is written lies beside it
 * until `keep`. Disposing without it removes everything that was made and leaves what was there before. A device or a
 * pipe is written to as it is.
 */

import { closeSync, openSync, renameSync, rmSync, statSync } from 'node:fs';

import { Qcow2BenchError, systemCode } from '../core/error.ts';
import { makeFolderOf } from './written-file.ts';

export class NewFile implements Disposable {
  readonly path: string;
  /** Where to write. */
  readonly partialPath: string;
  readonly #isPlain: boolean;
  readonly #isClaimed: boolean;
  #isKept = false;

  /** @throws Qcow2BenchError `file-exists`, `write-failed`. */
  constructor(path: string, { overwrite }: { readonly overwrite: boolean }) {
    this.path = path;
    makeFolderOf(path);
    const existing = statSync(path, { throwIfNoEntry: false });
    this.#isPlain = existing?.isFile() ?? true;
    this.#isClaimed = existing === undefined || (this.#isPlain && !overwrite);
    if (this.#isClaimed) claim(path);
    this.partialPath = this.#isPlain ? `${path}.${String(process.pid)}.partial` : path;
  }

  /** @throws Qcow2BenchError `write-failed`. */
  keep(): void {
    try {
      if (this.#isPlain) renameSync(this.partialPath, this.path);
      this.#isKept = true;
    } catch (error) {
      throw writeFailed(this.path, error);
    }
  }

  [Symbol.dispose](): void {
    if (this.#isKept || !this.#isPlain) return;
    rmSync(this.partialPath, { force: true });
    if (this.#isClaimed) rmSync(this.path, { force: true });
  }
}

function claim(path: string): void {
  try {
    closeSync(openSync(path, 'wx'));
  } catch (error) {
    if (systemCode(error) !== 'EEXIST') throw writeFailed(path, error);
    const message = 'a file that is there is not written over: name another one, or add --force';
    throw new Qcow2BenchError('file-exists', message, { path }, error);
  }
}

function writeFailed(path: string, error: unknown): Qcow2BenchError {
  const message = `cannot be written (${systemCode(error) ?? String(error)})`;
  return new Qcow2BenchError('write-failed', message, { path }, error);
}
