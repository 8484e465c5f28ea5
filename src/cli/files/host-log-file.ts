/**
 * The host log as a file: one JSON object a line, in the order of issue.
 *
 * Invariant: without `keep` the file at its path is as it was before.
 */

import type { HostLogRecord, HostLogSink } from '../../device/host-log.ts';
import { hostError } from '../../device/host-error.ts';
import { writeWhole } from '../../device/output-stream.ts';
import { NewFile } from './new-file.ts';

/** Characters gathered before they are written: a write a line would cost more than the run. */
const BATCH_CHARACTERS = 65_536;

export class HostLogFile implements Disposable {
  readonly #path: string;
  readonly #file: NewFile;
  readonly #output: ReturnType<NewFile['open']>;
  #lines = '';

  /**
   * Replaces an existing file at `keep`. @throws Qcow2BenchError `host-open-failed`,
   * `not-an-output`.
   */
  constructor(path: string) {
    this.#path = path;
    this.#file = new NewFile(path, { overwrite: true });
    try {
      this.#output = this.#file.open();
    } catch (error) {
      throw hostError('host-open-failed', { path }, error);
    }
  }

  readonly sink: HostLogSink = (record: HostLogRecord) => {
    this.#lines += `${JSON.stringify(record)}\n`;
    if (this.#lines.length >= BATCH_CHARACTERS) this.#write();
  };

  /** @throws Qcow2BenchError `host-write-failed`, `write-failed`. */
  keep(): void {
    this.#write();
    this.#file.keep();
  }

  [Symbol.dispose](): void {
    this.#output[Symbol.dispose]();
    this.#file[Symbol.dispose]();
  }

  #write(): void {
    const lines = Buffer.from(this.#lines);
    this.#lines = '';
    try {
      writeWhole(this.#output.descriptor, lines);
    } catch (error) {
      throw hostError('host-write-failed', { path: this.#path }, error);
    }
  }
}
