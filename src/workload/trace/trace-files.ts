/** The files of a trace: one, or those of all CPUs where blktrace wrote it. */

import { basename, dirname, join } from 'node:path';

import { existsSync, readdirSync } from '../../core/host-fs.ts';

const CPU_FILE = /^(.*)\.blktrace\.(\d+)(\.gz|\.zst)?$/;

/**
 * The files that a user means by `path`. As blkparse takes it: `trace` and `trace.blktrace.0` are
 * both all of `trace.blktrace.N`, in the order of the CPUs. A path that names nothing is given back
 * as it is.
 */
export function traceFiles(path: string): readonly string[] {
  const stem = CPU_FILE.exec(basename(path))?.[1];
  if (stem === undefined && existsSync(path)) return [path];
  const folder = dirname(path);
  const found = cpuFiles(folder, stem ?? basename(path));
  return found.length === 0 ? [path] : found.map((name) => join(folder, name));
}

/** Whether there is a trace to be read at `path`. */
export function traceExists(path: string): boolean {
  return traceFiles(path).every((file) => existsSync(file));
}

function cpuFiles(folder: string, stem: string): string[] {
  if (!existsSync(folder)) return [];
  return readdirSync(folder)
    .flatMap((name) => {
      const match = CPU_FILE.exec(name);
      return match?.[1] === stem ? [{ name, cpu: Number(match[2]) }] : [];
    })
    .toSorted((a, b) => a.cpu - b.cpu)
    .map(({ name }) => name);
}
