/**
 * Writes that would land on metadata, against a real QEMU: for every kind in the default set of
 * overlap checks both refuse, mark the image corrupt, and leave the same bytes after the same
 * operations.
 */

import { closeSync, openSync, readSync, writeSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import type { Request } from '../../src/workload/request.ts';
import type { Stack } from '../../src/bench/stack.ts';
import { rejectionCodeOf } from '../format/rejection.ts';
import { reasonToSkip } from '../format/system-tools.ts';
import { TwinImages } from './twin-images.ts';

const skip = reasonToSkip('qemu-img', 'qemu-io', 'strace');
if (skip !== undefined) process.stderr.write(`corrupt images are not held against QEMU: ${skip}\n`);

const CLUSTER = 65_536;
const L2_TABLE = 4 * CLUSTER;
const COPIED = 1n << 63n;
const rest = { fua: false, unmap: false, timeNs: 0 };
const WRITE: Request = { op: 'write', offset: 0, length: 4096, ...rest };

interface Overlap {
  readonly kind: string;
  /** qemu-img commands that make the metadata. */
  readonly prepare?: readonly (readonly string[])[];
  /** Where it is. */
  readonly place: (field: (at: number, bytes: 4 | 8) => number) => number;
}

const OVERLAPS: readonly Overlap[] = [
  { kind: 'refcount table', place: (field) => field(48, 8) },
  { kind: 'refcount block', place: (field) => field(field(48, 8), 8) },
  { kind: 'active L1 table', place: (field) => field(40, 8) },
  { kind: 'active L2 table', place: () => L2_TABLE },
  {
    kind: 'snapshot table',
    prepare: [['snapshot', '-c', 'one', 'disk']],
    place: (field) => field(64, 8),
  },
  {
    kind: "a snapshot's L1 table",
    prepare: [['snapshot', '-c', 'one', 'disk']],
    place: (field) => field(field(64, 8), 8),
  },
];

describe.skipIf(skip !== undefined)('a write that would land on metadata', () => {
  it.each(OVERLAPS)('$kind: refused, and marked as QEMU does', async ({ prepare = [], place }) => {
    const twins = newTwins();
    twins.run('qemu-io', '-f', 'qcow2', '-c', 'write 0 64k', 'disk');
    for (const words of prepare) twins.run('qemu-img', ...words);
    const target = place((at, bytes) => readField(twins.theirs, at, bytes));
    expect(target % CLUSTER).toBe(0);
    // Both flags say that what they lead to may be written in place.
    writeEntry(twins.theirs, readField(twins.theirs, 40, 8), COPIED | BigInt(L2_TABLE));
    writeEntry(twins.theirs, L2_TABLE, COPIED | BigInt(target));

    // qemu-io ends with an error of its own.
    twins.copy();
    const line = `qemu-io -f qcow2 -t writeback -c 'write 0 4k' -c 'flush' '${twins.theirs}' || true`;
    const theirs = await twins.traceShell(line);
    const ours = await twins.withOurs('writeback', async ({ backend }) => {
      const code = { code: 'qcow2-corrupt' };
      await expect(async () => backend.write(0, new Uint8Array(4096).fill(1), WRITE)).rejects.toMatchObject(
        code,
      );
      await expect(async () => backend.flush()).rejects.toMatchObject(code);
    });
    twins.expectSame(ours, theirs, 'the refused write');
    expect(twins.run('qemu-img', 'info', twins.ours)).toContain('corrupt: true');

    // Marked, it can be read, and not be opened for writing.
    expect(() => twins.run('qemu-io', '-f', 'qcow2', '-c', 'write 0 4k', 'disk')).toThrow('is corrupt');
    await expect(twins.serveOurs([WRITE])).rejects.toMatchObject({ code: 'qcow2-marked-corrupt' });
    twins.run('qemu-io', '-r', '-f', 'qcow2', '-c', 'read 0 4k', 'disk');
    expect((await twins.readOurs()).byteLength).toBe(16 * 1024 * 1024);
  });
});

interface Damage {
  readonly what: string;
  readonly options?: string;
  readonly spoil: (path: string) => void;
  /** A command of `qemu-io`, and the same request here. */
  readonly command: string;
  readonly request: (stack: Stack) => unknown;
  /** Of our error; `undefined` where the request is served. */
  readonly code: string | undefined;
}

const unalign =
  (entry: (path: string) => number) =>
  (path: string): void =>
    writeEntry(path, entry(path), BigInt(readField(path, entry(path), 8)) | 512n);
const L1_ENTRY = (path: string): number => readField(path, 40, 8);
const REFCOUNT_ENTRY = (path: string): number => readField(path, 48, 8);
const read = ({ image }: Stack): unknown => image.read(0, new Uint8Array(4096));
const write = ({ backend }: Stack): unknown => backend.write(0, new Uint8Array(4096).fill(1), WRITE);

const DAMAGES: readonly Damage[] = [
  {
    what: 'a read of an L2 table that is not aligned',
    spoil: unalign(L1_ENTRY),
    command: 'read 0 4k',
    request: read,
    code: 'qcow2-unaligned-l2-table',
  },
  {
    what: 'a read of data that are not aligned',
    spoil: unalign(() => L2_TABLE),
    command: 'read 0 4k',
    request: read,
    code: 'qcow2-unaligned-cluster',
  },
  {
    what: 'a write that needs refcounts of a block that is not aligned',
    spoil: unalign(REFCOUNT_ENTRY),
    command: 'write 1M 4k',
    request: ({ backend }) => backend.write(1024 * 1024, new Uint8Array(4096).fill(1), WRITE),
    code: 'qcow2-unaligned-refcount-block',
  },
  {
    what: 'a discard that frees what a block counts that is not aligned',
    spoil: unalign(REFCOUNT_ENTRY),
    command: 'discard 0 64k',
    request: ({ image }) => image.discard(0, CLUSTER),
    code: undefined,
  },
  {
    what: 'a discard of data that are not aligned',
    spoil: unalign(() => L2_TABLE),
    command: 'discard 0 64k',
    request: ({ image }) => image.discard(0, CLUSTER),
    code: undefined,
  },
  {
    what: 'a read of a subcluster both allocated and zero',
    options: 'extended_l2=on,cluster_size=64k',
    spoil: (path) => writeEntry(path, L2_TABLE + 8, 0x0000_0001_ffff_ffffn),
    command: 'read 0 4k',
    request: read,
    code: 'qcow2-bad-subclusters',
  },
  {
    what: 'a write to a subcluster both allocated and zero',
    options: 'extended_l2=on,cluster_size=64k',
    spoil: (path) => writeEntry(path, L2_TABLE + 8, 0x0000_0001_ffff_ffffn),
    command: 'write 0 4k',
    request: write,
    code: 'qcow2-corrupt',
  },
  {
    what: 'in version 2, which has no mark, a write on metadata',
    options: 'compat=0.10',
    spoil: (path) => writeEntry(path, L2_TABLE, COPIED | BigInt(REFCOUNT_ENTRY(path))),
    command: 'write 0 4k',
    request: write,
    code: 'qcow2-corrupt',
  },
  {
    what: 'in version 2 a zero flag, which it does not know',
    options: 'compat=0.10',
    spoil: (path) => writeEntry(path, L2_TABLE, BigInt(readField(path, L2_TABLE, 8)) | 1n),
    command: 'read 0 4k',
    request: read,
    code: 'qcow2-zero-flag-in-v2',
  },
];

describe.skipIf(skip !== undefined)('damage that a request meets', () => {
  it.each(DAMAGES)('$what: the same operations, and the same is left', async (damage) => {
    const twins = newTwins(damage.options);
    twins.run('qemu-io', '-f', 'qcow2', '-c', 'write 0 64k', 'disk');
    damage.spoil(twins.theirs);
    twins.copy();
    const line = `qemu-io -f qcow2 -t writeback -c '${damage.command}' '${twins.theirs}' || true`;
    const theirs = await twins.traceShell(line);
    const ours = await twins.withOurs('writeback', async (stack) => {
      expect(await rejectionCodeOf(() => damage.request(stack))).toBe(damage.code);
    });
    twins.expectSame(ours, theirs, damage.what);
  });
});

function newTwins(options = 'compat=1.1'): TwinImages {
  const twins = new TwinImages();
  twins.run('qemu-img', 'create', '-q', '-f', 'qcow2', '-o', options, 'disk', '16M');
  return twins;
}

function readField(path: string, at: number, bytes: 4 | 8): number {
  const field = new DataView(new ArrayBuffer(bytes));
  const fd = openSync(path, 'r');
  readSync(fd, field, 0, bytes, at);
  closeSync(fd);
  return bytes === 4 ? field.getUint32(0) : Number(field.getBigUint64(0));
}

function writeEntry(path: string, at: number, entry: bigint): void {
  const field = new DataView(new ArrayBuffer(8));
  field.setBigUint64(0, entry);
  const fd = openSync(path, 'r+');
  writeSync(fd, field, 0, 8, at);
  closeSync(fd);
}
