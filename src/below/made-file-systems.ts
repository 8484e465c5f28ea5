/**
 * File systems on loop devices, new for each pass.
 *
 * Invariants:
 * - Nothing is left behind, whatever ends the process: the file under the loop device has no name
 *   from the moment that it is open, the device detaches itself, and the mount is in a mount
 *   namespace of this process. The kernel takes all of it down with the process. Two runs have
 *   nothing in common that one could take from the other.
 * - Whether a kind can be made here is tried once, before the run.
 */

import { closeSync, constants, ftruncateSync } from 'node:fs';
import { join } from 'node:path';

import { mountOptionsOf } from '../bench/environment.ts';
import type {
  DeviceWatch,
  HostFileSystems,
  MadeFileSystem,
  MakingOptions,
} from '../bench/host-file-system.ts';
import { Qcow2BenchError, systemCode } from '../core/error.ts';
import { mkdtempSync, openSync, rmSync, statfsSync, temporaryDirectory } from '../core/host-fs.ts';
import { humanSize } from '../core/size.ts';
import { probeCapabilities } from '../device/capabilities.ts';
import {
  FILE_SYSTEM_KINDS,
  fileSystemBytes,
  type FileSystemKind,
  type HostFileSystemName,
} from '../device/file-system-kinds.ts';
import { FileStorage } from '../device/file-storage.ts';
import { attachLoop, type LoopDevice } from '../device/loop-device.ts';
import { mountPrivately, unmountPrivately } from '../device/private-mounts.ts';
import { removeLeftovers, temporaryPath, temporaryPrefix } from '../device/temporary-file.ts';
import { runProgram, type ProgramOutcome } from '../peer/run-program.ts';
import type { HostFileSystem } from '../result/schema.ts';
import { LoopWatch } from './loop-watch.ts';

/** Where `mkfs` is if the PATH of a user who became root has no such directory. */
const SBIN = ['', '/usr/sbin/', '/sbin/'];

/** What was found of a kind: the version of its program, or why it cannot be made here. */
type Tried =
  { readonly ok: true; readonly version: string } | { readonly ok: false; readonly reason: string };

export class MadeFileSystems implements HostFileSystems {
  readonly #directory: string;
  readonly #tried: ReadonlyMap<HostFileSystemName, Tried>;
  readonly #isTraced: boolean;

  /**
   * Tries each kind once.
   *
   * @param options.directory where the files under the loop devices are.
   * @param options.isTraced whether requests are traced as well as counted.
   * @throws Qcow2BenchError `no-block-trace`
   */
  static async tried(
    kinds: Iterable<HostFileSystemName>,
    { directory, isTraced }: { readonly directory: string; readonly isTraced: boolean },
  ): Promise<MadeFileSystems> {
    // Where directories for the mounts are made: those of a run that was killed are empty.
    removeLeftovers(temporaryDirectory());
    const tried = new Map<HostFileSystemName, Tried>();
    for (const kind of new Set(kinds)) tried.set(kind, await tryKind(kind, { directory, isTraced }));
    return new MadeFileSystems({ directory, tried, isTraced });
  }

  private constructor(parts: {
    readonly directory: string;
    readonly tried: ReadonlyMap<HostFileSystemName, Tried>;
    readonly isTraced: boolean;
  }) {
    this.#directory = parts.directory;
    this.#tried = parts.tried;
    this.#isTraced = parts.isTraced;
  }

  unsupportedReason(kind: HostFileSystemName, bytes: number): string | undefined {
    const tried = this.#tried.get(kind);
    if (tried?.ok === false) return tried.reason;
    const { bavail, bsize } = statfsSync(this.#directory);
    const free = bavail * bsize;
    if (free >= bytes) return undefined;
    return `a file system for this disk may take ${humanSize(bytes)}, and ${this.#directory} has ${humanSize(free)} free`;
  }

  make(kind: HostFileSystemName, options: MakingOptions): Promise<MadeFileSystem> {
    const tried = this.#tried.get(kind);
    return makeFileSystem(FILE_SYSTEM_KINDS[kind], {
      ...options,
      directory: this.#directory,
      isTraced: this.#isTraced,
      version: tried?.ok === true ? tried.version : '',
    });
  }
}

interface Making extends MakingOptions {
  readonly directory: string;
  readonly isTraced: boolean;
  /** Of the program that makes it. */
  readonly version: string;
}

async function tryKind(
  kind: HostFileSystemName,
  { directory, isTraced }: Pick<Making, 'directory' | 'isTraced'>,
): Promise<Tried> {
  if (process.platform !== 'linux') return missing(`${process.platform} has no loop devices`);
  if (process.getuid?.() !== 0) return missing('file systems on loop devices need root');
  const { mkfs, package: name } = FILE_SYSTEM_KINDS[kind];
  const [program] = mkfs;
  const shown = await runFromSbin(program, ['-V']);
  if (shown === undefined) return missing(`there is no ${program}: install ${name}`);
  const [version = ''] = `${shown.stdout}\n${shown.stderr}`.trim().split('\n');
  try {
    await using made = await makeFileSystem(FILE_SYSTEM_KINDS[kind], {
      bytes: fileSystemBytes(0),
      directory,
      isTraced,
      version,
    });
    await made.watch([]).begin();
    return { ok: true, version: version === '' ? made.facts.type : version };
  } catch (error) {
    if (error instanceof Qcow2BenchError && error.code === 'no-block-trace') throw error;
    return missing(error instanceof Error ? error.message : String(error));
  }
}

function missing(reason: string): Tried {
  return { ok: false, reason };
}

/** @throws Qcow2BenchError `file-system-not-made`; the signal's reason. */
async function makeFileSystem(kind: FileSystemKind, making: Making): Promise<MadeFileSystem> {
  const { directory, bytes, isTraced, signal, version } = making;
  const [program, ...args] = kind.mkfs;
  const loop = loopOf(directory, bytes);
  let mountPoint: string | undefined;
  try {
    const made = await runFromSbin(program, [...args, loop.path], signal);
    if (made?.exitCode !== 0) throw notMade(`${program} failed: ${made?.stderr.trim() ?? 'not found'}`);
    mountPoint = mkdtempSync(join(temporaryDirectory(), `${temporaryPrefix()}-`));
    mount(kind, loop, mountPoint);
    const facts: HostFileSystem = {
      type: kind.type,
      mountOptions: [...mountOptionsOf(mountPoint)],
      madeBy: `${kind.mkfs.join(' ')} (${version})`,
      bytes,
      isDirect: loop.isDirect,
    };
    return new LoopFileSystem({ mountPoint, loop, facts, isTraced });
  } catch (error) {
    if (mountPoint !== undefined) rmSync(mountPoint, { recursive: true, force: true });
    throw error;
  } finally {
    // From here on the mount alone uses it.
    loop.release();
  }
}

/** A loop device over a sparse file without a name. */
function loopOf(directory: string, bytes: number): LoopDevice {
  const path = temporaryPath(directory);
  let fd: number | undefined;
  try {
    fd = openSync(path, constants.O_RDWR | constants.O_CREAT | constants.O_EXCL, 0o600);
    rmSync(path);
    ftruncateSync(fd, bytes);
    return attachLoop(fd);
  } catch (error) {
    throw notMade(`no loop device over a file in ${directory}: ${systemCode(error) ?? String(error)}`, error);
  } finally {
    if (fd !== undefined) closeSync(fd);
  }
}

function mount({ type, mountOptions }: FileSystemKind, loop: LoopDevice, mountPoint: string): void {
  try {
    mountPrivately(loop.path, mountPoint, type, mountOptions);
  } catch (error) {
    const code = systemCode(error);
    if (code === 'ENODEV') throw notMade(`this kernel has no file system ${type}`, error);
    throw notMade(`${type} could not be mounted: ${code ?? String(error)}`, error);
  }
}

function notMade(message: string, cause?: unknown): Qcow2BenchError {
  return new Qcow2BenchError('file-system-not-made', message, {}, cause);
}

/** `undefined` if the program is missing. */
async function runFromSbin(
  program: string,
  args: readonly string[],
  signal?: AbortSignal,
): Promise<ProgramOutcome | undefined> {
  for (const folder of SBIN) {
    try {
      return await runProgram(`${folder}${program}`, args, { signal });
    } catch (error) {
      if (!(error instanceof Qcow2BenchError) || systemCode(error.cause) !== 'ENOENT') throw error;
    }
  }
  return undefined;
}

interface LoopFileSystemParts {
  readonly mountPoint: string;
  readonly loop: LoopDevice;
  readonly facts: HostFileSystem;
  readonly isTraced: boolean;
}

class LoopFileSystem implements MadeFileSystem {
  readonly storage: FileStorage;
  readonly facts: HostFileSystem;
  readonly #mountPoint: string;
  readonly #loop: LoopDevice;
  readonly #isTraced: boolean;
  readonly #watches = new DisposableStack();

  constructor({ mountPoint, loop, facts, isTraced }: LoopFileSystemParts) {
    this.#mountPoint = mountPoint;
    this.#loop = loop;
    this.#isTraced = isTraced;
    this.facts = facts;
    this.storage = new FileStorage(mountPoint, probeCapabilities(mountPoint), { locks: false });
  }

  watch(names: readonly string[]): DeviceWatch {
    return this.#watches.use(
      new LoopWatch({
        directory: this.#mountPoint,
        device: this.#loop.name,
        paths: names.map((name) => this.storage.pathOf(name)),
        isTraced: this.#isTraced,
      }),
    );
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#watches.dispose();
    unmountPrivately(this.#mountPoint);
    rmSync(this.#mountPoint, { recursive: true, force: true });
  }
}
