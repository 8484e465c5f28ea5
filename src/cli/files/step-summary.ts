/**
 * The summary of a job in GitHub Actions: Markdown that is appended to the file that the runner
 * names. Other steps write there too, so nothing is replaced.
 */

import { closeSync } from 'node:fs';

import { openSync } from '../../core/host-fs.ts';
import { writeError } from '../../core/write-error.ts';
import { writeWhole } from '../../device/output-stream.ts';

/**
 * Does nothing outside of GitHub Actions.
 *
 * @throws Qcow2BenchError `write-failed`.
 */
export function appendStepSummary(environment: NodeJS.ProcessEnv, markdown: () => string): void {
  const { GITHUB_ACTIONS: isActions, GITHUB_STEP_SUMMARY: path } = environment;
  if (isActions !== 'true' || path === undefined || path === '') return;
  try {
    const file = openSync(path, 'a');
    try {
      writeWhole(file, Buffer.from(markdown()));
    } finally {
      closeSync(file);
    }
  } catch (error) {
    throw writeError(path, error);
  }
}
