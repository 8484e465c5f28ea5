/**
 * What `npm test` runs: every check, none stopping the others, then one table. The
 * commands themselves are in package.json, where each can be run alone (`npm run lint`).
 *
 * A check that passes is silent; one that fails shows all its output. The counts are left in
 * node_modules/.cache/qcow2-bench/summary.json for `.ci/run`.
 */

import { spawn } from 'node:child_process';
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { delimiter, dirname, join, relative } from 'node:path';

import { runForwarding } from './setup/forward.mjs';
import { newerQemuFolder } from './newer-qemu.mjs';
import { missingPeers, peerPath } from './system-peers.mjs';

export const CACHE = join('node_modules', '.cache', 'qcow2-bench');

/** Names of scripts in package.json. */
const STATIC_CHECKS = ['lint', 'typecheck', 'typecheck:page', 'format:check', 'imports', 'dead-code'];
const UNIT_TESTS = 'test:unit';

/**
 * @typedef {{ name: string, passed: boolean, elapsedMs: number, note: string }} CheckResult
 * @typedef {{ fullName: string, status: string, failureMessages: string[] }} TestCase
 * @typedef {{ name: string, status: string, message: string, assertionResults: TestCase[] }} TestFile
 * @typedef {{ passed: number, failed: number, skipped: number, failures: string[] }} TestCounts
 */

/**
 * @param {string} root the clone
 * @param {string} node a Node ≥ 24
 * @returns {Promise<number>} the exit code
 */
export async function runChecks(root, node) {
  const vitestFile = join(root, CACHE, 'vitest.json');
  const summaryFile = join(root, CACHE, 'summary.json');
  mkdirSync(dirname(summaryFile), { recursive: true });
  for (const file of [vitestFile, summaryFile]) rmSync(file, { force: true });

  const results = [checkPeers(), ...(await runStaticChecks(root, node))];
  const startMs = performance.now();
  const code = await runUnitTests(root, node, []);
  const counts = readCounts(vitestFile);
  results.push({
    name: UNIT_TESTS,
    passed: code === 0,
    elapsedMs: performance.now() - startMs,
    note: `${String(counts.passed)} passed, ${String(counts.failed)} failed, ${String(counts.skipped)} skipped`,
  });

  writeFileSync(summaryFile, JSON.stringify({ checks: results, tests: counts }, null, 2));
  printTable(results);
  // Interrupted: say so in the shell's own way.
  if (code > 128) return code;
  return results.every(({ passed }) => passed) ? 0 : 1;
}

/**
 * @param {string} root
 * @param {string} node
 * @param {string[]} args for vitest
 * @param {NodeJS.ProcessEnv} [env] variables that differ from this process's
 * @returns {Promise<number>} the exit code
 */
export function runUnitTests(root, node, args, env = {}) {
  const [program = '', ...given] = commandOf(root, UNIT_TESTS).split(' ');
  return runForwarding(node, [binOf(root, program), ...given, ...args], {
    cwd: root,
    env: environment(root, env),
  });
}

/** @returns {CheckResult} */
function checkPeers() {
  const missing = missingPeers();
  const { CI } = process.env;
  const required = CI === 'true';
  return {
    name: 'system peers',
    passed: missing === undefined || !required,
    elapsedMs: 0,
    note: missing ?? newerQemuNote(),
  };
}

function newerQemuNote() {
  return process.env['TESTS_FULL'] === '1' && newerQemuFolder() === undefined
    ? 'QEMU 10.0 is not tried, only its recording: on Debian 12, `node scripts/newer-qemu.mjs` brings it'
    : '';
}

/**
 * Two at a time: each is a program of one thread, and a small machine has two cores.
 *
 * @param {string} root
 * @param {string} node
 */
async function runStaticChecks(root, node) {
  /** @type {CheckResult[]} */
  const results = [];
  const waiting = STATIC_CHECKS.entries();
  const runOneByOne = async () => {
    for (const [index, name] of waiting) results[index] = await runQuietly(root, node, name);
  };
  await Promise.all([runOneByOne(), runOneByOne()]);
  return results;
}

/**
 * @param {string} root
 * @param {string} node
 * @param {string} name of a script in package.json
 * @returns {Promise<CheckResult>}
 */
async function runQuietly(root, node, name) {
  const startMs = performance.now();
  const [program = '', ...args] = commandOf(root, name).split(' ');
  // A script of ours, or a program of a package.
  const words = program === 'node' ? args : [binOf(root, program), ...args];
  const child = spawn(node, words, {
    cwd: root,
    env: environment(root),
    stdio: 'pipe',
  });
  /** @type {Buffer[]} */
  const chunks = [];
  child.stdout.on('data', (chunk) => chunks.push(chunk));
  child.stderr.on('data', (chunk) => chunks.push(chunk));
  const code = await new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('close', resolve);
  });
  if (code !== 0) process.stdout.write(`\n── ${name} failed ──\n${Buffer.concat(chunks).toString()}\n`);
  return { name, passed: code === 0, elapsedMs: performance.now() - startMs, note: '' };
}

/**
 * @param {string} root
 * @param {string} name
 * @returns {string}
 */
function commandOf(root, name) {
  return JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')).scripts[name];
}

/**
 * The file behind a command of node_modules/.bin, from its package's own `bin`: the same on every
 * platform.
 *
 * @param {string} root
 * @param {string} program
 */
function binOf(root, program) {
  /** @type {Record<string, string>} */
  const packages = { tsc: 'typescript', depcruise: 'dependency-cruiser' };
  const folder = join(root, 'node_modules', packages[program] ?? program);
  const { bin } = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8'));
  return join(folder, typeof bin === 'string' ? bin : bin[program]);
}

/**
 * @param {string} root
 * @param {NodeJS.ProcessEnv} [changed]
 */
function environment(root, changed = {}) {
  const all = { ...process.env, PATH: peerPath(), ...changed };
  const path = [join(root, 'node_modules', '.bin'), all.PATH].join(delimiter);
  return { ...all, PATH: path, ...(process.stdout.isTTY ? { FORCE_COLOR: '1' } : {}) };
}

/**
 * @param {string} file vitest's JSON report
 * @returns {TestCounts}
 */
export function readCounts(file) {
  try {
    const report = JSON.parse(readFileSync(file, 'utf8'));
    // A file that does not load holds no test, and yet fails.
    const brokenFiles = report.testResults.filter(
      (/** @type {TestFile} */ { status, assertionResults }) =>
        status === 'failed' && assertionResults.length === 0,
    ).length;
    return {
      passed: report.numPassedTests,
      failed: report.numFailedTests + brokenFiles,
      skipped: report.numPendingTests + report.numTodoTests,
      failures: report.testResults.flatMap(failuresOf),
    };
  } catch {
    return { passed: 0, failed: 1, skipped: 0, failures: [`no report: ${file}`] };
  }
}

/**
 * @param {TestFile} file
 * @returns {string[]} what failed and the first line of why
 */
function failuresOf({ name, status, message, assertionResults }) {
  const file = relative(process.cwd(), name);
  if (status === 'failed' && assertionResults.length === 0) return [`${file}: ${firstLine(message)}`];
  return assertionResults
    .filter((test) => test.status === 'failed')
    .map(({ fullName, failureMessages }) => `${file} > ${fullName}: ${firstLine(failureMessages[0])}`);
}

function firstLine(text = '') {
  return text.split('\n', 1)[0];
}

/** @param {CheckResult[]} results */
function printTable(results) {
  const width = Math.max(...results.map(({ name }) => name.length));
  console.log('');
  for (const { name, passed, elapsedMs, note } of results) {
    const seconds = `${(elapsedMs / 1000).toFixed(1)} s`.padStart(8);
    console.log(`${name.padEnd(width)}  ${passed ? 'passed' : 'FAILED'}  ${seconds}  ${note}`.trimEnd());
  }
}
