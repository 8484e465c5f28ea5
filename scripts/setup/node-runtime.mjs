/**
 * Finds the Node that runs the sources: the one pinned in package.json's optionalDependencies, or
 * where the platform has no such package (macOS), a Node ≥ 24 of the machine.
 */

import { spawnSync } from 'node:child_process';
import { existsSync, realpathSync } from 'node:fs';
import { delimiter, join, sep } from 'node:path';

import { SetupError } from './setup-error.mjs';

const NODE_MAJOR_MIN = 24;
const NODE_FILE = process.platform === 'win32' ? 'node.exe' : 'node';

/**
 * @param {string} root the clone
 * @returns {string} the path of a Node ≥ 24
 * @throws {SetupError} if there is none
 */
export function findNode(root) {
  for (const candidate of [pinnedNode(root), ...systemNodes(root)]) {
    if (nodeMajor(candidate) >= NODE_MAJOR_MIN) return candidate;
  }
  throw new SetupError(
    `Node ${String(NODE_MAJOR_MIN)} or newer is needed, and no pinned package of it runs on ` +
      `${process.platform}-${process.arch} (this is Node ${process.versions.node}). ` +
      `Install Node ${String(NODE_MAJOR_MIN)} from https://nodejs.org/ and run the command again.`,
  );
}

/**
 * The Nodes of the machine that do not live in the clone's node_modules, best first: they survive
 * while node_modules is replaced.
 *
 * @param {string} root the clone
 * @returns {string[]} existing files
 */
export function systemNodes(root) {
  const inside = join(root, 'node_modules') + sep;
  const { npm_node_execpath: npmNode, PATH = '' } = process.env;
  const candidates = [
    npmNode,
    process.execPath,
    ...PATH.split(delimiter).map((folder) => join(folder, NODE_FILE)),
  ];
  /** @type {string[]} */
  const found = [];
  for (const candidate of candidates) {
    if (candidate === undefined || !existsSync(candidate)) continue;
    const real = realpathSync(candidate);
    if (!real.startsWith(inside) && !found.includes(real)) found.push(real);
  }
  return found;
}

/** @param {string} root */
function pinnedNode(root) {
  const system = process.platform === 'win32' ? 'win' : process.platform;
  return join(root, 'node_modules', `node-${system}-${process.arch}`, 'bin', NODE_FILE);
}

/**
 * @param {string} file
 * @returns {number} the major version, 0 if the file is missing or does not run here
 */
function nodeMajor(file) {
  if (file === process.execPath) return Number.parseInt(process.versions.node, 10);
  const { status, stdout } = spawnSync(file, ['--version'], { encoding: 'utf8' });
  return status === 0 ? Number.parseInt(stdout.replace(/^v/, ''), 10) : 0;
}
