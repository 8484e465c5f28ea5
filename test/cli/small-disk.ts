/** File systems that are soon full, and places that are read-only. */

import { spawnSync } from 'node:child_process';

import { onTestFinished } from 'vitest';

/** A file system of 4 MiB on `folder`, gone after the test. */
export function mountSmall(folder: string): void {
  const { status, stderr } = spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=4m', 'none', folder], {
    encoding: 'utf8',
  });
  if (status !== 0) throw new Error(`mount: ${stderr}`);
  onTestFinished(() => void spawnSync('umount', [folder]));
}

/** Makes a file or a folder read-only, for root too, until the test ends. */
export function mountReadOnly(path: string): void {
  const { status, stderr } = spawnSync('mount', ['--bind', '-o', 'ro', path, path], { encoding: 'utf8' });
  if (status !== 0) throw new Error(`mount: ${stderr}`);
  onTestFinished(() => void spawnSync('umount', [path]));
}

export function reasonAgainstMount(): string | undefined {
  if (process.getuid?.() !== 0) return 'mounting a small file system takes root';
  return spawnSync('mount', ['--version']).error === undefined ? undefined : 'there is no mount';
}
