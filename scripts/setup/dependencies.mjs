/**
 * Brings node_modules to what package-lock.json says, and does nothing when it is there already.
 *
 * Invariants: node_modules holds a stamp (hash of the lock file, platform) only after a whole `npm
 * ci`; a changed lock file, or node_modules copied to another platform, makes it stale. Output is
 * one line, unless npm fails: then all of npm's.
 */

import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, delimiter, dirname, join } from 'node:path';

import { systemNodes } from './node-runtime.mjs';
import { SetupError } from './setup-error.mjs';
import { withSetupLock } from './setup-lock.mjs';

/**
 * Install scripts stay off: the one package that has any (koffi) brings its binary in a package of
 * its own, and the lock file's hashes then cover all that is run.
 */
const NPM_CI = [
  'ci',
  '--ignore-scripts',
  '--include=dev',
  '--include=optional',
  '--engine-strict=false',
  '--no-audit',
  '--no-fund',
  '--loglevel=error',
];

/**
 * @param {string} root the clone
 * @throws {SetupError} if npm is missing or fails
 */
export async function ensureDependencies(root) {
  if (isFresh(root)) return;
  await withSetupLock(root, async () => {
    // The previous holder of the lock may have done the work.
    if (isFresh(root)) return;
    if (!isInstalledByHand(root)) install(root);
    writeStamp(root);
  });
}

/** @param {string} root */
function install(root) {
  // On standard error: standard output may be a result that a program reads.
  console.error('qcow2-bench: installing locked dependencies (npm ci) …');
  const { PATH = '' } = process.env;
  const node = survivingNode(root);
  try {
    const [command, ...args] = npmCommand(node.path);
    const { status, stdout, stderr, error } = spawnSync(command, [...args, ...NPM_CI], {
      cwd: root,
      encoding: 'utf8',
      shell: command === 'npm' && process.platform === 'win32',
      // npm's shims begin with `env node`: let that be the one that survives.
      env: { ...process.env, PATH: [dirname(node.path), PATH].join(delimiter) },
    });
    if (error !== undefined) throw new SetupError(`npm does not run: ${error.message}`);
    if (status !== 0) {
      process.stderr.write(stdout + stderr);
      throw new SetupError(`npm ci failed with exit code ${String(status)} (its output is above)`);
    }
  } finally {
    node.release();
  }
}

/**
 * npm through the machine's npm: the one that runs this script, else the one on the PATH.
 *
 * @param {string} node
 * @returns {[string, ...string[]]}
 */
function npmCommand(node) {
  const { npm_execpath: cli } = process.env;
  if (cli !== undefined && /^npm-cli\.c?js$/.test(basename(cli)) && existsSync(cli)) return [node, cli];
  return ['npm'];
}

/**
 * A Node that still exists while `npm ci` empties node_modules. If the only one lives there, as
 * when the clone's `node_modules/.bin` is first on the PATH and the machine has no other, a copy
 * serves.
 *
 * @param {string} root
 * @returns {{ path: string, release: () => void }}
 */
function survivingNode(root) {
  const [outside] = systemNodes(root);
  if (outside !== undefined) return { path: outside, release: () => undefined };
  const folder = mkdtempSync(join(tmpdir(), 'qcow2-bench-node-'));
  const path = join(folder, basename(process.execPath));
  copyFileSync(process.execPath, path);
  return { path, release: () => rmSync(folder, { recursive: true, force: true }) };
}

/** @param {string} root */
function isFresh(root) {
  return readText(stampFile(root)) === stamp(root);
}

/** @param {string} root */
function writeStamp(root) {
  mkdirSync(dirname(stampFile(root)), { recursive: true });
  writeFileSync(stampFile(root), stamp(root));
}

/** @param {string} root */
function stampFile(root) {
  return join(root, 'node_modules', '.cache', 'qcow2-bench', 'installed');
}

/** @param {string} root */
function stamp(root) {
  const lock = readText(join(root, 'package-lock.json'));
  if (lock === undefined) throw new SetupError(`${root} has no package-lock.json: is the clone complete?`);
  const hash = createHash('sha256').update(lock).digest('hex');
  return `${hash} ${process.platform}-${process.arch}\n`;
}

/**
 * Whether somebody ran `npm ci` or `npm install` already: npm then leaves its own list in
 * node_modules. Packages for other platforms are optional and may be missing from it.
 *
 * @param {string} root
 */
function isInstalledByHand(root) {
  const installed = readPackages(join(root, 'node_modules', '.package-lock.json'));
  const locked = readPackages(join(root, 'package-lock.json'));
  if (installed === undefined || locked === undefined) return false;
  for (const [path, entry] of Object.entries(locked)) {
    if (path === '' || (entry.optional === true && installed[path] === undefined)) continue;
    if (installed[path]?.version !== entry.version || installed[path]?.integrity !== entry.integrity)
      return false;
    if (!existsSync(join(root, path))) return false;
  }
  return Object.keys(installed).every((path) => locked[path] !== undefined);
}

/**
 * @param {string} file
 * @returns {Record<string, { version?: string, integrity?: string, optional?: boolean }> |
 *   undefined}
 */
function readPackages(file) {
  const text = readText(file);
  if (text === undefined) return undefined;
  try {
    return JSON.parse(text).packages;
  } catch {
    return undefined;
  }
}

/** @param {string} file */
function readText(file) {
  try {
    return readFileSync(file, 'utf8');
  } catch {
    return undefined;
  }
}
