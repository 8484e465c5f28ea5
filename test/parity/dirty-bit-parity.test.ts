/**
 * Lazy refcounts and the dirty bit, against a real QEMU (the promises of qemu-iotests 039): clean
 * after a close, dirty after a kill, readable as it is, repaired when it is opened for writing, by
 * either program after either's crash.
 */

import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import type { Request } from '../../src/workload/request.ts';
import { reasonToSkip } from '../format/system-tools.ts';
import { TwinImages } from './twin-images.ts';

const skip = reasonToSkip('qemu-img', 'qemu-io', 'strace');
if (skip !== undefined) process.stderr.write(`the dirty bit is not held against QEMU: ${skip}\n`);

const KIB = 1024;
const WRITE: Request = { op: 'write', offset: 0, length: 512, fua: false, unmap: false, timeNs: 0 };

function newTwins(lazy: 'on' | 'off'): TwinImages {
  const twins = new TwinImages();
  twins.run('qemu-img', 'create', '-q', '-f', 'qcow2', '-o', `lazy_refcounts=${lazy}`, 'disk', '128M');
  return twins;
}

function isDirty(path: string): boolean {
  return ((readFileSync(path)[79] ?? 0) & 1) === 1;
}

/** QEMU writes, and is killed before it closes the image. */
function crashQemu(twins: TwinImages, ...commands: readonly string[]): void {
  const all = [...commands, 'flush', 'abort'].flatMap((command) => ['-c', command]);
  expect(() => twins.run('qemu-io', '-f', 'qcow2', ...all, 'disk')).toThrow();
}

/** Our engine does the same on its copy, and is gone. */
async function crashOurs(twins: TwinImages): Promise<void> {
  twins.copy();
  await twins.abandonOurs(async ({ backend }) => {
    await backend.write(0, new Uint8Array(512).fill(0x5a), WRITE);
    await backend.flush();
  });
}

describe.skipIf(skip !== undefined)('the dirty bit', () => {
  it.each(['on', 'off'] as const)('is not there after a clean close: lazy_refcounts=%s', async (lazy) => {
    const twins = newTwins(lazy);
    await twins.serve([WRITE, { ...WRITE, op: 'flush' }], 'written and closed');
    expect(isDirty(twins.ours)).toBe(false);
    expect(twins.run('qemu-img', 'check', twins.ours)).toContain('No errors were found');
  });

  it.each(['on', 'off'] as const)('after a kill it is there if refcounts are lazy: %s', async (lazy) => {
    const twins = newTwins(lazy);
    await crashOurs(twins);
    crashQemu(twins, 'write -P 0x5a 0 512');
    expect([isDirty(twins.ours), isDirty(twins.theirs)]).toEqual([lazy === 'on', lazy === 'on']);
    twins.expectSameBytes('killed');
  });

  it('an image that either program left dirty is read by both as it is', async () => {
    const twins = newTwins('on');
    await crashOurs(twins);
    crashQemu(twins, 'write -P 0x5a 0 512');
    const before = readFileSync(twins.theirs);
    expect((await twins.readOurs())[511]).toBe(0x5a);
    twins.run('qemu-io', '-r', '-f', 'qcow2', '-c', 'read -P 0x5a 0 512', twins.ours);
    expect([readFileSync(twins.theirs).equals(before), readFileSync(twins.ours).equals(before)]).toEqual([
      true,
      true,
    ]);
  });

  it('an opening for writing repairs it, with the operations of QEMU', async () => {
    const twins = newTwins('on');
    crashQemu(twins, 'write 0 300k', 'write 64M 64k', 'write -z 64k 64k');
    await twins.serve([], 'opened and closed');
    expect(isDirty(twins.ours)).toBe(false);
    expect(twins.run('qemu-img', 'check', twins.ours)).toContain('No errors were found');
  });

  it('what one program repairs after the crash of the other is whole', async () => {
    const twins = newTwins('on');
    await crashOurs(twins);
    twins.run('qemu-io', '-f', 'qcow2', '-c', 'read -P 0x5a 0 512', twins.ours);
    expect(isDirty(twins.ours)).toBe(false);
    expect(twins.run('qemu-img', 'check', twins.ours)).toContain('No errors were found');
  });

  it('a crash of a dirty image with snapshots is repaired with what they hold', async () => {
    const twins = newTwins('on');
    twins.run('qemu-io', '-f', 'qcow2', '-c', 'write -P 1 0 300k', 'disk');
    await twins.snapshot('create', 'one', 'create');
    crashQemu(twins, 'write -P 2 0 100k', 'write -P 2 64M 64k');
    await twins.serve([{ ...WRITE, offset: 200 * KIB }], 'repaired and written');
    await twins.snapshot('apply', 'one', 'apply');
    twins.run('qemu-io', '-f', 'qcow2', '-c', 'read -P 1 0 300k', '-c', 'read -P 0 64M 64k', twins.ours);
    expect(twins.run('qemu-img', 'check', twins.ours)).toContain('No errors were found');
  });
});
