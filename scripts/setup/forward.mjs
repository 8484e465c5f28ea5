/**
 * Runs a program as if it stood in this one's place: same terminal, signals handed on, same exit
 * code.
 */

import { spawn } from 'node:child_process';
import { constants } from 'node:os';

const FORWARDED = /** @type {const} */ (['SIGINT', 'SIGTERM', 'SIGHUP']);

/**
 * A terminal sends Ctrl-C to every process of the group, and npm hands on what it got: what comes
 * again within this time is the same key stroke. (The program itself may still see it twice, from
 * the terminal and from here.)
 */
const SAME_SIGNAL_MS = 500;

/**
 * npm runs a script under `sh -c` and sends a signal only to that shell, which exits without
 * forwarding it. So the shell's end counts as the signal.
 */
const PARENT_POLL_MS = 250;

/**
 * @param {string} file
 * @param {string[]} args
 * @param {{ cwd?: string | undefined, env?: NodeJS.ProcessEnv, shell?: boolean }} [options]
 * @returns {Promise<number>} the exit code, 128 + N after signal N
 */
export function runForwarding(file, args, options = {}) {
  return new Promise((resolve, reject) => {
    const child = spawn(file, args, { ...options, stdio: 'inherit' });
    let lastMs = -Infinity;
    /** @param {NodeJS.Signals} signal */
    const forward = (signal) => {
      const nowMs = performance.now();
      if (nowMs - lastMs > SAME_SIGNAL_MS) child.kill(signal);
      lastMs = nowMs;
    };
    for (const signal of FORWARDED) process.on(signal, forward);
    const parent = process.ppid;
    const { npm_lifecycle_event: script } = process.env;
    const poll = setInterval(() => {
      if (script === undefined || process.ppid === parent) return;
      clearInterval(poll);
      forward('SIGINT');
    }, PARENT_POLL_MS);
    child.once('error', reject);
    child.once('exit', (code, signal) => {
      clearInterval(poll);
      for (const name of FORWARDED) process.off(name, forward);
      resolve(signal === null ? (code ?? 1) : 128 + constants.signals[signal]);
    });
  });
}
