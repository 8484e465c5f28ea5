/**
 * The trace that `record` writes: made at once, so that a place that cannot be written to is told before any client
 * comes, and never over a file that is there unless that was asked for. Twice a second everything goes to the file, so
 * that a recording that is killed can be read up to its last half second.
 */

import { closeSync, openSync, rmSync, statSync } from 'node:fs';

import { Qcow2BenchError, systemCode } from '../core/error.ts';
import { outputPlace } from '../device/output-place.ts';
import { writableTo } from '../device/output-stream.ts';
import { fileExists } from '../device/temporary-file.ts';
import type { Request } from '../workload/request.ts';
import { TraceWriter, type CreateTraceOptions } from '../workload/trace/trace-writer.ts';

export interface RecordingFileOptions extends CreateTraceOptions {
  readonly overwrite: boolean;
  /** Told, once, that the trace cannot be written any more. */
  readonly onFailure: (error: unknown) => void;
}

export class RecordingFile {
  readonly path: string;
  readonly #writer: TraceWriter;
  readonly #isFile: boolean;
  readonly #onFailure: (error: unknown) => void;
  readonly #timer: NodeJS.Timeout;
  #failed = false;
  #countAtCheckpoint = -1;

  /** @throws Qcow2BenchError `file-exists`, `not-an-output`, `write-failed`. */
  constructor(path: string, options: RecordingFileOptions) {
    this.path = path;
    this.#onFailure = options.onFailure;
    const place = outputPlace(path);
    this.#isFile = place.kind === 'file';
    if (this.#isFile) claim(path, options.overwrite);
    const stream = place.kind === 'file' ? undefined : writableTo(place);
    this.#writer = new TraceWriter(path, { ...options, stream });
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

  /** Takes the file away again: there was nothing to record. */
  async discard(): Promise<void> {
    clearInterval(this.#timer);
    await this.#writer.close();
    if (this.#isFile) rmSync(this.path, { force: true });
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

/** Makes the file, so that no other program's can come between. */
function claim(path: string, overwrite: boolean): void {
  try {
    const isEmpty = statSync(path, { throwIfNoEntry: false })?.size === 0;
    closeSync(openSync(path, overwrite || isEmpty ? 'w' : 'wx'));
  } catch (error) {
    const reason = systemCode(error) ?? String(error);
    if (reason === 'EEXIST') {
      throw fileExists(path, error);
    }
    throw new Qcow2BenchError('write-failed', `cannot be written (${reason})`, { path }, error);
  }
}
