/** What a power loss leaves with the policies that save what QEMU does. */

import { describe, expect, test } from 'vitest';

import { explore } from '../../src/crash/explore.ts';
import { applyOperation } from '../../src/crash/layers.ts';
import { recordCell } from '../../src/crash/record-cell.ts';
import type { Recording } from '../../src/crash/recording.ts';
import { STRONGEST_MODEL } from '../../src/crash/state-space.ts';
import type { EnginePolicyName } from '../../src/format/engine-policy.ts';
import type { Request } from '../../src/workload/request.ts';
import { someOf } from '../amount.ts';
import { smallPlan, type SmallCell } from './small-recording.ts';

const SEED = 7;
const BUDGET = 500;
/** Each slice of an L2 table and each refcount block has many pages. */
const CLUSTER = 65_536;
const ORDERED = { ...STRONGEST_MODEL, order: 'issue' } as const;

async function recorded(
  cell: SmallCell,
  policy: EnginePolicyName,
  list?: readonly Request[],
): Promise<Recording> {
  const { plan, requests } = await smallPlan(cell);
  return recordCell({ ...plan, cell: { ...plan.cell, policy } }, { requests: list ?? requests });
}

const CELLS: readonly SmallCell[] = [
  { format: 'qcow2', refcounts: 'eager', cache: 'writethrough', clusterSize: CLUSTER },
  { format: 'qcow2', refcounts: 'eager', cache: 'writeback', clusterSize: CLUSTER },
  { format: 'qcow2', refcounts: 'lazy', cache: 'writeback', clusterSize: CLUSTER },
  { format: 'qcow2', refcounts: 'eager', cache: 'writeback', clusterSize: CLUSTER, backed: true },
  { format: 'qcow2', refcounts: 'eager', cache: 'writeback', clusterSize: CLUSTER, queueDepth: 8 },
  { format: 'qcow2', refcounts: 'eager', cache: 'writethrough', queueDepth: 8 },
  { format: 'qcow2', refcounts: 'lazy', cache: 'writethrough', queueDepth: 8 },
  {
    format: 'qcow2',
    refcounts: 'eager',
    cache: 'writeback',
    clusterSize: 16_384,
    shape: { extendedL2: true },
  },
  { format: 'qed', cache: 'writethrough', queueDepth: 8 },
];

describe.each(['sector', 'group-commit'] as const)('policy %s', (policy) => {
  test.each(someOf(CELLS, 5))(
    'keeps every promise ($format $refcounts, $cache, $clusterSize, depth $queueDepth)',
    async (cell) => {
      const busy = { ...cell, prefilled: true, releases: true, requests: 60 };
      const { bad, tried } = await explore(await recorded(busy, policy), {
        model: STRONGEST_MODEL,
        budget: BUDGET,
        seed: SEED,
      });
      expect(bad).toEqual([]);
      expect(tried).toBeGreaterThan(100);
    },
  );
});

describe('policy soft-updates', () => {
  const CELL: SmallCell = { format: 'qcow2', refcounts: 'eager', cache: 'writethrough' };
  const write: Request = { op: 'write', offset: 0, length: 4096, fua: false, unmap: false, timeNs: 0 };

  test('breaks a promise on a device that reorders writes, with one write', async () => {
    const { bad } = await explore(await recorded(CELL, 'soft-updates', [write]), {
      model: STRONGEST_MODEL,
      budget: BUDGET,
      seed: SEED,
    });
    expect(bad.length).toBeGreaterThan(0);
    const { bad: none } = await explore(await recorded(CELL, 'qemu', [write]), {
      model: STRONGEST_MODEL,
      budget: BUDGET,
      seed: SEED,
    });
    expect(none).toEqual([]);
  });

  test.each(someOf(CELLS, 5))(
    'keeps every promise on a device that keeps their order ($format $refcounts, $cache, $clusterSize, depth $queueDepth)',
    async (cell) => {
      const busy = { ...cell, prefilled: true, releases: true, requests: 60 };
      const options = { model: ORDERED, budget: BUDGET, seed: SEED };
      expect((await explore(await recorded(busy, 'soft-updates'), options)).bad).toEqual([]);
    },
  );

  test('saves the sync between refcounts and L2 tables', async () => {
    const [ours, saving] = await Promise.all(
      (['qemu', 'soft-updates'] as const).map(async (policy) => {
        const { syncs } = await recorded({ ...CELL, requests: 60 }, policy);
        return syncs.filter(({ cause }) => cause === 'l2-after-refcount').length;
      }),
    );
    expect(ours).toBeGreaterThan(10);
    expect(saving).toBe(0);
  });
});

test.each(CELLS.filter(({ queueDepth = 1 }) => queueDepth === 1))(
  'no policy changes a byte of a closed image ($format $refcounts, $cache, $clusterSize, backed: $backed)',
  async (cell) => {
    const busy = { ...cell, prefilled: true, releases: true, requests: 120 };
    const [ours, ...others] = await Promise.all(
      (['qemu', 'sector', 'group-commit', 'soft-updates'] as const).map(async (policy) => {
        const { base, operations } = await recorded(busy, policy);
        for (const operation of operations) applyOperation(base, operation);
        return { sizes: base.sizes, pages: pagesOf(base) };
      }),
    );
    for (const other of others) expect(other).toEqual(ours);
  },
);

function pagesOf({ pages }: Recording['base']): ReadonlyMap<string | number, string> {
  return new Map([...pages].map(([number, { bytes }]) => [number, Buffer.from(bytes).toString('hex')]));
}

test('sector writes the pages of a table that changed, and not the others', async () => {
  const cell: SmallCell = {
    format: 'qcow2',
    refcounts: 'eager',
    cache: 'writethrough',
    clusterSize: CLUSTER,
  };
  const lengths = async (policy: EnginePolicyName): Promise<readonly number[]> => {
    const { operations } = await recorded({ ...cell, prefilled: true }, policy);
    return operations.flatMap((operation) =>
      operation.op === 'write' && ['l2-table', 'refcount-block'].includes(operation.purpose)
        ? [operation.length]
        : [],
    );
  };
  expect(new Set(await lengths('qemu'))).toEqual(new Set([CLUSTER]));
  expect(new Set(await lengths('sector'))).toEqual(new Set([4096]));
});
