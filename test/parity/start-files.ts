/** The files of a list as they are before the run, made and filled by QEMU's tools alone. */

import { closeSync, openSync, readSync, truncateSync, writeFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';

import { readU64be, viewOf } from '../../src/core/bytes.ts';
import { FIELD } from '../../src/format/qcow2/on-disk/header.ts';
import { createWithQemuImg, findQemuTools } from '../../src/peer/qemu-tools.ts';
import type { QemuIoRequest } from '../../src/peer/qemu-io.ts';
import { runProgram } from '../../src/peer/run-program.ts';
import type { Request } from '../../src/workload/request.ts';
import type { ParityList, StartFile } from './parity-list.ts';

/**
 * Each file's own values, so that bytes of one are not taken for those of another; the run's begin
 * at 1.
 */
export function fillValue(depth: number, write: number): number {
  return 100 + 20 * depth + write;
}

/** How many of the requests that a crash ends are flushed before it. */
export function flushedRequests(fill: readonly Request[]): number {
  return Math.ceil(fill.length / 2);
}

/**
 * Makes all files of a list in `directory`, where QEMU runs: the name of a data file is taken from
 * there.
 */
export async function makeStartFiles({ files }: ParityList, directory: string): Promise<void> {
  for (const [depth, file] of [...files.entries()].reverse()) {
    const below = files[depth + 1];
    const path = join(directory, file.name);
    if (file.isSparse) {
      writeFileSync(path, '');
      truncateSync(path, file.size);
    } else {
      await createWithQemuImg(path, {
        format: file.format,
        size: file.size,
        options: file.options,
        directory,
        ...(below === undefined ? {} : { backing: { path: below.name, format: below.format } }),
      });
    }
    await fill(file, directory, depth);
  }
}

async function fill(file: StartFile, directory: string, depth: number): Promise<void> {
  const { fill: requests, snapshotsAfter, bitmapAfter, crashes } = file;
  const path = join(directory, file.name);
  const commands = requests.map((request, index) => command(request, fillValue(depth, index)));
  if (crashes) {
    // Some of it is durable, and what came later is partly in the file.
    commands.splice(flushedRequests(requests), 0, 'flush');
    commands.push('abort');
  }
  let from = 0;
  for (const [number, to] of snapshotsAfter.entries()) {
    await runCommands(file, directory, commands.slice(from, to));
    await runQemuImg(['snapshot', '-c', `snapshot ${String(number)}`, path], directory);
    stopClock(path);
    from = to;
  }
  if (bitmapAfter !== undefined) {
    await runCommands(file, directory, commands.slice(from, bitmapAfter));
    await runQemuImg(['bitmap', '--add', path, 'bitmap'], directory);
    from = bitmapAfter;
  }
  await runCommands(file, directory, commands.slice(from));
}

async function runCommands(
  { name, format, crashes }: StartFile,
  directory: string,
  commands: readonly string[],
): Promise<void> {
  if (commands.length === 0) return;
  const { qemuIo } = await findQemuTools();
  // Nothing here is measured: without syncs it is fast.
  const args = ['-t', 'unsafe', '-d', 'unmap', '-f', format, name];
  const input = commands.join('\n');
  const { exitCode, stdout, stderr } = await runProgram(qemuIo, args, { input, directory });
  if (exitCode !== (crashes ? undefined : 0)) {
    throw new Error(`qemu-io ${args.join(' ')}: ${stdout}${stderr}`);
  }
}

async function runQemuImg(args: readonly string[], directory: string): Promise<void> {
  const { qemuImg } = await findQemuTools();
  const { exitCode, stderr } = await runProgram(qemuImg, args, { directory });
  if (exitCode !== 0) throw new Error(`qemu-img ${args.join(' ')}: ${stderr}`);
}

/** Gives every snapshot the same date, so that the same list makes the same file on every day. */
function stopClock(path: string): void {
  const fd = openSync(path, 'r+');
  try {
    const read = (offset: number, length: number): DataView => {
      const bytes = new Uint8Array(length);
      readSync(fd, bytes, 0, length, offset);
      return viewOf(bytes);
    };
    const header = read(0, 72);
    let at = readU64be(header, FIELD.snapshotsOffset) ?? 0;
    for (let left = header.getUint32(FIELD.snapshotCount); left > 0; left--) {
      // Lengths of id and name at 12 and 14, seconds and nanoseconds at 16, length of extra data at
      // 36.
      const entry = read(at, 40);
      writeSync(fd, new Uint8Array(8), 0, 8, at + 16);
      const length = 40 + entry.getUint32(36) + entry.getUint16(12) + entry.getUint16(14);
      at += Math.ceil(length / 8) * 8;
    }
  } finally {
    closeSync(fd);
  }
}

function command({ op, offset, length, unmap, compressed }: QemuIoRequest, value: number): string {
  const range = `${String(offset)} ${String(length)}`;
  return op === 'write'
    ? `write -q${compressed === true ? ' -c' : ''} -P ${String(value)} ${range}`
    : `write -q -z${unmap ? ' -u' : ''} ${range}`;
}
