/**
 * Programs of the system that tests use as oracles: a missing one skips its tests, but fails them
 * in CI.
 */

import { spawnSync } from 'node:child_process';

import type { Format } from '../../src/format/disk-image.ts';

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
  filefrag: 'e2fsprogs',
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

/** `qemu-img check` prints a line for each of the many entries of a damaged table. */
const OUTPUT_MAX_BYTES = 256 * 1024 * 1024;

/** How a program ended. */
export interface ToolEnding {
  /** `null` if a signal ended it. */
  readonly status: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs a program to its end; throws only if it did not start. */
export function tryTool(
  tool: SystemTool,
  args: readonly string[],
  directory?: string,
  input?: string,
): ToolEnding {
  const done = spawnSync(tool, args, {
    encoding: 'utf8',
    cwd: directory,
    input,
    maxBuffer: OUTPUT_MAX_BYTES,
  });
  if (done.error !== undefined) throw done.error;
  return done;
}

/** QEMU times how it derives a key, and gives up if the clock of its thread did not move. */
const UNTIMED_KEY = 'Unable to get accurate CPU usage';

/**
 * Runs a program to its end and returns what it printed; throws with its messages unless it exits
 * with 0.
 */
export function runTool(tool: SystemTool, args: readonly string[], directory?: string): string {
  let ending = tryTool(tool, args, directory);
  for (let again = 0; again < 50 && ending.stderr.includes(UNTIMED_KEY); again++) {
    ending = tryTool(tool, args, directory);
  }
  const { status, stdout, stderr } = ending;
  if (status !== 0) throw new Error(`${tool} ${args.join(' ')}: ${stdout}${stderr}`);
  return stdout;
}

/** Arguments of qemu-io: `commands` on an image. */
export function ioWords(commands: readonly string[], image: string, format?: Format): readonly string[] {
  const named = format === undefined ? [] : ['-f', format];
  return [...named, ...commands.flatMap((command) => ['-c', command]), image];
}

/** Runs `commands` of qemu-io and ends it as a crash does: nothing is closed. */
export function crashQemuIo(
  commands: readonly string[],
  image: string,
  {
    format,
    directory,
    options = [],
  }: { readonly format?: Format; readonly directory?: string; readonly options?: readonly string[] } = {},
): void {
  const { signal, stdout, stderr } = tryTool(
    'qemu-io',
    [...options, ...ioWords([...commands, 'abort'], image, format)],
    directory,
  );
  if (signal !== 'SIGABRT') throw new Error(`qemu-io did not crash: ${stdout}${stderr}`);
}
