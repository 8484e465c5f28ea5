/**
 * Images wherever they may be: each file system that can be mounted here gets every change of an
 * image, and what the guest reads, and QEMU's check, must be as everywhere. Without root, tmpfs is
 * still tried; the rest is skipped by name.
 */

import { execFileSync, spawnSync } from 'node:child_process';
import {
  closeSync,
  existsSync,
  openSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statfsSync,
  statSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';

import { afterAll, beforeAll, describe, expect, test } from 'vitest';

import { openStack } from '../../src/bench/stack.ts';
import { copyFile } from '../../src/device/file-copy.ts';
import { CACHE_MODE_RULES, CACHE_MODES } from '../../src/format/cache-mode.ts';
import { QEMU_FORMATS } from '../../src/core/format-name.ts';
import { FORMATS, type Format } from '../../src/format/disk-image.ts';
import { PREALLOCATIONS } from '../../src/format/image-shape.ts';
import { checkImageFile } from '../../src/image/check-image.ts';
import { convertImage } from '../../src/image/convert-image.ts';
import { createImageFile } from '../../src/image/create-image.ts';
import { hostImage, WRITABLE_HOST_FILES } from '../../src/image/host-image.ts';
import { changeSnapshots } from '../../src/image/image-snapshots.ts';
import { resizeImage } from '../../src/image/resize-image.ts';
import { codeOf } from '../device/error-code.ts';
import { reasonToSkip, runTool } from '../format/system-tools.ts';
import { testDirectory } from '../test-directory.ts';

const MIB = 1024 * 1024;
const DISK = 4 * MIB;
const LOOP_FILE = 512 * MIB;

/**
 * Mounts something on `folder`, with `scratch` as a folder for what it needs; answers how it is
 * taken down.
 */
type Mount = (folder: string, scratch: string) => () => void;

const run = (program: string, ...args: readonly string[]): string =>
  execFileSync(program, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] });

function onLoop(makeFs: readonly [string, ...string[]], sectorSize = 512): Mount {
  return (folder, scratch) => {
    const file = join(scratch, 'disk');
    writeFileSync(file, '');
    truncateSync(file, LOOP_FILE);
    const loop = run('losetup', '-b', String(sectorSize), '--show', '-f', file).trim();
    try {
      run(...makeFs, loop);
      run('mount', loop, folder);
    } catch (error) {
      run('losetup', '-d', loop);
      throw error;
    }
    return () => {
      run('umount', folder);
      run('losetup', '-d', loop);
    };
  };
}

const byFuse2fs: Mount = (folder, scratch) => {
  const file = join(scratch, 'disk');
  writeFileSync(file, '');
  truncateSync(file, LOOP_FILE);
  run('mkfs.ext4', '-q', file);
  run('fuse2fs', file, folder);
  return () => void run('umount', folder);
};

const byBindfs: Mount = (folder, scratch) => {
  run('bindfs', scratch, folder);
  return () => void run('umount', folder);
};

const PLACES: Readonly<Record<string, Mount>> = {
  tmpfs: (folder) => {
    if (existsSync('/dev/shm')) {
      rmSync(folder, { recursive: true });
      execFileSync('ln', ['-s', mkdtempSync('/dev/shm/qcow2-bench-places-'), folder]);
      return () =>
        rmSync(execFileSync('readlink', [folder], { encoding: 'utf8' }).trim(), { recursive: true });
    }
    run('mount', '-t', 'tmpfs', 'tmpfs', folder);
    return () => void run('umount', folder);
  },
  'ext4 on sectors of 4 KiB': onLoop(['mkfs.ext4', '-q'], 4096),
  xfs: onLoop(['mkfs.xfs', '-q']),
  btrfs: onLoop(['mkfs.btrfs', '-q']),
  f2fs: onLoop(['mkfs.f2fs', '-q']),
  'ext4 through FUSE (fuse2fs)': byFuse2fs,
  'a directory through FUSE (bindfs)': byBindfs,
};

const base = testDirectory();

/**
 * What a guest that wrote and zeroed `writes` reads; what it discarded is left out of all of them.
 */
interface Change {
  readonly op: 'write' | 'zero' | 'unmap' | 'discard';
  readonly offset: number;
  readonly length: number;
}

const CHANGES: readonly Change[] = [
  { op: 'write', offset: 4096, length: 4096 },
  { op: 'write', offset: MIB, length: MIB },
  { op: 'write', offset: 3 * MIB + 512, length: 70_000 - (70_000 % 512) },
  { op: 'zero', offset: MIB + 65_536, length: 65_536 },
  { op: 'unmap', offset: MIB + 3 * 65_536, length: 2 * 65_536 },
  { op: 'zero', offset: MIB + 512, length: 10_240 },
  { op: 'discard', offset: MIB + 8 * 65_536, length: 2 * 65_536 },
  { op: 'write', offset: MIB + 8 * 65_536, length: 2 * 65_536 },
  { op: 'discard', offset: 0, length: 65_536 },
  { op: 'write', offset: 0, length: 8192 },
];
/** Bytes that the last discard leaves open: a format or file system may keep them. */
const OPEN = { start: 8192, end: 65_536 };

async function serve(
  path: string,
  options: {
    readonly format: Format;
    readonly cache: (typeof CACHE_MODES)[number];
    readonly crash?: boolean;
  },
): Promise<void> {
  const { format, cache, crash = false } = options;
  const { storage, name } = hostImage(path);
  const refcounts = format === 'qcow2' ? 'lazy' : null;
  await using stack = await openStack({ storage, imageName: name, format, cache, refcounts, metered: false });
  const { backend } = stack;
  const model = new Uint8Array(DISK);
  for (const [index, { op, offset, length }] of CHANGES.entries()) {
    const bytes = new Uint8Array(length).fill(op === 'write' ? index + 1 : 0);
    if (op === 'write') await backend.write(offset, bytes, { fua: false });
    else if (op === 'discard') await backend.discard(offset, length);
    else await backend.writeZeroes(offset, length, { fua: false, unmap: op === 'unmap' });
    model.set(bytes, offset);
  }
  await backend.flush();
  await expectGuest(backend, model);
  if (!crash) await stack.close();
}

async function expectGuest(
  disk: { read(offset: number, target: Uint8Array): undefined | Promise<void> },
  model: Uint8Array,
): Promise<void> {
  const target = new Uint8Array(DISK);
  await disk.read(0, target);
  target.fill(0, OPEN.start, OPEN.end);
  expect(Buffer.compare(target, Buffer.from(model).fill(0, OPEN.start, OPEN.end))).toBe(0);
}

const noStrace = reasonToSkip('strace');
const qemuIsMissing = reasonToSkip('qemu-img') !== undefined;

function isQemus(format: Format): boolean {
  return QEMU_FORMATS.some((each) => each === format);
}

/** By QEMU where it is installed and has the format, and by ours. */
async function expectClean(path: string, format: Format = 'qcow2'): Promise<void> {
  const { report } = await checkImageFile(hostImage(path));
  expect({ path, ...report }).toMatchObject({ corruptions: 0, leaks: 0, checkErrors: 0 });
  if (!qemuIsMissing && isQemus(format)) runTool('qemu-img', ['check', path]);
}

describe.each(Object.entries(PLACES))('on %s', (name, mount) => {
  const parent = join(base, name.replaceAll(/\W+/g, '-'));
  const folder = join(parent, 'mnt');
  let unmount: (() => void) | undefined;
  let reason = '';

  beforeAll(() => {
    const scratch = join(parent, 'scratch');
    mkdirSync(folder, { recursive: true });
    mkdirSync(scratch);
    try {
      unmount = mount(folder, scratch);
    } catch (error) {
      reason = `cannot be mounted here: ${String(error).split('\n')[0] ?? ''}`;
    }
  });
  afterAll(() => {
    unmount?.();
  });

  const at = (file: string): string => join(folder, file);

  test('every format is made, served in every cache mode and checked', async (context) => {
    if (unmount === undefined) context.skip(reason);
    for (const format of FORMATS) {
      for (const cache of CACHE_MODES) {
        const path = at(`${format}-${cache}`);
        await createImageFile({ ...hostImage(path), format, virtualSize: DISK });
        try {
          await serve(path, { format, cache });
        } catch (error) {
          // Some file systems have no O_DIRECT; that is the one thing that may be missing.
          if (!CACHE_MODE_RULES[cache].direct || !String(error).includes('O_DIRECT')) throw error;
        }
        if (format !== 'raw') await expectClean(path, format);
      }
    }
  });

  test('all preallocations are made', async (context) => {
    if (unmount === undefined) context.skip(reason);
    for (const preallocation of PREALLOCATIONS) {
      const path = at(`preallocated-${preallocation}`);
      await createImageFile({
        ...hostImage(path),
        format: 'qcow2',
        virtualSize: DISK,
        shape: { preallocation },
      });
      await serve(path, { format: 'qcow2', cache: 'writeback' });
      await expectClean(path);
      if (preallocation === 'metadata') continue;
      const raw = at(`raw-${preallocation}`);
      await createImageFile({
        ...hostImage(raw),
        format: 'raw',
        virtualSize: DISK,
        shape: { preallocation },
      });
      await serve(raw, { format: 'raw', cache: 'writeback' });
    }
  });

  test('a dirty image is repaired, by a check and by opening it', async (context) => {
    if (unmount === undefined) context.skip(reason);
    for (const [index, repair] of (['check', 'open'] as const).entries()) {
      const path = at(`dirty-${String(index)}`);
      await createImageFile({ ...hostImage(path), format: 'qcow2', virtualSize: DISK, refcounts: 'lazy' });
      await serve(path, { format: 'qcow2', cache: 'writeback', crash: true });
      if (repair === 'check') await checkImageFile({ ...hostImage(path), repair: 'all' });
      else await serve(path, { format: 'qcow2', cache: 'writethrough' });
      await expectClean(path);
    }
  });

  test('a file is copied; where the file system can, the copy shares its extents', async (context) => {
    if (unmount === undefined) context.skip(reason);
    const bytes = Buffer.alloc(32 * MIB, 7);
    writeFileSync(at('source'), bytes);
    run('sync', '-f', at('source'));
    const freeBytes = (): number => {
      const { bfree, bsize } = statfsSync(folder);
      return bfree * bsize;
    };
    const before = freeBytes();
    await copyFile(at('source'), at('copy'));
    run('sync', '-f', at('copy'));
    if (name === 'xfs' || name === 'btrfs') expect(before - freeBytes()).toBeLessThan(8 * MIB);
    expect(readFileSync(at('copy')).equals(bytes)).toBe(true);
    for (const file of ['source', 'copy']) rmSync(at(file));
  });

  test('a copy is durable before it is used, also where it shares extents', (context) => {
    if (unmount === undefined) context.skip(reason);
    if (noStrace !== undefined) context.skip(noStrace);
    writeFileSync(at('source'), Buffer.alloc(MIB, 7));
    const [log, copy] = [join(parent, 'calls'), at('copy')];
    const module = JSON.stringify(new URL('../../src/device/file-copy.ts', import.meta.url).href);
    const program = `const { copyFile } = await import(${module}); await copyFile(...process.argv.slice(1));`;
    const options = ['-f', '-y', '-o', log, '-e', 'trace=ioctl,fdatasync,fsync'];
    run('strace', ...options, process.execPath, '--input-type=module', '-e', program, at('source'), copy);
    const calls = readFileSync(log, 'utf8')
      .split('\n')
      .filter((line) => line.includes('/copy>') && line.endsWith(' = 0'));
    expect(calls.at(-1)).toMatch(/ f(?:data)?sync\(/);
    expect(calls.some((line) => line.includes('FICLONE'))).toBe(name === 'xfs' || name === 'btrfs');
    for (const file of ['source', 'copy']) rmSync(at(file));
  });

  test('snapshots, sizes and conversions', async (context) => {
    if (unmount === undefined) context.skip(reason);
    const path = at('changed.qcow2');
    await createImageFile({ ...hostImage(path), format: 'qcow2', virtualSize: DISK });
    await serve(path, { format: 'qcow2', cache: 'writeback' });
    await changeSnapshots({ path, change: { action: 'create', snapshot: SNAPSHOT } });
    await serve(path, { format: 'qcow2', cache: 'writeback' });
    const before = readdirSync(folder);
    const { mtimeNs } = statSync(folder, { bigint: true });
    await changeSnapshots({ path, change: { action: 'apply', which: 'one' } });
    await expectClean(path);
    await changeSnapshots({ path, change: { action: 'delete', which: 'one' } });
    await expectClean(path);
    for (const size of [2 * DISK, DISK]) {
      const files = WRITABLE_HOST_FILES;
      await resizeImage({ name: path, format: 'qcow2', files, size: { to: size }, shrink: true });
      await expectClean(path);
    }
    await checkImageFile({ ...hostImage(path), repair: 'all' });
    // No scratch file came and went.
    expect(readdirSync(folder)).toEqual(before);
    expect(statSync(folder, { bigint: true }).mtimeNs).toBe(mtimeNs);
    for (const format of FORMATS) {
      await convertImage({ source: { path }, target: { ...hostImage(at(`to.${format}`)), format } });
      if (!qemuIsMissing && isQemus(format)) {
        run('qemu-img', 'compare', '-F', format, path, at(`to.${format}`));
      }
    }
  });
});

describe('where the disk quota is used up', () => {
  const parent = join(base, 'quota');
  const [folder, scratch] = [join(parent, 'mnt'), join(parent, 'scratch')];
  const place = join(folder, 'limited');
  let unmount: (() => void) | undefined;
  let reason = '';

  beforeAll(() => {
    mkdirSync(folder, { recursive: true });
    mkdirSync(scratch);
    try {
      unmount = onLoop(['mkfs.btrfs', '-q'])(folder, scratch);
      run('btrfs', 'subvolume', 'create', place);
      run('btrfs', 'quota', 'enable', folder);
      run('btrfs', 'qgroup', 'limit', '1m', place);
    } catch (error) {
      reason = `no directory with a quota can be made here: ${String(error).split('\n')[0] ?? ''}`;
    }
  });
  afterAll(() => {
    unmount?.();
  });

  test('what is written is one clear error, and a file that was to be made is not there', async (context) => {
    if (reason !== '') context.skip(reason);
    const source = join(base, 'source.raw');
    writeFileSync(source, Buffer.alloc(DISK, 1));
    for (const format of FORMATS) {
      const target = { ...hostImage(join(place, `to.${format}`)), format };
      const converted = convertImage({ source: { path: source }, target });
      await expect(converted, format).rejects.toThrow(/EDQUOT: the disk quota is used up: free space/);
      expect(readdirSync(place)).toEqual([]);
    }
    await expect(copyFile(source, join(place, 'copy'))).rejects.toThrow(/the disk quota is used up/);
    expect(readdirSync(place)).toEqual([]);
  });
});

describe('on a file system that is mounted read-only', () => {
  const folder = join(base, 'read-only');
  let isMounted = false;
  beforeAll(() => {
    mkdirSync(folder);
    isMounted = spawnSync('mount', ['-t', 'tmpfs', 'tmpfs', folder]).status === 0;
  });
  afterAll(() => {
    if (isMounted) run('umount', folder);
  });

  test('an image is read and checked, and each change is one clear error', async (context) => {
    if (!isMounted) context.skip('mounting a file system needs root');
    const path = join(folder, 'disk.qcow2');
    await createImageFile({ ...hostImage(path), format: 'qcow2', virtualSize: DISK });
    await changeSnapshots({ path, change: { action: 'create', snapshot: SNAPSHOT } });
    run('mount', '-o', 'remount,ro', folder);
    await expectClean(path);
    const other = join(base, 'from-read-only.raw');
    await convertImage({ source: { path }, target: { ...hostImage(other), format: 'raw' } });
    const [files, size] = [WRITABLE_HOST_FILES, { to: 2 * DISK }];
    const changes: readonly (() => Promise<unknown>)[] = [
      () => serve(path, { format: 'qcow2', cache: 'writeback' }),
      () => checkImageFile({ ...hostImage(path), repair: 'all' }),
      () => changeSnapshots({ path, change: { action: 'delete', which: 'one' } }),
      () => resizeImage({ name: path, format: 'qcow2', files, size }),
      () => createImageFile({ ...hostImage(join(folder, 'new')), format: 'qcow2', virtualSize: DISK }),
      () => convertImage({ source: { path }, target: { ...hostImage(join(folder, 'new')), format: 'raw' } }),
    ];
    for (const change of changes) {
      await expect(change(), String(change)).rejects.toThrow(/EROFS.*the file system is read-only/);
    }
    expect(readdirSync(folder)).toEqual(['disk.qcow2']);
  });
});

const SNAPSHOT = { name: 'one', seconds: 1, nanoseconds: 0 } as const;

/** Counts a reference to a cluster that nothing uses, in the only refcount block. */
function leakCluster(path: string): void {
  const block = 0x20000;
  truncateSync(path, 100 * 65_536);
  const file = openSync(path, 'r+');
  writeSync(file, Uint8Array.of(0, 1), 0, 2, block + 2 * 99);
  closeSync(file);
}

describe('on a full disk', () => {
  const folder = join(base, 'full');
  let isMounted = false;
  beforeAll(() => {
    mkdirSync(folder);
    isMounted = spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=8m', 'tmpfs', folder]).status === 0;
  });
  afterAll(() => {
    if (isMounted) run('umount', folder);
  });

  test('a snapshot is deleted, a leak is repaired, and a new image is one clear error', async (context) => {
    if (!isMounted) context.skip('mounting a file system needs root');
    const path = join(folder, 'disk.qcow2');
    await createImageFile({ ...hostImage(path), format: 'qcow2', virtualSize: DISK });
    await changeSnapshots({ path, change: { action: 'create', snapshot: SNAPSHOT } });
    await serve(path, { format: 'qcow2', cache: 'writeback' });
    leakCluster(path);
    spawnSync('dd', ['if=/dev/zero', `of=${join(folder, 'filler')}`, 'bs=4k']);
    expect(Number(run('stat', '-f', '-c', '%f', folder))).toBe(0);
    const { report } = await checkImageFile({ ...hostImage(path), repair: 'all' });
    expect(report.leaksFixed).toBe(1);
    await expectClean(path);
    await changeSnapshots({ path, change: { action: 'delete', which: 'one' } });
    await expectClean(path);
    spawnSync('dd', ['if=/dev/zero', `of=${join(folder, 'more')}`, 'bs=4k']);
    const other = { ...hostImage(join(folder, 'other.qcow2')), format: 'qcow2', virtualSize: DISK } as const;
    await expect(createImageFile(other)).rejects.toThrow('the file system is full');
    expect(existsSync(join(folder, 'other.qcow2'))).toBe(false);
  });
});

test('a new image in a directory that does not exist, or is none, is one clear error', () => {
  const create = (path: string) => (): void => void hostImage(path).storage.create('new').close();
  writeFileSync(join(base, 'plain'), '');
  expect(codeOf(create(join(base, 'missing', 'image')))).toBe('directory-missing');
  expect(codeOf(create(join(base, 'plain', 'image')))).toBe('not-a-directory');
});
