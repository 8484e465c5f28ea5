/** The files of a list as they are before the run, made and filled by QEMU's tools alone. */

import { join } from 'node:path';

import { createWithQemuImg, findQemuTools } from '../../src/peer/qemu-tools.ts';
import { runProgram } from '../../src/peer/run-program.ts';
import type { Request } from '../../src/workload/request.ts';
import type { ParityList, StartFile } from './parity-list.ts';

/** Each file's own values, so that bytes of one are not taken for those of another; the run's begin at 1. */
export function fillValue(depth: number, write: number): number {
  return 100 + 20 * depth + write;
}

/** How many of the requests that a crash ends are flushed before it. */
export function flushedRequests(fill: readonly Request[]): number {
  return Math.ceil(fill.length / 2);
}

/** Makes all files of a list in `directory`. */
export async function makeStartFiles({ files }: ParityList, directory: string): Promise<void> {
  for (const [depth, file] of [...files.entries()].reverse()) {
    const below = files[depth + 1];
    const path = join(directory, file.name);
    await createWithQemuImg(path, {
      format: file.format,
      size: file.size,
      options: file.options,
      ...(below === undefined ? {} : { backing: { path: below.name, format: below.format } }),
    });
    await fill(path, file, depth);
  }
}

async function fill(
  path: string,
  { format, fill: requests, crashes }: StartFile,
  depth: number,
): Promise<void> {
  if (requests.length === 0) return;
  const { qemuIo } = await findQemuTools();
  const commands = requests.map((request, index) => command(request, fillValue(depth, index)));
  if (crashes) {
    // Some of it is durable, and what came later is partly in the file.
    commands.splice(flushedRequests(requests), 0, 'flush');
    commands.push('abort');
  }
  // Nothing here is measured: without syncs it is fast.
  const args = ['-t', 'unsafe', '-d', 'unmap', '-f', format, path];
  const { exitCode, stdout, stderr } = await runProgram(qemuIo, args, { input: commands.join('\n') });
  if (exitCode !== (crashes ? undefined : 0)) {
    throw new Error(`qemu-io ${args.join(' ')}: ${stdout}${stderr}`);
  }
}

function command({ op, offset, length, unmap }: Request, value: number): string {
  const range = `${String(offset)} ${String(length)}`;
  return op === 'write'
    ? `write -q -P ${String(value)} ${range}`
    : `write -q -z${unmap ? ' -u' : ''} ${range}`;
}
