/** Resizing against `qemu-img resize`: the same host operations in the same order, and the same bytes. */

import { copyFileSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';

import { stackFiles } from '../../src/bench/stack.ts';
import { probeCapabilities } from '../../src/device/capabilities.ts';
import { FileStorage } from '../../src/device/file-storage.ts';
import type { HostLogRecord } from '../../src/device/host-log.ts';
import { HostMeter } from '../../src/device/host-meter.ts';
import { MemoryStorage } from '../../src/device/memory-storage.ts';
import { createImageFile } from '../../src/image/create-image.ts';
import { resizeImage } from '../../src/image/resize-image.ts';
import { compareOperations } from '../../src/peer/compare-operations.ts';
import { findQemuTools } from '../../src/peer/qemu-tools.ts';
import { traceProgram } from '../../src/peer/strace.ts';
import { rejectionCodeOf } from '../format/rejection.ts';
import { reasonToSkip, runTool } from '../format/system-tools.ts';

const KIB = 1024;
const MIB = 1024 * KIB;
const GIB = 1024 * MIB;
const skip = reasonToSkip('qemu-img', 'qemu-io', 'strace');

interface Case {
  readonly options: string;
  readonly from: number;
  readonly to: number;
  readonly backing?: number;
  readonly writes: readonly string[];
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
];

let directory = '';
beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'qcow2-bench-resize-'));
});
afterAll(() => rmSync(directory, { recursive: true, force: true }));

describe.skipIf(skip !== undefined)('resizing is done as by qemu-img', () => {
  it.each(CASES)('$options, from $from to $to', async ({ options, from, to, backing, writes }) => {
    const theirs = join(directory, 'theirs');
    const below = backing === undefined ? [] : ['-b', 'base', '-F', 'raw'];
    if (backing !== undefined) {
      runTool('qemu-img', ['create', '-q', '-f', 'raw', join(directory, 'base'), String(backing)]);
      runTool('qemu-io', ['-f', 'raw', '-c', `write -P 9 0 ${String(backing)}`, join(directory, 'base')]);
    }
    runTool(
      'qemu-img',
      ['create', '-q', '-f', 'qcow2', '-o', options, ...below, theirs, String(from)],
      directory,
    );
    runTool('qemu-io', [...writes.flatMap((command) => ['-c', command]), theirs], directory);
    copyFileSync(theirs, join(directory, 'ours'));

    const tools = await findQemuTools();
    const { operations } = await traceProgram({
      strace: tools.strace,
      command: tools.qemuImg,
      args: ['resize', '-q', '-f', 'qcow2', '--shrink', theirs, String(to)],
      input: '',
      files: { image: theirs },
      requests: undefined,
    });
    const log: HostLogRecord[] = [];
    const storage = new FileStorage(directory, probeCapabilities(directory));
    const hostLog = (record: HostLogRecord): unknown => log.push(record);
    const files = stackFiles({ storage, cache: 'writeback', meter: new HostMeter(), hostLog });
    await resizeImage({ name: 'ours', format: 'qcow2', files, virtualSize: to, shrink: true });
    const comparison = compareOperations(log, operations, { ignoreFiles: ['backing:0'] });
    expect(comparison.identical ? '' : comparison.text).toBe('');
    expect(readFileSync(join(directory, 'ours')).equals(readFileSync(theirs))).toBe(true);
    runTool('qemu-img', ['check', '-q', '-f', 'qcow2', join(directory, 'ours')]);
    runTool('qemu-img', ['compare', '-q', theirs, join(directory, 'ours')]);
  });
});

describe('resizing', () => {
  const make = async (format: 'qcow2' | 'qed') => {
    const storage = new MemoryStorage();
    await createImageFile({ storage, name: 'disk', format, virtualSize: MIB });
    return { name: 'disk', format, files: stackFiles({ storage, cache: 'writeback' }) } as const;
  };

  it('loses nothing that was not asked for', async () => {
    const options = await make('qcow2');
    expect(await rejectionCodeOf(() => resizeImage({ ...options, virtualSize: 512 }))).toBe(
      'shrink-not-allowed',
    );
    await resizeImage({ ...options, virtualSize: 512, shrink: true });
  });

  it('refuses what is no size, what the L1 table cannot hold, and formats that it does not know', async () => {
    const options = await make('qcow2');
    expect(await rejectionCodeOf(() => resizeImage({ ...options, virtualSize: 1000 }))).toBe('bad-size');
    expect(await rejectionCodeOf(() => resizeImage({ ...options, virtualSize: 2 ** 52 }))).toBe(
      'qcow2-l1-too-large',
    );
    await resizeImage({ ...options, virtualSize: 2 * MIB });
    const qed = await make('qed');
    expect(await rejectionCodeOf(() => resizeImage({ ...qed, virtualSize: GIB }))).toBe('resize-unsupported');
  });
});
