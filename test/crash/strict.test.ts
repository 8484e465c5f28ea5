/** What policy strict promises: none of the named hazards is left. */

import { describe, expect, test } from 'vitest';

import { explore } from '../../src/crash/explore.ts';
import type { Hazard } from '../../src/crash/hazards.ts';
import { applyOperation } from '../../src/crash/layers.ts';
import { recordCell } from '../../src/crash/record-cell.ts';
import { STRONGEST_MODEL } from '../../src/crash/state-space.ts';
import type { SyncCause } from '../../src/device/purpose.ts';
import type { EnginePolicyName } from '../../src/format/engine-policy.ts';
import type { Request } from '../../src/workload/request.ts';
import { smallPlan, type SmallCell } from './small-recording.ts';

const CLUSTER = 4096;
const SEED = 7;
/** Causes of syncs that only this policy has. */
const ADDED: readonly SyncCause[] = ['l2-after-data', 'reuse-after-unlink', 'mark-before-link'];
/** What is left of a list at each crash is tried as a whole. */
const BUDGET = 2000;

function request(op: Request['op'], offset = 0, length = CLUSTER): Request {
  return { op, offset, length: op === 'flush' ? 0 : length, fua: false, unmap: true, timeNs: 0 };
}

/** Not durable when what follows begins, in writethrough neither. */
const FREED = [request('write'), request('flush'), request('discard')];
const ELSEWHERE = 524_288;

/** The shortest lists that show each. Stale copied flags, which lose nothing, come of snapshots alone. */
const LISTS: Readonly<
  Record<
    Exclude<Hazard, 'stale-copied-flags'>,
    { readonly cells: readonly SmallCell[]; readonly list: readonly Request[] }
  >
> = {
  'unordered-zero-fill': {
    cells: [
      { format: 'qcow2', refcounts: 'lazy', cache: 'writeback' },
      { format: 'qcow2', refcounts: 'lazy', cache: 'writethrough' },
    ],
    list: [...FREED, request('write', ELSEWHERE, 512)],
  },
  'unordered-data': {
    cells: [
      { format: 'qcow2', refcounts: 'lazy', cache: 'writeback' },
      { format: 'qcow2', refcounts: 'lazy', cache: 'writethrough' },
    ],
    list: [...FREED, request('write', ELSEWHERE)],
  },
  'early-reuse': {
    cells: [
      { format: 'qcow2', refcounts: 'eager', cache: 'writeback' },
      { format: 'qcow2', refcounts: 'lazy', cache: 'writeback' },
    ],
    list: [request('write'), request('flush'), request('write-zeroes'), request('write', ELSEWHERE)],
  },
  'qed-need-check': {
    cells: [
      { format: 'qed', cache: 'writeback', prefilled: true },
      { format: 'qed', cache: 'writethrough', prefilled: true },
    ],
    list: [request('write', ELSEWHERE + 8 * CLUSTER)],
  },
};

/** In a data file a cluster keeps its place: zeroes that were flushed are there by their flag alone. */
const IN_DATA_FILE = {
  cells: (['eager', 'lazy'] as const).flatMap((refcounts) =>
    (['writeback', 'writethrough'] as const).map((cache): SmallCell => ({
      format: 'qcow2',
      refcounts,
      cache,
      shape: { dataFile: 'plain' },
    })),
  ),
  list: [
    request('write'),
    request('flush'),
    { ...request('write-zeroes'), unmap: false },
    request('flush'),
    request('write', 0, 512),
  ],
};

describe.each(Object.entries(LISTS))('%s', (hazard, { cells, list }) => {
  test.each(cells)(
    'is in the order of QEMU, and not in policy strict ($format $refcounts, $cache)',
    async (cell) => {
      expect(await hazardsOf(cell, 'qemu', list)).toContain(hazard);
      expect(await hazardsOf(cell, 'strict', list)).toEqual([]);
    },
  );
});

test.each(IN_DATA_FILE.cells)(
  'flushed zeroes of a data file can be lost in the order of QEMU, and not in policy strict ($refcounts, $cache)',
  async (cell) => {
    expect(await hazardsOf(cell, 'qemu', IN_DATA_FILE.list)).toContain('unordered-zero-fill');
    expect(await hazardsOf(cell, 'strict', IN_DATA_FILE.list)).toEqual([]);
  },
);

async function hazardsOf(
  cell: SmallCell,
  policy: EnginePolicyName,
  requests: readonly Request[],
): Promise<readonly Hazard[]> {
  const { plan } = await smallPlan(cell);
  const recording = await recordCell({ ...plan, cell: { ...plan.cell, policy } }, { requests });
  const options = { model: STRONGEST_MODEL, budget: BUDGET, seed: SEED };
  const { bad, hazards } = await explore(recording, options);
  expect(bad).toEqual([]);
  return [...hazards.keys()];
}

const RANDOM: readonly SmallCell[] = [
  { format: 'qcow2', refcounts: 'eager', cache: 'writeback' },
  { format: 'qcow2', refcounts: 'lazy', cache: 'writeback' },
  { format: 'qcow2', refcounts: 'lazy', cache: 'writeback', queueDepth: 8 },
  { format: 'qcow2', refcounts: 'lazy', cache: 'writethrough', shape: { dataFile: 'plain' } },
  {
    format: 'qcow2',
    refcounts: 'lazy',
    cache: 'writeback',
    clusterSize: 16_384,
    shape: { extendedL2: true },
  },
  { format: 'qed', cache: 'writeback' },
];

test.each(RANDOM)(
  'policy strict has no hazard in random requests that free clusters ($format $refcounts, $cache, depth $queueDepth)',
  async (cell) => {
    const { plan, requests } = await smallPlan({ ...cell, prefilled: true, releases: true, requests: 60 });
    const recording = await recordCell({ ...plan, cell: { ...plan.cell, policy: 'strict' } }, { requests });
    const { bad, hazards, tried } = await explore(recording, {
      model: STRONGEST_MODEL,
      budget: 600,
      seed: SEED,
    });
    expect({ bad, hazards: [...hazards.keys()] }).toEqual({ bad: [], hazards: [] });
    expect(tried).toBeGreaterThan(100);
  },
);

const KINDS: readonly SmallCell[] = [
  ...(['eager', 'lazy'] as const).flatMap((refcounts) =>
    (['writeback', 'writethrough'] as const).map((cache): SmallCell => ({
      format: 'qcow2',
      refcounts,
      cache,
    })),
  ),
  { format: 'qcow2', refcounts: 'lazy', cache: 'writeback', backed: true },
  { format: 'qcow2', refcounts: 'eager', cache: 'writeback', shape: { dataFile: 'plain' } },
  { format: 'qed', cache: 'writeback' },
];

test.each(KINDS)(
  'policy strict adds syncs and changes no byte of a closed image ($format $refcounts, $cache, backed: $backed)',
  async (cell) => {
    const { plan, requests } = await smallPlan({ ...cell, prefilled: true, releases: true, requests: 120 });
    const [ours, strict] = await Promise.all(
      (['qemu', 'strict'] as const).map(async (policy) => {
        const recording = await recordCell({ ...plan, cell: { ...plan.cell, policy } }, { requests });
        const { base, operations, syncs } = recording;
        for (const operation of operations) applyOperation(base, operation);
        const pages = [...base.pages].map(
          ([number, { bytes }]) => [number, Buffer.from(bytes).toString('hex')] as const,
        );
        const added = syncs.filter(({ cause }) => cause !== undefined && ADDED.includes(cause)).length;
        return { sizes: base.sizes, pages: new Map(pages), added };
      }),
    );
    expect(strict?.sizes).toEqual(ours?.sizes);
    expect(strict?.pages).toEqual(ours?.pages);
    expect(ours?.added).toBe(0);
    if (cell.refcounts !== 'eager') expect(strict?.added).toBeGreaterThan(0);
  },
);
