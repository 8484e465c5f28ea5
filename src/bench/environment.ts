/**
 * Where a run took place: machine, system, file system, versions. Read once, before the run.
 *
 * Invariant: facts that the system does not report are omitted or unknown, never guessed.
 */

import { arch, cpus, loadavg, platform, release, totalmem } from 'node:os';

import { textOfBytes } from '../core/byte-text.ts';
import { harnessVersion } from './harness-version.ts';
import { readFileSync } from '../core/host-fs.ts';
import type { DeviceModel } from '../device/device-model.ts';
import { mountPointOf } from '../device/mount-point.ts';
import { compressionLibrary } from '../format/qcow2/compression/compression.ts';
import { blockDeviceOf, governorOf, isVirtualMachine } from './machine.ts';
import type { Environment, ShardRecord } from '../result/schema.ts';

export interface EnvironmentOptions {
  /** When the run began. */
  readonly date: Date;
  readonly commandLine: readonly string[];
  readonly seed: number;
  /** Where timed images lie; `undefined` if no file is timed. */
  readonly directory?: string | undefined;
  /** Of a matrix that is split over machines. */
  readonly shard?: ShardRecord | undefined;
  /** Version of QEMU, where one was found. */
  readonly qemu?: string | undefined;
  /** Those that times are taken on. */
  readonly deviceModels?: readonly DeviceModel[] | undefined;
}

const MOUNTS_FILE = '/proc/self/mounts';
const UNKNOWN_CPU = 'unknown';
/** Characters of a name in a result. */
const NAME_MAX = 256;

export function collectEnvironment(options: EnvironmentOptions): Environment {
  const { date, commandLine, seed, directory, shard, qemu, deviceModels = [] } = options;
  const processors = cpus();
  const model = processors[0]?.model.trim() ?? '';
  return {
    harness: harnessVersion(),
    node: process.version,
    platform: platform(),
    arch: arch(),
    kernel: release(),
    cpu: model === '' ? UNKNOWN_CPU : model,
    cores: Math.max(1, processors.length),
    memoryBytes: totalmem(),
    ...known({ governor: governorOf(), isVirtual: isVirtualMachine(), loadAverage: loadAverage() }),
    fileSystem: directory === undefined ? null : fileSystemOf(directory),
    compression: compressionLibraries(),
    ...(qemu === undefined ? {} : { qemu }),
    ...(deviceModels.length === 0 ? {} : { deviceModels }),
    ...(shard === undefined ? {} : { shard }),
    seed,
    commandLine: [...commandLine],
    date: date.toISOString(),
  };
}

/** Compressed clusters have other bytes, and take other times, by another library. */
function compressionLibraries(): Environment['compression'] {
  const [zlib, zstd] = [compressionLibrary('zlib'), compressionLibrary('zstd')];
  // A reason comes from the system, as long as it likes.
  return { zlib: zlib.slice(0, NAME_MAX), zstd: zstd.slice(0, NAME_MAX) };
}

function fileSystemOf(directory: string): Environment['fileSystem'] {
  const mount = mountPointOf(directory);
  if (mount === undefined) return null;
  const options = mountOptionsOf(mount.directory);
  const device = blockDeviceOf(mount.device);
  return {
    directory,
    type: mount.type,
    mountOptions: [...options],
    ...(device === undefined ? {} : { device }),
  };
}

/** Over the last minute; Windows has none, and says 0. */
function loadAverage(): number | undefined {
  return platform() === 'win32' ? undefined : loadavg()[0];
}

/** What is `undefined` is left out. */
function known<T extends Readonly<Record<string, unknown>>>(
  facts: T,
): { [Key in keyof T]?: Exclude<T[Key], undefined> } {
  const entries = Object.entries(facts).filter(([, value]) => value !== undefined);
  return Object.fromEntries(entries) as { [Key in keyof T]?: Exclude<T[Key], undefined> };
}

/** The options of what is mounted on the directory; none if the system does not report them. */
export function mountOptionsOf(mountPoint: string): readonly string[] {
  return findMountOptions(readMounts(), mountPoint);
}

function readMounts(): string {
  try {
    return textOfBytes(readFileSync(MOUNTS_FILE));
  } catch {
    return ''; // No such system: the options are left out.
  }
}

/**
 * The options of what is mounted on `mountPoint`, from text in the form of fstab(5): `SOURCE
 * MOUNT-POINT TYPE OPTIONS …`. Of several mounts on one directory the last hides the others.
 */
export function findMountOptions(mounts: string, mountPoint: string): readonly string[] {
  const escaped = mountPoint.replace(/[ \t\n\\]/g, escapeOctal);
  let options: readonly string[] = [];
  for (const line of mounts.split('\n')) {
    const fields = line.split(' ');
    if (fields[1] === escaped) options = fields[3]?.split(',') ?? [];
  }
  return options;
}

/** As the kernel writes blanks and backslashes: `\` and three octal digits. */
function escapeOctal(character: string): string {
  return `\\${character.charCodeAt(0).toString(8).padStart(3, '0')}`;
}
