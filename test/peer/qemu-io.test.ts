/**
 * A real QEMU, run and traced, does what docs and engines of this project hold to be its behaviour.
 */

import { join } from 'node:path';

import { describe, expect, test } from 'vitest';

import type { CacheMode } from '../../src/format/cache-mode.ts';
import type { Format } from '../../src/format/disk-image.ts';
import { formatOperation } from '../../src/peer/compare-operations.ts';
import type { HostOperation } from '../../src/peer/host-operation.ts';
import { qemuIoScript, runQemuIo } from '../../src/peer/qemu-io.ts';
import { createWithQemuImg, findQemuTools } from '../../src/peer/qemu-tools.ts';
import type { QemuImgCreate } from '../../src/peer/qemu-tools.ts';
import type { Request, RequestOp } from '../../src/workload/request.ts';
import { someOf } from '../amount.ts';
import { reasonToSkip } from '../format/system-tools.ts';
import { peerProfile } from '../parity/peer-stack.ts';
import { testDirectory } from '../test-directory.ts';

const GIB = 1024 ** 3;
const CLUSTER = 65_536;

function request(op: RequestOp, place: Partial<Request> = {}): Request {
  return { op, offset: 0, length: 0, fua: false, unmap: false, timeNs: 0, ...place };
}

/** One 4 KiB write in each of `count` clusters. */
function stride(count: number): readonly Request[] {
  return Array.from({ length: count }, (_, index) =>
    request('write', { offset: index * CLUSTER, length: 4096 }),
  );
}

test('requests become commands: a mark before each, payload by the number of the write', () => {
  const script = qemuIoScript([
    request('write', { offset: 512, length: 4096 }),
    request('read', { length: 512 }),
    request('write', { length: 512, fua: true }),
    request('flush'),
    request('discard', { length: 65_536 }),
    request('write-zeroes', { length: 1024, unmap: true, fua: true }),
  ]);
  expect(
    script
      .replaceAll(/sigraise \d+\n/g, '@ ')
      .trimEnd()
      .split('\n'),
  ).toEqual([
    '@ write -q -P 1 512 4096',
    '@ read -q 0 512',
    '@ write -q -f -P 2 0 512',
    '@ flush',
    '@ discard -q 0 65536',
    '@ write -q -f -z -u 0 1024',
    '@ quit',
  ]);
});

test('the payload of write 255 is that of write 0', () => {
  expect(
    qemuIoScript(stride(256))
      .match(/-P \d+/g)
      ?.slice(-2),
  ).toEqual(['-P 255', '-P 1']);
});

const skipped = reasonToSkip('qemu-io', 'qemu-img', 'strace');

describe.skipIf(skipped !== undefined)('a real QEMU', () => {
  const folder = testDirectory();

  interface Run {
    readonly format: Format;
    readonly cache: CacheMode;
    readonly requests: readonly Request[];
    readonly create?: Omit<QemuImgCreate, 'format'>;
    readonly files?: Readonly<Record<string, string>>;
  }
  async function run({ format, cache, requests, create, files }: Run): Promise<readonly HostOperation[]> {
    const path = join(folder, 'image');
    await createWithQemuImg(path, { format, size: GIB, ...create });
    return runQemuIo({ path, format, cache, requests, files });
  }

  test('returns its version', async () => {
    await expect(findQemuTools()).resolves.toMatchObject({
      version: expect.stringMatching(/^\d+\.\d+/) as string,
    });
  });

  test('eager, writethrough: data, refcount block, sync, L2 table, sync', async () => {
    const operations = await run({ format: 'qcow2', cache: 'writethrough', requests: stride(3) });
    expect(operations.filter((operation) => operation.request === 2).map(formatOperation)).toEqual([
      'Z 0x70000 65536',
      'W 0x70000 4096',
      'W 0x20000 65536',
      'F',
      'W 0x40000 65536',
      'F',
    ]);
    expect(operations.filter(({ phase, op }) => phase === 'close' && op !== 'read')).toEqual([]);
  });

  test('lazy, writeback: refcounts and the clean header wait for the close', async () => {
    const create = { options: { lazy_refcounts: 'on' } };
    const operations = await run({ format: 'qcow2', cache: 'writeback', requests: stride(2), create });
    expect(operations.filter((operation) => operation.request === 1).map(formatOperation)).toEqual([
      'Z 0x60000 65536',
      'W 0x60000 4096',
    ]);
    expect(
      operations.filter(({ phase, op }) => phase === 'close' && op !== 'read').map(formatOperation),
    ).toEqual(['W 0x40000 65536', 'F', 'W 0x20000 65536', 'F', 'W 0x0 65536', 'F']);
  });

  test('a copy from the backing file is one merged write, its read named by its file', async () => {
    const base = join(folder, 'base');
    await createWithQemuImg(base, { format: 'raw', size: GIB });
    const fill = [request('write', { length: CLUSTER })];
    await runQemuIo({ path: base, format: 'raw', cache: 'unsafe', requests: fill });
    const operations = await run({
      format: 'qcow2',
      cache: 'directsync',
      requests: [request('write', { offset: 28_672, length: 4096 })],
      create: { backing: { path: base, format: 'raw' } },
      files: { 'backing:0': base },
    });
    const texts = operations.filter(({ phase }) => phase === 'run').map(formatOperation);
    expect(texts).toContain('R 0x0 65536 (backing:0)');
    expect(texts).toContain('W 0x50000 65536');
  });

  test('a discard of a cluster punches a hole', async () => {
    const requests = [...stride(1), request('flush'), request('discard', { length: CLUSTER })];
    const operations = await run({ format: 'qcow2', cache: 'writeback', requests });
    expect(operations.filter((operation) => operation.request === 2).map(formatOperation)).toEqual([
      'P 0x50000 65536',
    ]);
  });

  const wholeRuns = [
    // A sync more at the close, see `fileSyncsFuaWrites`.
    ['raw', undefined, 'writethrough', { writes: 1000, syncs: { 'qemu-7.2': 1000, 'qemu-10.0': 1001 } }],
    ['qcow2', 'off', 'writethrough', { writes: 3003, syncs: 2003 }],
    ['qcow2', 'off', 'none', { writes: 1005, syncs: 5 }],
    ['qcow2', 'on', 'writethrough', { writes: 2006, syncs: 1006 }],
    ['qcow2', 'on', 'writeback', { writes: 1007, syncs: 7 }],
    ['qed', undefined, 'writeback', { writes: 3003, syncs: 3 }],
  ] as const;
  test.each(someOf(wholeRuns, 2))(
    '1,000 writes, %s, lazy refcounts %s, %s',
    async (format, lazyRefcounts, cache, golden) => {
      const create = lazyRefcounts === undefined ? {} : { options: { lazy_refcounts: lazyRefcounts } };
      const operations = await run({ format, cache, requests: stride(1000), create });
      const count = (wanted: HostOperation['op']): number =>
        operations.filter(({ op }) => op === wanted).length;
      const { writes, syncs } = golden;
      const expected = typeof syncs === 'number' ? syncs : syncs[peerProfile()];
      expect([count('write'), count('sync')]).toEqual([writes, expected]);
    },
  );

  test('a request that QEMU fails is an error with what QEMU said', async () => {
    const requests = [request('write', { offset: 2 * GIB, length: 4096 })];
    await expect(run({ format: 'raw', cache: 'writeback', requests })).rejects.toMatchObject({
      code: 'peer-failed',
      message: expect.stringContaining('write failed: Input/output error') as string,
    });
  });

  test('an image that QEMU does not open is an error with what QEMU said', async () => {
    const path = join(folder, 'foreign');
    await createWithQemuImg(path, { format: 'raw', size: 65_536 });
    await expect(runQemuIo({ path, format: 'qed', cache: 'writeback', requests: [] })).rejects.toMatchObject({
      code: 'peer-failed',
      message: expect.stringContaining('Image not in QED format') as string,
    });
  });

  test('qemu-img says why it cannot make an image', async () => {
    const create = { format: 'qcow2', size: GIB, options: { cluster_size: '3' } } as const;
    await expect(createWithQemuImg(join(folder, 'bad'), create)).rejects.toMatchObject({
      code: 'peer-failed',
      message: expect.stringContaining('luster size') as string,
    });
  });
});

test('a program that is not installed is named with the package that brings it', async () => {
  const { PATH } = process.env;
  process.env['PATH'] = '/nonexistent';
  try {
    await expect(findQemuTools()).rejects.toMatchObject({
      code: 'peer-missing',
      message: expect.stringContaining('apt-get install qemu-utils') as string,
    });
  } finally {
    process.env['PATH'] = PATH;
  }
});
