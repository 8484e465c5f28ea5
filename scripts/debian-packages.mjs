/**
 * Programs of Debian's packages, unpacked into a folder of the clone: nothing is installed, and no
 * file of apt's is changed.
 */

import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, renameSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';

/** Why something cannot be had here. */
export class NotTried extends Error {}

/**
 * Unpacks packages into a folder, which is there whole or not at all.
 *
 * @param {string} folder replaced
 * @param {(work: string) => string[]} download brings the packages into an empty folder
 * @param {(staged: string) => void} [prepare] of what was unpacked
 */
export function unpackInto(folder, download, prepare) {
  const work = mkdtempSync(join(tmpdir(), 'qcow2-bench-packages-'));
  const part = `${folder}.part`;
  try {
    const staged = join(work, 'staged');
    for (const file of download(work)) run('dpkg-deb', ['-x', file, staged]);
    prepare?.(staged);
    rmSync(folder, { recursive: true, force: true });
    mkdirSync(dirname(folder), { recursive: true });
    // The clone and the temporary folder may be on different file systems.
    run('cp', ['-a', staged, part]);
    renameSync(part, folder);
  } finally {
    rmSync(work, { recursive: true, force: true });
    rmSync(part, { recursive: true, force: true });
  }
}

/**
 * @param {string} command
 * @param {string[]} args
 * @param {import('node:child_process').SpawnSyncOptions} [options]
 * @returns {string} what it printed
 * @throws {NotTried} unless it exits with 0
 */
export function run(command, args, options = {}) {
  const done = spawnSync(command, args, { ...options, encoding: 'utf8' });
  if (done.status === 0) return String(done.stdout);
  const said =
    done.error?.message ?? `${String(done.stdout)}${String(done.stderr)}`.trim().split('\n').at(-1);
  throw new NotTried(`${command} ${args[0] ?? ''}: ${said ?? ''}`);
}
