/** What a crash leaves of a B-tree, by policy of its commits; and that faults of these are noticed. */

import { afterEach, describe, expect, test, vi } from 'vitest';

import { explore } from '../../src/crash/explore.ts';
import { recordCell } from '../../src/crash/record-cell.ts';
import { shrink } from '../../src/crash/shrink.ts';
import { STRONGEST_MODEL } from '../../src/crash/state-space.ts';
import type { BlockDevice } from '../../src/device/block-device.ts';
import { DeviceFilter } from '../../src/device/filter.ts';
import type { Purpose } from '../../src/device/purpose.ts';
import { checksum } from '../../src/format/btree/on-disk/checksum.ts';
import { HostSpace } from '../../src/format/btree/tree/host-space.ts';
import { COMMIT_POLICIES } from '../../src/format/commit-policy.ts';
import type { Step } from '../../src/crash/steps.ts';
import type { Request } from '../../src/workload/request.ts';
import { someOf } from '../amount.ts';
import { DropsSyncs } from './planted.ts';
import { recordSmall, smallPlan, type SmallCell } from './small-recording.ts';

const SEED = 7;
const BLOCK = 4096;
const OPTIONS = { model: STRONGEST_MODEL, seed: SEED } as const;

const starts: readonly Partial<SmallCell>[] = [
  { releases: true },
  { prefilled: true, releases: true },
  { backed: true, releases: true },
  { prefilled: true, steps: ['snapshots', 'resize'] },
  { queueDepth: 8, releases: true },
];
const cells = COMMIT_POLICIES.flatMap((commit) =>
  (['writethrough', 'writeback'] as const).flatMap((cache) =>
    starts.map((start): SmallCell => ({ format: 'btree', commit, cache, ...start })),
  ),
);

test.each(someOf(cells, 12))(
  'no crash state loses what was acknowledged: $commit, $cache, used: $prefilled, backed: $backed, depth $queueDepth, $steps',
  async (cell) => {
    const exploration = await explore(await recordSmall(cell), { ...OPTIONS, budget: 200 });
    expect(exploration.bad.slice(0, 3), `seed ${String(SEED)}`).toEqual([]);
    expect(exploration.tried).toBeGreaterThan(60);
  },
);

test.each(COMMIT_POLICIES)('nor does a crash of the opening that follows: %s', async (commit) => {
  const recording = await recordSmall({ format: 'btree', commit, cache: 'writeback', releases: true });
  const exploration = await explore(recording, { ...OPTIONS, budget: 200, nested: 2 });
  expect(exploration.bad.slice(0, 3), `seed ${String(SEED)}`).toEqual([]);
});

function request(op: Request['op'], offset = 0, length = BLOCK): Request {
  return { op, offset, length: op === 'flush' ? 0 : length, fua: false, unmap: true, timeNs: 0 };
}

const EXTENTS = 600;
/** More extents than a leaf has room for; discards then leave it to few, so that nodes are joined. */
const GROWS_AND_SHRINKS: readonly Request[] = [
  ...Array.from({ length: EXTENTS }, (_, index) => request('write', 2 * index * BLOCK)),
  request('flush'),
  ...Array.from({ length: 8 }, (_, index) => {
    const from = ((index * 5) % 8) * 150;
    return [request('discard', from * BLOCK, 146 * BLOCK), request('flush')];
  }).flat(),
];

test.each(COMMIT_POLICIES)('nor one of a tree whose nodes are joined: %s', async (commit) => {
  const cell: SmallCell = { format: 'btree', commit, cache: 'writeback', size: '8MiB' };
  const { plan } = await smallPlan(cell);
  const recording = await recordCell(plan, { requests: GROWS_AND_SHRINKS });
  const exploration = await explore(recording, { ...OPTIONS, budget: 200, nested: 2 });
  expect(exploration.bad.slice(0, 3), `seed ${String(SEED)}`).toEqual([]);
});

/** Reads a structure with another content than the file has. */
class ReadsOtherwise extends DeviceFilter {
  readonly #purpose: Purpose;
  readonly #change: (bytes: Uint8Array<ArrayBuffer>) => void;

  constructor(inner: BlockDevice, purpose: Purpose, change: (bytes: Uint8Array<ArrayBuffer>) => void) {
    super(inner);
    this.#purpose = purpose;
    this.#change = change;
  }

  override read(offset: number, target: Uint8Array, purpose: Purpose): undefined {
    // Files of a state answer at once.
    void this.inner.read(offset, target, purpose);
    if (purpose === this.#purpose) this.#change(target as Uint8Array<ArrayBuffer>);
    return undefined;
  }
}

/** The superblock is taken at its word: that it is unordered is not seen. */
function trusted(bytes: Uint8Array<ArrayBuffer>): void {
  const view = new DataView(bytes.buffer, bytes.byteOffset, BLOCK);
  if (view.getUint32(8, true) !== checksum(bytes.subarray(12))) return;
  view.setUint32(44, 0, true);
  view.setUint32(8, checksum(bytes.subarray(12)), true);
}

/** A record counts whatever its checksum is, if its first sector is there. */
function unchecked(bytes: Uint8Array<ArrayBuffer>): void {
  const view = new DataView(bytes.buffer, bytes.byteOffset, BLOCK);
  view.setUint32(4, checksum(bytes.subarray(8)), true);
}

interface Plant {
  readonly what: string;
  readonly cell: SmallCell;
  /** Default: those of the cell's workload. */
  readonly list?: readonly Request[];
  /** Until the end of the test. */
  readonly plant?: () => void;
}

/** More changes than fit into the first sector of a record. */
const MANY = Array.from({ length: 50 }, (_, index) => 2 * index * BLOCK);

const PLANTS: readonly Plant[] = [
  {
    what: 'no sync between nodes and superblock',
    cell: { format: 'btree', cache: 'writethrough', deviation: (device) => new DropsSyncs(device, 'commit') },
  },
  {
    what: 'blocks are used again before the commit that lets them go',
    cell: { format: 'btree', cache: 'writeback' },
    list: [
      request('write'),
      request('flush'),
      request('write-zeroes'),
      request('write', 64 * BLOCK),
      request('write', BLOCK),
    ],
    plant: () => {
      vi.spyOn(HostSpace.prototype, 'release').mockImplementation(function (this: HostSpace, block, blocks) {
        this.reuse([{ block, blocks }]);
      });
    },
  },
  {
    what: 'one-sync: an opening compares no checksums',
    cell: {
      format: 'btree',
      commit: 'one-sync',
      cache: 'writethrough',
      recoveryDeviation: (device) => new ReadsOtherwise(device, 'superblock', trusted),
    },
  },
  {
    what: 'journal: a record has no checksum',
    cell: {
      format: 'btree',
      commit: 'journal',
      cache: 'writeback',
      recoveryDeviation: (device) => new ReadsOtherwise(device, 'journal', unchecked),
    },
    list: [
      // Few at a time, so that torn states are tried as well.
      ...MANY.flatMap((at, index) => [request('write', at), ...(index % 4 === 0 ? [request('flush')] : [])]),
      request('flush'),
      ...MANY.map((at) => request('write-zeroes', at)),
      request('flush'),
    ],
  },
];

describe('a planted fault is found', () => {
  afterEach(() => {
    vi.restoreAllMocks();
  });

  test.each(PLANTS)('$what', async ({ cell, list, plant }) => {
    plant?.();
    const { plan, requests: own } = await smallPlan(cell);
    const requests: readonly Step[] = list ?? own;
    const record = (some: readonly Step[]) => recordCell(plan, { ...cell, requests: some });
    const { bad } = await explore(await record(requests), { ...OPTIONS, budget: 3000 });
    const finding = bad[0]?.findings[0];
    expect(finding).toBeDefined();
    if (finding === undefined) return;
    const example = await shrink(requests, {
      ...OPTIONS,
      record,
      budget: 1000,
      attempts: 12,
      target: { kind: 'violation', finding },
    });
    const shortest = example?.requests ?? requests;
    expect(shortest.length).toBeLessThan(requests.length);
  });
});
