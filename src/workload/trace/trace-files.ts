/** The files of a trace: one, those of all CPUs where blktrace wrote it, or those of a directory. */

import { basename, dirname, join } from 'node:path';

import { Qcow2BenchError } from '../../core/error.ts';
import { existsSync, readdirSync, statSync } from '../../core/host-fs.ts';

const CPU_FILE = /^(.*)\.blktrace\.(\d+)(\.gz|\.zst)?$/;

/** Files of a directory that are read as one trace. */
const FILES_MAX = 4096;
/** The name of standard input; a file of that name is `./-`. */
export const STANDARD_INPUT = '-';

/**
 * The files that a user means by `path`. As blkparse takes it: `trace` and `trace.blktrace.0` are
 * both all of `trace.blktrace.N`, in the order of the CPUs. A directory is all files in it, by
 * their names, numbers in their order. A path that names nothing is given back as it is.
 *
 * @throws Qcow2BenchError `no-trace-files`
 */
export function traceFiles(path: string): readonly string[] {
  if (path === STANDARD_INPUT) return [path];
  if (isDirectory(path)) return filesIn(path);
  const stem = CPU_FILE.exec(basename(path))?.[1];
  if (stem === undefined && existsSync(path)) return [path];
  const folder = dirname(path);
  const found = cpuFiles(folder, stem ?? basename(path));
  return found.length === 0 ? [path] : found.map((name) => join(folder, name));
}

/**
 * For those who read a trace more than once.
 *
 * @throws Qcow2BenchError `trace-is-stream` for standard input, a pipe, or another file that can be
 *   read only once.
 */
export function refuseStream(path: string): void {
  for (const file of traceFiles(path)) {
    if (file !== STANDARD_INPUT && (!existsSync(file) || statSync(file).isFile())) continue;
    const message =
      'is a pipe or a device, and this command reads a trace more than once: write it to a file first';
    throw new Qcow2BenchError('trace-is-stream', message, { path });
  }
}

/** Bytes of the files together; `undefined` if one of them is a stream, whose end is not known. */
export function sizeOfFiles(paths: readonly string[]): number | undefined {
  let bytes = 0;
  for (const path of paths) {
    if (path === STANDARD_INPUT) return undefined;
    const status = statSync(path);
    if (!status.isFile()) return undefined;
    bytes += status.size;
  }
  return bytes;
}

/** Whether there is a trace to be read at `path`. */
export function traceExists(path: string): boolean {
  if (path === STANDARD_INPUT || isDirectory(path)) return true;
  return traceFiles(path).every((file) => existsSync(file));
}

function isDirectory(path: string): boolean {
  return existsSync(path) && statSync(path).isDirectory();
}

function filesIn(folder: string): readonly string[] {
  const names = readdirSync(folder).filter((name) => !name.startsWith('.'));
  const files = names.map((name) => join(folder, name)).filter((file) => statSync(file).isFile());
  if (files.length === 0 || files.length > FILES_MAX) {
    const message = `is a directory with ${String(files.length)} files: expected 1 to ${String(FILES_MAX)}, which are read as one trace`;
    throw new Qcow2BenchError('no-trace-files', message, { path: folder });
  }
  return files.toSorted((a, b) => a.localeCompare(b, 'en', { numeric: true }));
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
