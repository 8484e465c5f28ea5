/**
 * Runs a program under strace and gives the operations it did on the files of an image.
 */

import { join } from 'node:path';
import { createInterface } from 'node:readline';

import { Qcow2BenchError } from '../core/error.ts';
import { createReadStream, mkdtempSync, realpathSync, rmSync, temporaryDirectory } from '../core/host-fs.ts';
import { removeLeftovers, temporaryPrefix } from '../device/temporary-file.ts';
import { ChildPaths } from './child-paths.ts';
import type { HostOperation } from './host-operation.ts';
import type { ProgramOutcome } from './run-program.ts';
import { runProgram } from './run-program.ts';
import { StraceLogParser, TRACED_CALLS } from './strace-log.ts';
import type { TracedCall, TracedFiles } from './strace-log.ts';

/**
 * A signal that does nothing to a program that does not ask for it, is known by the same name
 * everywhere, and that neither QEMU nor the C library sends.
 */
export const MARK_SIGNAL = 'SIGURG';

export interface TraceOptions {
  /** Path of strace. */
  readonly strace: string;
  readonly command: string;
  readonly args: readonly string[];
  readonly input: string;
  /** The image's files by the name that operations carry; each must exist. */
  readonly files: TracedFiles;
  /**
   * Guest requests that `input` marks; a program that marks nothing has all its operations in the
   * phase `open`.
   */
  readonly requests: number | undefined;
  /** Whether an end other than with exit code 0 is no failure. Default: it is one. */
  readonly accepts?: ((outcome: ProgramOutcome) => boolean) | undefined;
  readonly signal?: AbortSignal | undefined;
  /**
   * Makes every call of one kind wait before it begins: what a thread pool ends in which order may
   * depend on it.
   */
  readonly slowed?: SlowedCall | undefined;
}

export interface SlowedCall {
  readonly call: TracedCall;
  readonly microseconds: number;
  /**
   * Only some of a thread's calls, as strace counts them: `1+2` is every second one, from the first
   * on.
   */
  readonly when?: string | undefined;
}

export interface Traced {
  readonly operations: readonly HostOperation[];
  readonly outcome: ProgramOutcome;
}

/**
 * @throws Qcow2BenchError `peer-failed` if strace is not allowed to trace or the program exits with
 *   an error, `peer-bad-trace` if its log is not understood.
 */
export async function traceProgram(options: TraceOptions): Promise<Traced> {
  removeLeftovers(temporaryDirectory());
  const folder = mkdtempSync(join(temporaryDirectory(), `${temporaryPrefix()}-strace-`));
  try {
    const log = join(folder, 'log');
    using paths = new ChildPaths();
    const outcome = await runProgram(options.strace, straceArguments(options, paths.pathFor(log)), {
      input: options.input,
      signal: options.signal,
    });
    if (outcome.exitCode !== 0 && options.accepts?.(outcome) !== true) throw failure(options, outcome);
    return { operations: await readLog(log, options), outcome };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

function straceArguments({ command, args, slowed }: TraceOptions, log: string): readonly string[] {
  const delay = slowed === undefined ? [] : ['-e', injection(slowed)];
  return [
    '-f', // every thread
    // A signal that ends strace ends the program too; with a log file it would be blocked to the
    // end of the run.
    '-I',
    '2',
    '-y', // the path behind each file descriptor
    '-qq', // no lines on threads that come and go
    // Only the traced calls stop the program: several times faster.
    '--seccomp-bpf',
    // Up to 4 bytes of each buffer: guest data is of no interest, and with 0 a list of buffers
    // would be cut short.
    '-v',
    '-s',
    '4',
    '-e',
    `trace=${TRACED_CALLS.join(',')}`,
    '-e',
    `signal=${MARK_SIGNAL}`,
    ...delay,
    '-o',
    log,
    '--',
    command,
    ...args,
  ];
}

function injection({ call, microseconds, when }: SlowedCall): string {
  return `inject=${call}:delay_enter=${String(microseconds)}${when === undefined ? '' : `:when=${when}`}`;
}

async function readLog(log: string, options: TraceOptions): Promise<readonly HostOperation[]> {
  const files: Record<string, string> = {};
  // strace shows paths as the kernel has them.
  for (const [name, path] of Object.entries(options.files)) files[name] = realpathSync(path);
  const parser = new StraceLogParser({ files, mark: MARK_SIGNAL, requests: options.requests });
  for await (const line of createInterface({ input: createReadStream(log, 'utf8') })) parser.push(line);
  return parser.finish();
}

function failure({ command }: TraceOptions, { exitCode, stdout, stderr }: ProgramOutcome): Qcow2BenchError {
  const said = [stderr, stdout].map((text) => text.trim()).filter((text) => text !== '');
  const how = exitCode === undefined ? 'was killed' : `exited with ${String(exitCode)}`;
  return new Qcow2BenchError(
    'peer-failed',
    `${command} under strace ${how}: ${said.join('\n').slice(-2000)}`,
  );
}
