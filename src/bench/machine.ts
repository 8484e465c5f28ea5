/**
 * What the kernel reports about the machine under a run: frequency governor, hypervisor, the block
 * device under a file system. Linux only; elsewhere, and where a file is missing, the fact is left
 * out.
 */

import { basename, join } from 'node:path';

import { readFileSync, realpathSync } from '../core/host-fs.ts';
import type { Environment } from '../result/schema.ts';

export type HostBlockDevice = NonNullable<NonNullable<Environment['fileSystem']>['device']>;

const SYSTEM = '/sys';
const CPU_INFO = '/proc/cpuinfo';

/**
 * Of the first processor: a machine whose processors have several is rare, and a warning either
 * way.
 */
export function governorOf(system = SYSTEM): string | undefined {
  return line(join(system, 'devices/system/cpu/cpu0/cpufreq/scaling_governor'));
}

/** Whether the processor says that a hypervisor runs it. */
export function isVirtualMachine(cpuInfo = CPU_INFO): boolean | undefined {
  const text = content(cpuInfo);
  const flags = text?.match(/^flags\s*:(.*)$/m)?.[1];
  return flags === undefined ? undefined : flags.split(' ').includes('hypervisor');
}

/**
 * The block device with the number `MAJOR:MINOR`, or the disk that it is a partition of;
 * `undefined` of a file system without one.
 */
export function blockDeviceOf(number: string, system = SYSTEM): HostBlockDevice | undefined {
  const directory = diskDirectory(join(system, 'dev/block', number));
  if (directory === undefined) return undefined;
  const isRotational = line(join(directory, 'queue/rotational'));
  const writeCache = line(join(directory, 'queue/write_cache'));
  const model = line(join(directory, 'device/model'));
  // Of the schedulers that there are, the one in brackets is in use.
  const scheduler = line(join(directory, 'queue/scheduler'))?.match(/\[(.+)\]/)?.[1];
  return {
    name: basename(directory),
    ...(model === undefined ? {} : { model }),
    ...(isRotational === undefined ? {} : { isRotational: isRotational === '1' }),
    ...(writeCache === undefined ? {} : { writeCache }),
    ...(scheduler === undefined ? {} : { scheduler }),
  };
}

/** A partition has no queue of its own: its disk, one directory up, has. */
function diskDirectory(path: string): string | undefined {
  let directory: string;
  try {
    directory = realpathSync(path);
  } catch {
    return undefined;
  }
  return line(join(directory, 'partition')) === undefined ? directory : join(directory, '..');
}

function line(path: string): string | undefined {
  const text = content(path)?.trim();
  return text === undefined || text === '' ? undefined : text;
}

function content(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return undefined;
  }
}
