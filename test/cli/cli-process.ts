/**
 * The program as a user starts it: a process of its own, with its exit code and both its outputs.
 * `call-cli` is much cheaper where the process itself is not what a test is about.
 */

import { spawn, type ChildProcess } from 'node:child_process';
import { fileURLToPath } from 'node:url';

import { owned } from '../owned-process.ts';

export const MAIN = fileURLToPath(new URL('../../src/cli/main.ts', import.meta.url));

export interface Ended {
  /** `null` if a signal ended it. */
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface Started {
  readonly process: ChildProcess;
  readonly ended: Promise<Ended>;
  /** Resolves as soon as standard error holds `text`; rejects if the program ends before. */
  said(text: string): Promise<void>;
}

/** Starts the program in `folder`. */
export function startCli(folder: string, ...words: readonly string[]): Started {
  const environment = { ...process.env, NO_COLOR: '1', QCOW2_BENCH_DEBUG: '' };
  const options = { cwd: folder, env: environment, stdio: 'pipe' } as const;
  const child = owned(spawn(process.execPath, [MAIN, ...words], options));
  let stdout = '';
  let stderr = '';
  const listeners = new Set<() => void>();
  child.stdout.on('data', (chunk: Buffer) => (stdout += chunk.toString()));
  child.stderr.on('data', (chunk: Buffer) => {
    stderr += chunk.toString();
    for (const listener of listeners) listener();
  });
  const ended = new Promise<Ended>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (code) => resolve({ code, stdout, stderr }));
  });
  const said = (text: string): Promise<void> =>
    new Promise((resolve, reject) => {
      const look = (): void => {
        if (stderr.includes(text)) resolve();
      };
      listeners.add(look);
      look();
      void ended.then(() => reject(new Error(`the program ended without saying '${text}': ${stderr}`)));
    });
  return { process: child, ended, said };
}

/** Runs the program in `folder` to its end. */
export function runCli(folder: string, ...words: readonly string[]): Promise<Ended> {
  return startCli(folder, ...words).ended;
}

/** The lines of a text that are not empty. */
export function linesOf(text: string): readonly string[] {
  return text.split('\n').filter((line) => line !== '');
}

/** The one line of an error: that there is no other is part of the promise. */
export function errorLine({ stderr }: Ended): string {
  const errors = linesOf(stderr).filter(
    (line) => !/^(QEMU \S+ was found|counting|warm-up|timing)/.test(line),
  );
  if (errors.length !== 1 || errors[0] === undefined) throw new Error(`no single line of error: ${stderr}`);
  return errors[0];
}
