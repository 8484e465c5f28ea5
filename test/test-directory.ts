/** Directories of tests. All of them are removed, whether a test passes, fails or is skipped. */

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';

import { expect, onTestFinished, TestRunner } from 'vitest';

const ofFile: string[] = [];

/**
 * Creates an empty directory and returns its path.
 *
 * Called in a test or its `beforeEach`, it is removed when the test ends; elsewhere, and so in all
 * concurrent tests, which must not call it, when the test file ends.
 */
export function testDirectory(): string {
  const file = basename(expect.getState().testPath ?? 'test', '.test.ts');
  const path = mkdtempSync(join(tmpdir(), `qcow2-bench-${file}-`));
  if (TestRunner.getCurrentTest() === undefined) ofFile.push(path);
  else onTestFinished(() => removeDirectory(path));
  return path;
}

/** Removes the directories of the test file. */
export function removeTestDirectories(): void {
  for (const path of ofFile.splice(0)) removeDirectory(path);
}

function removeDirectory(path: string): void {
  rmSync(path, { recursive: true, force: true });
}
