/**
 * What a modelled device costs: linear costs of each kind of operation, on the way through the page
 * cache and on the way past it (O_DIRECT).
 *
 * Invariants: all times are nanoseconds and not negative; `nsPerKiB` is time per 1,024 bytes moved.
 * A model says nothing about what is stored: bytes are in memory.
 *
 * The costs of a sync are those of `fdatasync`: a fixed part (command and write cache), the
 * transfer of what was written since the last one, a part for each extent of it, and the file
 * system's journal commit, which is due only where blocks were allocated or the file grew. An
 * overwrite in place has none: this is why preallocation pays.
 */

import type { Format } from '../core/format-name.ts';

export interface OperationCost {
  readonly baseNs: number;
  readonly nsPerKiB: number;
  /** More where the operation does not begin where the last one on the device ended: a seek. */
  readonly jumpNs: number;
  /** More where a write reaches blocks of the file that held nothing. */
  readonly allocationNs: number;
}

export interface SyncCost {
  readonly baseNs: number;
  /** Per 1,024 bytes written since the last sync of the file. */
  readonly nsPerKiB: number;
  /** Per extent written since the last sync of the file. */
  readonly extentNs: number;
  /** Once, if blocks were allocated or the file grew since the last sync of the file. */
  readonly allocationNs: number;
}

/** Costs on one way to the device. */
export interface PathCosts {
  readonly read: OperationCost;
  readonly write: OperationCost;
  readonly zeroRange: OperationCost;
  readonly punchHole: OperationCost;
  readonly truncate: OperationCost;
  readonly sync: SyncCost;
}

export interface DeviceModel {
  /** As in `model:NAME`. */
  readonly name: string;
  readonly description: string;
  /** Operations that are served at once; syncs are served one at a time. */
  readonly parallelism: number;
  /**
   * Processor time that a guest request takes beside its host operations, by image format; one that
   * is absent takes what its format declares.
   */
  readonly requestNs: Readonly<Partial<Record<Format, number | undefined>>>;
  readonly buffered: PathCosts;
  readonly direct: PathCosts;
}

export interface OperationSize {
  readonly bytes: number;
  readonly jumps: boolean;
  readonly allocates: boolean;
}

/** Time of one operation. */
export function operationNs(cost: OperationCost, { bytes, jumps, allocates }: OperationSize): number {
  const transferNs = (cost.nsPerKiB * bytes) / 1024;
  return cost.baseNs + transferNs + (jumps ? cost.jumpNs : 0) + (allocates ? cost.allocationNs : 0);
}

/** What was written to a file since its last sync. */
export interface Unsynced {
  readonly bytes: number;
  readonly extents: number;
  readonly allocates: boolean;
}

/** Time of a sync. */
export function syncNs(cost: SyncCost, { bytes, extents, allocates }: Unsynced): number {
  const transfer = (cost.nsPerKiB * bytes) / 1024 + cost.extentNs * extents;
  return cost.baseNs + transfer + (allocates ? cost.allocationNs : 0);
}

const PREFIX = 'model:';

/** NAME of a device `model:NAME`; `undefined` for other devices. */
export function modelName(device: string): string | undefined {
  return device.startsWith(PREFIX) ? device.slice(PREFIX.length) : undefined;
}

/** The device of a model as cells name it. */
export function modelDevice(name: string): string {
  return PREFIX + name;
}
