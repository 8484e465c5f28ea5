/**
 * What a cell's requests cost on modelled devices, and what it costs to open the image where they
 * ended without a close: the price of a crash, counted of the engine's own repair.
 *
 * Invariant: the requests are those that are explored, and the crash is after the last one, with
 * all host operations on the disk.
 */

import type { CellPlan } from '../bench/engine.ts';
import { collectRequests } from '../bench/pass-requests.ts';
import { Payload } from '../bench/payload.ts';
import { payloadSeed, prepareFiles } from '../bench/prepare.ts';
import { runRequests } from '../bench/runner.ts';
import { openingOf, openStack, type StackOptions } from '../bench/stack.ts';
import { DEVICE_MODELS } from '../device/device-models.ts';
import type { DeviceModel } from '../device/device-model.ts';
import type { HostCounts } from '../device/host-meter.ts';
import { ModelStorage } from '../device/model-storage.ts';
import { cellKey } from '../result/cell.ts';
import type { CacheMode } from '../format/cache-mode.ts';
import { FORMAT_FACTS } from '../format/formats.ts';
import type { Cell } from '../result/schema.ts';
import type { Request } from '../workload/request.ts';

/** What lazy refcounts are compared with eager ones by. */
export interface LazyPrice {
  /** With lazy refcounts. */
  readonly cell: Cell;
  /** Bytes of the disk. */
  readonly virtualSize: number;
  readonly guestWrites: number;
  /** Those that allocated clusters: each makes refcounts that the repair has to find. */
  readonly allocatingWrites: number;
  /** Syncs of the requests that lazy refcounts spare, per guest write. */
  readonly savedSyncs: number;
  /** Host operations of the opening after the crash. */
  readonly opening: OpeningCost;
  readonly onDevices: readonly DevicePrice[];
}

export interface OpeningCost {
  readonly readBytes: number;
  /** Writes, zero-ranges and holes. */
  readonly changes: number;
  readonly syncs: number;
}

export interface DevicePrice {
  readonly device: string;
  /** Virtual time that lazy refcounts save per guest write; not above 0 if they save none. */
  readonly savedNs: number;
  /** How much longer the opening after the crash takes than with eager refcounts. */
  readonly openingNs: number;
  /** Guest writes after which the savings are as large; `undefined` if they never are. */
  readonly writes: number | undefined;
}

interface PassCost {
  readonly runNs: number;
  readonly allocatingWrites: number;
  readonly openingNs: number;
  readonly run: HostCounts;
  readonly opening: HostCounts;
}

/** What the repair costs more for each further `bytes` of allocated data, however little was written. */
export interface RepairGrowth {
  readonly bytes: number;
  readonly readBytes: number;
  /** Nanoseconds by device model. */
  readonly onDevices: ReadonlyMap<string, number>;
}

/** Pairs of cells that differ in their refcounts alone: eager, then lazy. */
export function refcountPairs(plans: readonly CellPlan[]): readonly (readonly [CellPlan, CellPlan])[] {
  const byPlace = new Map(plans.map((plan) => [cellKey(plan.cell), plan]));
  return plans.flatMap((lazy) => {
    if (lazy.cell.refcounts !== 'lazy') return [];
    const eager = byPlace.get(cellKey({ ...lazy.cell, refcounts: 'eager' }));
    return eager === undefined ? [] : [[eager, lazy] as const];
  });
}

/**
 * Runs both cells on every modelled device that ships.
 *
 * @param limit requests of the workload, at most
 * @returns `undefined` if the requests have no write
 */
export async function lazyPrice(
  [eager, lazy]: readonly [CellPlan, CellPlan],
  limit: number,
): Promise<LazyPrice | undefined> {
  const requests = await collectRequests(lazy, { limit });
  const guestWrites = requests.filter(({ op }) => op === 'write').length;
  if (guestWrites === 0) return undefined;
  const onDevices: DevicePrice[] = [];
  let counts: { readonly eager: PassCost; readonly lazy: PassCost } | undefined;
  for (const model of DEVICE_MODELS) {
    const both = { eager: await passOn(model, eager, requests), lazy: await passOn(model, lazy, requests) };
    counts ??= both;
    const savedNs = (both.eager.runNs - both.lazy.runNs) / guestWrites;
    const openingNs = both.lazy.openingNs - both.eager.openingNs;
    const writes = savedNs > 0 ? Math.ceil(Math.max(0, openingNs) / savedNs) : undefined;
    onDevices.push({ device: model.name, savedNs, openingNs, writes });
  }
  if (counts === undefined) return undefined;
  const { reads, writes, zeroRanges, punchHoles, syncs } = counts.lazy.opening;
  return {
    cell: lazy.cell,
    virtualSize: lazy.source.virtualSize,
    guestWrites,
    allocatingWrites: counts.lazy.allocatingWrites,
    savedSyncs: (counts.eager.run.syncs.ops - counts.lazy.run.syncs.ops) / guestWrites,
    opening: {
      readBytes: reads.bytes,
      changes: writes.ops + zeroRanges.ops + punchHoles.ops,
      syncs: syncs.ops,
    },
    onDevices,
  };
}

/** Fully allocated images whose repairs are compared; in units of the data that one table covers. */
const GROWTH_UNITS = [4, 12] as const;
/** Larger clusters have tables whose data takes long to count. */
const GROWTH_CLUSTER_MAX = 128 * 1024;

/**
 * How the repair grows with the image: it reads every table. From images whose data take 4 and 12
 * times what one refcount block covers (of QED: what one table covers, which is as much).
 *
 * @returns `undefined` of layouts with other tables, and of cells without a repair
 */
export async function repairGrowth(plan: CellPlan): Promise<RepairGrowth | undefined> {
  const { cell } = plan;
  const { clusterSize } = cell;
  if (clusterSize === null || clusterSize > GROWTH_CLUSTER_MAX) return undefined;
  if (cell.shape !== undefined) return undefined;
  const unit = (clusterSize * clusterSize) / 2;
  const [few, many] = GROWTH_UNITS;
  const onDevices = new Map<string, number>();
  let readBytes = 0;
  for (const model of DEVICE_MODELS) {
    const small = await fullImageOpening(model, plan, few * unit);
    const large = await fullImageOpening(model, plan, many * unit);
    readBytes = (large.opening.reads.bytes - small.opening.reads.bytes) / (many - few);
    onDevices.set(model.name, (large.openingNs - small.openingNs) / (many - few));
  }
  return readBytes > 0 ? { bytes: unit, readBytes, onDevices } : undefined;
}

const NOTHING = {
  kind: 'recording',
  name: '',
  title: '',
  description: '',
  path: '',
  provenance: new Map<string, string>(),
  reading: {},
} as const;

/** The opening after a crash of an image in which all tables are used. */
async function fullImageOpening(model: DeviceModel, plan: CellPlan, bytes: number): Promise<PassCost> {
  const clusterSize = plan.cell.clusterSize ?? 0;
  const unit = (clusterSize * clusterSize) / 2;
  const isPreallocated = FORMAT_FACTS[plan.cell.format].shape.includes('preallocation');
  const request = { length: clusterSize, fua: false, unmap: true, timeNs: 0 };
  // Allocates one cluster again, or one below each table.
  const requests: readonly Request[] = isPreallocated
    ? [
        { ...request, op: 'discard', offset: 0 },
        { ...request, op: 'write', offset: 0 },
      ]
    : Array.from({ length: bytes / unit }, (_, index) => ({ ...request, op: 'write', offset: index * unit }));
  const full: CellPlan = {
    cell: {
      ...plan.cell,
      // What is behind an image adds no table to it.
      backing: undefined,
      backingDepth: undefined,
      // The cluster that is discarded is allocated again.
      discard: undefined,
      queueDepth: 1,
      ...(isPreallocated ? { shape: { preallocation: 'metadata' } } : {}),
    },
    source: { ...NOTHING, virtualSize: bytes },
    seed: undefined,
    payload: 'zero',
  };
  return passOn(model, full, requests);
}

/** A power loss empties the page cache: what the opening reads comes from the device. */
const PAST_PAGE_CACHE: Readonly<Record<CacheMode, CacheMode>> = {
  writethrough: 'directsync',
  directsync: 'directsync',
  writeback: 'none',
  none: 'none',
  unsafe: 'unsafe',
};

/** One run that is not closed, and the opening behind it. */
async function passOn(model: DeviceModel, plan: CellPlan, requests: readonly Request[]): Promise<PassCost> {
  const storage = new ModelStorage(model);
  const imageName = `disk.${plan.cell.format}`;
  using files = await prepareFiles({ plan, storage, imageName, backingName: 'base' });
  const options: StackOptions = { ...openingOf(plan.cell), ...files.stack };
  const run = await unclosedRun(plan, options, { storage, requests });
  // What is on the disk at the crash is no part of the repair.
  const bare = storage.open(imageName);
  await bare.sync('close', undefined);
  await bare.close();
  const { time } = storage;
  const beginNs = time.nowNs;
  await using stack = await openStack({ ...options, cache: PAST_PAGE_CACHE[plan.cell.cache] });
  return { ...run, opening: stack.meter.counts('open'), openingNs: time.nowNs - beginNs };
}

async function unclosedRun(
  plan: CellPlan,
  options: StackOptions,
  { storage, requests }: { readonly storage: ModelStorage; readonly requests: readonly Request[] },
): Promise<Pick<PassCost, 'run' | 'runNs' | 'allocatingWrites'>> {
  const { queueDepth } = plan.cell;
  await using stack = await openStack(options);
  const beginNs = storage.time.nowNs;
  storage.isConcurrent = queueDepth > 1;
  await runRequests({
    backend: stack.backend,
    batches: [requests],
    queueDepth,
    payload: new Payload(plan.payload, payloadSeed(plan)),
  });
  storage.isConcurrent = false;
  return {
    run: stack.meter.counts('run'),
    runNs: storage.time.nowNs - beginNs,
    allocatingWrites: stack.image.allocatingWrites,
  };
}
