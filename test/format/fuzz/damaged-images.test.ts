/**
 * Any damage of a good image, by structure and by bit: what happens is an error with a code, in bounded time and memory,
 * and nothing is written to an image that was refused.
 *
 * `FUZZ_MINUTES=N` goes on for N minutes (`npm run fuzz -- --minutes N`); each failure names its seed, and
 * `FUZZ_SEED=N` begins there.
 */

import { beforeAll, describe, expect, it } from 'vitest';
import { Qcow2BenchError } from '../../../src/core/error.ts';
import { Random } from '../../../src/core/random.ts';
import { MemoryDevice } from '../../../src/device/memory-device.ts';
import { WriteLog } from '../../../src/device/write-log.ts';
import type { CheckReport } from '../../../src/format/check-report.ts';
import type { DiskImage } from '../../../src/format/disk-image.ts';
import type { CreateOptions, OpenOptions } from '../../../src/format/image-options.ts';
import { createQcow2 } from '../../../src/format/qcow2/create.ts';
import { openQcow2 } from '../../../src/format/qcow2/open.ts';
import { checkQed } from '../../../src/format/qed/check.ts';
import { createQed } from '../../../src/format/qed/create.ts';
import { openQed } from '../../../src/format/qed/open.ts';
import { tableExtents } from '../../../src/image/image-extents.ts';
import { filled } from '../recorded-files.ts';
import { damaged } from '../qcow2/damage.ts';

const RUNS = 2000;
const MINUTES = Number(process.env['FUZZ_MINUTES'] ?? 0);
const FIRST_SEED = Number(process.env['FUZZ_SEED'] ?? 0) || 1;
/** Extents of a disk that are looked at. */
const EXTENTS_MAX = 2000;

type Family = 'qcow2' | 'qed';
interface Base {
  readonly family: Family;
  readonly bytes: Uint8Array<ArrayBuffer>;
}

const SHAPES: readonly (Omit<CreateOptions, 'device'> & { readonly family: Family })[] = [
  { family: 'qcow2', virtualSize: 1024 ** 2, clusterSize: 512 },
  { family: 'qcow2', virtualSize: 4 * 1024 ** 2, clusterSize: 4096, refcounts: 'lazy' },
  { family: 'qcow2', virtualSize: 4 * 1024 ** 2, clusterSize: 4096, shape: { refcountBits: 1 } },
  { family: 'qcow2', virtualSize: 4 * 1024 ** 2, clusterSize: 4096, shape: { refcountBits: 64 } },
  { family: 'qcow2', virtualSize: 4 * 1024 ** 2, clusterSize: 4096, shape: { compat: '0.10' } },
  { family: 'qed', virtualSize: 16 * 1024 ** 2, clusterSize: 4096 },
];

async function openAs(family: Family, device: OpenOptions['device'], options: Partial<OpenOptions>) {
  const all: OpenOptions = {
    device,
    readOnly: false,
    readPurpose: 'data',
    openBacking: () => Promise.reject(new Qcow2BenchError('backing-not-allowed', 'not in a fuzzer')),
    ...options,
  };
  return family === 'qcow2' ? openQcow2(all) : openQed(all);
}

async function makeBase({ family, ...options }: (typeof SHAPES)[number]): Promise<Base> {
  const device = new MemoryDevice();
  await (family === 'qcow2' ? createQcow2 : createQed)({ ...options, device });
  const image = await openAs(family, device, {});
  const cluster = image.clusterSize;
  for (const at of [0, 5, 6, 7, 30, 100]) await image.write(at * cluster, filled(cluster, at + 1));
  await image.writeZeroes(6 * cluster, cluster, { unmap: false });
  await image.discard(30 * cluster, cluster);
  await image.write(image.virtualSize - cluster, filled(512, 9));
  // Lazy refcounts and QED's mark: half of the images were never closed.
  if (options.refcounts === 'lazy') {
    await image.flush('guest-flush');
    await image.abandon();
  } else {
    await image.close();
  }
  return { family, bytes: device.contents() };
}

/** A copy with some bits, or whole entries, of the metadata changed. */
function spoilt({ family, bytes }: Base, seed: number): Uint8Array<ArrayBuffer> {
  if (family === 'qcow2' && seed % 8 !== 0) return damaged(bytes, seed, { header: true }).bytes;
  const copy = bytes.slice();
  const random = new Random(seed);
  const view = new DataView(copy.buffer);
  for (let hits = 1 + random.below(4); hits > 0; hits--) {
    const at = random.chance(0.4) ? random.below(120) : random.below(copy.byteLength - 8) & ~7;
    if (random.chance(0.4)) copy[at] = random.below(256);
    else if (random.chance(0.5)) view.setBigUint64(at, 1n << BigInt(random.below(64)), family === 'qed');
    else view.setBigUint64(at, BigInt(random.below(copy.byteLength * 2)), family === 'qed');
  }
  return copy;
}

/** Runs work that may only fail with an error of the image. */
async function tolerant<T>(work: () => Promise<T>): Promise<T | undefined> {
  try {
    return await work();
  } catch (error) {
    if (error instanceof Qcow2BenchError && error.code !== '') return undefined;
    throw error;
  }
}

function deviceOf(bytes: Uint8Array): MemoryDevice {
  const device = new MemoryDevice();
  device.write(0, bytes, 'data');
  return device;
}

async function useAsGuest(image: DiskImage): Promise<void> {
  const cluster = Math.max(512, image.clusterSize);
  const buffer = new Uint8Array(cluster);
  for (const at of [0, 5, 30, 101]) {
    if ((at + 1) * cluster > image.virtualSize) break;
    await tolerant(async () => image.read(at * cluster, buffer));
    await tolerant(async () => image.write(at * cluster, filled(512, 3)));
  }
  await tolerant(async () => image.discard(0, cluster));
  await tolerant(async () => image.flush('guest-flush'));
}

async function lookAt(family: Family, bytes: Uint8Array): Promise<void> {
  const image = await tolerant(() => openAs(family, deviceOf(bytes), { readOnly: true }));
  if (image === undefined) return;
  await tolerant(async () => {
    let left = EXTENTS_MAX;
    for await (const { length } of tableExtents(image)) {
      expect(length).toBeGreaterThan(0);
      if (--left === 0) break;
    }
  });
  await image.abandon();
}

async function serve(family: Family, bytes: Uint8Array): Promise<void> {
  const device = deviceOf(bytes);
  const log = new WriteLog(device);
  const image = await tolerant(() => openAs(family, log, {}));
  if (image === undefined) {
    const isDirty = family === 'qcow2' ? (bytes[79] ?? 0) % 2 === 1 : ((bytes[16] ?? 0) & 2) !== 0;
    // A dirty image may have been refused in the middle of its repair; no other may have been touched.
    if (!isDirty) expect(log.entries.filter(({ op }) => op !== 'sync')).toEqual([]);
    return;
  }
  await useAsGuest(image);
  await tolerant(() => image.close());
  await image.abandon();
}

async function checkAndRepair(family: Family, bytes: Uint8Array): Promise<void> {
  const device = deviceOf(bytes);
  const reports = await tolerant(() => (family === 'qcow2' ? repairQcow2(device) : repairQed(device)));
  if (reports === undefined) return;
  const [first, second] = reports;
  // What the repair says is left is what is left; if it says nothing is, a second check is clean.
  const left = first.corruptions + first.checkErrors;
  if (left === 0) {
    expect(second).toMatchObject({ corruptions: 0, checkErrors: 0 });
    if (family === 'qcow2') expect(second.leaks).toBe(0);
  }
}

async function repairQcow2(device: MemoryDevice): Promise<readonly [CheckReport, CheckReport]> {
  const options = { device, readPurpose: 'data', forCheck: true } as const;
  const openBacking = (): Promise<never> => Promise.reject(new Qcow2BenchError('backing-not-allowed', 'no'));
  const image = await openQcow2({ ...options, openBacking, readOnly: false });
  try {
    return [await image.check('all'), await image.check()];
  } finally {
    await image.abandon();
  }
}

async function repairQed(device: MemoryDevice): Promise<readonly [CheckReport, CheckReport]> {
  return [await checkQed(device, { repair: 'all' }), await checkQed(device)];
}

describe('a damaged image', () => {
  const bases: Base[] = [];
  beforeAll(async () => {
    for (const shape of SHAPES) bases.push(await makeBase(shape));
  });

  it(
    `gives errors with codes and nothing else (${String(RUNS)} images)`,
    async () => {
      const endMs = performance.now() + MINUTES * 60_000;
      for (let seed = FIRST_SEED; seed < FIRST_SEED + RUNS || performance.now() < endMs; seed++) {
        const base = bases[seed % bases.length] as Base;
        const bytes = spoilt(base, seed);
        try {
          await lookAt(base.family, bytes);
          await serve(base.family, bytes);
          await checkAndRepair(base.family, bytes);
        } catch (error) {
          throw new Error(`seed ${String(seed)} (FUZZ_SEED=${String(seed)} repeats it)`, { cause: error });
        }
      }
    },
    (MINUTES + 2) * 60_000,
  );
});
