/**
 * The tests as on a machine that has none of the programs they compare with: all guards hold, and
 * what else is in their files passes. The counts are left in
 * node_modules/.cache/qcow2-bench/bare.json for `.ci/run`.
 */

import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';

import { CACHE, readCounts, runUnitTests } from './checks.mjs';
import { folderWithoutPeers } from './system-peers.mjs';

/**
 * The other projects ask for no program, by how they are distinguished: the other run of the tests
 * has done the same.
 */
const PROJECT = ['--project', 'qemu'];
/** Minutes of our own engines and command line, of which few seconds ask for a program. */
const LEFT_OUT = [
  'test/cli/every-option*.test.ts',
  'test/cli/failing-outputs.test.ts',
  'test/cli/matrix.test.ts',
  'test/format/conformance.test.ts',
  'test/format/qcow2/snapshot-failures.test.ts',
  'test/parity/planted.test.ts',
];

/**
 * @param {string} root the clone
 * @param {string} node a Node ≥ 24
 * @param {string[]} args for vitest; default: the project `qemu`
 * @returns {Promise<number>} the exit code
 */
export async function runBareTests(root, node, args) {
  const report = join(root, CACHE, 'vitest-bare.json');
  const counts = join(root, CACHE, 'bare.json');
  mkdirSync(dirname(report), { recursive: true });
  for (const file of [report, counts]) rmSync(file, { force: true });
  const chosen = [...PROJECT, ...LEFT_OUT.flatMap((file) => ['--exclude', file])];
  const given = args.length > 0 ? args : chosen;
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
