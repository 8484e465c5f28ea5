/**
 * Runs a program to its end and keeps the tail of what it printed. Its exit code is the caller's to
 * judge; only a program that cannot be started is an error here.
 *
 * Invariant: no word reaches the program other than it was given: what is not UTF-8 is refused (see
 * `child-paths`).
 */

import { spawn } from 'node:child_process';

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
  const unfit = [file, ...args].find((word) => !word.isWellFormed());
  if (unfit !== undefined) {
    const message = `cannot run ${file}: its argument '${unfit}' is not UTF-8; use names that are`;
    return Promise.reject(new Qcow2BenchError('peer-not-started', message));
  }
  return new Promise((resolve, reject) => {
    const child = spawn(file, args, {
      cwd: directory,
      // Messages in English, whatever the user's language: they are read here.
      env: { ...process.env, LC_ALL: 'C' },
      // A group of its own, which ends as a whole: a tracer that is stopped alone can leave what it
      // traces running.
      detached: true,
    });
    const stop = (): void => {
      endGroup(child.pid);
    };
    signal?.addEventListener('abort', stop, { once: true });
    if (signal?.aborted === true) stop();
    const stdout = keepTail(child.stdout);
    const stderr = keepTail(child.stderr);
    // A program that ends before it has read everything says why on its own.
    child.stdin.on('error', () => undefined);
    child.stdin.end(input ?? '');
    child.once('error', (error) => {
      const why = systemCode(error) ?? error.message;
      reject(new Qcow2BenchError('peer-not-started', `cannot run ${file}: ${why}`, {}, error));
    });
    child.once('close', (exitCode) => {
      signal?.removeEventListener('abort', stop);
      if (signal?.aborted === true) reject(signal.reason as Error);
      else resolve({ exitCode: exitCode ?? undefined, stdout: stdout(), stderr: stderr() });
    });
  });
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
