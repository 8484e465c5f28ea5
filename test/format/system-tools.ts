/**
 * Programs of the system that tests use as oracles: a missing one skips its tests, but fails them
 * in CI.
 */

import { spawnSync } from 'node:child_process';

const PACKAGES = {
  'qemu-io': 'qemu-utils',
  'qemu-img': 'qemu-utils',
  'qemu-nbd': 'qemu-utils',
  'qemu-storage-daemon': 'qemu-system-common',
  'qemu-system-x86_64': 'qemu-system-x86',
  strace: 'strace',
  nbdinfo: 'libnbd-bin',
  nbdcopy: 'libnbd-bin',
  fio: 'fio',
  nbdfuse: 'libnbd-bin',
  'mkfs.ext4': 'e2fsprogs',
  blkparse: 'blktrace',
} as const;
export type SystemTool = keyof typeof PACKAGES;

/**
 * Why tests that need `tools` cannot run here, in one line; `undefined` if they can, or if they
 * must.
 */
export function reasonToSkip(...tools: readonly SystemTool[]): string | undefined {
  const missing = tools.filter((tool) => spawnSync(tool, ['--version']).error !== undefined);
  const inCi = process.env['CI'] !== undefined && process.env['CI'] !== '';
  if (missing.length === 0 || inCi) return undefined;
  const packages = [...new Set(missing.map((tool) => PACKAGES[tool]))];
  return `no ${missing.join(', ')}: apt-get install ${packages.join(' ')}`;
}

/**
 * Runs a program to its end and gives what it printed; throws with its messages unless it exits
 * with 0.
 */
export function runTool(tool: SystemTool, args: readonly string[], directory?: string): string {
  const done = spawnSync(tool, args, { encoding: 'utf8', cwd: directory });
  if (done.error !== undefined) throw done.error;
  if (done.status !== 0) throw new Error(`${tool} ${args.join(' ')}: ${done.stdout}${done.stderr}`);
  return done.stdout;
}
