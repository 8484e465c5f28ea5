/**
 * Models that ship: typical devices of their kind under ext4, rounded, from data sheets and
 * published measurements. They answer "what would this cost on such a device, about?"; for a
 * certain device, `calibrate` measures its own.
 */

import type { DeviceModel, OperationCost, PathCosts, SyncCost } from './device-model.ts';

const US = 1000;
const MS = 1000 * US;

/** The page cache of a present machine: copying 4 KiB and the system call around it. */
const PAGE_CACHE: Omit<PathCosts, 'sync'> = {
  read: cost({ baseNs: 1.2 * US, nsPerKiB: 100 }),
  write: cost({ baseNs: 2 * US, nsPerKiB: 200, allocationNs: 3 * US }),
  zeroRange: cost({ baseNs: 6 * US }),
  punchHole: cost({ baseNs: 8 * US }),
  truncate: cost({ baseNs: 5 * US }),
};
export const DEVICE_MODELS: readonly DeviceModel[] = [
  model('hdd-7200', 'A 7,200 rpm SATA disk, write cache on: a flush waits for the platter', {
    parallelism: 1,
    read: cost({ baseNs: 60 * US, nsPerKiB: 5.6 * US, jumpNs: 12 * MS }),
    write: cost({ baseNs: 60 * US, nsPerKiB: 5.6 * US }),
    bufferedSync: { baseNs: 8.3 * MS, nsPerKiB: 5.6 * US, extentNs: 4 * MS, allocationNs: 16 * MS },
    directSync: { baseNs: 8.3 * MS, nsPerKiB: 0, extentNs: 4 * MS, allocationNs: 16 * MS },
  }),
  model('ssd-sata', 'A consumer SATA SSD without power-loss protection', {
    parallelism: 16,
    read: cost({ baseNs: 90 * US, nsPerKiB: 1.9 * US }),
    write: cost({ baseNs: 45 * US, nsPerKiB: 2 * US }),
    bufferedSync: { baseNs: 1.2 * MS, nsPerKiB: 2 * US, extentNs: 20 * US, allocationNs: 1.6 * MS },
    directSync: { baseNs: 1.2 * MS, nsPerKiB: 0, extentNs: 0, allocationNs: 1.6 * MS },
  }),
  model('nvme-consumer', 'A consumer NVMe drive: fast writes, flushes that reach the flash', {
    parallelism: 32,
    read: cost({ baseNs: 60 * US, nsPerKiB: 0.35 * US }),
    write: cost({ baseNs: 14 * US, nsPerKiB: 0.4 * US }),
    bufferedSync: { baseNs: 650 * US, nsPerKiB: 0.4 * US, extentNs: 5 * US, allocationNs: 750 * US },
    directSync: { baseNs: 650 * US, nsPerKiB: 0, extentNs: 0, allocationNs: 750 * US },
  }),
  model('nvme-plp', 'A data-centre NVMe drive with power-loss protection: flushes are cheap', {
    parallelism: 64,
    read: cost({ baseNs: 75 * US, nsPerKiB: 0.35 * US }),
    write: cost({ baseNs: 14 * US, nsPerKiB: 0.5 * US }),
    bufferedSync: { baseNs: 25 * US, nsPerKiB: 0.5 * US, extentNs: 4 * US, allocationNs: 60 * US },
    directSync: { baseNs: 12 * US, nsPerKiB: 0, extentNs: 0, allocationNs: 60 * US },
  }),
  model('network-block', 'A replicated network volume: every write is durable when it completes', {
    parallelism: 64,
    read: cost({ baseNs: 550 * US, nsPerKiB: 4 * US }),
    write: cost({ baseNs: 750 * US, nsPerKiB: 4 * US }),
    bufferedSync: { baseNs: 800 * US, nsPerKiB: 4 * US, extentNs: 30 * US, allocationNs: 1.5 * MS },
    directSync: { baseNs: 60 * US, nsPerKiB: 0, extentNs: 0, allocationNs: 1.5 * MS },
  }),
];

interface Device {
  readonly parallelism: number;
  /** Past the page cache. */
  readonly read: OperationCost;
  readonly write: OperationCost;
  readonly bufferedSync: SyncCost;
  readonly directSync: SyncCost;
}

function model(name: string, description: string, device: Device): DeviceModel {
  const { parallelism, read, write, bufferedSync, directSync } = device;
  return {
    name,
    description,
    parallelism,
    // What the harness takes does not depend on the device: each format has its own figure.
    requestNs: {},
    buffered: { ...PAGE_CACHE, sync: bufferedSync },
    direct: { ...PAGE_CACHE, read, write, sync: directSync },
  };
}

function cost(given: Partial<OperationCost>): OperationCost {
  return { baseNs: 0, nsPerKiB: 0, jumpNs: 0, allocationNs: 0, ...given };
}
