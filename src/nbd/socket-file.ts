/** The file that a Unix socket is reached by: what lies at its path, and taking a stale one away. */

import { lstatSync, rmSync } from 'node:fs';

import { Qcow2BenchError, systemCode } from '../core/error.ts';

/** @throws Qcow2BenchError `nbd-listen-failed` if the system does not tell. */
export function describeSocketFile(path: string): 'missing' | 'socket' | 'other' {
  try {
    const found = lstatSync(path, { throwIfNoEntry: false });
    if (found === undefined) return 'missing';
    return found.isSocket() ? 'socket' : 'other';
  } catch (error) {
    throw unusable(path, error);
  }
}

/** @throws Qcow2BenchError `nbd-listen-failed`. */
export function removeSocketFile(path: string): void {
  try {
    rmSync(path, { force: true });
  } catch (error) {
    throw unusable(path, error);
  }
}

function unusable(path: string, error: unknown): Qcow2BenchError {
  const reason = systemCode(error) ?? String(error);
  return new Qcow2BenchError('nbd-listen-failed', `cannot listen here (${reason})`, { path }, error);
}
