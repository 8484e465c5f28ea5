/**
 * The named exceptions of docs/qemu-rules.md that have no test elsewhere: what QEMU does, what we
 * do, and that the suite takes nothing else for it. The day on which QEMU no longer does it, the
 * test fails and the exception goes. With them what does not vary in requests of several extents,
 * though their data are written at any time.
 */

import { readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';

import { beforeAll, describe, expect, it } from 'vitest';

import type { StackOptions } from '../../src/bench/stack.ts';
import { Random } from '../../src/core/random.ts';
import { probeCapabilities } from '../../src/device/capabilities.ts';
import { FileStorage } from '../../src/device/file-storage.ts';
import { MemoryStorage } from '../../src/device/memory-storage.ts';
import { unsupportedNoUnref } from '../../src/format/qemu-profile.ts';
import { createImage } from '../../src/format/registry.ts';
import type { HostLogRecord } from '../../src/device/host-log.ts';
import { checkImageFile } from '../../src/image/check-image.ts';
import { compareOperations, formatOperation } from '../../src/peer/compare-operations.ts';
import type { HostOperation } from '../../src/peer/host-operation.ts';
import { cacheOptions, DISCARD_NO_UNREF, runQemuIo } from '../../src/peer/qemu-io.ts';
import { createWithQemuImg } from '../../src/peer/qemu-tools.ts';
import type { SlowedCall } from '../../src/peer/strace.ts';
import {
  compareWithout,
  judgeOrder,
  judgeRuns,
  ORDER_RUNS,
  type TaggedRecord,
} from '../../src/peer/varying-order.ts';
import { copySparse } from '../../src/device/file-copy.ts';
import type { Request } from '../../src/workload/request.ts';
import { expectSameFiles, expectSameOperations } from '../format/expect-same.ts';
import { reasonToSkip, runTool } from '../format/system-tools.ts';
import { testDirectory } from '../test-directory.ts';
import { ask } from './qemu-cases.ts';
import { peerProfile, servePeerRequests } from './peer-stack.ts';

const MIB = 1024 * 1024;
const skip = reasonToSkip('qemu-img', 'qemu-io', 'strace');

const directory = testDirectory();

describe.skipIf(skip !== undefined)('the look for preallocated data', () => {
  it('ends where more is in use than is stored, as in QEMU', async () => {
    const clusterSize = 4096;
    const blocks = 33;
    const path = join(directory, 'many-blocks');
    await createWithQemuImg(path, {
      format: 'qcow2',
      // 512 refcounts a block.
      size: 32 * 512 * clusterSize,
      options: { cluster_size: String(clusterSize), refcount_bits: '64', preallocation: 'metadata' },
    });
    await copySparse(path, `${path}-ours`);
    // A part of a cluster that is to be zero is what the look is for; then what frees and allocates
    // clusters.
    const requests = [
      ask.zero(512, 512),
      ask.write(8 * MIB, 3 * clusterSize),
      ask.discard(0, 16 * clusterSize),
      ask.zero(40 * MIB, 20 * clusterSize, true),
      ask.write(512, 9 * clusterSize),
      ask.flush(),
    ];
    const theirs = await runQemuIo({ path, format: 'qcow2', cache: 'writeback', requests });
    const ours = await serve(requests, { imageName: 'many-blocks-ours', cache: 'writeback' });
    const looks = (operations: readonly (HostLogRecord | HostOperation)[]): readonly string[] =>
      operations.flatMap((each) =>
        each.op === 'read' && each.phase === 'run' ? [formatOperation(each)] : [],
      );
    expect(looks(ours)).toEqual(looks(theirs));
    expect(looks(theirs).length).toBeLessThan(blocks / 2);
    const comparison = compareOperations(ours, theirs);
    expectSameOperations(comparison);
    expect(comparison.operations).toBeGreaterThan(10);
    await expectSameFiles(`${path}-ours`, path);

    // What memory counts depends on no file system: all blocks are looked at.
    const storage = new MemoryStorage();
    const shape = { refcountBits: 64, preallocation: 'metadata' } as const;
    const device = storage.create('image');
    await createImage({ format: 'qcow2', device, virtualSize: 32 * 512 * clusterSize, clusterSize, shape });
    const counted = await serve(requests.slice(0, 1), { storage, imageName: 'image' });
    expect(looks(counted).length).toBeGreaterThanOrEqual(blocks);
  });
});

describe.skipIf(skip !== undefined)('qed-zero-over-backing', () => {
  it('QEMU shows what is below a zero cluster that is written in part; we keep the zeroes', async () => {
    const path = join(directory, 'zeroes.qed');
    await createWithQemuImg(join(directory, 'below'), { format: 'raw', size: MIB });
    await runQemuIo({
      path: join(directory, 'below'),
      format: 'raw',
      cache: 'writeback',
      requests: [ask.write(0, MIB)],
    });
    await createWithQemuImg(path, { format: 'qed', size: MIB, backing: { path: 'below', format: 'raw' } });
    await copySparse(path, `${path}-ours`);
    const requests = [ask.zero(0, 65_536), ask.write(512, 512)];
    await runQemuIo({ path, format: 'qed', cache: 'writeback', requests });
    await serve(requests, {
      imageName: 'zeroes.qed-ours',
      format: 'qed',
      backingPolicy: { unnamedFormat: 'raw' },
    });
    const reads = (file: string, value: number): string =>
      runTool('qemu-io', ['-r', '-f', 'qed', '-c', `read -P ${String(value)} 1024 512`, file]);
    // Below the image every byte is 1.
    expect(reads(path, 1)).not.toContain('failed');
    expect(reads(`${path}-ours`, 0)).not.toContain('failed');
  });
});

const hasNoUnref = skip === undefined && unsupportedNoUnref(peerProfile()) === undefined;

describe.skipIf(!hasNoUnref)('no-unref-of-shared', () => {
  it.each(['off', 'on'])(
    'QEMU punches holes into the clusters of a snapshot, extended L2 %s; we do all but that',
    async (extended) => {
      const path = join(directory, `shared-${extended}`);
      const cluster = 65_536;
      const options = { extended_l2: extended };
      await createWithQemuImg(path, { format: 'qcow2', size: MIB, options });
      const filled = [ask.write(0, 4 * cluster)];
      await runQemuIo({ path, format: 'qcow2', cache: 'writeback', requests: filled });
      runTool('qemu-img', ['snapshot', '-c', 'kept', path]);
      await copySparse(path, `${path}-ours`);
      const requests = [
        ask.discard(0, cluster),
        ask.zero(cluster, cluster, true),
        ask.flush(),
        // No longer shared: both punch a hole.
        ask.write(2 * cluster, cluster),
        ask.discard(2 * cluster, cluster),
        ask.write(0, 512),
      ];
      const image = { path, format: 'qcow2', cache: 'writeback' } as const;
      const theirs = await runQemuIo({ ...image, requests, imageOptions: DISCARD_NO_UNREF });
      const ours = await serve(requests, { imageName: `shared-${extended}-ours`, discardNoUnref: true });
      // The clusters that the snapshot shares.
      const holes = theirs.filter(({ op, request }) => op === 'punch-hole' && (request ?? 9) < 2);
      expect(holes.map(({ length }) => length)).toEqual([cluster, cluster]);
      const others = theirs.filter((operation) => !holes.includes(operation));
      const comparison = compareOperations(ours, others);
      expectSameOperations(comparison);
      expect(ours.filter(({ op }) => op === 'punch-hole')).toHaveLength(1);

      const readSnapshot = (file: string): string => {
        runTool('qemu-img', ['snapshot', '-a', 'kept', file]);
        return runTool('qemu-io', ['-r', '-f', 'qcow2', '-c', `read -P 1 0 ${String(4 * cluster)}`, file]);
      };
      expect(() => readSnapshot(path)).toThrow('Pattern verification failed');
      readSnapshot(`${path}-ours`);
      runTool('qemu-img', ['check', '-q', `${path}-ours`]);
    },
  );
});

describe.skipIf(skip !== undefined)('failed-leak-repair', () => {
  it('QEMU clears the dirty bit of an image that it could not repair; we keep it', async () => {
    const path = join(directory, 'dirty');
    await createWithQemuImg(path, { format: 'qcow2', size: MIB, options: { lazy_refcounts: 'on' } });
    const crash = ['-f', 'qcow2', '-c', 'write 0 64k', '-c', 'flush', '-c', 'abort', path];
    expect(() => runTool('qemu-io', crash)).toThrow();
    const isDirty = (file: string): boolean => readFileSync(file)[79] === 1;
    expect(isDirty(path)).toBe(true);
    await copySparse(path, `${path}-ours`);
    expect(() => runTool('qemu-img', ['check', '-q', '-f', 'qcow2', '-r', 'leaks', path])).toThrow();
    expect(isDirty(path)).toBe(false);
    expect(() => runTool('qemu-img', ['check', '-q', '-f', 'qcow2', path])).toThrow();
    const storage = new FileStorage(directory, probeCapabilities(directory));
    const { report } = await checkImageFile({ storage, name: 'dirty-ours', repair: 'leaks' });
    expect(report.corruptions + report.checkErrors).toBeGreaterThan(0);
    expect(isDirty(`${path}-ours`)).toBe(true);
  });
});

describe.skipIf(skip !== undefined)('snapshots-beside-bitmaps', () => {
  it.each(['leaks', 'all'] as const)(
    'QEMU drops the snapshots in a repair of %s; we keep them',
    async (repair) => {
      const path = join(directory, `snapshots-${repair}`);
      await createWithQemuImg(path, { format: 'qcow2', size: MIB, options: {} });
      runTool('qemu-img', ['bitmap', '--add', path, 'tracked']);
      runTool('qemu-io', ['-f', 'qcow2', '-c', 'write 0 64k', path]);
      runTool('qemu-img', ['snapshot', '-c', 'kept', path]);
      runTool('qemu-img', ['check', '-q', path]);
      await copySparse(path, `${path}-ours`);
      const snapshotsOf = (file: string): string => runTool('qemu-img', ['snapshot', '-l', file]);
      runTool('qemu-img', ['check', '-q', '-r', repair, path]);
      expect(snapshotsOf(path)).not.toContain('kept');

      const storage = new FileStorage(directory, probeCapabilities(directory));
      const { report } = await checkImageFile({ storage, name: `snapshots-${repair}-ours`, repair });
      expect(report).toMatchObject({ corruptions: 0, leaks: 0, corruptionsFixed: 0, leaksFixed: 0 });
      expect(snapshotsOf(`${path}-ours`)).toContain('kept');
    },
  );
});

/** Serves with our engine what is in the directory; qcow2 in writeback if nothing else is said. */
function serve(
  requests: readonly Request[],
  options: Pick<StackOptions, 'imageName'> & Partial<StackOptions>,
): Promise<readonly TaggedRecord[]> {
  return servePeerRequests(requests, {
    format: 'qcow2',
    cache: 'writeback',
    storage: new FileStorage(directory, probeCapabilities(directory)),
    ...options,
  });
}

function textOf(record: HostLogRecord): string {
  return record.op === 'sync' ? 'F' : formatOperation(record);
}

/**
 * How often QEMU may be run until it does in another order what it mostly does: one run in three or
 * four does.
 */
const RUNS_MAX = 40;

/** Requests of several extents, which QEMU serves as so many tasks at once. */
interface ManyExtents {
  readonly name: string;
  readonly options: Readonly<Record<string, string>>;
  readonly caches?: StackOptions['caches'];
  readonly cache: 'writeback' | 'writethrough';
  readonly before: readonly Request[];
  readonly requests: readonly Request[];
  readonly slowed: (run: number) => SlowedCall | undefined;
}

/** Runs QEMU until `isWanted` likes what came out; in every run the image is ours in the end. */
async function runUntil(
  { name, options, caches, cache, before, requests, slowed }: ManyExtents,
  isWanted: (ours: readonly TaggedRecord[], theirs: readonly HostOperation[]) => boolean,
): Promise<boolean> {
  const start = join(directory, name);
  await createWithQemuImg(start, { format: 'qcow2', size: MIB, options });
  await runQemuIo({ path: start, format: 'qcow2', cache: 'writeback', requests: before });
  await copySparse(start, `${start}-ours`);
  const ours = await serve(requests, { imageName: `${name}-ours`, cache, caches });
  const imageOptions = cacheOptions(caches);
  for (let run = 0; run < RUNS_MAX; run++) {
    const path = `${start}-${String(run)}`;
    await copySparse(start, path);
    const how = { path, cache, imageOptions, slowed: slowed(run) };
    const theirs = await runQemuIo({ ...how, format: 'qcow2', requests });
    await expectSameFiles(`${start}-ours`, path);
    if (isWanted(ours, theirs)) return true;
  }
  return false;
}

describe.skipIf(skip !== undefined)('the order in which QEMU ends the extents of one request', () => {
  // Below the image every byte is written, so that all that surrounds a write is copied.
  const backing = { backing_file: 'copied', backing_fmt: 'raw' };
  const clusterSize = 1024;
  beforeAll(async () => {
    const path = join(directory, 'copied');
    await createWithQemuImg(path, { format: 'raw', size: MIB });
    await runQemuIo({ path, format: 'raw', cache: 'writeback', requests: [ask.write(0, MIB)] });
  });

  it('varies from run to run, and with it what is linked before a cache is written (varying-order)', async () => {
    const varies = await runUntil(
      {
        name: 'varying',
        options: { cluster_size: String(clusterSize), ...backing },
        caches: { l2CacheSize: 2 * clusterSize, refcountCacheSize: 4 * clusterSize },
        cache: 'writethrough',
        before: Array.from({ length: 60 }, (_, index) =>
          ask.write((3 * index + 1) * clusterSize, clusterSize),
        ),
        requests: [
          ask.write(512, 100 * clusterSize),
          ask.write(150 * clusterSize + 512, 500 * clusterSize),
          ask.write(512, 700 * clusterSize),
          ask.write(700 * clusterSize - 512, 200 * clusterSize),
        ],
        slowed: (run) => ORDER_RUNS[run % ORDER_RUNS.length],
      },
      (ours, theirs) => !judgeOrder(ours, [theirs]).comparison.identical,
    );
    expect(varies).toBe(true);
  });

  it('leaves data that a sync in flight does not cover, which costs a second one (late-extent)', async () => {
    const tableCoverage = 128 * clusterSize;
    const isLate = await runUntil(
      {
        name: 'late',
        options: { cluster_size: String(clusterSize), lazy_refcounts: 'on', ...backing },
        cache: 'writethrough',
        before: [ask.write(0, clusterSize)],
        requests: [ask.write(tableCoverage - 512, 1024)],
        slowed: () => ({ call: 'fdatasync', microseconds: 4000 }),
      },
      (ours, theirs) => judgeOrder(ours, [theirs]).exceptions.includes('late-extent'),
    );
    expect(isLate).toBe(true);
  });
});

describe.skipIf(skip !== undefined)('data in flight while metadata is worked on', () => {
  const clusterSize = 512;
  const options = { cluster_size: String(clusterSize) };
  /**
   * A block of refcounts describes 256 clusters. The disk's first cluster is at the file's start,
   * the next is free.
   */
  const before = (clusters: number): readonly Request[] => [
    ask.write(0, clusterSize),
    ask.write(10 * clusterSize, clusters * clusterSize),
  ];
  /** In place, then where no block describes the clusters yet. */
  const requests = [ask.write(12 * clusterSize, clusterSize), ask.write(0, 4 * clusterSize)];

  /**
   * The write in place is a task of its own: a thread of QEMU's pool issues it, and a busy machine
   * lets that thread wait while others write metadata and sync. So its place in the order says
   * nothing; all others, syncs among them, do.
   */
  const isUnderWay = (operation: HostOperation | TaggedRecord, place: number): boolean =>
    operation.request === 1 && operation.op === 'write' && operation.offset === place;

  it('keep no sync before a new refcount block from being elided, in any run of QEMU', async () => {
    const start = join(directory, 'under-way');
    await createWithQemuImg(start, { format: 'qcow2', size: MIB, options });
    await runQemuIo({ path: start, format: 'qcow2', cache: 'writeback', requests: before(246) });
    await copySparse(start, `${start}-ours`);
    const ours = await serve(requests, { imageName: 'under-way-ours', cache: 'writethrough' });
    expect(ours.filter(({ op }) => op === 'sync')).toHaveLength(6);
    const inPlace = ours.find(({ request, op }) => request === 1 && op === 'write');
    if (inPlace?.op !== 'write') expect.fail('no write in place');
    expect(inPlace).toMatchObject({ purpose: 'data', length: clusterSize });
    const place = inPlace.offset;
    const others = ours.filter((operation) => !isUnderWay(operation, place));
    for (const slowed of ORDER_RUNS) {
      await copySparse(start, `${start}-theirs`);
      const path = `${start}-theirs`;
      const theirs = await runQemuIo({ path, format: 'qcow2', cache: 'writethrough', requests, slowed });
      const data = theirs.filter((operation) => isUnderWay(operation, place));
      expect(data.map(formatOperation)).toEqual([textOf(inPlace)]);
      const metadata = theirs.filter((operation) => !isUnderWay(operation, place));
      const comparison = compareWithout(others, metadata, []);
      expectSameOperations(comparison);
      await expectSameFiles(`${start}-ours`, path);
      rmSync(path);
    }
  });

  it.each([
    ['are done if a refcount block has to be read first, and slowly: both sync', 'pread64', true],
    ['are not done if they are slower than that: QEMU does not', 'pwrite64', false],
  ] as const)('%s', async (_, call, isIdentical) => {
    const came = await runUntil(
      {
        name: `read-first-${call}`,
        options,
        cache: 'writethrough',
        before: before(496),
        requests,
        slowed: () => ({ call, microseconds: 20_000 }),
      },
      (ours, theirs) => compareWithout(ours, theirs, []).identical === isIdentical,
    );
    expect(came).toBe(true);
  });

  it.each(['writethrough', 'writeback'] as const)(
    'with discards in between, %s: every request is as in one of a few runs of QEMU',
    async (cache) => {
      const random = new Random(2);
      const list = Array.from({ length: 40 }, () => {
        const length = 2 ** (3 + 2 * random.below(3)) * clusterSize;
        const offset = random.below((4 * MIB - length) / clusterSize) * clusterSize;
        return random.chance(0.3) ? ask.discard(offset, length) : ask.write(offset, length);
      });
      const start = join(directory, `discards-${cache}`);
      await createWithQemuImg(start, { format: 'qcow2', size: 4 * MIB, options });
      await copySparse(start, `${start}-ours`);
      const ours = await serve(list, { imageName: `discards-${cache}-ours`, cache });
      const path = `${start}-theirs`;
      const order = await judgeRuns(ours, async (slowed) => {
        rmSync(path, { force: true });
        await copySparse(start, path);
        return runQemuIo({ path, format: 'qcow2', cache, requests: list, slowed });
      });
      expectSameOperations(order.comparison);
      expect(order.leftOut).toEqual([]);
      await expectSameFiles(`${start}-ours`, path);
    },
  );
});
