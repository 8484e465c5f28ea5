/**
 * Internal snapshots against a real QEMU: taking, applying and deleting them, and what guest
 * requests do in between.
 */

import { describe, expect, it } from 'vitest';
import { viewOf } from '../../src/core/bytes.ts';
import { Random } from '../../src/core/random.ts';
import { FIELD } from '../../src/format/qcow2/on-disk/header.ts';
import { SECTOR_SIZE, type Request } from '../../src/workload/request.ts';
import { amount } from '../amount.ts';
import { reasonToSkip } from '../format/system-tools.ts';
import { TwinImages } from './twin-images.ts';

const SEEDS = Array.from({ length: amount({ everyday: 5, full: 12 }) }, (_, index) => index + 1);
const STEPS = 9;

const skip = reasonToSkip('qemu-img', 'qemu-io', 'strace');
if (skip !== undefined) process.stderr.write(`snapshots are not held against QEMU: ${skip}\n`);

describe.skipIf(skip !== undefined)('snapshots: host operations and bytes equal those of QEMU', () => {
  it.each(SEEDS)('seed %i', async (seed) => {
    const random = new Random(seed);
    const pick = <T>(items: readonly T[]): T => items[random.below(items.length)] as T;
    const clusterSize = pick([512, 4096, 65_536, 65_536]);
    const compat = pick(['1.1', '1.1', '0.10']);
    const refcountBits = compat === '1.1' ? pick([16, 16, 8, 64, 4]) : 16;
    const lazy = compat === '1.1' && random.chance(0.3);
    const virtualSize = pick([70, 200, 700]) * clusterSize + pick([0, 0, SECTOR_SIZE]);
    const backed = random.chance(0.3);
    const setting = JSON.stringify({ seed, clusterSize, compat, refcountBits, lazy, virtualSize, backed });

    const twins = newTwins();
    const features = `cluster_size=${String(clusterSize)},compat=${compat},refcount_bits=${String(refcountBits)},lazy_refcounts=${lazy ? 'on' : 'off'}`;
    if (backed) {
      const size = String(Math.floor(virtualSize / 2 / SECTOR_SIZE) * SECTOR_SIZE);
      twins.run('qemu-img', 'create', '-q', '-f', 'raw', 'base', size);
      twins.run('qemu-io', '-f', 'raw', '-c', `write -P 200 0 ${size}`, 'base');
    }
    const backing = backed ? ['-b', 'base', '-F', 'raw'] : [];
    twins.run(
      'qemu-img',
      'create',
      '-q',
      '-f',
      'qcow2',
      '-o',
      features,
      ...backing,
      'disk',
      String(virtualSize),
    );
    if (random.chance(0.5)) {
      const compressed = [1, 2, 5].map(
        (cluster) => `write -c -P 7 ${String(cluster * clusterSize)} ${String(clusterSize)}`,
      );
      twins.run('qemu-io', '-f', 'qcow2', ...compressed.flatMap((command) => ['-c', command]), 'disk');
    }

    const names: string[] = [];
    for (let step = 0; step < STEPS; step++) {
      const what = `${setting}, step ${String(step)}`;
      const roll = random.below(100);
      if (roll < 55 || (roll >= 75 && names.length === 0)) {
        await twins.serve(requests(random, virtualSize, clusterSize), `${what}: requests`);
      } else if (roll < 75) {
        const name = `s${String(step)}`;
        await twins.snapshot('create', name, `${what}: create ${name}`);
        names.push(name);
      } else {
        const action = roll < 88 ? 'apply' : 'delete';
        const name = pick(names);
        await twins.snapshot(action, name, `${what}: ${action} ${name}`);
        if (action === 'delete') names.splice(names.indexOf(name), 1);
      }
    }
    expect(twins.run('qemu-img', 'check', twins.ours)).toContain('No errors were found');
  });
});

describe.skipIf(skip !== undefined)('a snapshot of a disk of another size', () => {
  const cases = [
    { clusterSize: 4096, before: '4M', after: '16M', backing: undefined },
    { clusterSize: 512, before: '33k', after: '2M', backing: undefined },
    { clusterSize: 65_536, before: '4M', after: '3G', backing: undefined },
    // The backing file must not show through where the disk grows.
    { clusterSize: 4096, before: '4M', after: '1049088', backing: '6M' },
    { clusterSize: 65_536, before: '4196864', after: '1M', backing: '6M' },
    { clusterSize: 65_536, before: '4196864', after: '512', backing: '4M' },
  ];
  it.each(cases)('clusters of $clusterSize, from $before to $after, backing $backing', async (each) => {
    const { clusterSize, before, after, backing } = each;
    const twins = newTwins();
    if (backing !== undefined) {
      twins.run('qemu-img', 'create', '-q', '-f', 'raw', 'base', backing);
      twins.run('qemu-io', '-f', 'raw', '-c', `write -P 200 0 ${backing}`, 'base');
    }
    const behind = backing === undefined ? [] : ['-b', 'base', '-F', 'raw'];
    const cluster = `cluster_size=${String(clusterSize)}`;
    twins.run('qemu-img', 'create', '-q', '-f', 'qcow2', '-o', cluster, ...behind, 'disk', before);
    twins.run('qemu-io', '-f', 'qcow2', '-c', 'write -P 1 0 16k', '-c', 'write -P 2 24k 9k', 'disk');
    await twins.snapshot('create', 'first', 'create first');
    twins.run('qemu-img', 'resize', '-q', '-f', 'qcow2', '--shrink', 'disk', after);
    twins.run('qemu-io', '-f', 'qcow2', '-c', 'write -P 3 0 512', 'disk');
    if (after.endsWith('M')) twins.run('qemu-io', '-f', 'qcow2', '-c', 'write -P 4 900k 64k', 'disk');
    await twins.snapshot('create', 'second', 'create second');
    await twins.snapshot('apply', 'first', 'apply first');
    await twins.snapshot('apply', 'second', 'apply second');
    await twins.snapshot('apply', 'first', 'apply first again');
    await twins.snapshot('delete', 'second', 'delete second');
    await twins.snapshot('delete', 'first', 'delete first');
    expect(twins.run('qemu-img', 'check', twins.ours)).toContain('No errors were found');
  });
});

describe.skipIf(skip !== undefined)('a snapshot that cannot be taken', () => {
  it.each([1, 2])(
    '%i-bit refcounts: refused at their maximum, with the leaks that QEMU leaves',
    async (bits) => {
      const twins = newTwins();
      twins.run(
        'qemu-img',
        'create',
        '-q',
        '-f',
        'qcow2',
        '-o',
        `refcount_bits=${String(bits)}`,
        'disk',
        '4M',
      );
      // A disk that nothing was written to has nothing to share.
      await twins.snapshot('create', 'empty', 'create empty');
      await twins.snapshot('delete', 'empty', 'delete empty');
      twins.run('qemu-io', '-f', 'qcow2', '-c', 'write 0 128k', '-c', 'write -z 256k 64k', 'disk');
      for (let taken = 0; taken < 2 ** bits - 2; taken++) {
        await twins.snapshot('create', String(taken), 'create');
      }
      await twins.refusedSnapshot('one too many', 'qcow2-refcount-out-of-range', 'Invalid argument');
      expect(() => twins.run('qemu-img', 'check', twins.ours)).toThrow('leaked clusters');
      await twins.serve(requests(new Random(bits), 4 * 1024 * 1024, 65_536), 'and the image goes on');
    },
  );

  it('the maximum below a later L2 table: what came before it is counted once too often, as QEMU leaves it', async () => {
    const twins = newTwins();
    const tight = 'cluster_size=512,refcount_bits=2';
    twins.run('qemu-img', 'create', '-q', '-f', 'qcow2', '-o', tight, 'disk', '192k');
    const starts = [0, 32, 64, 96, 128, 160];
    const all = starts.flatMap((start, index) => [
      '-c',
      `write -P ${String(index + 1)} ${String(start)}k 1k`,
    ]);
    twins.run('qemu-io', '-f', 'qcow2', ...all, 'disk');
    await twins.snapshot('create', 'one', 'create one');
    await twins.snapshot('create', 'two', 'create two');
    // These have refcounts of one now; below the other three tables they are at the maximum.
    const first = starts.slice(0, 3).flatMap((start) => ['-c', `write -P 9 ${String(start)}k 1k`]);
    twins.run('qemu-io', '-f', 'qcow2', ...first, 'disk');
    await twins.refusedSnapshot('one too many', 'qcow2-refcount-out-of-range', 'Invalid argument');

    // Leaks, and copied flags where the refcount is two: nothing that a write in place would harm.
    const { messages } = await twins.checkOurs();
    const harm = messages.filter((text) => !/^Leaked|OFLAG_COPIED/.test(text));
    expect(harm).toEqual([]);
    twins.run('qemu-img', 'check', '-q', '-r', 'all', 'disk');
    expect(twins.run('qemu-img', 'check', 'disk')).toContain('No errors were found');
    const reads = (byte: (index: number) => number): readonly string[] =>
      starts.flatMap((start, index) => ['-c', `read -P ${String(byte(index))} ${String(start)}k 1k`]);
    twins.run('qemu-io', '-f', 'qcow2', ...reads((index) => (index < 3 ? 9 : index + 1)), 'disk');
    // To go back means to count once more first: one reference has to go.
    await twins.snapshot('delete', 'one', 'delete one');
    await twins.snapshot('apply', 'two', 'apply two');
    twins.run('qemu-io', '-f', 'qcow2', ...reads((index) => index + 1), 'disk');
  });
});

describe.skipIf(skip !== undefined)('a snapshot of an image with another layout', () => {
  it.each([16_384, 65_536])('extended L2 entries, clusters of %i: as QEMU does it', async (clusterSize) => {
    const twins = newTwins();
    const options = `extended_l2=on,cluster_size=${String(clusterSize)}`;
    const virtualSize = 300 * clusterSize;
    twins.run('qemu-img', 'create', '-q', '-f', 'qcow2', '-o', options, 'disk', String(virtualSize));
    const random = new Random(clusterSize);
    for (const name of ['a', 'b']) {
      await twins.serve(requests(random, virtualSize, clusterSize), `before ${name}`);
      await twins.snapshot('create', name, `create ${name}`);
      await twins.serve(requests(random, virtualSize, clusterSize), `after ${name}`);
    }
    await twins.snapshot('apply', 'a', 'apply a');
    await twins.serve(requests(random, virtualSize, clusterSize), 'back at a');
    await twins.snapshot('delete', 'a', 'delete a');
    await twins.snapshot('apply', 'b', 'apply b');
    await twins.snapshot('delete', 'b', 'delete b');
    expect(twins.run('qemu-img', 'check', twins.ours)).toContain('No errors were found');
  });

  it.each(['off', 'on'])('a data file, raw %s: neither program takes one', async (raw) => {
    const twins = newTwins();
    const options = `data_file=data,data_file_raw=${raw}`;
    twins.run('qemu-img', 'create', '-q', '-f', 'qcow2', '-o', options, 'disk', '4M');
    twins.run('qemu-io', '-f', 'qcow2', '-c', 'write -P 1 0 128k', 'disk');
    await twins.refusedSnapshot('one', 'snapshot-data-file', 'Operation not supported');
  });
});

describe.skipIf(skip !== undefined)('many snapshots', () => {
  it('are taken and dropped while the refcount table outgrows its place (qemu-iotests 007)', async () => {
    const twins = newTwins();
    // A table of one cluster describes 2 MiB, of which little is left; the copy of L1 takes 8 KiB
    // each time.
    const tight = 'cluster_size=512,refcount_bits=64';
    twins.run('qemu-img', 'create', '-q', '-f', 'qcow2', '-o', tight, 'disk', '32M');
    twins.run('qemu-io', '-f', 'qcow2', '-c', 'write -P 1 0 1940k', 'disk');
    const names = Array.from({ length: 6 }, (_, index) => `s${String(index)}`);
    const grownBy: string[] = [];
    for (const [index, name] of names.entries()) {
      const before = refcountTableClusters(twins);
      await twins.snapshot('create', name, `create ${name}`);
      if (refcountTableClusters(twins) > before) grownBy.push(name);
      twins.run('qemu-io', '-f', 'qcow2', '-c', `write -P ${String(index + 2)} 100k 2k`, 'disk');
    }
    // Not by a write between them, which is QEMU's alone.
    expect(grownBy).toHaveLength(1);
    expect(twins.run('qemu-img', 'check', 'disk')).toContain('No errors were found');
    for (const name of names) await twins.snapshot('delete', name, `delete ${name}`);
    expect(twins.run('qemu-img', 'check', twins.ours)).toContain('No errors were found');
  });
});

describe.skipIf(skip !== undefined)('which snapshot is meant', () => {
  it('apply looks for an id first, delete for a name; of equal names the first goes', async () => {
    const twins = newTwins();
    twins.run('qemu-img', 'create', '-q', '-f', 'qcow2', 'disk', '1M');
    const write = async (byte: number): Promise<void> => {
      twins.run('qemu-io', '-f', 'qcow2', '-c', `write -P ${String(byte)} 0 64k`, 'disk');
    };
    // Ids 1 to 4.
    for (const [index, name] of ['2', 'same', 'same', '1'].entries()) {
      await write(index + 1);
      await twins.snapshot('create', name, `create ${name}`);
    }
    await twins.snapshot('apply', '2', 'apply by id, though a name is the same');
    await twins.snapshot('apply', 'same', 'apply by name');
    await twins.snapshot('delete', '2', 'delete by name, though an id is the same');
    await twins.snapshot('delete', 'same', 'delete the first of two');
    await twins.snapshot('create', 'ünïcödé', 'the id after the highest');
    await twins.snapshot('create', '', 'no name at all');
    expect(twins.run('qemu-img', 'snapshot', '-l', 'disk').match(/^\d+/gm)).toEqual(['3', '4', '5', '6']);
  });

  it('a disk without a byte has snapshots too; QEMU syncs once more there, for a table of no bytes', async () => {
    const twins = newTwins();
    twins.run('qemu-img', 'create', '-q', '-f', 'qcow2', 'disk', '0');
    await twins.snapshot('create', 'a', 'create', { ignoreSyncs: true });
    await twins.snapshot('apply', 'a', 'apply', { ignoreSyncs: true });
    await twins.snapshot('delete', 'a', 'delete', { ignoreSyncs: true });
  });
});

describe.skipIf(skip !== undefined)('what of QEMU is not copied', () => {
  it('killed while it applies a snapshot, it leaves tables that the snapshot shares open to writes', () => {
    // strace counts calls thread by thread, and the thread pool decides which thread syncs: the
    // kill that is meant for the third sync can come late, when the flags are right again, or not
    // at all. Then it is tried again.
    const attempts = Array.from({ length: 20 }, () => isOverwrittenAfterKill);
    expect(attempts.some((attempt) => attempt(newTwins()))).toBe(true);
  });
});

/** As the header of QEMU's image says. */
function refcountTableClusters(twins: TwinImages): number {
  return viewOf(twins.read('disk')).getUint32(FIELD.refcountTableClusters);
}

/**
 * Whether QEMU, killed at the sync that makes the new L1 table durable, lets a later write change
 * the snapshot.
 */
function isOverwrittenAfterKill(twins: TwinImages): boolean {
  twins.run('qemu-img', 'create', '-q', '-f', 'qcow2', 'disk', '64M');
  twins.run('qemu-io', '-f', 'qcow2', '-c', 'write -P 1 0 256k', 'disk');
  twins.run('qemu-img', 'snapshot', '-c', 'one', 'disk');
  twins.run('qemu-io', '-f', 'qcow2', '-c', 'write -P 2 0 256k', 'disk');
  // test/crash/steps.test.ts is about ours.
  const kill = ['-e', 'trace=fdatasync', '-e', 'inject=fdatasync:signal=KILL:when=3'];
  try {
    twins.run('strace', '-f', '-qq', '-o', '/dev/null', ...kill, 'qemu-img', 'snapshot', '-a', 'one', 'disk');
    return false;
  } catch {
    // Killed, as it should be.
  }
  twins.run('qemu-io', '-f', 'qcow2', '-c', 'write -P 9 0 64k', 'disk');
  twins.run('qemu-img', 'snapshot', '-a', 'one', 'disk');
  try {
    twins.run('qemu-io', '-f', 'qcow2', '-c', 'read -P 1 0 256k', 'disk');
    return false;
  } catch (error) {
    return String(error).includes('Pattern verification failed');
  }
}

function newTwins(): TwinImages {
  const twins = new TwinImages();
  return twins;
}

function requests(random: Random, virtualSize: number, clusterSize: number): readonly Request[] {
  return Array.from({ length: 8 }, (): Request => {
    const roll = random.below(100);
    const sectors = virtualSize / SECTOR_SIZE;
    const first = random.below(sectors);
    // With clusters of a sector, QEMU's order varies where a request has several parts.
    const usual = random.chance(0.3) ? (4 * clusterSize) / SECTOR_SIZE : 8;
    const longest = clusterSize === SECTOR_SIZE ? 1 : usual;
    const range = {
      offset: first * SECTOR_SIZE,
      length: Math.min(sectors - first, 1 + random.below(longest)) * SECTOR_SIZE,
    };
    const whole = {
      offset: Math.floor(range.offset / clusterSize) * clusterSize,
      length: Math.min(virtualSize - Math.floor(range.offset / clusterSize) * clusterSize, 2 * clusterSize),
    };
    const rest = { fua: random.chance(0.1), unmap: false, timeNs: 0 };
    if (roll < 60) return { op: 'write', ...range, ...rest };
    if (roll < 70) return { op: 'discard', ...whole, ...rest, fua: false };
    if (roll < 80) {
      return { op: 'write-zeroes', ...pickRange(random, whole, range), ...rest, unmap: random.chance(0.5) };
    }
    if (roll < 90) return { op: 'read', ...range, ...rest, fua: false };
    return { op: 'flush', offset: 0, length: 0, ...rest, fua: false };
  });
}

function pickRange<T>(random: Random, left: T, right: T): T {
  return random.chance(0.7) ? left : right;
}
