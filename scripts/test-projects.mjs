/**
 * The tests in three projects of vitest, each file in exactly one:
 *
 * - `qemu`: asks for a program of the machine (QEMU, strace, fio, nbdkit, a browser, mkfs …),
 *   itself or by a file that it imports. Found in its imports, so no list can be out of date.
 * - `slow`: our own engines and command line alone, for many seconds: the list below.
 * - `unit`: the rest, which `npm run test:fast` runs.
 *
 * A fourth one, `qemu-10.0`, runs some files of `qemu` once more with the newer QEMU that
 * `newer-qemu.mjs` brings.
 */

import { existsSync, globSync, readFileSync } from 'node:fs';
import { delimiter, dirname, join, matchesGlob, relative, resolve, sep } from 'node:path';

import { newerQemuFolder } from './newer-qemu.mjs';
import { PEER_COMMANDS } from './system-peers.mjs';

/** @typedef {'unit' | 'slow' | 'qemu'} TestProject */

/** @type {readonly TestProject[]} */
export const TEST_PROJECTS = ['unit', 'slow', 'qemu'];

/** Files of `src/` that run programs of the machine. A test that imports one needs the programs. */
const PEER_DOORS = [
  'src/below/made-file-systems.ts',
  'src/peer/qemu-tools.ts',
  'src/peer/strace.ts',
  'src/peer/run-program.ts',
];

/** Files of `test/` that run a program whose name they are given. */
const STARTERS = ['test/owned-process.ts', 'test/format/system-tools.ts'];

/** Many seconds of our own engines, or many starts of the command line; globs. */
const SLOW_TESTS = [
  'test/bench/device-model.test.ts',
  'test/bench/golden.test.ts',
  'test/bench/replay.test.ts',
  'test/bench/run.test.ts',
  'test/cli/**',
  'test/crash/{btree,crashes,explore,faults,policies,steps,strict}.test.ts',
  'test/examples/**',
  'test/format/fuzz/**',
  'test/format/qcow2/compression.test.ts',
  'test/format/qcow2/failures.test.ts',
  'test/format/qcow2/failing-operation.test.ts',
  'test/gate/mutations.test.ts',
  'test/result/change-points.test.ts',
  'test/scripts/answers.test.ts',
  'test/scripts/gate-rates.test.ts',
  'test/scripts/version-tables.test.ts',
  'test/study/shipped.test.ts',
  'test/workload/trace/trace-formats.test.ts',
];

/**
 * Tests that hold the engines against QEMU, whatever its version; globs. The others need one run:
 * they ask for both programs, or for none.
 */
const VERSION_TESTS = [
  'test/cli/{map,qemu-engine}.test.ts',
  'test/crash/hazards-on-qemu.test.ts',
  'test/image/{convert,create-parity,image-extents,lock-parity,resize}.test.ts',
  'test/parity/!(planted|recorded|version-parity).test.ts',
  'test/peer/**',
];

/**
 * The project that runs against the newer QEMU; `undefined` where it was not brought, and where not
 * all is tried (test/amount.ts): what the two do differently is in `version-parity.test.ts` and in
 * the recordings.
 *
 * @param {string} root the clone
 * @returns {{ name: string, include: string[], env: Record<string, string> } | undefined}
 */
export function newerQemuProject(root) {
  const folder = process.env['TESTS_FULL'] === '1' ? newerQemuFolder() : undefined;
  if (folder === undefined) return undefined;
  const include = testProjects(root).qemu.filter((file) =>
    VERSION_TESTS.some((glob) => matchesGlob(file, glob)),
  );
  return { name: 'qemu-10.0', include, env: { PATH: [folder, process.env['PATH'] ?? ''].join(delimiter) } };
}

/**
 * Which project each test file is in.
 *
 * @param {string} root the clone
 * @returns {Record<TestProject, string[]>} paths from the root, with `/`
 */
export function testProjects(root) {
  /** @type {Record<TestProject, string[]>} */
  const projects = { unit: [], slow: [], qemu: [] };
  const asks = peerQuestion(root);
  for (const path of globSync('test/**/*.test.ts', { cwd: root }).sort()) {
    const file = path.split(sep).join('/');
    if (asks(resolve(root, path))) projects.qemu.push(file);
    else if (SLOW_TESTS.some((glob) => matchesGlob(file, glob))) projects.slow.push(file);
    else projects.unit.push(file);
  }
  return projects;
}

/**
 * Whether a file below `test/`, or one of `test/` that it leads to, asks for a peer.
 *
 * @param {string} root
 * @returns {(file: string) => boolean} of an absolute path
 */
function peerQuestion(root) {
  const tests = join(root, 'test') + sep;
  /** @type {Map<string, string[]>} */
  const imports = new Map();
  /** @type {Map<string, boolean>} */
  const direct = new Map();
  /** @param {string} file */
  const read = (file) => {
    const text = readFileSync(file, 'utf8');
    const names = importsOf(text);
    const files = names.filter((name) => name.startsWith('.')).map((name) => resolve(dirname(file), name));
    const leads = files.map((path) => relative(root, path).split(sep).join('/'));
    direct.set(file, asksForPeer(text, [...names, ...leads]));
    imports.set(
      file,
      files.filter((path) => path.startsWith(tests) && existsSync(path)),
    );
  };
  return (start) => {
    const seen = new Set([start]);
    for (const file of seen) {
      if (!direct.has(file)) read(file);
      if (direct.get(file) === true) return true;
      for (const next of imports.get(file) ?? []) seen.add(next);
    }
    return false;
  };
}

/**
 * Whether a file asks for a peer itself.
 *
 * @param {string} text
 * @param {readonly string[]} imported packages, and files as paths from the root
 */
function asksForPeer(text, imported) {
  if (imported.some((name) => name === 'playwright-core' || PEER_DOORS.includes(name))) return true;
  if (!imported.some((name) => name === 'node:child_process' || STARTERS.includes(name))) return false;
  return PEER_COMMANDS.some((command) => text.includes(`'${command}'`));
}

/** @param {string} text */
function importsOf(text) {
  return [...text.matchAll(/^(?:import|export|[}]) .*?from '([^']+)';$|\bimport\('([^']+)'\)/gm)].map(
    ([, name, dynamic]) => name ?? dynamic ?? '',
  );
}
