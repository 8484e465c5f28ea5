/**
 * A random run on an image in memory with every operation of its file recorded, and for each
 * request when it began and when the guest knew it to be durable.
 */

import { openStack, type Stack, type WrapDevice } from '../../src/bench/stack.ts';
import { Random } from '../../src/core/random.ts';
import type { MemoryDevice } from '../../src/device/memory-device.ts';
import { MemoryStorage } from '../../src/device/memory-storage.ts';
import { WriteLog, type WriteLogEntry } from '../../src/device/write-log.ts';
import type { Format } from '../../src/format/disk-image.ts';
import type { RefcountMode } from '../../src/format/image-options.ts';
import type { ImageShape } from '../../src/format/image-shape.ts';
import { createImage } from '../../src/format/registry.ts';
import {
  backingContents,
  GuestModel,
  performRequest,
  SECTOR,
  type DiskShape,
  type GuestRequest,
  type Region,
} from './guest-model.ts';

export const IMAGE = 'disk';
export const BACKING = 'base';

export interface CrashSetup {
  readonly format: Format;
  readonly refcounts?: RefcountMode;
  readonly shape?: ImageShape;
  readonly cache: 'writethrough' | 'writeback';
  /** Bytes. */
  readonly clusterSize: number;
  /** With a raw backing file that ends in the middle of the disk. */
  readonly backed: boolean;
  /** Whether the workload writes zeroes and discards, so that clusters are freed and used again. */
  readonly releases: boolean;
  /** Whether the image was written to and closed cleanly before. */
  readonly prefilled: boolean;
  /** Wraps the logged file: a fault of the engine to be found. */
  readonly deviation?: WrapDevice;
}

export interface RecordedRequest {
  readonly request: GuestRequest;
  /** Log entries when it began. */
  readonly startedAt: number;
  /** Log entries when it was known to be durable. */
  durableAt: number;
}

export interface Recording {
  readonly setup: CrashSetup;
  readonly shape: DiskShape;
  readonly storage: MemoryStorage;
  /** The image when the log began. */
  readonly base: MemoryDevice;
  readonly entries: readonly WriteLogEntry[];
  readonly requests: readonly RecordedRequest[];
  /** What the guest sees before the first request of the log. */
  readonly start: GuestModel;
}

const REQUESTS = 60;
/** Requests before the log begins. */
const PREFILL_REQUESTS = 20;

/** Runs a random workload on a new image, to a clean close. */
export async function recordWorkload(setup: CrashSetup, seed: number): Promise<Recording> {
  const shape = shapeOf(setup);
  const random = new Random(seed);
  const storage = new MemoryStorage();
  const start = await createFiles(setup, shape, storage);
  if (setup.prefilled) {
    const stack = await openWith(setup, storage);
    for (const [n, request] of randomRequests(setup, shape, random).slice(0, PREFILL_REQUESTS).entries()) {
      await performRequest(stack.backend, request, REQUESTS + n);
      start.apply(request, REQUESTS + n);
    }
    await stack.close();
  }
  const base = storage.open(IMAGE).clone();
  const logs: WriteLog[] = [];
  const stack = await openWith(setup, storage, (device) => {
    if (device.label !== 'image') return device;
    const log = new WriteLog(device);
    logs.push(log);
    return setup.deviation === undefined ? log : setup.deviation(log);
  });
  const entries = logs[0]?.entries ?? [];
  const requests: RecordedRequest[] = [];
  for (const [index, request] of randomRequests(setup, shape, random).entries()) {
    const recorded = { request, startedAt: entries.length, durableAt: Infinity };
    requests.push(recorded);
    await performRequest(stack.backend, request, index);
    if (!makesDurable(request, setup)) continue;
    for (const each of requests) each.durableAt = Math.min(each.durableAt, entries.length);
  }
  await stack.close();
  for (const each of requests) each.durableAt = Math.min(each.durableAt, entries.length);
  return { setup, shape, storage, base, entries: [...entries], requests, start };
}

function openWith(setup: CrashSetup, storage: MemoryStorage, wrap?: WrapDevice): Promise<Stack> {
  const { format, cache, refcounts } = setup;
  return openStack({ storage, imageName: IMAGE, format, cache, refcounts, wrap });
}

/** A few clusters in the first mapping table and a few around the border to the next. */
function shapeOf({ format, clusterSize }: CrashSetup): DiskShape {
  const tableCoverage = (((format === 'qed' ? 4 : 1) * clusterSize) / 8) * clusterSize;
  const virtualSize = tableCoverage + 9 * clusterSize + (clusterSize > SECTOR ? 3 * SECTOR : 0);
  if (clusterSize < 4096) {
    const larger = 7 * tableCoverage + 3 * SECTOR;
    return { format, clusterSize, virtualSize: larger, regions: [{ start: 0, length: larger }] };
  }
  const border = tableCoverage - 8 * clusterSize;
  const regions: Region[] = [
    { start: 0, length: 10 * clusterSize },
    { start: border, length: virtualSize - border },
  ];
  return { format, clusterSize, virtualSize, regions };
}

async function createFiles(setup: CrashSetup, shape: DiskShape, storage: MemoryStorage): Promise<GuestModel> {
  const { format, refcounts, clusterSize, backed, shape: imageShape } = setup;
  const { virtualSize } = shape;
  const fresh = backed ? backingContents(shape) : new GuestModel(shape);
  if (backed) {
    const { start, length } = shape.regions.at(-1) as Region;
    const size = start + Math.floor(length / 2 / SECTOR) * SECTOR;
    const device = storage.create(BACKING);
    device.truncate(size, 'data');
    for (const { start: at, bytes } of fresh.contents) {
      const kept = Math.max(0, Math.min(bytes.byteLength, size - at));
      bytes.fill(0, kept);
      device.write(at, bytes.subarray(0, kept), 'data');
    }
    device.close();
  }
  const device = storage.create(IMAGE);
  const backingFile = backed ? ({ name: BACKING, format: 'raw' } as const) : undefined;
  await createImage({ device, format, virtualSize, clusterSize, refcounts, backingFile, shape: imageShape });
  device.close();
  return fresh;
}

function makesDurable(request: GuestRequest, { cache }: CrashSetup): boolean {
  switch (request.op) {
    case 'flush':
      return true;
    case 'write':
    case 'write-zeroes':
      return cache === 'writethrough' || request.fua;
    case 'read':
    case 'discard':
      return false;
  }
}

function randomRequests(setup: CrashSetup, shape: DiskShape, random: Random): GuestRequest[] {
  return Array.from({ length: REQUESTS }, () => {
    const region = shape.regions[random.below(shape.regions.length)] as Region;
    const sectors = region.length / SECTOR;
    const cluster = Math.max(8, setup.clusterSize / SECTOR);
    const isWhole = random.chance(0.3);
    let first = random.below(sectors);
    if (isWhole) first -= first % cluster;
    const wanted = isWhole
      ? cluster * (1 + random.below(3))
      : 1 + random.below(random.chance(0.2) ? 3 * cluster : 9);
    const range = {
      offset: region.start + first * SECTOR,
      length: Math.min(wanted, sectors - first) * SECTOR,
    };
    const roll = random.fraction();
    if (roll < 0.12) return { op: 'flush' };
    if (setup.releases && roll < 0.2) return { op: 'discard', ...range };
    const fua = random.chance(0.15);
    if (setup.releases && roll < 0.3) return { op: 'write-zeroes', ...range, fua, unmap: random.chance(0.5) };
    return { op: 'write', ...range, fua };
  });
}
