/** Runs `qemu-io` under `strace` and tells which changes and syncs it made to one file, in order. */

import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

export interface TracedRun {
  /** The image's name within `directory`. */
  readonly image: string;
  readonly directory: string;
  readonly cacheMode: string;
  /** What follows `-c`, one a request. */
  readonly commands: readonly string[];
}

const CALLS = 'openat,pwrite64,pwritev,fallocate,fdatasync,ftruncate';

/** Changes as `W offset length`, `F` for a sync, and the call as it is for anything else. */
export function traceQemuIo(run: TracedRun): string[] {
  const scratch = mkdtempSync(join(tmpdir(), 'qcow2-bench-strace-'));
  try {
    const log = join(scratch, 'log');
    const strace = ['-f', '-qq', '-s', '0', '-e', `trace=${CALLS}`, '-e', 'signal=none', '-o', log];
    const qemuIo = ['qemu-io', '-f', 'qed', '-t', run.cacheMode, '-d', 'unmap'];
    const commands = run.commands.flatMap((command) => ['-c', command]);
    const done = spawnSync('strace', [...strace, ...qemuIo, ...commands, run.image], {
      cwd: run.directory,
      encoding: 'utf8',
    });
    if (done.error !== undefined) throw done.error;
    if (done.status !== 0) throw new Error(`qemu-io failed: ${done.stdout}${done.stderr}`);
    return parseTrace(readFileSync(log, 'utf8'), run.image);
  } finally {
    rmSync(scratch, { recursive: true });
  }
}

function parseTrace(log: string, image: string): string[] {
  const changes: string[] = [];
  let descriptor: string | undefined;
  for (const line of log.split('\n')) {
    const opened = /openat\([^,]+, "([^"]+)", ([A-Z_|]+).* = (\d+)$/.exec(line);
    if (opened !== null) {
      if (opened[1] === image && opened[2]?.includes('O_RDWR') === true) descriptor = opened[3];
      continue;
    }
    const call = /^\d+\s+(\w+)\((\d+)(.*)/.exec(line);
    if (call === null || call[2] !== descriptor) continue;
    const [, name, , rest = ''] = call;
    const range = /, (\d+), (\d+)(?:\)| <unfinished)/.exec(rest);
    if (name === 'fdatasync') changes.push('F');
    else if (name === 'pwrite64' && range !== null) changes.push(`W ${String(range[2])} ${String(range[1])}`);
    else changes.push(line);
  }
  return changes;
}
