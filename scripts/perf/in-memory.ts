/**
 * What harness and engine cost where no file is: throughput, flatness and resident memory, by
 * processor time.
 */

import { Payload } from '../../src/bench/payload.ts';
import { runRequests } from '../../src/bench/runner.ts';
import { openStack } from '../../src/bench/stack.ts';
import { MemoryStorage, NullStorage } from '../../src/device/memory-storage.ts';
import type { CacheMode } from '../../src/format/cache-mode.ts';
import { createImage } from '../../src/format/registry.ts';
import { measureOf, type Measure } from './measure.ts';
import {
  BTREE,
  randomWrites,
  STRIDE_BYTES,
  strideWrites,
  VARIANTS,
  WRITE_BYTES,
  type Variant,
} from './variants.ts';

const GIB = 2 ** 30;
const DISK = 16 * GIB;
/** Every cluster of the disk once. */
const ALLOCATING = DISK / STRIDE_BYTES;
const SAMPLES = 9;

const [RAW, EAGER] = VARIANTS as readonly [Variant, Variant];

interface Pass {
  /** Writes of 4 KiB anywhere, and not only at every 64 KiB. Default false. */
  readonly dense?: boolean;
  readonly device: 'null' | 'memory';
  readonly variant: Variant;
  readonly cache: CacheMode;
  readonly diskBytes: number;
  readonly requests: number;
  /** Bytes; default: as QEMU chooses by the disk's size. */
  readonly sliceBytes?: number;
  /** Clusters in random order; default: one after another. */
  readonly random?: boolean;
  readonly progress?: (done: number) => void;
}

/** Microseconds of processor time a request. */
async function costOf(pass: Pass): Promise<number> {
  const { device, variant, cache, diskBytes, requests, sliceBytes, random, dense, progress } = pass;
  const { format, refcounts } = variant;
  const storage = device === 'null' ? new NullStorage() : new MemoryStorage();
  const made = storage.create('image');
  await createImage({ device: made, format, virtualSize: diskBytes, refcounts });
  await using stack = await openStack({
    storage,
    imageName: 'image',
    format,
    cache,
    refcounts,
    caches: sliceBytes === undefined ? undefined : { l2CacheEntrySize: sliceBytes },
  });
  const payload = new Payload('pattern', 0);
  const began = process.cpuUsage();
  const batches =
    random === true
      ? randomWrites(requests, diskBytes, dense === true ? WRITE_BYTES : STRIDE_BYTES)
      : strideWrites(requests, diskBytes);
  await runRequests({ backend: stack.backend, batches, queueDepth: 1, payload, progress });
  const { user, system } = process.cpuUsage(began);
  await stack.close();
  storage.remove('image');
  return (user + system) / requests;
}

async function samplesOf(pass: Pass): Promise<readonly number[]> {
  const costs: number[] = [];
  for (let round = -1; round < SAMPLES; round++) costs.push(await costOf(pass));
  return costs.slice(1);
}

export async function throughput(tell: (text: string) => void): Promise<readonly Measure[]> {
  const wanted = [
    ['null', 'writeback', 2_000_000],
    ['null', 'writethrough', 1_000_000],
    ['memory', 'writeback', 1_000_000],
    ['memory', 'writethrough', 60_000],
  ] as const;
  const measures: Measure[] = [];
  for (const [device, cache, value] of wanted) {
    tell(`throughput: ${device}, ${cache}`);
    // Memory keeps all of it: a quarter of the disk is a quarter of a GiB.
    const requests = device === 'memory' ? ALLOCATING / 4 : ALLOCATING;
    const costs = await samplesOf({ device, variant: EAGER, cache, diskBytes: DISK, requests });
    measures.push(
      measureOf(
        costs.map((cost) => 1e6 / cost),
        {
          name: `Allocating writes on one core: ${device} device, eager, ${cache}`,
          unit: '/s',
          target: { at: 'least', value },
        },
      ),
    );
  }
  tell('throughput: null, B-tree');
  const tree = { device: 'null', variant: BTREE, cache: 'writeback', diskBytes: DISK } as const;
  const treeCosts = await samplesOf({ ...tree, requests: ALLOCATING });
  measures.push(
    measureOf(
      treeCosts.map((cost) => 1e6 / cost),
      {
        name: 'Allocating writes on one core: null device, B-tree, writeback',
        unit: '/s',
        target: { at: 'least', value: 200_000 },
      },
    ),
  );
  tell('throughput: null, raw');
  const raw = {
    device: 'null',
    variant: RAW,
    cache: 'writeback',
    diskBytes: DISK,
    requests: ALLOCATING,
  } as const;
  const name = 'Harness a request: null device, raw';
  return [
    ...measures,
    measureOf(await samplesOf(raw), { name, unit: 'µs', target: { at: 'most', value: 1 } }),
  ];
}

/**
 * Cost at the far end over cost at the near end, of pairs measured side by side; slices of L2
 * tables are 4 KiB.
 */
export async function flatness(tell: (text: string) => void): Promise<readonly Measure[]> {
  const target = { at: 'most', value: 1.3 } as const;
  const common = { device: 'null', variant: EAGER, cache: 'writeback', sliceBytes: 4096 } as const;
  const sizes: number[] = [];
  const counts: number[] = [];
  const orders: number[] = [];
  const trees: number[] = [];
  const tree = { device: 'null', variant: BTREE, cache: 'writeback', random: true, dense: true } as const;
  for (let round = -1; round < SAMPLES; round++) {
    tell(`flatness: round ${String(round + 1)} of ${String(SAMPLES)}`);
    const near = await costOf({ ...common, diskBytes: GIB, requests: GIB / STRIDE_BYTES });
    const far = await costOf({ ...common, diskBytes: 8192 * GIB, requests: GIB / STRIDE_BYTES });
    const few = await costOf({ ...common, diskBytes: 1024 * GIB, requests: 1e4 });
    const many = await costOf({ ...common, diskBytes: 1024 * GIB, requests: 1e7 });
    const inOrder = await costOf({ ...common, diskBytes: DISK, requests: ALLOCATING });
    const scattered = await costOf({ ...common, diskBytes: DISK, requests: ALLOCATING, random: true });
    const small = await costOf({ ...tree, diskBytes: GIB, requests: 1e5 });
    const large = await costOf({ ...tree, diskBytes: 1024 * GIB, requests: 1e5 });
    if (round < 0) continue;
    trees.push(large / small);
    orders.push(scattered / inOrder);
    sizes.push(far / near);
    counts.push(many / few);
  }
  return [
    measureOf(sizes, { name: 'Cost a request, 8 TiB ÷ 1 GiB disk, stride', unit: '×', target }),
    measureOf(counts, { name: 'Cost a request, 10⁷ ÷ 10⁴ requests, stride', unit: '×', target }),
    measureOf(trees, {
      name: 'Cost a request, B-tree, random 4 KiB writes, 1 TiB ÷ 1 GiB disk',
      unit: '×',
      target: { at: 'most', value: 1.5 },
    }),
    measureOf(orders, { name: 'Cost a request, random ÷ stride order, 16 GiB disk', unit: '×' }),
  ];
}

/**
 * Over ten million requests, of which the disk's clusters are allocated by the first few hundred
 * thousand.
 */
export async function resident(tell: (text: string) => void): Promise<readonly Measure[]> {
  tell('resident memory: 10 million requests');
  const mebibytes: number[] = [];
  let next = 0;
  await costOf({
    device: 'null',
    variant: EAGER,
    cache: 'writeback',
    diskBytes: DISK,
    requests: 1e7,
    progress: (done) => {
      if (done < next) return;
      mebibytes.push(process.memoryUsage.rss() / 2 ** 20);
      next += 250_000;
    },
  });
  const warm = mebibytes.slice(Math.floor(mebibytes.length / 4));
  const half = Math.floor(warm.length / 2);
  const growth = Math.max(...warm.slice(half)) - Math.max(...warm.slice(0, half));
  const largest = Math.max(...mebibytes);
  return [
    measureOf([largest], {
      name: 'Largest resident memory over 10⁷ requests, null device',
      unit: 'MiB',
      target: { at: 'most', value: 300 },
    }),
    measureOf([growth], {
      name: 'Its growth after warm-up, first half against second',
      unit: 'MiB',
      target: { at: 'most', value: 16 },
      note: 'after the first quarter, as warm-up; 16 MiB is what the collector leaves behind',
    }),
  ];
}
