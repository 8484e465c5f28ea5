/**
 * What differs between the versions of QEMU that the engines follow, one case for each rule of
 * `qemu-profile.ts`: the operations of our engine under each profile, written out, and those of
 * each program that is on this machine. And the golden figures of allocating writes, which do not.
 */

import { rmSync } from 'node:fs';
import { join } from 'node:path';

import { beforeAll, describe, expect, it } from 'vitest';

import { newerQemuFolder } from '../../scripts/newer-qemu.mjs';
import { openStack } from '../../src/bench/stack.ts';
import type { HostLogRecord } from '../../src/device/host-log.ts';
import { MemoryStorage } from '../../src/device/memory-storage.ts';
import type { CacheMode } from '../../src/format/cache-mode.ts';
import type { Format } from '../../src/format/disk-image.ts';
import type { DiscardMode } from '../../src/format/image-options.ts';
import {
  nearestQemuProfile,
  QEMU_PROFILES,
  QEMU_PROFILE_NAMES,
  type QemuProfile,
  type QemuProfileName,
} from '../../src/format/qemu-profile.ts';
import { createImage } from '../../src/format/registry.ts';
import { formatOperation } from '../../src/peer/compare-operations.ts';
import type { HostOperation } from '../../src/peer/host-operation.ts';
import { runQemuIo } from '../../src/peer/qemu-io.ts';
import { createWithQemuImg, findQemuIo, missingQemuIo, type QemuIoTools } from '../../src/peer/qemu-tools.ts';
import type { Request } from '../../src/workload/request.ts';
import { serveRequests } from '../format/serve-requests.ts';
import { reasonToSkip } from '../format/system-tools.ts';
import { testDirectory } from '../test-directory.ts';
import { ask } from './qemu-cases.ts';

const KIB = 1024;
const MIB = 1024 * KIB;

interface VersionCase {
  readonly rule: keyof QemuProfile;
  readonly shows: string;
  readonly format: Format;
  readonly cache: CacheMode;
  readonly discard?: DiscardMode;
  readonly requests: readonly Request[];
  /** Changes and syncs of the image, from open to close. */
  readonly operations: Readonly<Record<QemuProfileName, readonly string[]>>;
}

const durable = (request: Request): Request => ({ ...request, fua: true });

const CASES: readonly VersionCase[] = [
  {
    rule: 'fileSyncsFuaWrites',
    shows: 'raw, writethrough: a flush after a write, and the close, sync once more',
    format: 'raw',
    cache: 'writethrough',
    requests: [ask.write(0, 4 * KIB), ask.flush(), ask.flush(), ask.write(4 * KIB, 4 * KIB)],
    operations: {
      'qemu-7.2': ['W 0x0 4096', 'F', 'W 0x1000 4096', 'F'],
      'qemu-10.0': ['W 0x0 4096', 'F', 'F', 'W 0x1000 4096', 'F', 'F'],
    },
  },
  {
    rule: 'fileSyncsFuaWrites',
    shows: 'raw, writeback: so does a flush after a write with FUA, and none after a zero-write with it',
    format: 'raw',
    cache: 'writeback',
    requests: [
      durable(ask.write(0, 4 * KIB)),
      ask.flush(),
      durable(ask.zero(4 * KIB, 4 * KIB)),
      ask.flush(),
      ask.write(8 * KIB, 4 * KIB),
      durable(ask.write(12 * KIB, 4 * KIB)),
    ],
    operations: {
      'qemu-7.2': ['W 0x0 4096', 'F', 'Z 0x1000 4096', 'F', 'W 0x2000 4096', 'W 0x3000 4096', 'F'],
      'qemu-10.0': ['W 0x0 4096', 'F', 'F', 'Z 0x1000 4096', 'F', 'W 0x2000 4096', 'W 0x3000 4096', 'F', 'F'],
    },
  },
  {
    rule: 'unsafeDropsFua',
    shows: 'qcow2, unsafe: a write with FUA leaves tables in the caches, a zero-write with it does not',
    format: 'qcow2',
    cache: 'unsafe',
    requests: [
      ask.write(0, 64 * KIB),
      durable(ask.write(64 * KIB, 64 * KIB)),
      ask.write(128 * KIB, 64 * KIB),
      durable(ask.zero(0, 64 * KIB)),
    ],
    operations: {
      'qemu-7.2': [
        'W 0x20000 65536',
        'W 0x40000 65536',
        'W 0x30000 8',
        'W 0x50000 65536',
        'W 0x60000 65536',
        'W 0x20000 65536',
        'W 0x40000 65536',
        'W 0x70000 65536',
        'W 0x20000 65536',
        'W 0x40000 65536',
      ],
      'qemu-10.0': [
        'W 0x20000 65536',
        'W 0x40000 65536',
        'W 0x30000 8',
        'W 0x50000 65536',
        'W 0x60000 65536',
        'W 0x70000 65536',
        'W 0x20000 65536',
        'W 0x40000 65536',
      ],
    },
  },
  {
    rule: 'ignoredDiscardsKeepZeroes',
    shows: 'raw, discard=ignore: zeroes that may unmap leave no hole',
    format: 'raw',
    cache: 'writeback',
    discard: 'ignore',
    requests: [ask.write(0, 8 * KIB), ask.discard(0, 4 * KIB), ask.zero(0, 4 * KIB, true)],
    operations: {
      'qemu-7.2': ['W 0x0 8192', 'P 0x0 4096', 'F'],
      'qemu-10.0': ['W 0x0 8192', 'Z 0x0 4096', 'F'],
    },
  },
  {
    rule: 'ignoredDiscardsKeepZeroes',
    shows: 'qcow2, discard=ignore: nor do they free a cluster, which the next write takes again',
    format: 'qcow2',
    cache: 'writeback',
    discard: 'ignore',
    requests: [ask.write(0, 64 * KIB), ask.zero(0, 64 * KIB, true), ask.write(0, 64 * KIB)],
    operations: {
      'qemu-7.2': [
        'W 0x20000 65536',
        'F',
        'W 0x40000 65536',
        'F',
        'W 0x30000 8',
        'F',
        'W 0x50000 65536',
        'W 0x20000 65536',
        'F',
        'W 0x50000 65536',
        'W 0x40000 65536',
        'F',
        'W 0x20000 65536',
        'F',
        'W 0x40000 65536',
        'F',
      ],
      'qemu-10.0': [
        'W 0x20000 65536',
        'F',
        'W 0x40000 65536',
        'F',
        'W 0x30000 8',
        'F',
        'W 0x50000 65536',
        'W 0x50000 65536',
        'W 0x20000 65536',
        'F',
        'W 0x40000 65536',
        'F',
      ],
    },
  },
];

/** What the last of a few writes costs in writethrough, alike in all versions. */
interface GoldenCost {
  readonly name: string;
  readonly format: Format;
  /** As `qemu-img create -o` takes them. */
  readonly options?: Readonly<Record<string, string>>;
  /** Bytes of each write. Default 4 KiB. */
  readonly length?: number;
  /** Bytes. Default 64 KiB. */
  readonly clusterSize?: number;
  readonly isBacked?: boolean;
  /** Writes, zero-ranges, syncs, bytes written. */
  readonly cost: readonly [number, number, number, number];
}

const lazy = { lazy_refcounts: 'on' };
const extended = { extended_l2: 'on', cluster_size: '131072' };
const GOLDEN_COSTS: readonly GoldenCost[] = [
  { name: 'raw', format: 'raw', cost: [1, 0, 1, 4096] },
  { name: 'qcow2 eager', format: 'qcow2', cost: [3, 1, 2, 135_168] },
  { name: 'qcow2 lazy', format: 'qcow2', options: lazy, cost: [2, 1, 1, 69_632] },
  { name: 'QED', format: 'qed', cost: [3, 0, 1, 66_048] },
  { name: 'eager, backing data', format: 'qcow2', isBacked: true, cost: [3, 0, 2, 196_608] },
  { name: 'lazy, backing data', format: 'qcow2', options: lazy, isBacked: true, cost: [2, 0, 2, 131_072] },
  { name: 'QED, backing data', format: 'qed', isBacked: true, cost: [3, 0, 2, 66_048] },
  { name: 'eager, full cluster', format: 'qcow2', length: 65_536, cost: [3, 0, 2, 196_608] },
  { name: 'lazy, full cluster', format: 'qcow2', options: lazy, length: 65_536, cost: [2, 0, 1, 131_072] },
  {
    name: 'eager, extended L2',
    format: 'qcow2',
    options: extended,
    clusterSize: 131_072,
    cost: [3, 0, 2, 266_240],
  },
  {
    name: 'lazy, extended L2',
    format: 'qcow2',
    options: { ...lazy, ...extended },
    clusterSize: 131_072,
    cost: [2, 0, 1, 135_168],
  },
];

function goldenRequests({ length = 4 * KIB, clusterSize = 64 * KIB }: GoldenCost): readonly Request[] {
  return Array.from({ length: 6 }, (_, index) => ask.write(index * clusterSize, length));
}

describe('our engine follows each version', () => {
  it.each(CASES)('$rule: $shows', async (test) => {
    for (const like of QEMU_PROFILE_NAMES) {
      expect(await oursIn(test, like), like).toEqual(test.operations[like]);
    }
  });

  it('every rule has a case that shows it', () => {
    const rules = Object.keys(QEMU_PROFILES['qemu-7.2']);
    expect([...new Set(CASES.map(({ rule }) => rule))].toSorted()).toEqual(rules.toSorted());
  });
});

const skip = reasonToSkip('qemu-img', 'qemu-io', 'strace');

describe.skipIf(skip !== undefined)('each QEMU of this machine does what its profile says', () => {
  const directory = testDirectory();
  const installed: QemuIoTools[] = [];
  beforeAll(async () => {
    for (const binDirectory of [undefined, newerQemuFolder()]) {
      if (missingQemuIo({ binDirectory }) === undefined) installed.push(await findQemuIo({ binDirectory }));
    }
  });

  it.each(GOLDEN_COSTS)('an allocating write costs what docs/qemu-rules.md says: $name', async (test) => {
    const { format, options, isBacked = false, cost } = test;
    const requests = goldenRequests(test);
    for (const tools of installed) {
      const path = join(directory, `golden-${tools.version}`);
      const below = join(directory, 'below');
      if (isBacked) {
        await createWithQemuImg(below, { format: 'raw', size: MIB });
        const fill = [ask.write(0, MIB)];
        await runQemuIo({ path: below, format: 'raw', cache: 'writeback', requests: fill });
      }
      const backing = isBacked ? { backing: { path: 'below', format: 'raw' as const } } : {};
      await createWithQemuImg(path, { format, size: MIB, options, ...backing });
      const operations = await runQemuIo({ path, format, cache: 'writethrough', requests, tools });
      expect(costOfLast(operations, requests.length - 1), tools.version).toEqual(cost);
      rmSync(path);
    }
  });

  it.each(CASES)('$rule: $shows', async (test) => {
    expect(installed.length).toBeGreaterThan(0);
    for (const tools of installed) {
      const path = join(directory, `image-${tools.version}`);
      await createWithQemuImg(path, { format: test.format, size: MIB });
      const operations = await runQemuIo({ ...test, path, tools });
      const changes = operations.filter(({ op, error }) => op !== 'read' && error === undefined);
      const expected = test.operations[nearestQemuProfile(tools.version)];
      expect(changes.map(formatOperation), tools.version).toEqual(expected);
      rmSync(path);
    }
  });
});

/** Writes, zero-ranges, syncs and bytes written of the last request. */
function costOfLast(operations: readonly HostOperation[], last: number): GoldenCost['cost'] {
  const own = operations.filter(({ request, error }) => request === last && error === undefined);
  const count = (wanted: string): number => own.filter(({ op }) => op === wanted).length;
  const written = own.filter(({ op }) => op === 'write').reduce((sum, { length }) => sum + length, 0);
  return [count('write'), count('zero-range'), count('sync'), written];
}

async function oursIn(
  { format, cache, discard, requests }: VersionCase,
  like: QemuProfileName,
): Promise<readonly string[]> {
  const storage = new MemoryStorage();
  await createImage({ format, device: storage.create('image'), virtualSize: MIB });
  const log: HostLogRecord[] = [];
  await using stack = await openStack({
    storage,
    imageName: 'image',
    format,
    cache,
    discard,
    like,
    hostLog: (record) => log.push(record),
  });
  await serveRequests(stack.backend, requests);
  await stack.close();
  return log
    .filter(({ op }) => op !== 'read')
    .map((record) => (record.op === 'sync' ? 'F' : formatOperation(record)));
}
