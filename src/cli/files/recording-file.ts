/**
 * The trace that `record` writes: made at once, so that a place that cannot be written to is
 * reported before any client comes, and never over a file that is there unless that was asked for.
 * Twice a second everything goes to the file, so that a recording that is killed can be read up to
 * its last half second.
 *
 * Invariant: before `begin` the file at its path, or that there is none, is as it was.
 */

import type { Writable } from 'node:stream';

import { createWriteStream } from '../../core/host-fs.ts';
import { writeError } from '../../core/write-error.ts';
import { NewFile } from './new-file.ts';
import type { Request } from '../../workload/request.ts';
import { TraceWriter, type CreateTraceOptions } from '../../workload/trace/trace-writer.ts';

export interface RecordingFileOptions extends CreateTraceOptions {
  readonly overwrite: boolean;
  /** Called once when the trace cannot be written any more. */
  readonly onFailure: (error: unknown) => void;
}

export class RecordingFile {
  readonly path: string;
  readonly #writer: TraceWriter;
  readonly #file: NewFile;
  readonly #onFailure: (error: unknown) => void;
  readonly #timer: NodeJS.Timeout;
  #failed = false;
  #countAtCheckpoint = -1;

  /** @throws Qcow2BenchError `file-exists`, `not-an-output`, `write-failed`. */
  constructor(path: string, options: RecordingFileOptions) {
    this.path = path;
    this.#onFailure = options.onFailure;
    this.#file = new NewFile(path, { overwrite: options.overwrite });
    try {
      const stream = this.#file.writable() ?? this.#opened();
      this.#writer = new TraceWriter(path, { ...options, stream });
    } catch (error) {
      this.#file[Symbol.dispose]();
      throw error;
    }
    this.#timer = setInterval(() => this.#checkpoint(), CHECKPOINT_MS);
  }

  /** Requests written so far. */
  get count(): number {
    return this.#writer.count;
  }

  /** Never throws or rejects: see `RequestSink`. */
  readonly sink = (request: Request): undefined | Promise<void> => {
    if (this.#failed) return undefined;
    try {
      return this.#writer.write(request)?.catch(this.#fail);
    } catch (error) {
      this.#fail(error);
      return undefined;
    }
  };

  /** @throws Qcow2BenchError `bad-trace` if what is left cannot be written. */
  async close(): Promise<void> {
    clearInterval(this.#timer);
    await this.#writer.close();
  }

  /**
   * Gives the file its name, when requests may come. @throws Qcow2BenchError `file-exists`,
   * `write-failed`.
   */
  begin(): void {
    this.#file.keep();
  }

  /** Ends a recording that did not begin. */
  async discard(): Promise<void> {
    clearInterval(this.#timer);
    try {
      await this.#writer.close();
    } finally {
      this.#file[Symbol.dispose]();
    }
  }

  /** Opened before the file gets its name: a stream opens one by name, and later. */
  #opened(): Writable {
    try {
      return createWriteStream(this.path, { fd: this.#file.open().descriptor });
    } catch (error) {
      throw writeError(this.path, error);
    }
  }

  #checkpoint(): void {
    const { count } = this.#writer;
    if (this.#failed || count === this.#countAtCheckpoint) return;
    this.#countAtCheckpoint = count;
    this.#writer.checkpoint().catch(this.#fail);
  }

  readonly #fail = (error: unknown): void => {
    if (this.#failed) return;
    this.#failed = true;
    this.#onFailure(error);
  };
}

/** A recording that is killed loses no more than the last requests of this time. */
const CHECKPOINT_MS = 500;
