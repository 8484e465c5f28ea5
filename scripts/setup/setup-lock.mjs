/**
 * Keeps two set-ups of one clone from replacing node_modules at the same time: a file at the
 * clone's root that names its owner. A lock whose owner is gone is taken over.
 */

import { readFileSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

import { SetupError } from './setup-error.mjs';

const POLL_MS = 250;
const WAIT_MS_MAX = 10 * 60_000;
/** A lock without an owner's name is being written; this old, its writer died in between. */
const UNNAMED_MS_MAX = 10_000;

/**
 * Runs `work` while no other process of any clone at `root` does.
 *
 * @template T
 * @param {string} root the clone
 * @param {() => Promise<T>} work
 * @returns {Promise<T>}
 */
export async function withSetupLock(root, work) {
  const file = join(root, '.setup.lock');
  const deadline = performance.now() + WAIT_MS_MAX;
  while (!take(file)) {
    if (isAbandoned(file)) {
      discard(file);
    } else if (performance.now() > deadline) {
      throw new SetupError(`another set-up has held ${file} for ten minutes: remove it if none is running`);
    } else {
      await sleep(POLL_MS);
    }
  }
  const release = () => rmSync(file, { force: true });
  process.once('exit', release);
  try {
    return await work();
  } finally {
    process.off('exit', release);
    release();
  }
}

/** @param {string} file */
function take(file) {
  try {
    writeFileSync(file, JSON.stringify({ host: hostname(), pid: process.pid }), { flag: 'wx' });
    return true;
  } catch (error) {
    if (codeOf(error) === 'EEXIST') return false;
    throw new SetupError(`cannot write ${file}: the set-up needs a writable clone (${String(error)})`);
  }
}

/** @param {string} file */
function isAbandoned(file) {
  try {
    const text = readFileSync(file, 'utf8');
    if (text === '') return Date.now() - statSync(file).mtimeMs > UNNAMED_MS_MAX;
    const owner = JSON.parse(text);
    return owner.host === hostname() && !isAlive(owner.pid);
  } catch (error) {
    // Released in the meantime: the next attempt decides.
    if (codeOf(error) === 'ENOENT') return false;
    return error instanceof SyntaxError;
  }
}

/** @param {number} pid */
function isAlive(pid) {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return codeOf(error) === 'EPERM';
  }
}

/**
 * Only one of several waiting processes gets to rename the file; had they removed it by name, the
 * second could remove the first one's new lock.
 *
 * @param {string} file
 */
function discard(file) {
  const aside = `${file}.${String(process.pid)}`;
  try {
    renameSync(file, aside);
    rmSync(aside, { force: true });
  } catch (error) {
    if (codeOf(error) !== 'ENOENT') throw error;
  }
}

/** @param {unknown} error */
function codeOf(error) {
  return error instanceof Error && 'code' in error ? error.code : undefined;
}
