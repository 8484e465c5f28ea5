/**
 * A program that a test runs under strace: many calls of the command line in one process, each with what it said, what it
 * cost, and the memory that the process had so far. Takes a file of calls and a file for the answers.
 *
 * A call is marked in the trace by an attempt to open `/call/N`, which is not there.
 */

import { openSync, readFileSync, writeFileSync } from 'node:fs';

import { runCommandLine } from '../../src/cli/command-line.ts';

/** What one call is given. */
export interface Call {
  readonly folder: string;
  readonly words: readonly string[];
}

/** How it ended. */
export interface Called {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
  /** Microseconds, of the user and of the system. */
  readonly cpuUs: number;
  /** KiB, the most so far. */
  readonly maxRss: number;
}

const [, , callsPath = '', answersPath = ''] = process.argv;
const calls = JSON.parse(readFileSync(callsPath, 'utf8')) as readonly Call[];
const answers: Called[] = [];
const said = { stdout: '', stderr: '' };
for (const name of ['stdout', 'stderr'] as const) {
  process[name].setMaxListeners(0);
  process[name].write = (text: string | Uint8Array): boolean => {
    said[name] += String(text);
    // A server that could open its image is up: this ends it.
    if (name === 'stdout' && said.stdout.includes('nbd+unix:')) setImmediate(() => process.emit('SIGINT'));
    return true;
  };
}
for (const [index, { folder, words }] of calls.entries()) {
  mark(index);
  process.chdir(folder);
  // What earlier calls have left is not this one's.
  if (index % 10 === 0) globalThis.gc?.();
  said.stdout = said.stderr = '';
  const before = process.cpuUsage();
  const code = await runCommandLine(words, { NO_COLOR: '1' });
  const { user, system } = process.cpuUsage(before);
  answers.push({ code, ...said, cpuUs: user + system, maxRss: process.resourceUsage().maxRSS });
}
mark(calls.length);
writeFileSync(answersPath, JSON.stringify(answers));

function mark(index: number): void {
  try {
    openSync(`/call/${String(index)}`, 'r');
  } catch {
    // It is there to be seen in the trace.
  }
}
