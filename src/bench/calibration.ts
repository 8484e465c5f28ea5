/**
 * Measures a device under its file system with a few seconds of I/O, and fits the linear costs of a
 * model to it.
 *
 * Invariants:
 * - Every figure is the median over rounds of the median of repetitions, on a file that is written
 *   and synced beforehand; the file is gone afterwards, however it ends.
 * - What cannot be measured here is not invented: without O_DIRECT that way has the costs of the
 *   page cache, and the model's description says so.
 * - Costs are differences of medians; one that noise makes negative is 0.
 */

import { median } from 'simple-statistics';

import { allocatePages } from '../core/page-memory.ts';
import { Random } from '../core/random.ts';
import type { BlockDevice } from '../device/block-device.ts';
import type { DeviceModel, OperationCost, PathCosts, SyncCost } from '../device/device-model.ts';
import { NullStorage } from '../device/memory-storage.ts';
import type { Storage } from '../device/storage.ts';
import { FORMATS, type Format } from '../format/disk-image.ts';
import { createImage } from '../format/registry.ts';
import type { Request } from '../workload/request.ts';
import { ticksOf, type Clock } from './clock.ts';
import { Payload } from './payload.ts';
import { runRequests } from './runner.ts';
import { openStack } from './stack.ts';

export interface CalibrationOptions {
  readonly storage: Storage;
  /** Of the scratch file, within the storage. */
  readonly fileName: string;
  readonly clock: Clock;
  readonly seed: number;
  /** Of the model that is made. */
  readonly name: string;
  readonly signal?: AbortSignal | undefined;
  /** Awaited between measurements with what comes next, and the share from 0 to 1 that is done. */
  readonly progress?: ((what: string, share: number) => void | Promise<void>) | undefined;
}

const KIB = 1024;
const SMALL = 4 * KIB;
const LARGE = 64 * KIB;
/** The part of the file that is written beforehand; scattered operations fall into it. */
const FILE_SIZE = 64 * KIB * KIB;
const ROUNDS = 5;
/** Groups of measurements of a path in a round. */
const STEPS = 4;
const WARM_UP = 20;
const FAST_REPEATS = 300;
const SYNC_REPEATS = 40;
/** Extents of the sync that measures the cost per extent. */
const SCATTERED = 16;
const CLUSTER = LARGE;
const HARNESS_PASSES = 12;
const HARNESS_WARM_UP = 5;
/** Allocating writes, as a cut of a workload has them. */
const HARNESS_REQUESTS: readonly Request[] = Array.from({ length: 2000 }, (_, index) => ({
  op: 'write',
  offset: index * CLUSTER,
  length: SMALL,
  fua: false,
  unmap: false,
  timeNs: 0,
}));

/**
 * @throws Qcow2BenchError of the storage (`host-write-failed` where 128 MiB do not fit …); the
 *   signal's reason.
 */
export async function calibrate(options: CalibrationOptions): Promise<DeviceModel> {
  const { storage, name } = options;
  await options.progress?.('the harness itself', 0);
  const requestNs = await measureRequestNs(options);
  const { direct } = storage.capabilities;
  const buffered: PathCosts[] = [];
  const directly: PathCosts[] = [];
  const ways = direct.ok ? 2 : 1;
  for (let round = 0; round < ROUNDS; round++) {
    const done = round / ROUNDS;
    const share = 1 / (ROUNDS * ways);
    buffered.push(await measurePath(options, { direct: false, done, share }));
    if (direct.ok) directly.push(await measurePath(options, { direct: true, done: done + share, share }));
  }
  const place = `Measured in ${storage.describe()}`;
  return {
    name,
    description: direct.ok ? place : `${place}; without O_DIRECT: ${direct.reason}`,
    // The harness issues one operation after another: more places would promise what was not
    // measured.
    parallelism: 1,
    requestNs,
    buffered: medianCosts(buffered),
    direct: medianCosts(direct.ok ? directly : buffered),
  };
}

/** Each figure apart: a disturbance hits some figures of one round. */
function medianCosts(rounds: readonly PathCosts[]): PathCosts {
  const operation = (pick: (costs: PathCosts) => OperationCost): OperationCost => {
    const figure = (name: keyof OperationCost): number => median(rounds.map((costs) => pick(costs)[name]));
    return {
      baseNs: figure('baseNs'),
      nsPerKiB: figure('nsPerKiB'),
      jumpNs: figure('jumpNs'),
      allocationNs: figure('allocationNs'),
    };
  };
  const sync = (name: keyof SyncCost): number => median(rounds.map((costs) => costs.sync[name]));
  return {
    read: operation(({ read }) => read),
    write: operation(({ write }) => write),
    zeroRange: operation(({ zeroRange }) => zeroRange),
    punchHole: operation(({ punchHole }) => punchHole),
    truncate: operation(({ truncate }) => truncate),
    sync: {
      baseNs: sync('baseNs'),
      nsPerKiB: sync('nsPerKiB'),
      extentNs: sync('extentNs'),
      allocationNs: sync('allocationNs'),
    },
  };
}

/** What a request takes where every host operation is done at once and drops its data. */
async function measureRequestNs({ clock, signal }: CalibrationOptions): Promise<DeviceModel['requestNs']> {
  const requestNs: Partial<Record<Format, number>> = {};
  for (const format of FORMATS) {
    const times: number[] = [];
    for (let pass = 0; pass < HARNESS_PASSES; pass++) times.push(await harnessPassNs(format, clock, signal));
    // The first passes run before the engine is compiled.
    requestNs[format] = positive(median(times.slice(HARNESS_WARM_UP)));
  }
  return requestNs;
}

async function harnessPassNs(format: Format, clock: Clock, signal: AbortSignal | undefined): Promise<number> {
  const storage = new NullStorage();
  const imageName = `image.${format}`;
  const device = storage.create(imageName);
  await createImage({ format, device, virtualSize: HARNESS_REQUESTS.length * CLUSTER });
  device.close();
  await using stack = await openStack({ storage, imageName, format, cache: 'writeback', metered: false });
  const before = ticksOf(clock)();
  await runRequests({
    backend: stack.backend,
    batches: [HARNESS_REQUESTS],
    queueDepth: 1,
    payload: new Payload('pattern', 1),
    signal,
  });
  return (ticksOf(clock)() - before) / HARNESS_REQUESTS.length;
}

async function measurePath(
  options: CalibrationOptions,
  { direct, done, share }: { readonly direct: boolean; readonly done: number; readonly share: number },
): Promise<PathCosts> {
  const { storage, fileName } = options;
  const way = direct ? 'O_DIRECT' : 'page cache';
  const file = storage.create(fileName, { direct, overwrite: false });
  try {
    const bench = new PathBench(file, options);
    await bench.fill();
    let steps = 0;
    const step = async (what: string): Promise<void> => {
      options.signal?.throwIfAborted();
      await options.progress?.(`${way}: ${what}`, done + (share * steps++) / STEPS);
    };
    await step('reads');
    const read = await bench.operation((offset, bytes) => file.read(offset, bytes, 'data'));
    await step('writes');
    const overwrite = await bench.operation((offset, bytes) => file.write(offset, bytes, 'data'));
    const write = { ...overwrite, allocationNs: await bench.allocationNs() };
    await step('zero-ranges, holes and growth');
    const { zeroRange, punchHole, truncate } = await bench.layoutOperations();
    await step('syncs');
    const sync = await bench.sync();
    return { read, write, zeroRange, punchHole, truncate, sync };
  } finally {
    await file.close();
    storage.remove(fileName);
  }
}

type Work = (index: number) => undefined | Promise<void>;

class PathBench {
  readonly #file: BlockDevice;
  readonly #ticksNs: () => number;
  readonly #random: Random;
  readonly #small = allocatePages(SMALL).fill(1);
  readonly #large = allocatePages(LARGE).fill(2);

  constructor(file: BlockDevice, { clock, seed }: CalibrationOptions) {
    this.#file = file;
    this.#ticksNs = ticksOf(clock);
    this.#random = new Random(seed);
  }

  async fill(): Promise<void> {
    for (let offset = 0; offset < FILE_SIZE; offset += LARGE) {
      await this.#file.write(offset, this.#large, 'data');
    }
    await this.#file.sync('close');
  }

  /** Reads or writes: one after another in two sizes, and scattered. */
  async operation(
    run: (offset: number, bytes: Uint8Array) => undefined | Promise<void>,
  ): Promise<OperationCost> {
    const wrapped = (index: number, size: number): number => (index * size) % FILE_SIZE;
    const small = await this.#medianNs(FAST_REPEATS, (index) => run(wrapped(index, SMALL), this.#small));
    const large = await this.#medianNs(FAST_REPEATS, (index) => run(wrapped(index, LARGE), this.#large));
    const scattered = await this.#medianNs(FAST_REPEATS, () => run(this.#anyBlock(), this.#small));
    const nsPerKiB = positive((large - small) / ((LARGE - SMALL) / KIB));
    await this.#file.sync('close');
    return {
      baseNs: positive(small - (nsPerKiB * SMALL) / KIB),
      nsPerKiB,
      jumpNs: positive(scattered - small),
      allocationNs: 0,
    };
  }

  /** What a small write costs more in a new cluster past the end than where it overwrites. */
  async allocationNs(): Promise<number> {
    const file = this.#file;
    const overwrite = await this.#medianNs(FAST_REPEATS, () =>
      file.write(this.#anyBlock(), this.#small, 'data'),
    );
    const append = await this.#medianNs(FAST_REPEATS, (index) =>
      file.write(FILE_SIZE + index * CLUSTER, this.#small, 'data'),
    );
    await file.truncate(FILE_SIZE, 'data');
    await file.sync('close');
    return positive(append - overwrite);
  }

  /** On clusters at the end of the file, as an image that grows has them. */
  async layoutOperations(): Promise<Pick<PathCosts, 'zeroRange' | 'punchHole' | 'truncate'>> {
    const file = this.#file;
    const zero = { baseNs: 0, nsPerKiB: 0, jumpNs: 0, allocationNs: 0 };
    const at = (index: number): number => FILE_SIZE + index * CLUSTER;
    const zeroRange = file.canZeroRange
      ? await this.#medianNs(FAST_REPEATS, (index) => file.zeroRange(at(index), CLUSTER, 'cow'))
      : 0;
    const punchHole = file.canPunchHole
      ? await this.#medianNs(FAST_REPEATS, (index) => file.punchHole(at(index), CLUSTER, 'data'))
      : 0;
    await file.truncate(FILE_SIZE, 'data');
    const truncate = await this.#medianNs(FAST_REPEATS, (index) => file.truncate(at(index), 'data'));
    await file.truncate(FILE_SIZE, 'data');
    await file.sync('close');
    return {
      zeroRange: { ...zero, baseNs: zeroRange },
      punchHole: { ...zero, baseNs: punchHole },
      truncate: { ...zero, baseNs: truncate },
    };
  }

  /**
   * A sync after one small overwrite, one large, many scattered, and one that allocates; their
   * differences tell transfer, extents, and the journal.
   */
  async sync(): Promise<SyncCost> {
    const file = this.#file;
    const small = await this.#syncNs(() => file.write(this.#anyBlock(), this.#small, 'data'));
    const large = await this.#syncNs(() => file.write(this.#anyCluster(), this.#large, 'data'));
    const scattered = await this.#syncNs(async () => {
      for (let extent = 0; extent < SCATTERED; extent++) {
        await file.write(this.#anyBlock(), this.#small, 'data');
      }
    });
    const allocating = await this.#syncNs(async (index) => {
      const offset = FILE_SIZE + index * CLUSTER;
      if (file.canZeroRange) await file.zeroRange(offset, CLUSTER, 'cow');
      await file.write(offset, this.#small, 'data');
    });
    const nsPerKiB = positive((large - small) / ((LARGE - SMALL) / KIB));
    const scatteredTransfer = (nsPerKiB * (SCATTERED - 1) * SMALL) / KIB;
    const extentNs = positive((scattered - small - scatteredTransfer) / (SCATTERED - 1));
    return {
      baseNs: positive(small - (nsPerKiB * SMALL) / KIB - extentNs),
      nsPerKiB,
      extentNs,
      allocationNs: positive(allocating - small),
    };
  }

  /** The median time of a sync after `prepare`. */
  async #syncNs(prepare: (index: number) => undefined | Promise<void>): Promise<number> {
    const times: number[] = [];
    for (let index = 0; index < SYNC_REPEATS; index++) {
      await prepare(index);
      const before = this.#ticksNs();
      await this.#file.sync('close');
      times.push(this.#ticksNs() - before);
    }
    return median(times);
  }

  async #medianNs(repeats: number, work: Work): Promise<number> {
    const times: number[] = [];
    for (let index = 0; index < WARM_UP + repeats; index++) {
      const before = this.#ticksNs();
      const pending = work(index);
      if (pending !== undefined) await pending;
      if (index >= WARM_UP) times.push(this.#ticksNs() - before);
    }
    return median(times);
  }

  #anyBlock(): number {
    return this.#random.below(FILE_SIZE / SMALL) * SMALL;
  }

  #anyCluster(): number {
    return this.#random.below(FILE_SIZE / CLUSTER) * CLUSTER;
  }
}

function positive(ns: number): number {
  return Math.max(0, Math.round(ns * 100) / 100);
}
