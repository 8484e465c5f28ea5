/**
 * What a pass needs of file systems that are made for it. How they are made is no matter of a run:
 * `below/` does it.
 */

import type { HostFileSystemName } from '../device/file-system-kinds.ts';
import { fileSystemBytes } from '../device/file-system-kinds.ts';
import type { Storage } from '../device/storage.ts';
import type { Below, HostFileSystem } from '../result/schema.ts';
import { backingLayersOf } from './backing-layers.ts';
import type { CellPlan } from './engine.ts';

export interface HostFileSystems {
  /**
   * Why a file system of this kind and size cannot be made here, as text for users after
   * "skipped: "; `undefined` if it can.
   */
  unsupportedReason(kind: HostFileSystemName, bytes: number): string | undefined;
  /** Makes a new one. Disposing unmounts it, and gives its space back. */
  make(kind: HostFileSystemName, options: MakingOptions): Promise<MadeFileSystem>;
}

export interface MakingOptions {
  readonly bytes: number;
  readonly signal?: AbortSignal | undefined;
}

export interface MadeFileSystem extends AsyncDisposable {
  /** Its root directory. */
  readonly storage: Storage;
  readonly facts: HostFileSystem;
  /**
   * Counts what reaches the device from `begin` to `end`.
   *
   * @param names the files whose fragments are counted.
   */
  watch(names: readonly string[]): DeviceWatch;
}

export interface DeviceWatch {
  begin(): Promise<void>;
  /** To be called when the image is closed; writes all that the file system has not written yet. */
  end(): Promise<DeviceCounts>;
}

/** What the watch of a device knows. */
export type DeviceCounts = Omit<Below, 'guestWrites' | 'guestFlushes'>;

/** The size of a file system for the images of a plan. */
export function hostFileSystemBytes({ source }: CellPlan): number {
  const behind = backingLayersOf(source).map(({ size }) => size ?? source.virtualSize);
  return fileSystemBytes(behind.reduce((sum, size) => sum + size, source.virtualSize));
}
