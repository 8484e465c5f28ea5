/**
 * A file that a command makes: it appears whole or not at all, and never over an existing one
 * unless that was asked for.
 *
 * Invariants: what is written has a temporary name until `keep`, so a killed command leaves nothing
 * at the final one. Disposing without `keep` leaves what was there before. A pipe or a terminal is
 * written to as it is.
 */

import { closeSync } from 'node:fs';
import type { Writable } from 'node:stream';
import { dirname } from 'node:path';

import { Qcow2BenchError } from '../../core/error.ts';
import { openSync, statSync } from '../../core/host-fs.ts';
import { writeError } from '../../core/write-error.ts';
import { outputPlace } from '../../device/output-place.ts';
import { OpenStream, writableTo, type StreamPlace } from '../../device/output-stream.ts';
import {
  aboutFinalFile,
  discardTemporary,
  fileExists,
  putInPlace,
  temporaryPath,
} from '../../device/temporary-file.ts';

export class NewFile implements Disposable {
  readonly path: string;
  /** Where to write, if it is no stream. */
  readonly partialPath: string;
  /** What is replaced; `undefined` of a stream. */
  readonly #target: string | undefined;
  readonly #stream: StreamPlace | undefined;
  readonly #overwrite: boolean;
  #isKept = false;

  /** @throws Qcow2BenchError `file-exists`, `not-an-output`, `write-failed`. */
  constructor(path: string, { overwrite }: { readonly overwrite: boolean }) {
    this.path = path;
    const place = outputPlace(path);
    const isInTheWay = place.kind === 'file' && place.exists && statSync(place.path).size > 0;
    if (isInTheWay && !overwrite) throw fileExists(path);
    this.#overwrite = overwrite || (place.kind === 'file' && place.exists);
    this.#target = place.kind === 'file' ? place.path : undefined;
    this.#stream = place.kind === 'file' ? undefined : place;
    this.partialPath = this.#target === undefined ? path : temporaryPath(dirname(this.#target));
  }

  /** To be written to in place of `partialPath`; `undefined` of a file. */
  writable(): Writable | undefined {
    return this.#stream && writableTo(this.#stream);
  }

  /** Opens what is to be written; disposing closes it. @throws The system's error. */
  open(): Disposable & { readonly descriptor: number } {
    if (this.#stream !== undefined) return new OpenStream(this.#stream);
    const descriptor = openSync(this.partialPath, 'wx');
    return { descriptor, [Symbol.dispose]: () => closeSync(descriptor) };
  }

  /** @throws Qcow2BenchError `file-exists`, `write-failed`. */
  keep(): void {
    try {
      if (this.#target !== undefined) {
        putInPlace(this.partialPath, this.#target, { overwrite: this.#overwrite });
      }
      this.#isKept = true;
    } catch (error) {
      if (error instanceof Qcow2BenchError) throw error;
      throw writeError(this.path, error);
    }
  }

  /** An error about the file under its temporary name as one about `path`. */
  named(error: unknown): unknown {
    return aboutFinalFile(error, { temporary: this.partialPath, path: this.path });
  }

  [Symbol.dispose](): void {
    if (!this.#isKept && this.#target !== undefined) discardTemporary(this.partialPath);
  }
}
