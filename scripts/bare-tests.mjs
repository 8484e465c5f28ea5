/**
 * The tests as on a machine that has none of the programs they compare with: all guards hold, and what needs no other
 * program passes. The counts are left in node_modules/.cache/qcow2-bench/bare.json for `.ci/run`.
 */

import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';

import { CACHE, readCounts, runUnitTests } from './checks.mjs';
import { folderWithoutPeers } from './system-peers.mjs';

/** Minutes of our own engines, nearly all of which the other run of the tests has already spent. */
const LEFT_OUT = [
  'test/bench/device-model.test.ts',
  'test/bench/golden.test.ts',
  'test/cli/bad-input.test.ts',
  'test/cli/completion.test.ts',
  'test/cli/every-option.test.ts',
  'test/cli/kills.test.ts',
  'test/cli/matrix.test.ts',
  'test/cli/output.test.ts',
  'test/cli/output-streams.test.ts',
  'test/cli/outputs.test.ts',
  'test/cli/trace.test.ts',
  'test/cli/usage.test.ts',
  'test/format/conformance.test.ts',
  'test/format/crash.test.ts',
  'test/format/fuzz/**',
  'test/format/qcow2/interrupted.test.ts',
  'test/format/qcow2/snapshot-crash.test.ts',
];

/**
 * @param {string} root the clone
 * @param {string} node a Node ≥ 24
 * @param {string[]} args for vitest; default: all but the slowest files
 * @returns {Promise<number>} the exit code
 */
export async function runBareTests(root, node, args) {
  const report = join(root, CACHE, 'vitest-bare.json');
  const counts = join(root, CACHE, 'bare.json');
  mkdirSync(dirname(report), { recursive: true });
  for (const file of [report, counts]) rmSync(file, { force: true });
  const given = args.length > 0 ? args : LEFT_OUT.flatMap((glob) => ['--exclude', glob]);
  const { folder, remove } = folderWithoutPeers();
  // In CI a missing program fails the tests that need it; here it is missing on purpose.
  const env = { PATH: folder, CI: undefined };
  try {
    return await runUnitTests(root, node, [`--outputFile.json=${report}`, ...given], env);
  } finally {
    remove();
    writeFileSync(counts, JSON.stringify(readCounts(report)));
  }
}
