import { readFileSync } from 'node:fs';
import { tmpdir } from 'node:os';

import { describe, expect, it, onTestFinished, vi } from 'vitest';

import { collectEnvironment, findMountOptions } from '../../src/bench/environment.ts';
import { environmentSchema } from '../../src/result/schema.ts';

const given = { date: new Date('2026-03-01T12:00:00Z'), commandLine: ['run', 'stride'], seed: 7 };

describe('the environment', () => {
  it('is one that the result schema takes', () => {
    const environment = collectEnvironment({ ...given, directory: tmpdir(), qemu: '7.2.22' });
    expect(environmentSchema.safeParse(environment).error).toBeUndefined();
    expect(environment).toMatchObject({ date: '2026-03-01T12:00:00.000Z', seed: 7, qemu: '7.2.22' });
  });

  it("has the version of the package's own description", () => {
    const { version } = JSON.parse(readFileSync('package.json', 'utf8')) as { version: string };
    expect(collectEnvironment(given).harness).toBe(version);
  });

  it('says which libraries pack compressed clusters, and why not those of the system', async () => {
    const { zlib } = collectEnvironment(given).compression ?? {};
    expect(zlib).toMatch(/^zlib [\d.]+\S* of (?:the system|Node\.js: .+)$/);

    const platform = vi.spyOn(process, 'platform', 'get').mockReturnValue('darwin');
    vi.resetModules();
    onTestFinished(() => {
      platform.mockRestore();
      vi.resetModules();
    });
    const { compressionLibrary } = await import('../../src/format/qcow2/compression/compression.ts');
    expect(compressionLibrary('zstd')).toMatch(
      /^zstd [\d.]+\S* of Node\.js: the system's zstd is not called on/,
    );
  });

  it('has no file system where no file is timed, and no QEMU where none was found', () => {
    const environment = collectEnvironment(given);
    expect(environment.fileSystem).toBeNull();
    expect(environment).not.toHaveProperty('qemu');
  });
});

describe('mount options', () => {
  const mounts = [
    '/dev/vda1 / ext4 rw,relatime 0 0',
    'tmpfs /mnt/a\\040b tmpfs rw,size=64k 0 0',
    '/dev/vdb /data ext4 ro 0 0',
    '/dev/vdc /data xfs rw,noatime 0 0',
  ].join('\n');

  it('are those of the last mount on the directory', () => {
    expect(findMountOptions(mounts, '/data')).toEqual(['rw', 'noatime']);
  });

  it('are found where the directory has a blank in its name', () => {
    expect(findMountOptions(mounts, '/mnt/a b')).toEqual(['rw', 'size=64k']);
  });

  it('are none where the system does not report it', () => {
    expect(findMountOptions('', '/')).toEqual([]);
  });
});
