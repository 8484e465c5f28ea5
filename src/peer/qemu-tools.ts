/**
 * Finds QEMU's tools and strace on this machine, and makes images with `qemu-img`.
 *
 * Nothing here is of QEMU's code: the tools are run as the programs they are.
 */

import { constants } from 'node:fs';
import { delimiter, resolve } from 'node:path';

import { Qcow2BenchError } from '../core/error.ts';
import { accessSync, statSync } from '../core/host-fs.ts';
import type { Format } from '../format/disk-image.ts';
import { ChildPaths } from './child-paths.ts';
import { runProgram, type ProgramOutcome } from './run-program.ts';

/** The Debian package that brings each program. */
const PACKAGES = { 'qemu-img': 'qemu-utils', 'qemu-io': 'qemu-utils', strace: 'strace' } as const;
type PeerProgram = keyof typeof PACKAGES;

/** Absolute paths, and what the program says it is. */
export interface QemuTools {
  readonly qemuImg: string;
  readonly qemuIo: string;
  readonly strace: string;
  /** QEMU's version, e.g. `7.2.22`. */
  readonly version: string;
}

export interface QemuImgCreate {
  readonly format: Format;
  /** Bytes; may be left out with a backing file, whose size is then taken. */
  readonly size?: number | undefined;
  /** As `qemu-img create -o` takes them, e.g. `{ lazy_refcounts: 'on' }`. */
  readonly options?: Readonly<Record<string, string>> | undefined;
  readonly backing?: { readonly path: string; readonly format: Format } | undefined;
  /** Where qemu-img runs, and so where the name of a data file begins. */
  readonly directory?: string | undefined;
}

/** Where QEMU's programs are looked for; strace always comes from the system. */
export interface ToolPlace {
  /** A directory with a build of QEMU; default: those of `PATH`. */
  readonly binDirectory?: string | undefined;
}

/**
 * What `qemu-io` needs to be run and traced: absolute paths, and the version that it says it is.
 */
export type QemuIoTools = Pick<QemuTools, 'qemuIo' | 'strace' | 'version'>;

/**
 * @throws Qcow2BenchError `peer-missing` if a program is not installed, `peer-failed` if qemu-io
 *   does not report its version.
 */
export async function findQemuTools(): Promise<QemuTools> {
  return { qemuImg: requireProgram('qemu-img'), ...(await findQemuIo()) };
}

/** @throws Qcow2BenchError as `findQemuTools`. */
export async function findQemuIo(place: ToolPlace = {}): Promise<QemuIoTools> {
  return { strace: requireProgram('strace'), ...(await findLoneQemuIo(place)) };
}

/**
 * `qemu-io` alone, where nothing is traced.
 *
 * @throws Qcow2BenchError as `findQemuTools`.
 */
export async function findLoneQemuIo(place: ToolPlace = {}): Promise<Omit<QemuIoTools, 'strace'>> {
  const qemuIo = requireProgram('qemu-io', place);
  return { qemuIo, version: await versionOf(qemuIo) };
}

/** By path and file: each cell of a run asks, and a start costs as much as a short trace. */
const versions = new Map<string, string>();

async function versionOf(qemuIo: string): Promise<string> {
  const { dev, ino, size, mtimeMs } = statSync(qemuIo);
  const file = [qemuIo, dev, ino, size, mtimeMs].join(' ');
  const known = versions.get(file);
  if (known !== undefined) return known;
  using paths = new ChildPaths();
  const { stdout } = await runProgram(paths.pathFor(qemuIo), ['--version']);
  const [, version] = /^qemu-io version (\S+)/.exec(stdout) ?? [];
  if (version === undefined) {
    throw new Qcow2BenchError(
      'peer-failed',
      `'${qemuIo} --version' printed no version: ${stdout.slice(0, 100)}`,
    );
  }
  versions.set(file, version);
  return version;
}

/** What is not there of what `findQemuIo` needs, in words; `undefined` if all is. */
export function missingQemuIo(place: ToolPlace = {}): string | undefined {
  return missingProgram('qemu-io', place) ?? missingProgram('strace');
}

/**
 * Makes an image at `path` with `qemu-img create`.
 *
 * @throws Qcow2BenchError `peer-missing`, or `peer-failed` with what qemu-img said.
 */
export async function createWithQemuImg(path: string, create: QemuImgCreate): Promise<void> {
  const args = ['create', '-q', '-f', create.format];
  if (create.backing !== undefined) args.push('-b', create.backing.path, '-F', create.backing.format);
  for (const [name, value] of Object.entries(create.options ?? {})) {
    // qemu-img splits its option list at commas; a doubled one is a comma of the value.
    args.push('-o', `${name}=${value.replaceAll(',', ',,')}`);
  }
  args.push('--', path);
  if (create.size !== undefined) args.push(String(create.size));
  const { exitCode, stdout, stderr } = await runProgram(requireProgram('qemu-img'), args, {
    directory: create.directory,
  });
  if (exitCode !== 0) {
    throw new Qcow2BenchError('peer-failed', `qemu-img create failed: ${(stderr + stdout).trim()}`, { path });
  }
}

/**
 * Runs `qemu-img` in a directory, with the outcome for the caller to judge.
 *
 * @throws Qcow2BenchError `peer-missing` if it is not installed
 */
export function qemuImgIn(directory: string): (args: readonly string[]) => Promise<ProgramOutcome> {
  const program = requireProgram('qemu-img');
  return (args) => runProgram(program, args, { directory });
}

function requireProgram(program: PeerProgram, place: ToolPlace = {}): string {
  const path = findProgram(program, place);
  if (path !== undefined) return path;
  throw new Qcow2BenchError('peer-missing', missingProgram(program, place) ?? `${program} no longer exists`);
}

function missingProgram(program: PeerProgram, place: ToolPlace = {}): string | undefined {
  if (findProgram(program, place) !== undefined) return undefined;
  return place.binDirectory === undefined
    ? `${program} is not installed: apt-get install ${PACKAGES[program]}`
    : `${program} not found in ${place.binDirectory}: give the directory of QEMU's tools`;
}

function findProgram(program: PeerProgram, { binDirectory }: ToolPlace): string | undefined {
  const folders = binDirectory === undefined ? (process.env['PATH'] ?? '').split(delimiter) : [binDirectory];
  for (const folder of folders) {
    const path = resolve(folder, program);
    try {
      accessSync(path, constants.X_OK);
      return path;
    } catch {
      // Not in this directory.
    }
  }
  return undefined;
}
