/**
 * Runs a program to its end and keeps the tail of what it printed. Its exit code is the caller's to
 * judge; only a program that cannot be started is an error here.
 *
 * Invariant: no word reaches the program other than it was given: what is not UTF-8 is refused (see
 * `child-paths`).
 */

import { spawn, type ChildProcessWithoutNullStreams } from 'node:child_process';

import { Qcow2BenchError, systemCode } from '../core/error.ts';

/** Bytes kept of each of the two outputs, from its end. */
const OUTPUT_BYTES_MAX = 1024 * 1024;

export interface ProgramRun {
  /** Given on standard input; none if `undefined`. */
  readonly input?: string | undefined;
  /** Where it runs. Default: where this process does. */
  readonly directory?: string | undefined;
  /** Ends the program. */
  readonly signal?: AbortSignal | undefined;
}

export interface ProgramOutcome {
  /** `undefined` if a signal ended it. */
  readonly exitCode: number | undefined;
  readonly stdout: string;
  readonly stderr: string;
}

/**
 * @throws Qcow2BenchError `peer-not-started` if the program cannot be started, or a word for it is
 *   not UTF-8; the signal's reason.
 */
export function runProgram(
  file: string,
  args: readonly string[],
  { input, directory, signal }: ProgramRun = {},
): Promise<ProgramOutcome> {
  const unfit = unfitWord(file, args);
  if (unfit !== undefined) return Promise.reject(unfit);
  return new Promise((resolve, reject) => {
    const child = started(file, args, directory);
    const stop = (): void => {
      endGroup(child.pid);
    };
    signal?.addEventListener('abort', stop, { once: true });
    if (signal?.aborted === true) stop();
    const stdout = keepTail(child.stdout);
    const stderr = keepTail(child.stderr);
    child.stdin.end(input ?? '');
    child.once('error', (error) => {
      reject(notStarted(file, error));
    });
    child.once('close', (exitCode) => {
      signal?.removeEventListener('abort', stop);
      if (signal?.aborted === true) reject(signal.reason as Error);
      else resolve({ exitCode: exitCode ?? undefined, stdout: stdout(), stderr: stderr() });
    });
  });
}

/**
 * A program that is given one line after another, as it asks for them. Disposing ends it.
 *
 * Invariant: `printed` and `ended` reject as `runProgram` does.
 */
export class ProgramSession implements AsyncDisposable {
  readonly #child: ChildProcessWithoutNullStreams;
  readonly #closed: Promise<void>;
  readonly #signal: AbortSignal | undefined;
  readonly #stderr: () => string;
  #stdout = '';
  #exitCode: number | undefined;
  #failure: Error | undefined;
  #hasEnded = false;
  #onChange: () => void = () => undefined;

  /** @throws Qcow2BenchError `peer-not-started` if a word is not UTF-8 */
  constructor(file: string, args: readonly string[], { directory, signal }: Omit<ProgramRun, 'input'>) {
    const unfit = unfitWord(file, args);
    if (unfit !== undefined) throw unfit;
    this.#signal = signal;
    const child = started(file, args, directory);
    this.#child = child;
    this.#stderr = keepTail(child.stderr);
    child.stdout.setEncoding('utf8').on('data', (chunk: string) => {
      this.#stdout = (this.#stdout + chunk).slice(-OUTPUT_BYTES_MAX);
      this.#onChange();
    });
    this.#closed = new Promise((resolve) => {
      const end = (): void => {
        this.#hasEnded = true;
        resolve();
        this.#onChange();
      };
      child.once('error', (error) => {
        this.#failure = notStarted(file, error);
        end();
      });
      child.once('close', (exitCode) => {
        this.#exitCode = exitCode ?? undefined;
        end();
      });
    });
    signal?.addEventListener('abort', this.#stop, { once: true });
    if (signal?.aborted === true) this.#stop();
  }

  write(text: string): void {
    this.#child.stdin.write(text);
  }

  /** What it has printed since this was asked last, once it is `enough` or it has ended. */
  async printed(enough: (stdout: string) => boolean): Promise<Omit<ProgramOutcome, 'exitCode'>> {
    while (!enough(this.#stdout) && !this.#hasEnded) {
      await new Promise<void>((resolve) => (this.#onChange = resolve));
    }
    this.#refuseFailure();
    const stdout = this.#stdout;
    this.#stdout = '';
    return { stdout, stderr: this.#stderr() };
  }

  /** Closes its input and waits for its end. */
  async ended(): Promise<ProgramOutcome> {
    this.#child.stdin.end();
    await this.#closed;
    this.#refuseFailure();
    return { exitCode: this.#exitCode, stdout: this.#stdout, stderr: this.#stderr() };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#signal?.removeEventListener('abort', this.#stop);
    if (!this.#hasEnded) this.#stop();
    await this.#closed;
  }

  readonly #stop = (): void => {
    endGroup(this.#child.pid);
  };

  #refuseFailure(): void {
    this.#signal?.throwIfAborted();
    if (this.#failure !== undefined) throw this.#failure;
  }
}

function unfitWord(file: string, args: readonly string[]): Qcow2BenchError | undefined {
  const unfit = [file, ...args].find((word) => !word.isWellFormed());
  if (unfit === undefined) return undefined;
  const message = `cannot run ${file}: its argument '${unfit}' is not UTF-8; use names that are`;
  return new Qcow2BenchError('peer-not-started', message);
}

function started(
  file: string,
  args: readonly string[],
  directory: string | undefined,
): ChildProcessWithoutNullStreams {
  const child = spawn(file, args, {
    cwd: directory,
    // Messages in English, whatever the user's language: they are read here.
    env: { ...process.env, LC_ALL: 'C' },
    // A group of its own, which ends as a whole: a tracer that is stopped alone can leave what it
    // traces running.
    detached: true,
  });
  // A program that ends before it has read everything says why on its own.
  child.stdin.on('error', () => undefined);
  return child;
}

function notStarted(file: string, error: Error): Qcow2BenchError {
  const why = systemCode(error) ?? error.message;
  return new Qcow2BenchError('peer-not-started', `cannot run ${file}: ${why}`, {}, error);
}

/** Ends every process of the group that `leader` leads. */
function endGroup(leader: number | undefined): void {
  if (leader === undefined) return;
  try {
    process.kill(-leader, 'SIGKILL');
  } catch {
    // It has ended by itself.
  }
}

function keepTail(stream: NodeJS.ReadableStream): () => string {
  let tail = '';
  stream.setEncoding('utf8');
  stream.on('data', (chunk: string) => {
    tail = (tail + chunk).slice(-OUTPUT_BYTES_MAX);
  });
  return () => tail;
}
