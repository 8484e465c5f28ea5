/**
 * Runs once, before all test files and after them: whatever a test file or a program that it starts
 * leaves in the directory of temporary files is removed, also if its worker was killed.
 */

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** Gives the run a directory of its own for temporary files; returns its removal. */
export function setup(): () => void {
  const directory = mkdtempSync(join(tmpdir(), 'qcow2-bench-tests-'));
  process.env['TMPDIR'] = directory;
  return () => {
    rmSync(directory, { recursive: true, force: true });
  };
}
