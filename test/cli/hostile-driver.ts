/**
 * A program that a test runs under strace: many calls of the command line in one process, each with
 * what it said, what it cost, and the memory that it added. Takes a file of calls and a file for
 * the answers.
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
  /** KiB by which the most resident memory during the call exceeded what was resident before it. */
  readonly addedMemory: number;
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
  const residentKiB = forgetPeak();
  const before = process.cpuUsage();
  const code = await runCommandLine(words, { NO_COLOR: '1' });
  const { user, system } = process.cpuUsage(before);
  answers.push({ code, ...said, cpuUs: user + system, addedMemory: peakKiB() - residentKiB });
}
mark(calls.length);
writeFileSync(answersPath, JSON.stringify(answers));

/** Sets the process's high-water mark back to what is resident now, which it answers in KiB. */
function forgetPeak(): number {
  // proc(5): 5 resets VmHWM.
  writeFileSync('/proc/self/clear_refs', '5');
  return statusKiB('VmRSS');
}

function peakKiB(): number {
  return statusKiB('VmHWM');
}

function statusKiB(field: string): number {
  const status = readFileSync('/proc/self/status', 'latin1');
  return Number(new RegExp(`^${field}:\\s+(\\d+) kB$`, 'm').exec(status)?.[1]);
}

function mark(index: number): void {
  try {
    openSync(`/call/${String(index)}`, 'r');
  } catch {
    // It is there to be seen in the trace.
  }
}
