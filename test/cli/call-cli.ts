/**
 * The program in the process of the tests: what it answers is the same as from a process of its own
 * (`cli-process`), at a tenth of the cost. Not for what the process itself promises: signals,
 * streams, the file system's own names, its end.
 *
 * Calls follow each other: the working directory and both outputs are the process's.
 */

import { vi } from 'vitest';

import { runCommandLine } from '../../src/cli/command-line.ts';
import type { Ended } from './cli-process.ts';

export interface CallOptions {
  /** As soon as an output matches it, the program is interrupted, as by Ctrl-C. */
  readonly interruptAt?: RegExp | undefined;
}

let last: Promise<unknown> = Promise.resolve();

/** Runs the program in `folder` to its end. */
export function callCli(folder: string, ...words: readonly string[]): Promise<Ended> {
  return callCliWith({}, folder, ...words);
}

export function callCliWith(
  options: CallOptions,
  folder: string,
  ...words: readonly string[]
): Promise<Ended> {
  const call = last.then(() => callNow(folder, words, options));
  last = call.catch(() => undefined);
  return call;
}

async function callNow(
  folder: string,
  words: readonly string[],
  { interruptAt }: CallOptions,
): Promise<Ended> {
  const start = process.cwd();
  const before = process.listeners('SIGINT');
  const interrupt = (): void => {
    for (const listener of process.listeners('SIGINT')) if (!before.includes(listener)) listener('SIGINT');
  };
  const said = { stdout: '', stderr: '' };
  const spies = (['stdout', 'stderr'] as const).map((name) => {
    // Each call listens for errors of both.
    process[name].setMaxListeners(0);
    return vi.spyOn(process[name], 'write').mockImplementation((text, ...rest: readonly unknown[]) => {
      said[name] += String(text);
      if (interruptAt?.test(said[name]) === true) setImmediate(interrupt);
      const written = rest.at(-1);
      if (typeof written === 'function') process.nextTick(written);
      return true;
    });
  });
  try {
    process.chdir(folder);
    const environment = { ...process.env, NO_COLOR: '1', QCOW2_BENCH_DEBUG: '' };
    return { code: await runCommandLine(words, environment), ...said };
  } finally {
    for (const spy of spies) spy.mockRestore();
    process.chdir(start);
  }
}
