/**
 * New images under `strace`: those of `qemu-img create` and ours are made by the same host
 * operations in the same order, and have the same bytes and the same space, for every mode of
 * preallocation.
 */

import { readFileSync, rmSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { stackDevice } from '../../../src/bench/stack.ts';
import { formatSize } from '../../../src/core/size.ts';
import { probeCapabilities } from '../../../src/device/capabilities.ts';
import { FileStorage } from '../../../src/device/file-storage.ts';
import type { HostLogRecord } from '../../../src/device/host-log.ts';
import { HostMeter } from '../../../src/device/host-meter.ts';
import type { CreateOptions } from '../../../src/format/image-options.ts';
import { PREALLOCATIONS } from '../../../src/format/image-shape.ts';
import { createImage, impossibleImage } from '../../../src/format/registry.ts';
import { compareOperations } from '../../../src/peer/compare-operations.ts';
import type { HostOperation } from '../../../src/peer/host-operation.ts';
import { findQemuTools } from '../../../src/peer/qemu-tools.ts';
import { traceProgram } from '../../../src/peer/strace.ts';
import { coveringArray } from '../../parity/covering-array.ts';
import { testDirectory } from '../../test-directory.ts';
import { expectSameOperations } from '../expect-same.ts';
import { rejectionCodeOf } from '../rejection.ts';
import { withOneGrowth } from '../file-growth.ts';
import { reasonToSkip, runTool } from '../system-tools.ts';
import { newImage, NO_DAMAGE, damageOf, openBytes } from './image-bytes.ts';

const KIB = 1024;
const MIB = 1024 * KIB;
const skip = reasonToSkip('qemu-img', 'strace');

const CASES = coveringArray(
  {
    preallocation: PREALLOCATIONS,
    clusterSize: [512, 4 * KIB, 64 * KIB, 2 * MIB],
    refcountBits: [1, 16, 64],
    refcounts: ['eager', 'lazy'],
    compat: ['1.1', '1.1', '0.10'],
    extendedL2: ['off', 'on'],
    virtualSize: [0, 512, 200 * KIB, 5 * MIB + 512],
  },
  { seed: 1 },
);
type Case = (typeof CASES)[number];
/** Clusters that are reserved, and in which no subcluster is allocated yet. */
const RESERVED = PREALLOCATIONS.flatMap((preallocation) =>
  ([64 * KIB, 2 * MIB] as const).map((clusterSize): Case => ({
    preallocation,
    clusterSize,
    refcountBits: 16,
    refcounts: 'eager',
    compat: '1.1',
    extendedL2: 'on',
    virtualSize: 5 * MIB + 512,
  })),
);

const directory = testDirectory();

describe.skipIf(skip !== undefined)('a new image is made as by qemu-img', () => {
  it.each([...CASES, ...RESERVED].map((choice) => [nameOf(choice), choice] as const))(
    '%s',
    async (_, choice) => {
      const { clusterSize, refcounts, virtualSize, extendedL2, ...rest } = choice;
      const shape = { ...rest, extendedL2: extendedL2 === 'on' };
      const options = { format: 'qcow2', clusterSize, refcounts, virtualSize, shape } as const;
      if (impossibleImage(options) !== undefined) {
        await expect(makeWithQemu(choice)).rejects.toThrow();
        return;
      }
      const theirs = await makeWithQemu(choice);
      const ours = await makeOurs(options);
      // Making a file as long as it is can be seen only from inside.
      const isSeen = ({ op }: { readonly op: string }): boolean => virtualSize > 0 || op !== 'truncate';
      const comparison = compareOperations(ours.filter(isSeen), theirs.filter(isSeen));
      expectSameOperations(comparison);
      const [theirPath, ourPath] = [join(directory, 'theirs'), join(directory, 'ours')];
      expect(readFileSync(ourPath).equals(readFileSync(theirPath)), 'bytes').toBe(true);
      // The file system's own bookkeeping may differ by a block or two.
      expect(Math.abs(statSync(ourPath).blocks - statSync(theirPath).blocks)).toBeLessThanOrEqual(16);
      const { image } = await openBytes(readFileSync(ourPath), { readOnly: true });
      expect(await damageOf(image)).toEqual(NO_DAMAGE);
      await image.close();
    },
  );

  it.each(
    [0, 512, 3 * KIB, 200 * KIB].flatMap((virtualSize) =>
      (['off', 'falloc', 'full'] as const).map((preallocation) => ({ virtualSize, preallocation })),
    ),
  )('raw, %o', async ({ virtualSize, preallocation }) => {
    const theirPath = join(directory, 'theirs');
    const options = ['-o', `preallocation=${preallocation}`, theirPath, String(virtualSize)];
    runTool('qemu-img', ['create', '-q', '-f', 'raw', ...options]);
    await makeOurs({ format: 'raw', virtualSize, shape: { preallocation } });
    const ours = statSync(join(directory, 'ours'));
    const theirs = statSync(theirPath);
    expect([ours.size, ours.blocks]).toEqual([theirs.size, theirs.blocks]);
    expect(readFileSync(join(directory, 'ours')).equals(readFileSync(theirPath))).toBe(true);
  });
});

async function makeWithQemu(choice: Case): Promise<readonly HostOperation[]> {
  const tools = await findQemuTools();
  const path = join(directory, 'theirs');
  rmSync(path, { force: true });
  const settings = [
    `compat=${choice.compat}`,
    `extended_l2=${choice.extendedL2}`,
    `cluster_size=${String(choice.clusterSize)}`,
    `refcount_bits=${String(choice.refcountBits)}`,
    `lazy_refcounts=${choice.refcounts === 'lazy' ? 'on' : 'off'}`,
    `preallocation=${choice.preallocation}`,
  ].join(',');
  const { operations } = await traceProgram({
    strace: tools.strace,
    command: tools.qemuImg,
    args: ['create', '-q', '-f', 'qcow2', '-o', settings, path, String(choice.virtualSize)],
    input: '',
    files: { image: path },
    requests: undefined,
  });
  // QEMU empties the file twice.
  const once = operations.filter(({ op, offset }, index) => op !== 'truncate' || offset > 0 || index === 0);
  return withOneGrowth(once, choice.preallocation);
}

async function makeOurs(
  options: Omit<CreateOptions, 'device'> & { readonly format: 'raw' | 'qcow2' },
): Promise<readonly HostLogRecord[]> {
  const storage = new FileStorage(directory, probeCapabilities(directory));
  storage.remove('ours');
  const log: HostLogRecord[] = [];
  const device = stackDevice(storage.create('ours'), {
    cache: 'writeback',
    meter: new HostMeter(),
    hostLog: (record) => log.push(record),
  });
  await createImage({ ...options, device });
  await device.close();
  return log;
}

function nameOf(choice: Case): string {
  return [
    `preallocation ${choice.preallocation}`,
    `compat ${choice.compat}`,
    formatSize(choice.clusterSize),
    choice.extendedL2 === 'on' ? 'extended L2' : 'plain L2',
    `${String(choice.refcountBits)} bits`,
    choice.refcounts,
    `disk of ${formatSize(choice.virtualSize)}`,
  ].join(', ');
}

describe('preallocation', () => {
  it('of an overlay, of metadata in raw, is refused', async () => {
    const overlay = {
      virtualSize: MIB,
      backingFile: { name: 'base', format: 'raw' },
      shape: { preallocation: 'metadata' },
    } as const;
    expect(await rejectionCodeOf(() => newImage(overlay))).toBe('qcow2-preallocated-overlay');
    expect(impossibleImage({ format: 'raw', shape: { preallocation: 'metadata' } })?.code).toBe(
      'raw-no-metadata',
    );
  });

  it.each(['metadata', 'falloc', 'full'] as const)(
    '%s leaves nothing to allocate for writes',
    async (mode) => {
      const virtualSize = 3 * MIB + 512;
      const bytes = await newImage({ virtualSize, shape: { preallocation: mode } });
      const { image, log } = await openBytes(bytes);
      const target = new Uint8Array(virtualSize).fill(1);
      await image.read(0, target);
      expect(target.every((byte) => byte === 0)).toBe(true);
      await image.write(MIB, new Uint8Array(4096).fill(5));
      await image.write(virtualSize - 512, new Uint8Array(512).fill(6));
      await image.flush('guest-flush');
      expect(image.allocatingWrites).toBe(0);
      expect(log.entries.map(({ op }) => op)).toEqual(['write', 'write', 'sync']);
      expect(await damageOf(image)).toEqual(NO_DAMAGE);
      await image.close();
    },
  );
});
