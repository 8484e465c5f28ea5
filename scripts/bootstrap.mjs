/**
 * The one door into a clone: `npm run bench`, `npm test` and `npm run qcow2-bench` all enter here.
 *
 * It runs on the machine's own Node (20 or newer) without any dependency, brings the locked
 * dependencies up to date, and hands over to Node 24, which runs the TypeScript sources directly.
 *
 *   node scripts/bootstrap.mjs bench [ARGS]   the main job: counts, charts and an answer
 *   node scripts/bootstrap.mjs test [ARGS]    every check; with ARGS only vitest, which gets them
 *   node scripts/bootstrap.mjs bare [ARGS]    the tests without the programs they compare with; ARGS go to vitest
 *   node scripts/bootstrap.mjs cli [ARGS]     the command line
 *   node scripts/bootstrap.mjs perf [ARGS]    the engines against `qemu-img bench`, side by side
 *   node scripts/bootstrap.mjs parity full [N]  N lists (default 320) against each QEMU here; leaves results/parity-*
 *   node scripts/bootstrap.mjs parity record  records the side of each QEMU here, of the everyday lists
 *   node scripts/bootstrap.mjs node           sets up and prints where Node 24 is, for `bin/qb`
 *   node scripts/bootstrap.mjs setup          the set-up alone
 */

import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

import { runBareTests } from './bare-tests.mjs';
import { CACHE, runChecks, runUnitTests } from './checks.mjs';
import { ensureDependencies } from './setup/dependencies.mjs';
import { runForwarding } from './setup/forward.mjs';
import { findNode } from './setup/node-runtime.mjs';
import { SetupError } from './setup/setup-error.mjs';

const ROOT = fileURLToPath(new URL('..', import.meta.url));
const MAIN = join(ROOT, 'src', 'cli', 'main.ts');
/**
 * V8 lets the young generation grow to 100 MB and more in a run that makes many short-lived
 * objects; a small one costs no time here and keeps the default suite some 150 MB lower.
 */
const NODE_FLAGS = ['--max-semi-space-size=4'];

try {
  process.exitCode = await main(process.argv.slice(2));
} catch (error) {
  if (!(error instanceof SetupError)) throw error;
  console.error(`qcow2-bench: ${error.message}`);
  process.exitCode = 1;
}

/**
 * @param {string[]} argv
 * @returns {Promise<number>} the exit code
 */
async function main([job = '', ...args]) {
  if (!['bench', 'test', 'bare', 'cli', 'perf', 'parity', 'node', 'setup'].includes(job)) {
    console.error('usage: node scripts/bootstrap.mjs bench|test|bare|cli|perf|parity|node|setup [ARGS]');
    return 2;
  }
  await ensureDependencies(ROOT);
  const node = findNode(ROOT);
  // Node finds the sources compiled, and with their types stripped, from the first file on.
  process.env['NODE_COMPILE_CACHE'] ??= join(ROOT, CACHE, 'compile');
  switch (job) {
    case 'bench':
      return runForwarding(node, [...NODE_FLAGS, MAIN, 'bench', ...args], { cwd: ROOT });
    case 'cli':
      return runForwarding(node, [...NODE_FLAGS, MAIN, ...args], { cwd: callerDirectory() });
    case 'perf':
      return runForwarding(node, [join(ROOT, 'scripts', 'perf.ts'), ...args], { cwd: ROOT });
    case 'parity':
      return runParity(node, args);
    case 'node':
      console.log(node);
      return 0;
    case 'bare':
      return runBareTests(ROOT, node, args);
    case 'test':
      return args.length > 0 ? runUnitTests(ROOT, node, args) : runChecks(ROOT, node);
    default:
      return 0;
  }
}

/**
 * The parity suite in one of its two other ways.
 *
 * @param {string} node
 * @param {string[]} args
 */
function runParity(node, [way = '', lists = '320']) {
  const wanted = { full: { PARITY_FULL: lists }, record: { PARITY_RECORD: '1' } }[way];
  if (wanted === undefined) {
    console.error('usage: node scripts/bootstrap.mjs parity full [LISTS] | record');
    return 2;
  }
  Object.assign(process.env, wanted);
  const disks = way === 'full' ? ['test/parity/preallocated-parity.test.ts'] : [];
  return runUnitTests(ROOT, node, ['test/parity/pairwise.test.ts', ...disks]);
}

/**
 * npm changes to the package's folder before it runs a script; file names on the command line are
 * meant relative to the current directory. npm passes that in INIT_CWD, which any nested command
 * inherits too: so it is believed only under the script's own name.
 */
function callerDirectory() {
  const { npm_lifecycle_event: script, INIT_CWD: directory } = process.env;
  return script === 'qcow2-bench' ? directory : undefined;
}
