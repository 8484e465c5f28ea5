import { execFileSync } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { AlignedDevice } from '../../src/device/aligned-device.ts';
import type { BlockDevice } from '../../src/device/block-device.ts';
import { probeCapabilities, type Capabilities } from '../../src/device/capabilities.ts';
import { FileStorage } from '../../src/device/file-storage.ts';
import { MEMORY_CAPABILITIES, MemoryStorage, NullStorage } from '../../src/device/memory-storage.ts';
import { findMountPoint } from '../../src/device/mount-point.ts';
import { StagedStorage } from '../../src/device/staged-storage.ts';
import type { Storage } from '../../src/device/storage.ts';
import { testDirectory } from '../test-directory.ts';
import { codeOf } from './error-code.ts';
import { isUnsupported } from '../../src/device/host-error.ts';

const directory = testDirectory();
const found = probeCapabilities(directory);

const NONE: Capabilities = {
  ...found,
  direct: { ok: false, reason: 'the file system tmpfs at /x has no O_DIRECT' },
  zeroRange: { ok: false, reason: 'the file system tmpfs at /x has no FALLOC_FL_ZERO_RANGE (EOPNOTSUPP)' },
};

function thrownBy(work: () => unknown): unknown {
  try {
    work();
  } catch (error) {
    return error;
  }
  return undefined;
}

describe.each<[string, (capabilities?: Capabilities) => Storage]>([
  ['file', (capabilities = found) => new FileStorage(directory, capabilities)],
  ['memory', (capabilities = MEMORY_CAPABILITIES) => new MemoryStorage(capabilities)],
  ['null', (capabilities = MEMORY_CAPABILITIES) => new NullStorage(capabilities)],
])('%s storage', (kind, make) => {
  test('keeps what was written for the next who opens it', async () => {
    const storage = make();
    const created = storage.create('a.img');
    await created.write(0, Uint8Array.of(1, 2, 3), 'header');
    await created.close();
    const opened = storage.open('a.img', { label: 'backing:0', readOnly: true });
    const target = new Uint8Array(4);
    await opened.read(0, target, 'header');
    await opened.close();
    storage.remove('a.img');
    expect([...target]).toEqual([1, 2, 3, 0]);
    expect(opened.label).toBe('backing:0');
    expect(storage.kind).toBe(kind);
  });

  test('never overwrites a file unless asked to', async () => {
    const storage = make();
    const first = storage.create('b.img');
    await first.write(0, new Uint8Array(10).fill(1), 'header');
    await first.close();
    expect(codeOf(() => storage.create('b.img'))).toBe('file-exists');
    const again = storage.open('b.img');
    expect(again.size()).toBe(10);
    await again.close();
    const replaced = storage.create('b.img', { overwrite: true });
    expect(replaced.size()).toBe(0);
    await replaced.close();
    storage.remove('b.img');
  });

  test('distinguishes a missing file from a present one', async () => {
    const storage = make();
    expect(storage.exists('c.img')).toBe(false);
    expect(codeOf(() => storage.open('c.img'))).toBe('file-missing');
    await storage.create('c.img').close();
    expect(storage.exists('c.img')).toBe(true);
    storage.remove('c.img');
    storage.remove('c.img');
    expect(storage.exists('c.img')).toBe(false);
  });

  test('refuses O_DIRECT where the capabilities have none, naming the file system', () => {
    const storage = make(NONE);
    expect(codeOf(() => storage.create('d.img', { direct: true }))).toBe('no-o-direct');
    expect(() => storage.create('d.img', { direct: true })).toThrow(
      'file system tmpfs at /x has no O_DIRECT',
    );
    expect(storage.exists('d.img')).toBe(false);
  });

  test('has zero-range and holes each on its own, and what is missing fails as unsupported', async () => {
    const storage = make(NONE);
    const device = storage.create('e.img');
    expect(device.canZeroRange).toBe(false);
    expect(device.canPunchHole).toBe(found.punchHole.ok);
    expect(device.canReserve).toBe(found.punchHole.ok);
    expect(thrownBy(() => device.zeroRange(0, 512, 'cow'))).toSatisfy(isUnsupported);
    expect(device.size()).toBe(0);
    await device.close();
    storage.remove('e.img');
  });
});

test('memory opened with O_DIRECT has blocks of 512 bytes, or of 4 KiB where the file begins with a hole', () => {
  const storage = new MemoryStorage();
  const alignment = (): number => storage.open('a', { direct: true }).requestAlignment;
  const file = storage.create('a');
  expect(alignment()).toBe(4096);
  file.truncate(65_536, 'data');
  expect(alignment()).toBe(4096);
  file.write(0, new Uint8Array(512), 'data');
  expect(alignment()).toBe(512);
  expect(storage.open('a').requestAlignment).toBe(1);
});

describe('a file storage', () => {
  const storage = new FileStorage(directory, found);

  test.each(['../x', '/etc/passwd', '', '.', 'a/../../x'])('refuses the name %j, which leads out', (name) => {
    expect(codeOf(() => storage.open(name))).toBe('name-outside-directory');
  });

  test('takes names below it, also absolute ones', () => {
    expect(storage.pathOf(join(directory, '..x', 'y'))).toBe(join(directory, '..x', 'y'));
  });

  test.skipIf(process.platform === 'win32')('opens neither a FIFO nor a device nor a directory', () => {
    execFileSync('mkfifo', [join(directory, 'fifo')]);
    mkdirSync(join(directory, 'sub'));
    expect(codeOf(() => storage.open('fifo', { readOnly: true }))).toBe('not-a-regular-file');
    expect(codeOf(() => storage.open('sub'))).toBe('not-a-regular-file');
    expect(codeOf(() => new FileStorage('/dev', found).open('zero'))).toBe('not-a-regular-file');
    expect(codeOf(() => storage.create('fifo', { overwrite: true }))).toBe('not-a-regular-file');
    rmSync(join(directory, 'fifo'));
    rmSync(join(directory, 'sub'), { recursive: true });
  });

  test('names the file system for people', () => {
    expect(storage.describe()).toContain(directory);
  });
});

describe('staged files', () => {
  test('a commit that fails leaves the file that was to be replaced, whatever is removed first', async () => {
    for (const order of [
      ['data', 'image'],
      ['image', 'data'],
    ]) {
      const folder = mkdtempSync(join(directory, 'staged-'));
      writeFileSync(join(folder, 'data'), 'old');
      const staged = new StagedStorage(new FileStorage(folder, probeCapabilities(folder)), ['data']);
      for (const name of ['image', 'data']) await staged.create(name).close();
      writeFileSync(join(folder, 'image'), 'of another program');
      expect(codeOf(() => staged.commit('image'))).toBe('file-exists');
      expect(readFileSync(join(folder, 'data'), 'utf8')).toBe('');
      for (const name of order) staged.remove(name);
      expect(readdirSync(folder).toSorted()).toEqual(['data', 'image']);
      expect(readFileSync(join(folder, 'data'), 'utf8')).toBe('old');
    }
  });

  test('a file in the way is an error before the work, and stays', () => {
    const folder = mkdtempSync(join(directory, 'staged-'));
    writeFileSync(join(folder, 'backing'), 'old');
    const staged = new StagedStorage(new FileStorage(folder, probeCapabilities(folder)), ['data']);
    expect(codeOf(() => void staged.create('backing'))).toBe('file-exists');
    expect(readdirSync(folder)).toEqual(['backing']);
  });
});

describe('the capability probe', () => {
  test('leaves nothing behind', () => {
    const empty = mkdtempSync(join(directory, 'empty-'));
    probeCapabilities(empty);
    expect(readdirSync(empty)).toEqual([]);
  });

  test('names a missing directory, a file in its place, and one where nothing can be created', () => {
    writeFileSync(join(directory, 'plain'), '');
    expect(codeOf(() => probeCapabilities(join(directory, 'missing')))).toBe('directory-missing');
    expect(codeOf(() => probeCapabilities(join(directory, 'plain')))).toBe('not-a-directory');
    if (existsSync('/proc/self')) {
      expect(codeOf(() => probeCapabilities('/proc/self'))).toBe('directory-unwritable');
    }
  });

  test.runIf(existsSync('/dev/shm') && process.platform === 'linux')('says what tmpfs lacks', () => {
    const memory = mkdtempSync('/dev/shm/qcow2-bench-');
    try {
      const capabilities = probeCapabilities(memory);
      expect(capabilities.fileSystem).toBe('tmpfs');
      expect(capabilities.zeroRange).toEqual({
        ok: false,
        reason: `the file system tmpfs at ${memory} has no FALLOC_FL_ZERO_RANGE (ENOTSUP)`,
      });
      expect(capabilities.punchHole).toEqual({ ok: true });
      // Younger kernels take O_DIRECT on tmpfs at any alignment, which gives the safe one.
      if (capabilities.direct.ok) expect(capabilities.direct.alignment).toBe(4096);
      else expect(capabilities.direct.reason).toBe(`the file system tmpfs at ${memory} has no O_DIRECT`);
    } finally {
      rmSync(memory, { recursive: true });
    }
  });
});

describe('the mount point of a path', () => {
  const mountInfo = [
    '27 1 254:0 / / rw,relatime - ext4 /dev/vda rw',
    '30 27 0:25 / /mnt/my\\040disk rw shared:7 master:2 - fuse.sshfs host: rw',
    '31 27 0:26 / /srv rw - xfs /dev/vdb rw',
    '32 27 0:27 / /srv rw - tmpfs tmpfs rw',
    'not a line of the table',
  ].join('\n');

  test.each([
    ['/home/user', 'ext4'],
    ['/mnt/my disk/images', 'fuse.sshfs'],
    ['/mnt/my disk', 'fuse.sshfs'],
    ['/mnt/my disks', 'ext4'],
    ['/srv/a', 'tmpfs'],
  ])('%s is on %s', (path, type) => {
    expect(findMountPoint(mountInfo, path)?.type).toBe(type);
  });
});

/** A file system of 256 KiB, where the machine lets a test mount one. */
describe('on a small file system', () => {
  const mountPoint = join(directory, 'small');
  let mounted = false;

  beforeAll(() => {
    mkdirSync(mountPoint);
    try {
      execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=256k', 'tmpfs', mountPoint], { stdio: 'ignore' });
      mounted = true;
    } catch {
      mounted = false; // Needs root; the same error is tested through fault injection.
    }
  });
  afterAll(() => {
    if (mounted) execFileSync('umount', [mountPoint]);
  });

  test('a full disk is one clear error, for a write, a merged one and a short one', (context) => {
    if (!mounted) context.skip('mounting a file system needs root');
    const storage = new FileStorage(mountPoint, probeCapabilities(mountPoint));
    const device = storage.create('full.img');
    // More than fits: the system writes a part and then says so.
    expect(codeOf(() => device.write(0, new Uint8Array(400_000).fill(1), 'data'))).toBe('host-write-failed');
    expect(() => device.write(262_144, new Uint8Array(4096), 'data')).toThrow(
      `${join(mountPoint, 'full.img')}, offset 0x40000: a write failed with ENOSPC: the file system is full`,
    );
    const parts = [1, 2].map((value) => ({
      purpose: 'data' as const,
      bytes: new Uint8Array(9000).fill(value),
    }));
    expect(codeOf(() => device.writeMerged(255_000, parts))).toBe('host-write-failed');
    device.close();
    const kept = readFileSync(join(mountPoint, 'full.img'));
    expect(kept.byteLength).toBe(262_144);
    expect(kept[254_999]).toBe(1);
    expect(codeOf(() => probeCapabilities(mountPoint))).toBe('host-write-failed');
  });

  test('a read-only file system is one clear error', (context) => {
    if (!mounted) context.skip('mounting a file system needs root');
    execFileSync('mount', ['-o', 'remount,ro', mountPoint]);
    expect(codeOf(() => probeCapabilities(mountPoint))).toBe('directory-unwritable');
    expect(() => new FileStorage(mountPoint, found).create('x')).toThrow(
      '(EROFS): the file system is read-only',
    );
  });
});

test.runIf(found.direct.ok && found.zeroRange.ok)(
  'a file with O_DIRECT takes what engines write',
  async () => {
    const storage = new FileStorage(directory, found);
    const device: BlockDevice = new AlignedDevice(storage.create('direct.img', { direct: true }));
    await device.zeroRange(0, 65_536, 'cow');
    await device.write(72, Uint8Array.of(1), 'header');
    await device.writeMerged(4096, [
      { purpose: 'cow', bytes: new Uint8Array(100).fill(2) },
      { purpose: 'data', bytes: new Uint8Array(412).fill(3) },
    ]);
    await device.sync('close');
    await device.close();
    const wanted = new Uint8Array(65_536).fill(1, 72, 73).fill(2, 4096, 4196).fill(3, 4196, 4608);
    expect(Buffer.compare(readFileSync(join(directory, 'direct.img')), wanted)).toBe(0);
  },
);
