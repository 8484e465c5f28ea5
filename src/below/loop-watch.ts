/**
 * What reaches a loop device while an image on it is served: the kernel's own counts, and how many
 * pieces the image is in.
 *
 * Invariant: before the first look and before the last one all of the file system is written, so
 * what was written before does not count and what is still in the page cache does.
 */

import { closeSync, constants, fstatSync } from 'node:fs';

import type { DeviceCounts, DeviceWatch } from '../bench/host-file-system.ts';
import { existsSync, openSync } from '../core/host-fs.ts';
import { BlockTrace } from '../device/block-trace.ts';
import { fragmentCount } from '../device/fiemap.ts';
import { deviceStat, type DeviceStat } from '../device/loop-device.ts';
import { syncFileSystem } from '../device/private-mounts.ts';

export interface WatchedPlace {
  /** Where the file system is mounted. */
  readonly directory: string;
  /** As in `/sys/block`. */
  readonly device: string;
  /** Of the files whose fragments are counted; those that do not exist have none. */
  readonly paths: readonly string[];
  /** Whether its requests are traced. */
  readonly isTraced: boolean;
}

export class LoopWatch implements DeviceWatch, Disposable {
  readonly #place: WatchedPlace;
  #trace: BlockTrace | undefined;
  #before: { readonly stat: DeviceStat; readonly fragments: number } | undefined;

  constructor(place: WatchedPlace) {
    this.#place = place;
  }

  async begin(): Promise<void> {
    const { directory, device, paths, isTraced } = this.#place;
    syncFileSystem(directory);
    if (isTraced) this.#trace = BlockTrace.of(device);
    this.#before = { stat: deviceStat(device), fragments: fragmentsOf(paths) };
  }

  async end(): Promise<DeviceCounts> {
    const { directory, device, paths } = this.#place;
    const before = this.#before;
    if (before === undefined) throw new Error('internal error: the watch has not begun');
    const closed = deviceStat(device);
    syncFileSystem(directory);
    const stat = deviceStat(device);
    const seeks = this.#trace?.seeks();
    const { flushes } = before.stat;
    return {
      writes: stat.writes - before.stat.writes,
      writeBytes: stat.writeBytes - before.stat.writeBytes,
      reads: stat.reads - before.stat.reads,
      readBytes: stat.readBytes - before.stat.readBytes,
      ...(flushes === undefined || closed.flushes === undefined ? {} : { flushes: closed.flushes - flushes }),
      ...(seeks === undefined ? {} : { seeks }),
      discards: stat.discards - before.stat.discards,
      discardBytes: stat.discardBytes - before.stat.discardBytes,
      fragmentsBefore: before.fragments,
      fragmentsAfter: fragmentsOf(paths),
    };
  }

  [Symbol.dispose](): void {
    this.#trace?.[Symbol.dispose]();
    this.#trace = undefined;
  }
}

function fragmentsOf(paths: readonly string[]): number {
  return paths.filter((path) => existsSync(path)).reduce((sum, path) => sum + fragmentsOfFile(path), 0);
}

function fragmentsOfFile(path: string): number {
  const fd = openSync(path, constants.O_RDONLY);
  try {
    return fragmentCount(fd, fstatSync(fd).size);
  } finally {
    closeSync(fd);
  }
}
