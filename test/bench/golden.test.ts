/**
 * The exact figures that QEMU 7.2 and 10.0 were measured at, on the memory device and on a real
 * file. Those of the two are the same but where a profile is named.
 *
 * The figures are written out here and derived from nothing: they are what the engines are held to.
 */

import { beforeAll, describe, expect, it } from 'vitest';

import { runRequests } from '../../src/bench/runner.ts';
import { openStack, type StackOptions, type WrapDevice } from '../../src/bench/stack.ts';
import { Payload } from '../../src/bench/payload.ts';
import type { BlockDevice } from '../../src/device/block-device.ts';
import { probeCapabilities } from '../../src/device/capabilities.ts';
import { FileStorage } from '../../src/device/file-storage.ts';
import { DeviceFilter } from '../../src/device/filter.ts';
import type { HostMeter } from '../../src/device/host-meter.ts';
import { MemoryStorage } from '../../src/device/memory-storage.ts';
import type { Phase } from '../../src/device/operation.ts';
import type { Storage } from '../../src/device/storage.ts';
import { CACHE_MODES, type CacheMode } from '../../src/format/cache-mode.ts';
import type { Format } from '../../src/format/disk-image.ts';
import type { RefcountMode } from '../../src/format/image-options.ts';
import { QEMU_PROFILE_NAMES, type QemuProfileName } from '../../src/format/qemu-profile.ts';
import type { ImageShape } from '../../src/format/image-shape.ts';
import { createImage } from '../../src/format/registry.ts';
import type { Request } from '../../src/workload/request.ts';
import { testDirectory } from '../test-directory.ts';

const KIB = 1024;
const GIB = 1024 ** 3;
const CLUSTER = 64 * KIB;

interface Variant {
  readonly name: string;
  readonly format: Format;
  readonly refcounts: RefcountMode | null;
  /** Default 64 KiB. */
  readonly clusterSize?: number;
  readonly shape?: ImageShape;
}
const RAW: Variant = { name: 'raw', format: 'raw', refcounts: null };
const EAGER: Variant = { name: 'qcow2 eager', format: 'qcow2', refcounts: 'eager' };
const LAZY: Variant = { name: 'qcow2 lazy', format: 'qcow2', refcounts: 'lazy' };
const QED: Variant = { name: 'QED', format: 'qed', refcounts: null };
/** Nothing is left to allocate: a write costs what it costs in raw. */
const PREALLOCATED = [EAGER, LAZY].map((variant): Variant => ({
  ...variant,
  name: `${variant.name} with preallocated metadata`,
  shape: { preallocation: 'metadata' },
}));
const VARIANTS = [RAW, EAGER, LAZY, QED] as const;

/** Clusters of 32 subclusters of 4 KiB. */
const SUBCLUSTERS = { clusterSize: 128 * KIB, shape: { extendedL2: true } };
const EXTENDED_EAGER: Variant = { ...EAGER, ...SUBCLUSTERS, name: 'qcow2 eager, extended L2' };
const EXTENDED_LAZY: Variant = { ...LAZY, ...SUBCLUSTERS, name: 'qcow2 lazy, extended L2' };

/** Host operations of some phases: what `strace -c` would show, zero-ranges apart. */
interface Totals {
  readonly writes: number;
  readonly zeroRanges: number;
  readonly syncs: number;
  readonly bytes: number;
}

const directory = testDirectory();
const files = new FileStorage(directory, probeCapabilities(directory));

const { direct, zeroRange, punchHole } = files.capabilities;
/** A file whose syncs are counted above it and not done: 20,000 real ones would take minutes. */
class SyncsLeftOut extends DeviceFilter {
  override sync(): undefined {
    return undefined;
  }
}

const PLACES: readonly {
  readonly place: string;
  readonly make: () => Storage;
  readonly has: (cache: CacheMode) => boolean;
}[] = [
  { place: 'memory', make: () => new MemoryStorage(), has: () => true },
  {
    place: `a file on ${files.capabilities.fileSystem ?? 'this file system'}`,
    make: () => files,
    has: (cache) =>
      zeroRange.ok && punchHole.ok && (direct.ok || (cache !== 'none' && cache !== 'directsync')),
  },
];

describe.each(PLACES)('on $place', ({ make, has }) => {
  let storage: Storage;
  let fileCount = 0;
  beforeAll(() => {
    storage = make();
  });

  async function makeImage(variant: Variant, backing?: { name: string; format: Format }): Promise<string> {
    const imageName = `${variant.format}-${String(fileCount++)}`;
    const device = storage.create(imageName);
    await createImage({
      device,
      format: variant.format,
      virtualSize: GIB,
      refcounts: variant.refcounts ?? undefined,
      clusterSize: variant.clusterSize,
      shape: variant.shape,
      backingFile: backing,
    });
    await device.close();
    return imageName;
  }

  /** A backing file with data in the first 16 MiB, in a format the image can name. */
  async function makeBacking(): Promise<{ name: string; format: Format }> {
    const name = await makeImage(EAGER);
    await using stack = await openStack({ storage, imageName: name, format: 'qcow2', cache: 'writeback' });
    await serve(stack, writes({ count: 16, length: 1024 * KIB, stride: 1024 * KIB }));
    await stack.close();
    return { name, format: 'qcow2' };
  }

  interface WholeRun {
    readonly variant: Variant;
    readonly cache: CacheMode;
    readonly requests: readonly Request[];
    readonly backing?: { name: string; format: Format };
    readonly wrap?: WrapDevice;
    readonly like?: QemuProfileName;
  }

  async function wholeRun({ variant, cache, requests, backing, wrap, like }: WholeRun): Promise<HostMeter> {
    const imageName = await makeImage(variant, backing);
    const options: StackOptions = {
      storage,
      imageName,
      format: variant.format,
      cache,
      refcounts: variant.refcounts,
      backingPolicy: { unnamedFormat: 'qcow2' },
      like,
      wrap,
    };
    await using stack = await openStack(options);
    await serve(stack, requests);
    await stack.close();
    storage.remove(imageName);
    return stack.meter;
  }

  /**
   * What the last of `warm + 1` writes costs, alike in all versions of QEMU: a difference of two
   * runs, so that nothing of the start is in it.
   */
  async function costOfOneMore(
    options: Omit<WholeRun, 'requests' | 'like'> & { length: number },
  ): Promise<Totals> {
    const [first, ...others] = await Promise.all(
      QEMU_PROFILE_NAMES.map((like) => costOfOneMoreLike(like, options)),
    );
    for (const other of others) expect(other).toEqual(first);
    return first as Totals;
  }

  async function costOfOneMoreLike(
    like: QemuProfileName,
    options: Omit<WholeRun, 'requests' | 'like'> & { length: number },
  ): Promise<Totals> {
    const warm = 20;
    const requests = (count: number): readonly Request[] =>
      writes({ count, length: options.length, stride: options.variant.clusterSize });
    const shorter = await wholeRun({ ...options, like, requests: requests(warm) });
    const longer = await wholeRun({ ...options, like, requests: requests(warm + 1) });
    const [before, after] = [totals(shorter, ['run']), totals(longer, ['run'])];
    return {
      writes: after.writes - before.writes,
      zeroRanges: after.zeroRanges - before.zeroRanges,
      syncs: after.syncs - before.syncs,
      bytes: after.bytes - before.bytes,
    };
  }

  describe('one more 4 KiB allocating write in writethrough costs', () => {
    it.each([
      { variant: RAW, cost: { writes: 1, zeroRanges: 0, syncs: 1, bytes: 4096 } },
      ...PREALLOCATED.map((variant) => ({
        variant,
        cost: { writes: 1, zeroRanges: 0, syncs: 1, bytes: 4096 },
      })),
      { variant: EAGER, cost: { writes: 3, zeroRanges: 1, syncs: 2, bytes: 135_168 } },
      { variant: LAZY, cost: { writes: 2, zeroRanges: 1, syncs: 1, bytes: 69_632 } },
      { variant: QED, cost: { writes: 3, zeroRanges: 0, syncs: 1, bytes: 66_048 } },
      { variant: EXTENDED_EAGER, cost: { writes: 3, zeroRanges: 0, syncs: 2, bytes: 266_240 } },
      { variant: EXTENDED_LAZY, cost: { writes: 2, zeroRanges: 0, syncs: 1, bytes: 135_168 } },
    ])('$cost for $variant.name', async ({ variant, cost }) => {
      expect(await costOfOneMore({ variant, cache: 'writethrough', length: 4096 })).toEqual(cost);
    });

    it('four writes in QED if it is in mid-cluster: fill on both sides of it', async () => {
      const requests = (count: number): readonly Request[] =>
        writes({ count, length: 4096, first: 16 * KIB });
      const shorter = totals(
        await wholeRun({ variant: QED, cache: 'writethrough', requests: requests(20) }),
        ['run'],
      );
      const longer = totals(await wholeRun({ variant: QED, cache: 'writethrough', requests: requests(21) }), [
        'run',
      ]);
      expect(longer.writes - shorter.writes).toBe(4);
      expect(longer.bytes - shorter.bytes).toBe(66_048);
    });
  });

  describe('one more 4 KiB write over a backing file with data, in writethrough, costs', () => {
    it.each([
      { variant: EAGER, cost: { writes: 3, zeroRanges: 0, syncs: 2, bytes: 196_608 } },
      { variant: LAZY, cost: { writes: 2, zeroRanges: 0, syncs: 2, bytes: 131_072 } },
      { variant: QED, cost: { writes: 3, zeroRanges: 0, syncs: 2, bytes: 66_048 } },
    ])('$cost for $variant.name', async ({ variant, cost }) => {
      const backing = await makeBacking();
      expect(await costOfOneMore({ variant, cache: 'writethrough', length: 4096, backing })).toEqual(cost);
    });
  });

  describe('one more write of a full cluster in writethrough costs', () => {
    it.each([
      { variant: EAGER, cost: { writes: 3, zeroRanges: 0, syncs: 2, bytes: 196_608 } },
      { variant: LAZY, cost: { writes: 2, zeroRanges: 0, syncs: 1, bytes: 131_072 } },
    ])('$cost for $variant.name', async ({ variant, cost }) => {
      expect(await costOfOneMore({ variant, cache: 'writethrough', length: CLUSTER })).toEqual(cost);
    });
  });

  describe('a whole run of 1,000 writes of 4 KiB at stride 64 KiB, with close', () => {
    const FIGURES = [
      { variant: RAW, like: 'qemu-7.2', through: [1000, 1000], back: [1000, 1] },
      { variant: RAW, like: 'qemu-10.0', through: [1000, 1001], back: [1000, 1] },
      ...PREALLOCATED.map((variant) => ({ variant, through: [1000, 1000], back: [1000, 1] }) as const),
      { variant: EAGER, through: [3003, 2003], back: [1005, 5] },
      { variant: LAZY, through: [2006, 1006], back: [1007, 7] },
      { variant: QED, through: [3003, 1002], back: [3003, 3] },
    ] as const;
    const cases = FIGURES.flatMap(({ variant, through, back, ...rest }) =>
      CACHE_MODES.filter(has).map((cache) => {
        const [writeCount, syncs] = cache === 'writethrough' || cache === 'directsync' ? through : back;
        const like = 'like' in rest ? rest.like : undefined;
        const name = [variant.name, like].filter((part) => part !== undefined).join(' like ');
        return { name, variant, like, cache, writeCount, syncs: cache === 'unsafe' ? 0 : syncs };
      }),
    );
    it.each(cases)('is $writeCount writes and $syncs syncs: $name, $cache', async (expected) => {
      const { variant, like, cache } = expected;
      const meter = await wholeRun({
        variant,
        ...(like === undefined ? {} : { like }),
        cache,
        requests: writes({ count: 1000, length: 4096 }),
        wrap: (device) => new SyncsLeftOut(device),
      });
      const found = totals(meter, ['open', 'run', 'close']);
      expect([found.writes, found.syncs]).toEqual([expected.writeCount, expected.syncs]);
    });
  });

  it.each([
    { variant: EAGER, writeCount: 1155, syncs: 1091 },
    { variant: LAZY, writeCount: 1094, syncs: 1030 },
  ])(
    'sixteen sequential writes a cluster, 1,024 in all, in writethrough: $writeCount writes and $syncs syncs, $variant.name',
    async ({ variant, writeCount, syncs }) => {
      const requests = writes({ count: 1024, length: 4096, stride: 4096 });
      const wrap = (device: BlockDevice): BlockDevice => new SyncsLeftOut(device);
      const meter = await wholeRun({ variant, cache: 'writethrough', requests, wrap });
      const found = totals(meter, ['run', 'close']);
      expect([found.writes, found.syncs]).toEqual([writeCount, syncs]);
    },
  );

  it.each(VARIANTS)('an overwrite costs one write and one sync in writethrough: $name', async (variant) => {
    const once = writes({ count: 30, length: 4096 });
    const first = totals(await wholeRun({ variant, cache: 'writethrough', requests: once }), ['run']);
    const both = totals(await wholeRun({ variant, cache: 'writethrough', requests: [...once, ...once] }), [
      'run',
    ]);
    expect([both.writes - first.writes, both.syncs - first.syncs, both.bytes - first.bytes]).toEqual([
      30,
      30,
      30 * 4096,
    ]);
  });
});

async function serve(
  stack: { readonly backend: Parameters<typeof runRequests>[0]['backend'] },
  requests: readonly Request[],
): Promise<void> {
  await runRequests({
    backend: stack.backend,
    batches: [requests],
    queueDepth: 1,
    payload: new Payload('pattern', 1),
  });
}

function writes(options: {
  readonly count: number;
  readonly length: number;
  readonly stride?: number | undefined;
  readonly first?: number;
}): readonly Request[] {
  const { count, length, stride = CLUSTER, first = 0 } = options;
  return Array.from({ length: count }, (_, index) => ({
    op: 'write',
    offset: first + index * stride,
    length,
    fua: false,
    unmap: false,
    timeNs: 0,
  }));
}

function totals(meter: HostMeter, phases: readonly Phase[]): Totals {
  const counts = phases.map((phase) => meter.counts(phase));
  const sum = (pick: (of: (typeof counts)[number]) => number): number =>
    counts.reduce((total, of) => total + pick(of), 0);
  return {
    writes: sum((of) => of.writes.ops),
    zeroRanges: sum((of) => of.zeroRanges.ops),
    syncs: sum((of) => of.syncs.ops),
    bytes: sum((of) => of.writes.bytes),
  };
}
