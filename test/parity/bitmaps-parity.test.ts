/**
 * Persistent dirty bitmaps against a real QEMU: marked in use at open, followed through every kind
 * of change, stored again at close; and the fate of those that were not updated.
 */

import { closeSync, openSync, readFileSync, writeSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { Random } from '../../src/core/random.ts';
import type { BitmapChange } from '../../src/format/disk-image.ts';
import { Qcow2Image } from '../../src/format/qcow2/qcow2-image.ts';
import { SECTOR_SIZE, type Request } from '../../src/workload/request.ts';
import { reasonToSkip } from '../format/system-tools.ts';
import { TwinImages } from './twin-images.ts';

const skip = reasonToSkip('qemu-img', 'qemu-io', 'strace');
if (skip !== undefined) process.stderr.write(`bitmaps are not held against QEMU: ${skip}\n`);

const AUTOCLEAR_LOW_BYTE = 95;
const rest = { fua: false, unmap: false, timeNs: 0 };
const WRITE: Request = { op: 'write', offset: 0, length: 4096, ...rest };

function newTwins(clusterSize: number, size: string, more = ''): TwinImages {
  const twins = new TwinImages();
  const options = `cluster_size=${String(clusterSize)}${more}`;
  twins.run('qemu-img', 'create', '-q', '-f', 'qcow2', '-o', options, 'disk', size);
  return twins;
}

function patchByte(path: string, at: number, value: number): void {
  const fd = openSync(path, 'r+');
  writeSync(fd, Uint8Array.of(value), 0, 1, at);
  closeSync(fd);
}

function expectClean(twins: TwinImages): void {
  expect(twins.run('qemu-img', 'check', twins.ours)).toContain('No errors were found');
}

describe.skipIf(skip !== undefined)('an image with persistent bitmaps', () => {
  const cases = [
    { clusterSize: 65_536, size: '64M', more: '' },
    { clusterSize: 4096, size: '64M', more: ',lazy_refcounts=on' },
    // Bitmaps of several clusters.
    { clusterSize: 512, size: '6145k', more: '' },
  ];
  it.each(cases)('is opened, changed and closed as by QEMU: %j', async ({ clusterSize, size, more }) => {
    const twins = newTwins(clusterSize, size, more);
    twins.run('qemu-img', 'bitmap', '--add', '-g', '64k', 'disk', 'coarse');
    twins.run('qemu-img', 'bitmap', '--add', '-g', '512', 'disk', 'fine');
    twins.run('qemu-img', 'bitmap', '--add', '--disable', 'disk', 'disabled');
    await twins.serve([], 'opened and closed');
    await twins.serve(
      [
        { ...WRITE, op: 'read' },
        { ...WRITE, op: 'flush' },
      ],
      'read and flushed',
    );
    await twins.serve([WRITE], 'written to');
    const random = new Random(clusterSize);
    for (const cache of ['writeback', 'writethrough'] as const) {
      await twins.serve(requests(random, clusterSize), `changed, ${cache}`, { cache });
      expectClean(twins);
    }
    twins.run('qemu-img', 'bitmap', '--enable', 'disk', 'disabled');
    twins.run('qemu-img', 'bitmap', '--clear', 'disk', 'fine');
    await twins.serve(requests(random, clusterSize), 'enabled and cleared');
    expectClean(twins);
  });

  const ACTIONS: readonly (readonly [readonly string[], BitmapChange])[] = [
    [['--add', 'disk', 'one'], { action: 'add', name: 'one' }],
    [['--add', '-g', '4k', 'disk', 'two'], { action: 'add', name: 'two', granularity: 4096 }],
    [['--disable', 'disk', 'two'], { action: 'disable', name: 'two' }],
    [['--clear', 'disk', 'one'], { action: 'clear', name: 'one' }],
    [['--merge', 'two', 'disk', 'one'], { action: 'merge', name: 'one', source: 'two' }],
    [['--enable', 'disk', 'two'], { action: 'enable', name: 'two' }],
    [['--merge', 'one', 'disk', 'two'], { action: 'merge', name: 'two', source: 'one' }],
    [['--add', '-g', '2G', 'disk', 'three'], { action: 'add', name: 'three', granularity: 2 ** 31 }],
    [['--merge', 'two', 'disk', 'three'], { action: 'merge', name: 'three', source: 'two' }],
    [['--merge', 'three', 'disk', 'two'], { action: 'merge', name: 'two', source: 'three' }],
    [['--remove', 'disk', 'one'], { action: 'remove', name: 'one' }],
    [['--remove', 'disk', 'three'], { action: 'remove', name: 'three' }],
    [['--remove', 'disk', 'two'], { action: 'remove', name: 'two' }],
  ];
  it.each([...cases, { clusterSize: 65_536, size: '64M', more: ',extended_l2=on' }])(
    'gets bitmaps, and they are cleared, disabled and removed, as by qemu-img: %j',
    async ({ clusterSize, size, more }) => {
      const twins = newTwins(clusterSize, size, more);
      const isSeven = twins.run('qemu-img', '--version').includes('version 7.');
      for (const [words, change] of ACTIONS) {
        const what = words.join(' ');
        twins.copy();
        const [option = '', ...rest] = words;
        const args = ['bitmap', option, ...rest.map((word) => (word === 'disk' ? twins.theirs : word))];
        const theirs = await twins.trace(...args);
        const ours = await twins.withOurs('writeback', async ({ image }) => image.changeBitmap?.(change));
        // Newer versions write the refcounts that a removal drops once, at the end.
        if (isSeven || change.action !== 'remove') twins.expectSame(ours, theirs, what);
        else twins.expectSameBytes(what);
        expectClean(twins);
        await twins.serve([{ ...WRITE, offset: 1024 * 1024 }, WRITE], `written after ${what}`);
      }
    },
  );

  it('has snapshots too, and can be resized; but neither program goes back to a snapshot', async () => {
    const twins = newTwins(65_536, '16M');
    twins.run('qemu-img', 'bitmap', '--add', 'disk', 'b');
    await twins.serve([WRITE], 'written to');
    await twins.snapshot('create', 'one', 'create');
    await twins.serve([{ ...WRITE, offset: 8 * 1024 * 1024 }], 'written again');
    expect(() => twins.run('qemu-img', 'snapshot', '-a', 'one', 'disk')).toThrow('active dirty bitmaps');
    twins.copy();
    await twins.abandonOurs(async ({ image }) => {
      if (!(image instanceof Qcow2Image)) throw new Error('not a qcow2 image');
      await expect(image.snapshots.apply('one')).rejects.toMatchObject({ code: 'snapshot-with-bitmaps' });
    });
    await twins.snapshot('delete', 'one', 'delete');
    for (const size of ['32M', '3M']) {
      twins.copy();
      const theirs = await twins.traceShell(`qemu-img resize -q -f qcow2 --shrink '${twins.theirs}' ${size}`);
      const ours = await twins.withOurs('writeback', async ({ image }) => {
        if (!(image instanceof Qcow2Image)) throw new Error('not a qcow2 image');
        await image.resize(Number.parseInt(size, 10) * 1024 * 1024);
      });
      // A smaller disk: entries are durable before what they lead to goes, other than in QEMU
      // (docs/qemu-rules.md).
      if (size === '32M') twins.expectSame(ours, theirs, `resized to ${size}`);
      else twins.expectSameBytes(`resized to ${size}`);
    }
    expectClean(twins);
  });

  it('is checked with what its bitmaps use, which is a leak once their bit is gone', async () => {
    const twins = newTwins(65_536, '16M');
    twins.run('qemu-img', 'bitmap', '--add', 'disk', 'b');
    await twins.serve([WRITE], 'written to');
    expect(await twins.checkOurs()).toMatchObject({ corruptions: 0, leaks: 0 });
    patchByte(twins.theirs, AUTOCLEAR_LOW_BYTE, 0);
    twins.copy();
    // Directory, table and one cluster of bits.
    expect(await twins.checkOurs()).toMatchObject({ corruptions: 0, leaks: 3 });
    expect(() => twins.run('qemu-img', 'check', 'disk')).toThrow('3 leaked clusters');
  });

  it('loses the bitmaps that a program did not keep in step, when it is opened for writing', async () => {
    const twins = newTwins(65_536, '16M');
    twins.run('qemu-img', 'bitmap', '--add', 'disk', 'b');
    patchByte(twins.theirs, AUTOCLEAR_LOW_BYTE, 0);
    await twins.serve([WRITE], 'written to');
    expect(twins.run('qemu-img', 'info', twins.ours)).not.toContain('name: b');
  });

  it('keeps, untouched, a bitmap that was in use when a program died', async () => {
    const twins = newTwins(65_536, '16M');
    twins.run('qemu-img', 'bitmap', '--add', 'disk', 'b');
    expect(() => twins.run('qemu-io', '-f', 'qcow2', '-c', 'write 0 64k', '-c', 'abort', 'disk')).toThrow();
    expect(twins.run('qemu-img', 'info', 'disk')).toContain('in-use');
    await twins.serve([WRITE], 'written to');
    expect(twins.run('qemu-img', 'info', twins.ours)).toContain('in-use');
    twins.run('qemu-img', 'bitmap', '--add', 'disk', 'fresh');
    await twins.serve([WRITE], 'with a fresh one beside it');
    expectClean(twins);
  });

  it('killed with us: its bitmap is in use for QEMU, and the image is whole', async () => {
    const twins = newTwins(65_536, '16M');
    twins.run('qemu-img', 'bitmap', '--add', 'disk', 'b');
    twins.copy();
    await twins.abandonOurs(async ({ backend }) => {
      await backend.write(0, new Uint8Array(512), WRITE);
      await backend.flush();
    });
    expect(twins.run('qemu-img', 'info', twins.ours)).toContain('in-use');
    expectClean(twins);
  });

  it('opened read-only is left as it is', async () => {
    const twins = newTwins(65_536, '16M');
    twins.run('qemu-img', 'bitmap', '--add', 'disk', 'b');
    const before = readFileSync(twins.theirs);
    await twins.readOurs();
    expect(readFileSync(twins.theirs).equals(before)).toBe(true);
  });
});

/**
 * Within the first 6 MiB. Where clusters are small, QEMU's order varies if a request has several
 * parts.
 */
function requests(random: Random, clusterSize: number): readonly Request[] {
  const longest = clusterSize === SECTOR_SIZE ? 1 : 200;
  return Array.from({ length: 12 }, (): Request => {
    const offset = SECTOR_SIZE * random.below(12_000);
    const length = SECTOR_SIZE * (1 + random.below(Math.min(longest, random.chance(0.2) ? 200 : 8)));
    const roll = random.below(100);
    const unmap = random.chance(0.5);
    if (roll < 55) return { op: 'write', offset, length, ...rest };
    if (roll < 70) return { op: 'write-zeroes', offset, length, ...rest, unmap };
    if (roll < 85) return { op: 'discard', offset: offset - (offset % 65_536), length: 65_536, ...rest };
    if (roll < 95) return { op: 'read', offset, length, ...rest };
    return { op: 'flush', offset: 0, length: 0, ...rest };
  });
}
