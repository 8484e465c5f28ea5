/**
 * Resizing against `qemu-img resize`: the same host operations in the same order, and the same
 * bytes.
 */

import { copyFileSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';

import { stackFiles } from '../../src/bench/stack.ts';
import { probeCapabilities } from '../../src/device/capabilities.ts';
import { FileStorage } from '../../src/device/file-storage.ts';
import type { HostLogRecord } from '../../src/device/host-log.ts';
import { HostMeter } from '../../src/device/host-meter.ts';
import { MemoryStorage } from '../../src/device/memory-storage.ts';
import type { Format } from '../../src/format/disk-image.ts';
import type { Preallocation } from '../../src/format/image-shape.ts';
import { createImageFile } from '../../src/image/create-image.ts';
import {
  resizeImage,
  type NewSize,
  type ResizedImage,
  type ResizeImageOptions,
} from '../../src/image/resize-image.ts';
import { compareOperations } from '../../src/peer/compare-operations.ts';
import { findQemuTools } from '../../src/peer/qemu-tools.ts';
import { traceProgram } from '../../src/peer/strace.ts';
import { expectSameOperations } from '../format/expect-same.ts';
import { withOneGrowth } from '../format/file-growth.ts';
import { rejectionCodeOf } from '../format/rejection.ts';
import { reasonToSkip, runTool } from '../format/system-tools.ts';
import { testDirectory } from '../test-directory.ts';

const KIB = 1024;
const MIB = 1024 * KIB;
const GIB = 1024 * MIB;
const skip = reasonToSkip('qemu-img', 'qemu-io', 'strace');

interface Case {
  /** Default qcow2. */
  readonly format?: Format;
  readonly preallocation?: Preallocation;
  readonly options: string;
  readonly from: number;
  /** A size that the disk is cut to before. */
  readonly between?: number;
  readonly to: number;
  readonly backing?: number;
  readonly writes: readonly string[];
}

/** Overlays over a base that is longer than the disk. */
const LONGER_BASES: readonly Case[] = [
  { options: 'compat=0.10', from: MIB, to: 3 * MIB, backing: 4 * MIB, writes: ['write 0 4k'] },
  { options: 'compat=1.1', from: MIB, to: 3 * MIB, backing: 4 * MIB, writes: ['write 0 4k'] },
  { options: 'lazy_refcounts=on', from: MIB, to: 9 * MIB, backing: 4 * MIB, writes: ['write 0 4k'] },
  {
    options: 'cluster_size=4k',
    from: MIB + 512,
    to: 3 * MIB + 1536,
    backing: 4 * MIB,
    writes: ['write 1M 512'],
  },
  {
    options: 'extended_l2=on',
    from: MIB + 21 * KIB,
    to: 3 * MIB + 512,
    backing: 4 * MIB,
    writes: [],
  },
  {
    options: 'compat=1.1',
    between: 2 * MIB,
    from: 3 * MIB,
    to: 4 * MIB,
    backing: 4 * MIB,
    writes: ['write 2M 1M'],
  },
  {
    options: 'data_file=disk.data',
    from: MIB,
    to: 3 * MIB,
    backing: 4 * MIB,
    writes: ['write 0 4k'],
  },
];

/** Version 2 has no zero flags, and QEMU refuses what needs them. */
function isPossible(options: string, preallocation: Preallocation): boolean {
  return options !== 'compat=0.10' || preallocation === 'falloc' || preallocation === 'full';
}

const CASES: readonly Case[] = [
  { options: 'compat=1.1', from: GIB, to: 5 * GIB + 512, writes: ['write 0 64k', 'write 1000M 4k'] },
  { options: 'compat=0.10', from: GIB, to: 200 * GIB, writes: ['write 0 64k'] },
  { options: 'lazy_refcounts=on', from: 512, to: GIB, writes: ['write 0 512'] },
  // An L1 table of several clusters, which the first refcount block does not describe.
  { options: 'cluster_size=512', from: MIB, to: 200 * MIB, writes: ['write 0 300k'] },
  { options: 'cluster_size=512,refcount_bits=64', from: MIB, to: 64 * MIB, writes: ['write 0 100k'] },
  { options: 'extended_l2=on', from: MIB + 512, to: 700 * MIB, writes: ['write 1M 512'] },
  // A backing file that reaches past the old end must not show through.
  { options: 'compat=1.1', from: MIB + 20 * KIB, to: 3 * MIB, backing: 4 * MIB, writes: ['write 0 4k'] },
  {
    options: 'extended_l2=on',
    from: MIB + 21 * KIB,
    to: 3 * MIB + 512,
    backing: 4 * MIB,
    writes: ['write 1M 4k'],
  },
  {
    options: 'compat=1.1',
    from: 8 * GIB,
    to: 3 * MIB,
    writes: ['write 0 64k', 'write 7G 64k', 'write 2M 4k'],
  },
  { options: 'extended_l2=on', from: GIB, to: 70 * KIB, writes: ['write 0 64k', 'write 900M 64k'] },
  { options: 'cluster_size=512', from: 4 * MIB, to: 100 * KIB, writes: ['write 0 60k', 'write 1M 900k'] },
  // Space for what is new; a disk that ends in mid-cluster has a part of one to copy.
  ...(['metadata', 'falloc', 'full'] as const).flatMap((preallocation) => [
    { preallocation, options: 'compat=1.1', from: MIB, to: 9 * MIB, writes: ['write 0 64k'] },
    {
      preallocation,
      options: 'cluster_size=4k',
      from: MIB + 512,
      to: 3 * MIB + 1536,
      writes: ['write 1M 512'],
    },
    { preallocation, options: 'cluster_size=512', from: 64 * KIB, to: MIB, writes: ['write 0 60k'] },
    { preallocation, options: 'lazy_refcounts=on,extended_l2=on', from: MIB, to: 5 * MIB + 512, writes: [] },
    { preallocation, options: 'compat=1.1', from: MIB, to: 3 * MIB, backing: MIB, writes: ['write 0 4k'] },
  ]),
  // A longer backing file: space that is zero needs no flags over it; without it, version 3 has
  // flags.
  ...(['off', 'metadata', 'falloc', 'full'] as const).flatMap((preallocation) =>
    LONGER_BASES.filter(({ options }) => isPossible(options, preallocation)).map((one) => ({
      ...one,
      preallocation,
    })),
  ),
  { format: 'raw', options: '', from: MIB, to: 3 * MIB, writes: ['write 0 4k'] },
  { format: 'raw', options: '', from: MIB, to: 64 * KIB, writes: ['write 0 4k'] },
  { format: 'raw', preallocation: 'falloc', options: '', from: MIB, to: 3 * MIB, writes: [] },
  { format: 'raw', preallocation: 'full', options: '', from: MIB, to: 3 * MIB, writes: [] },
  { format: 'qed', options: 'cluster_size=4k', from: MIB, to: 3 * MIB, writes: ['write 0 9k'] },
  {
    format: 'qed',
    options: 'cluster_size=64k',
    from: MIB,
    to: 300 * MIB,
    backing: MIB,
    writes: ['write 0 4k'],
  },
];

const directory = testDirectory();

describe.skipIf(skip !== undefined)('resizing is done as by qemu-img', () => {
  it.each(CASES)('$options, from $from to $to, preallocation $preallocation', async (one) => {
    const { options, from, to, backing, writes, format = 'qcow2', preallocation = 'off' } = one;
    const theirs = join(directory, 'theirs');
    const below = backing === undefined ? [] : ['-b', 'base', '-F', 'raw'];
    if (backing !== undefined) {
      runTool('qemu-img', ['create', '-q', '-f', 'raw', join(directory, 'base'), String(backing)]);
      runTool('qemu-io', ['-f', 'raw', '-c', `write -P 9 0 ${String(backing)}`, join(directory, 'base')]);
    }
    // QEMU looks for a data file from where it runs, so it gets the whole path.
    const data = join(directory, 'disk.data');
    const chosen = options === '' ? [] : ['-o', options.replace('data_file=disk.data', `data_file=${data}`)];
    runTool('qemu-img', ['create', '-q', '-f', format, ...chosen, ...below, theirs, String(from)], directory);
    const commands = writes.flatMap((command) => ['-c', command]);
    if (writes.length > 0) runTool('qemu-io', ['-f', format, ...commands, theirs], directory);
    if (one.between !== undefined) {
      runTool('qemu-img', ['resize', '-q', '-f', format, '--shrink', theirs, String(one.between)]);
    }
    copyFileSync(theirs, join(directory, 'ours'));
    const hasData = options.includes('data_file');
    if (hasData) copyFileSync(data, `${data}.before`);

    const tools = await findQemuTools();
    const { operations } = await traceProgram({
      strace: tools.strace,
      command: tools.qemuImg,
      args: [
        ...['resize', '-q', '-f', format, '--shrink', `--preallocation=${preallocation}`],
        ...[theirs, String(to)],
      ],
      input: '',
      files: { image: theirs, ...(hasData ? { data } : {}) },
      requests: undefined,
    });
    if (hasData) {
      copyFileSync(data, `${data}.theirs`);
      copyFileSync(`${data}.before`, data);
    }
    const log: HostLogRecord[] = [];
    const storage = new FileStorage(directory, probeCapabilities(directory));
    const hostLog = (record: HostLogRecord): unknown => log.push(record);
    const files = stackFiles({ storage, cache: 'writeback', meter: new HostMeter(), hostLog });
    await resizeImage({
      name: 'ours',
      format,
      files,
      backing: { allowAnywhere: true },
      size: { to },
      shrink: true,
      preallocation,
    });
    const comparison = compareOperations(log, withOneGrowth(operations, preallocation), {
      ignoreFiles: ['backing:0'],
    });
    expectSameOperations(comparison);
    expect(readFileSync(join(directory, 'ours')).equals(readFileSync(theirs))).toBe(true);
    if (hasData) expect(readFileSync(data).equals(readFileSync(`${data}.theirs`))).toBe(true);
    if (format !== 'raw') runTool('qemu-img', ['check', '-q', '-f', format, join(directory, 'ours')]);
    runTool('qemu-img', ['compare', '-q', '-f', format, '-F', format, theirs, join(directory, 'ours')]);
  });
});

describe('resizing', () => {
  const make = async (format: Format) => {
    const storage = new MemoryStorage();
    await createImageFile({ storage, name: 'disk', format, virtualSize: MIB });
    const files = stackFiles({ storage, cache: 'writeback' });
    const resize = (size: NewSize, more: Partial<ResizeImageOptions> = {}): Promise<ResizedImage> =>
      resizeImage({ name: 'disk', format, files, size, ...more });
    const refusal = (size: NewSize, more?: Partial<ResizeImageOptions>) =>
      rejectionCodeOf(() => resize(size, more));
    return { resize, refusal };
  };

  it.each(['raw', 'qcow2'] as const)('%s loses nothing that was not asked for', async (format) => {
    const { resize, refusal } = await make(format);
    expect(await refusal({ to: 512 })).toBe('shrink-not-allowed');
    expect(await refusal({ by: -512 })).toBe('shrink-not-allowed');
    expect(await resize({ by: 512 })).toEqual({ before: MIB, virtualSize: MIB + 512 });
    expect(await resize({ by: -1024 }, { shrink: true })).toEqual({
      before: MIB + 512,
      virtualSize: MIB - 512,
    });
  });

  it.each(['off', 'metadata'] as const)(
    'version 2 over a longer base is refused before anything changes (%s)',
    async (preallocation) => {
      const storage = new MemoryStorage();
      await createImageFile({ storage, name: 'base', format: 'raw', virtualSize: 4 * MIB });
      const files = stackFiles({ storage, cache: 'writeback' });
      const backing = { name: 'base', path: 'base', format: 'raw', files } as const;
      const shape = { compat: '0.10' } as const;
      const virtualSize = MIB + 512;
      await createImageFile({ storage, name: 'top', format: 'qcow2', virtualSize, backing, shape });
      const before = Uint8Array.from(storage.open('top').contents());
      const resize = (to: number): Promise<ResizedImage> =>
        resizeImage({ name: 'top', format: 'qcow2', files, size: { to }, preallocation });
      expect(await rejectionCodeOf(() => resize(2 * MIB))).toBe('qcow2-zero-flag-needs-v3');
      expect(Uint8Array.from(storage.open('top').contents())).toEqual(before);
      // Within the cluster that the disk ends in, zeroes are written.
      expect(await resize(MIB + 1024)).toMatchObject({ virtualSize: MIB + 1024 });
    },
  );

  it('refuses what is no size, what the L1 table cannot hold, and what a format has not', async () => {
    const qcow2 = await make('qcow2');
    for (const size of [{ to: 1000 }, { to: 0 }, { by: -MIB }, { by: -2 * MIB }, { by: 2 ** 53 }]) {
      expect(await qcow2.refusal(size, { shrink: true }), JSON.stringify(size)).toBe('bad-size');
    }
    expect(await qcow2.refusal({ to: 2 ** 52 })).toBe('qcow2-l1-too-large');
    const smaller = { shrink: true, preallocation: 'full' } as const;
    expect(await qcow2.refusal({ to: 512 }, smaller)).toBe('resize-preallocates-growth');
    await qcow2.resize({ to: 2 * MIB });
    const raw = await make('raw');
    expect(await raw.refusal({ by: 512 }, { preallocation: 'metadata' })).toBe('raw-no-metadata');
    const qed = await make('qed');
    expect(await qed.refusal({ by: -512 }, { shrink: true })).toBe('qed-no-shrink');
    expect(await qed.refusal({ by: 512 }, { preallocation: 'full' })).toBe('qed-no-preallocation');
    expect(await qed.refusal({ to: 2 ** 52 })).toBe('qed-bad-image-size');
    await qed.resize({ by: 512 });
  });
});
