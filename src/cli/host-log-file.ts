/** The host log as a file: one JSON object a line, in the order of issue. */

import { closeSync, openSync, writeSync } from 'node:fs';

import type { HostLogRecord, HostLogSink } from '../device/host-log.ts';
import { hostError } from '../device/host-error.ts';

/** Characters gathered before they are written: a write a line would cost more than the run. */
const BATCH_CHARACTERS = 65_536;

export class HostLogFile implements Disposable {
  readonly #path: string;
  readonly #descriptor: number;
  #lines = '';

  /** Empties a file that is there. @throws Qcow2BenchError `host-open-failed`. */
  constructor(path: string) {
    this.#path = path;
    try {
      this.#descriptor = openSync(path, 'w');
    } catch (error) {
      throw hostError('host-open-failed', { path }, error);
    }
  }

  readonly sink: HostLogSink = (record: HostLogRecord) => {
    this.#lines += `${JSON.stringify(record)}\n`;
    if (this.#lines.length >= BATCH_CHARACTERS) this.#write();
  };

  [Symbol.dispose](): void {
    try {
      this.#write();
    } finally {
      closeSync(this.#descriptor);
    }
  }

  #write(): void {
    const lines = this.#lines;
    this.#lines = '';
    try {
      writeSync(this.#descriptor, lines);
    } catch (error) {
      throw hostError('host-write-failed', { path: this.#path }, error);
    }
  }
}
