/** What a crash costs lazy refcounts, counted of a repair. */

import { expect, test } from 'vitest';

import { BuiltinEngine } from '../../src/bench/builtin-engine.ts';
import type { CellPlan } from '../../src/bench/engine.ts';
import { planMatrix } from '../../src/bench/matrix.ts';
import { lazyPrice, refcountPairs, repairGrowth, type RepairGrowth } from '../../src/crash/price.ts';
import type { CacheMode } from '../../src/format/cache-mode.ts';
import { parseWorkload } from '../../src/workload/workload-file.ts';

const WRITES = {
  name: 'w',
  requests: 12,
  mix: { write: 1 },
  blockSizes: [{ size: 4096 }],
  pattern: { kind: 'stride', stride: '64KiB' },
};

/** @param image further properties of the workload's image */
function plansOf(caches: readonly CacheMode[], image: object = {}): readonly CellPlan[] {
  const file = {
    schema: 'qcow2-bench/workload@1',
    name: 'priced',
    title: 'Priced',
    description: 'Twelve writes, each of which allocates.',
    seed: 1,
    image: { size: '64MiB', ...image },
    phases: [WRITES],
  };
  const workload = parseWorkload(JSON.stringify(file), 'priced.json');
  const { name, title, description } = workload;
  const virtualSize = workload.image.size;
  return planMatrix({
    sources: [{ kind: 'workload', name, title, description, path: 'priced.json', virtualSize, workload }],
    formats: ['raw', 'qcow2', 'qed'],
    refcounts: ['eager', 'lazy'],
    caches,
    clusterSizes: [65_536],
    queueDepths: [1],
    engines: ['builtin'],
    devices: ['memory'],
  });
}

test('eager and lazy refcounts are paired where all else agrees', () => {
  const pairs = refcountPairs(plansOf(['writethrough', 'writeback']));
  const named = pairs.map((pair) => pair.map(({ cell }) => [cell.refcounts, cell.cache]));
  expect(named).toEqual([
    [
      ['eager', 'writethrough'],
      ['lazy', 'writethrough'],
    ],
    [
      ['eager', 'writeback'],
      ['lazy', 'writeback'],
    ],
  ]);
});

test('the repair is that of a counted opening, and paid back by what lazy refcounts save', async () => {
  const [pair] = refcountPairs(plansOf(['writethrough']));
  if (pair === undefined) throw new Error('no pair');
  const price = await lazyPrice(pair, 100);
  // One sync of refcounts a write, but for the first, with which the dirty bit is set.
  expect(price).toMatchObject({ guestWrites: 12, allocatingWrites: 12, savedSyncs: 11 / 12 });

  // The same writes before a crash of which a run counts the opening.
  const crash = [{ ...WRITES, flushEvery: 1 }];
  // Past the page cache, which a power loss empties.
  const [, crashed] = refcountPairs(plansOf(['directsync'], { crash }))[0] ?? [];
  if (crashed === undefined) throw new Error('no pair');
  const { counts } = await new BuiltinEngine().count(crashed, { limit: 1 });
  const { reads, writes, zeroRanges, punchHoles, syncs } = counts.open;
  expect(price?.opening).toEqual({
    readBytes: reads.bytes,
    changes: writes.ops + zeroRanges.ops + punchHoles.ops,
    syncs: syncs.ops,
  });
  expect(price?.onDevices.map(({ device }) => device)).toContain('hdd-7200');
  for (const { savedNs, openingNs, writes: after = 0 } of price?.onDevices ?? []) {
    expect(after * savedNs).toBeGreaterThanOrEqual(openingNs);
    expect((after - 1) * savedNs).toBeLessThan(openingNs);
  }
});

test('where the guest never flushes, lazy refcounts save nothing', async () => {
  const [pair] = refcountPairs(plansOf(['writeback']));
  const price = pair === undefined ? undefined : await lazyPrice(pair, 100);
  expect(price?.savedSyncs).toBeLessThanOrEqual(0);
});

test('a repair reads each table: what further data cost follows from the format', async () => {
  const clusterSize = 4096;
  // What a refcount block covers, and what the tables of QED, of four clusters, cover.
  const covered = clusterSize * (clusterSize / 2);
  const plans = planMatrix({
    sources: plansOf(['writethrough'])
      .slice(0, 1)
      .map(({ source }) => source),
    formats: ['qcow2', 'qed', 'raw'],
    refcounts: ['lazy'],
    caches: ['writethrough'],
    clusterSizes: [clusterSize],
    queueDepths: [1],
    engines: ['builtin'],
    devices: ['memory'],
  });
  const growths = await Promise.all(plans.map(async (plan) => [plan.cell.format, await repairGrowth(plan)]));
  const { qcow2, qed, raw } = Object.fromEntries(growths) as Record<string, RepairGrowth | undefined>;
  expect(raw).toBeUndefined();
  // Four L2 tables and a refcount block, read by the check before the repair and by the one after it.
  expect(qcow2).toMatchObject({ bytes: covered, readBytes: 2 * (4 + 1) * clusterSize });
  expect(qed).toMatchObject({ bytes: covered, readBytes: 4 * clusterSize });
  // Past the page cache: a disk that seeks takes longest.
  const times = (growth?: RepairGrowth): readonly number[] => [...(growth?.onDevices.values() ?? [])];
  for (const growth of [qcow2, qed]) {
    expect(growth?.onDevices.get('hdd-7200')).toBe(Math.max(...times(growth)));
    expect(growth?.onDevices.get('hdd-7200')).toBeGreaterThan(12e6);
    expect(Math.min(...times(growth))).toBeGreaterThan(50_000);
  }
});

test('an image whose discards are ignored grows as another one', async () => {
  const [lazy] = plansOf(['writethrough']).filter(({ cell }) => cell.refcounts === 'lazy');
  if (lazy === undefined) throw new Error('no lazy cell');
  const growth = await repairGrowth(lazy);
  expect(growth?.readBytes).toBeGreaterThan(0);
  expect(await repairGrowth({ ...lazy, cell: { ...lazy.cell, discard: 'ignore' } })).toEqual(growth);
});

test('an overlay grows as an image of its own', async () => {
  const backing = { format: 'qcow2', size: '64MiB', fill: [WRITES] };
  const [over] = plansOf(['writethrough'], { backing }).filter(({ cell }) => cell.refcounts === 'lazy');
  const [alone] = plansOf(['writethrough']).filter(({ cell }) => cell.refcounts === 'lazy');
  if (over === undefined || alone === undefined) throw new Error('no lazy cell');
  expect(over.cell.backing).toBe('qcow2');
  expect(await repairGrowth(over)).toEqual(await repairGrowth(alone));
});
