import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';

import { afterEach, describe, expect, it } from 'vitest';

import { collectRequests } from '../../src/bench/pass-requests.ts';
import { BuiltinEngine } from '../../src/bench/builtin-engine.ts';
import type { CellPlan } from '../../src/bench/engine.ts';
import type { UserImage } from '../../src/bench/user-image.ts';
import { probeCapabilities } from '../../src/device/capabilities.ts';
import { FileStorage } from '../../src/device/file-storage.ts';
import type { HostLogRecord } from '../../src/device/host-log.ts';
import type { HostCounts } from '../../src/device/host-meter.ts';
import { MEMORY_CAPABILITIES, MemoryStorage, NullStorage } from '../../src/device/memory-storage.ts';
import { PHASES, type Phase } from '../../src/device/operation.ts';
import { cellKey, cellName } from '../../src/result/cell.ts';
import { testDirectory } from '../test-directory.ts';
import {
  ALL_CACHES,
  mixedSource,
  smallMatrix,
  smallSource,
  steppingClock,
  STRIDE,
  WRITES,
} from './small-run.ts';

const directory = testDirectory();
const capabilities = probeCapabilities(directory);
const files = new FileStorage(directory, capabilities);
afterEach(() => {
  expect(readdirSync(directory)).toEqual([]);
});

const onePlan = (...options: Parameters<typeof smallMatrix>): CellPlan => {
  const [plan] = smallMatrix(...options);
  if (plan === undefined) throw new Error('an empty matrix');
  return plan;
};
const QCOW2 = { formats: ['qcow2'], refcounts: ['eager'] } as const;

describe('counting', () => {
  it.each([
    { format: 'raw', parts: [] },
    // One entry of L1; a refcount table, one block of it and one L2 table of a cluster each.
    { format: 'qcow2', parts: [8, 65_536, 65_536, 65_536] },
    // Tables of four clusters.
    { format: 'qed', parts: [262_144, 262_144] },
    // A leaf, and a page of the map of used blocks.
    { format: 'btree', parts: [4096, 4096] },
  ] as const)('gives the bytes of metadata in memory: $format', async ({ format, parts }) => {
    const plan = onePlan({ formats: [format], refcounts: ['eager'], caches: ['none'] });
    const { metadataInMemory } = await new BuiltinEngine().count(plan, {});
    expect(metadataInMemory).toBe(parts.reduce((sum: number, part) => sum + part, 0));
  });

  const plans = smallMatrix({ sources: [mixedSource()], caches: ALL_CACHES, queueDepths: [1, 8] });

  it.each(plans.map((plan) => ({ plan, name: cellName(plan.cell) })))(
    'gives the same twice, on memory and on memory that discards guest data: $name',
    async ({ plan }) => {
      const engine = new BuiltinEngine();
      const first = await engine.count(plan, {});
      expect(first.countsDevice).toBe('memory');
      expect(JSON.stringify(await engine.count(plan, {}))).toBe(JSON.stringify(first));
      const forgetful = await new BuiltinEngine({ makeMemory: () => new NullStorage() }).count(plan, {});
      expect(forgetful.counts).toEqual(first.counts);
    },
  );

  it.each(plans.map((plan) => ({ plan, name: cellName(plan.cell) })))(
    'agrees with its own host log, operation by operation: $name',
    async ({ plan }) => {
      const log: HostLogRecord[] = [];
      const { counts } = await new BuiltinEngine().count(plan, { hostLog: (record) => log.push(record) });
      for (const phase of PHASES) {
        expect(tally(log, phase)).toEqual({ ...counts[phase], syncs: syncsOf(counts[phase]) });
      }
    },
  );

  it('logs each operation with the request that it was issued for, at every depth', async () => {
    for (const queueDepth of [1, 8]) {
      const [plan] = smallMatrix({ ...QCOW2, sources: [mixedSource()], queueDepths: [queueDepth] });
      if (plan === undefined) throw new Error('an empty matrix');
      const log: HostLogRecord[] = [];
      await new BuiltinEngine().count(plan, { hostLog: (record) => log.push(record) });
      const requests = await collectRequests(plan, {});
      const described = new Set<number>();
      for (const { phase, request, guest } of log) {
        expect(request === undefined).toBe(phase !== 'run');
        if (request === undefined) continue;
        // The first line of a request describes it, and no other does.
        expect(guest !== undefined).toBe(!described.has(request));
        described.add(request);
        if (guest !== undefined) expect(requests[request]).toMatchObject(guest);
      }
      // Data is written for writes, and at the ends of zero-writes: never for a flush or a read.
      const data = log.filter((record) => record.op === 'write' && record.purpose === 'data');
      expect(data.length).toBeGreaterThan(10);
      const ops = new Set(data.map(({ request }) => requests[request ?? -1]?.op));
      expect([...ops].filter((op) => op !== 'write' && op !== 'write-zeroes')).toEqual([]);
    }
  });

  it('does not depend on what files are called, nor on how many passes came before', async () => {
    const [plan] = smallMatrix({ sources: [mixedSource()], formats: ['qed'] });
    if (plan === undefined) throw new Error('an empty matrix');
    const first = await new BuiltinEngine({ filePrefix: 'a' }).count(plan, {});
    const other = new BuiltinEngine({ filePrefix: 'a-prefix-with-more-letters' });
    for (let pass = 0; pass < 10; pass++) await other.count(plan, {});
    // An overlay stores the name of its backing file: a longer one would be more bytes of header.
    expect((await other.count(plan, {})).counts).toEqual(first.counts);
  });

  it('fills raw with the data that the others have in a backing file, and says so', async () => {
    const { counts, fallbacks } = await new BuiltinEngine().count(
      onePlan({ sources: [mixedSource()], formats: ['raw'] }),
      {},
    );
    expect(fallbacks).toEqual([expect.stringContaining('raw has no backing files')]);
    expect(counts.open.writes.ops).toBe(0);
  });

  it('counts neither the making of the image nor its prefill', async () => {
    const prefill = [{ name: 'fill', requests: 30, ...WRITES, pattern: STRIDE }];
    const source = smallSource('overwrite', { image: { prefill } });
    const { counts } = await new BuiltinEngine().count(onePlan({ sources: [source], ...QCOW2 }), {});
    expect(counts.guest).toMatchObject({ writes: 30, allocatingWrites: 0 });
    expect(counts.open.writes.ops).toBe(0);
    expect(counts.run.writes).toMatchObject({ ops: 30, bytes: 30 * 4096 });
  });

  it('is limited to the requests asked for', async () => {
    const { counts } = await new BuiltinEngine().count(onePlan(QCOW2), { limit: 7 });
    expect(counts.guest.writes).toBe(7);
  });

  it('names the path that ran where there is no fallocate', async () => {
    const reason = 'darwin has no fallocate';
    const makeMemory = (): MemoryStorage =>
      new MemoryStorage({
        ...MEMORY_CAPABILITIES,
        zeroRange: { ok: false, reason },
        punchHole: { ok: false, reason },
      });
    const { counts, fallbacks } = await new BuiltinEngine({ makeMemory }).count(onePlan(QCOW2), {});
    expect(fallbacks).toEqual([expect.stringContaining(reason)]);
    expect(counts.run.zeroRanges.ops).toBe(0);
    expect(counts.run.writes.byPurpose.cow?.bytes).toBe(30 * (65_536 - 4096));
  });

  it('counts a hole for each zero-range where only holes are supported, as on tmpfs, and says so', async () => {
    const reason = 'the file system tmpfs at /x has no FALLOC_FL_ZERO_RANGE (ENOTSUP)';
    const zeroRange = { ok: false, reason } as const;
    const makeMemory = (): MemoryStorage => new MemoryStorage({ ...MEMORY_CAPABILITIES, zeroRange });
    const usual = await new BuiltinEngine().count(onePlan(QCOW2), {});
    const { counts, fallbacks } = await new BuiltinEngine({ makeMemory }).count(onePlan(QCOW2), {});
    expect(fallbacks).toEqual([
      `ranges are zeroed by punching a hole and reserving the space again: ${reason}`,
    ]);
    expect(counts.run.punchHoles).toEqual(usual.counts.run.zeroRanges);
    expect(counts.run.zeroRanges.ops).toBe(0);
    expect(counts.run.writes).toEqual(usual.counts.run.writes);
    expect(counts.run.syncs).toEqual(usual.counts.run.syncs);
  });
});

describe('a kept image', () => {
  it('is made where it is asked for and stays; one that is there is not written over', async () => {
    const storage = new MemoryStorage();
    const plan = onePlan(QCOW2, { keptImage: { storage, name: 'kept.qcow2', overwrite: false } });
    const engine = new BuiltinEngine();
    const first = await engine.count(plan, {});
    expect(first.counts.guest.allocatingWrites).toBe(30);
    const before = storage.open('kept.qcow2').contents();
    await expect(engine.count(plan, {})).rejects.toMatchObject({ code: 'file-exists' });
    expect(storage.open('kept.qcow2').contents()).toEqual(before);
    expect(engine.unsupportedReason(plan, 'time')).toMatch(/kept/);
  });
});

describe('an image of the user', () => {
  const userFolder = testDirectory();

  /** Made by a cell of its own, so that all that it asks for is allocated. */
  async function makeImage(name: string): Promise<UserImage> {
    const keptImage = { storage: new FileStorage(userFolder, capabilities), name, overwrite: false };
    await new BuiltinEngine().count(onePlan(QCOW2, { keptImage }), {});
    const path = join(userFolder, name);
    return {
      path,
      format: 'qcow2',
      virtualSize: 64 * 1024 * 1024,
      clusterSize: 65_536,
      refcounts: 'eager',
      shape: undefined,
      dataPath: undefined,
      chain: [],
      backingPolicy: {},
      facts: { fileBytes: statSync(path).size, modified: '2026-01-01T00:00:00Z' },
      inPlace: false,
    };
  }

  it('is counted and timed on copies that are gone afterwards, and does not change', async () => {
    const userImage = await makeImage('copied.qcow2');
    const before = readFileSync(userImage.path);
    const plan = onePlan(QCOW2, { userImage, device: 'file' });
    const engine = new BuiltinEngine({ files });
    expect(plan.cell.image).toBe(userImage.path);
    const counted = await engine.count(plan, {});
    expect(counted).toMatchObject({ countsDevice: 'file', counts: { guest: { allocatingWrites: 0 } } });
    expect(JSON.stringify(await engine.count(plan, {}))).toBe(JSON.stringify(counted));
    const pass = await engine.prepareTimed(plan, { clock: steppingClock() });
    await pass.open();
    await pass.run();
    await pass.close();
    await pass[Symbol.asyncDispose]();
    expect(readFileSync(userImage.path).equals(before)).toBe(true);
  });

  it('is itself written in place, and not timed', async () => {
    const userImage = { ...(await makeImage('in-place.qcow2')), inPlace: true };
    const before = readFileSync(userImage.path);
    const plan = onePlan({ ...QCOW2, sources: [mixedSource()] }, { userImage });
    const engine = new BuiltinEngine({ files });
    const { fallbacks } = await engine.count(plan, {});
    expect(fallbacks).toContainEqual(expect.stringContaining('--in-place'));
    expect(readFileSync(userImage.path).equals(before)).toBe(false);
    expect(engine.unsupportedReason(plan, 'time')).toMatch(/kept/);
  });

  it('sets cells apart: two images are two cells', async () => {
    const userImage = await makeImage('first.qcow2');
    const other = { ...userImage, path: join(userFolder, 'second.qcow2') };
    const [one, two, none] = [{ userImage }, { userImage: other }, {}].map((setting) =>
      cellKey(onePlan(QCOW2, setting).cell),
    );
    expect(new Set([one, two, none]).size).toBe(3);
  });
});

describe('unsupported cells', () => {
  const time = (engine: BuiltinEngine, plan: CellPlan): string | undefined =>
    engine.unsupportedReason(plan, 'time');

  it('are cluster sizes and disks that a format does not take', () => {
    const engine = new BuiltinEngine();
    const at = (format: 'qcow2' | 'qed', clusterSize: number, size = '64MiB'): string | undefined =>
      engine.unsupportedReason(
        onePlan({
          formats: [format],
          clusterSizes: [clusterSize],
          sources: [smallSource('small', { image: { size } })],
        }),
        'count',
      );
    expect(at('qcow2', 512)).toBeUndefined();
    expect(at('qcow2', 256)).toMatch(/power of two from 512B to 2MiB/);
    expect(at('qcow2', 4 * 1024 * 1024)).toMatch(/qcow2 does not support clusters of 4MiB/);
    expect(at('qcow2', 65_537)).toMatch(/power of two/);
    expect(at('qed', 2048)).toMatch(/from 4KiB to 64MiB/);
    expect(at('qed', 4096, '16GiB')).toBeUndefined();
    expect(at('qed', 4096, '17GiB')).toMatch(/exceeds the 16GiB that qed addresses/);
    expect(at('qcow2', 512, '129GiB')).toMatch(/exceeds the 128GiB that qcow2 addresses/);
  });

  it.each([
    { format: 'qcow2', clusterSize: 512 },
    { format: 'qcow2', clusterSize: 2 * 1024 * 1024 },
    { format: 'qed', clusterSize: 4096 },
    { format: 'qed', clusterSize: 2 * 1024 * 1024 },
  ] as const)(
    'leave free what runs: $format with clusters of $clusterSize bytes',
    async ({ format, clusterSize }) => {
      const plan = onePlan({ formats: [format], clusterSizes: [clusterSize] });
      const engine = new BuiltinEngine();
      expect(engine.unsupportedReason(plan, 'count')).toBeUndefined();
      expect((await engine.count(plan, {})).counts.guest.writes).toBe(30);
    },
  );

  it('are O_DIRECT and fallocate taken away from the place of timing; counts stay', () => {
    const direct = { ok: false, reason: 'nfs at /net has no O_DIRECT' } as const;
    const zeroRange = { ok: false, reason: 'nfs at /net has no FALLOC_FL_ZERO_RANGE' } as const;
    const poor = new BuiltinEngine({
      files: new FileStorage(directory, { ...capabilities, direct, zeroRange }),
    });
    for (const plan of smallMatrix({ caches: ALL_CACHES }, { device: 'file' })) {
      const { cache, format } = plan.cell;
      expect(poor.unsupportedReason(plan, 'count')).toBeUndefined();
      if (cache === 'none' || cache === 'directsync') expect(time(poor, plan)).toContain(direct.reason);
      else if (format === 'qcow2') expect(time(poor, plan)).toContain(zeroRange.reason);
      else expect(time(poor, plan)).toBeUndefined();
    }
  });

  it('are a missing directory and an unknown device', () => {
    expect(time(new BuiltinEngine(), onePlan({}, { device: 'file' }))).toMatch(/no directory/);
    expect(time(new BuiltinEngine(), onePlan({}, { device: 'model:hdd' }))).toMatch(/no device 'model:hdd'/);
  });
});

describe('a timed pass', () => {
  it.each(['file', 'memory', 'null'])(
    'opens, serves the cut and closes on %s, and removes its files',
    async (device) => {
      const plan = onePlan({ ...QCOW2, sources: [mixedSource()] }, { device });
      await using pass = await new BuiltinEngine({ files }).prepareTimed(plan, {
        limit: 50,
        clock: steppingClock(),
      });
      expect(pass.requests).toBe(50);
      expect(readdirSync(directory)).toHaveLength(device === 'file' ? 2 : 0);
      await pass.open();
      await pass.run();
      await pass.close();
    },
  );

  it('removes its files when it is left in the middle', async () => {
    const plan = onePlan(QCOW2, { device: 'file' });
    await using pass = await new BuiltinEngine({ files }).prepareTimed(plan, { clock: steppingClock() });
    await pass.open();
  });

  it('removes what was made when preparing is stopped', async () => {
    const prefill = [{ name: 'fill', requests: 300, ...WRITES, pattern: STRIDE }];
    const sources = [smallSource('filled', { image: { prefill } })];
    const plan = onePlan({ ...QCOW2, sources }, { device: 'file' });
    const controller = new AbortController();
    const progress = (): void => {
      expect(readdirSync(directory)).toHaveLength(1);
      controller.abort();
    };
    const preparing = new BuiltinEngine({ files }).prepareTimed(plan, {
      clock: steppingClock(),
      signal: controller.signal,
      progress,
    });
    const error: unknown = await preparing.catch((caught: unknown) => caught);
    expect(error).toBe(controller.signal.reason);
  });
});

function syncsOf({ syncs }: HostCounts): { ops: number; byCause: HostCounts['syncs']['byCause'] } {
  return { ops: syncs.ops, byCause: syncs.byCause };
}

/**
 * The counts that a host log adds up to; an elided sync is no operation, so the log does not know
 * of it.
 */
function tally(log: readonly HostLogRecord[], phase: Phase): object {
  const kinds = {
    write: 'writes',
    'zero-range': 'zeroRanges',
    'punch-hole': 'punchHoles',
    truncate: 'truncates',
    read: 'reads',
  } as const;
  type Shares = Record<string, { ops: number; bytes: number }>;
  const result: Record<string, { ops: number; bytes: number; byPurpose: Shares }> = {};
  for (const kind of Object.values(kinds)) result[kind] = { ops: 0, bytes: 0, byPurpose: {} };
  const syncs = { ops: 0, byCause: {} as Record<string, number> };
  for (const record of log) {
    if (record.phase !== phase) continue;
    if (record.op === 'sync') {
      syncs.ops++;
      syncs.byCause[record.cause] = (syncs.byCause[record.cause] ?? 0) + 1;
      continue;
    }
    const counts = result[kinds[record.op]];
    if (counts === undefined) continue;
    const add = (purpose: string, ops: number, bytes: number): void => {
      const share = (counts.byPurpose[purpose] ??= { ops: 0, bytes: 0 });
      share.ops += ops;
      share.bytes += bytes;
      counts.ops += ops;
      counts.bytes += bytes;
    };
    add(record.purpose, 1, 0);
    for (const [purpose, bytes] of record.parts ?? [[record.purpose, record.length]]) add(purpose, 0, bytes);
  }
  return { ...result, syncs };
}
