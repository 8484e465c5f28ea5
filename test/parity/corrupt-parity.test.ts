/**
 * Writes that would land on metadata, against a real QEMU: for every kind in the default set of overlap checks both
 * refuse, mark the image corrupt, and leave the same bytes after the same operations.
 */

import { closeSync, openSync, readSync, writeSync } from 'node:fs';
import { describe, expect, it, onTestFinished } from 'vitest';
import type { Request } from '../../src/workload/request.ts';
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
  /** Where it lies. */
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

function newTwins(): TwinImages {
  const twins = new TwinImages();
  onTestFinished(() => {
    twins.remove();
  });
  twins.run('qemu-img', 'create', '-q', '-f', 'qcow2', 'disk', '16M');
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
