/** Block devices as images and backing files, on loop devices. */

import { spawnSync } from 'node:child_process';
import { readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import { describe, expect, onTestFinished, test } from 'vitest';

import { reasonToSkip, runTool } from '../format/system-tools.ts';
import { testDirectory } from '../test-directory.ts';
import { callCli } from './call-cli.ts';
import { errorLine } from './cli-process.ts';

const MIB = 1024 * 1024;

function reasonAgainstLoop(): string | undefined {
  if (process.getuid?.() !== 0) return 'a loop device takes root';
  return spawnSync('losetup', ['--find']).status === 0
    ? reasonToSkip('qemu-img', 'qemu-io')
    : 'no loop device';
}
const skip = reasonAgainstLoop();

/** A block device of a file in `folder`, until the test ends. */
function loopDevice(folder: string, bytes: number, filledWith = 0): string {
  const file = join(folder, 'file');
  writeFileSync(file, filledWith === 0 ? '' : Buffer.alloc(bytes, filledWith));
  truncateSync(file, bytes);
  const { status, stdout, stderr } = spawnSync('losetup', ['--find', '--show', file], { encoding: 'utf8' });
  if (status !== 0) throw new Error(`losetup: ${stderr}`);
  const device = stdout.trim();
  onTestFinished(() => void spawnSync('losetup', ['--detach', device]));
  return device;
}

describe.skipIf(skip !== undefined)(`a block device${skip === undefined ? '' : ` (${skip})`}`, () => {
  test('with qcow2 on it is read, changed in place, and stays whole for QEMU', async () => {
    const folder = testDirectory();
    const device = loopDevice(folder, 16 * MIB);
    runTool('qemu-img', ['create', '-q', '-f', 'qcow2', device, '8M'], folder);
    runTool('qemu-io', ['-f', 'qcow2', '-c', 'write -P 7 0 1M', device], folder);
    const info = await callCli(folder, 'info', device, '--json');
    expect(JSON.parse(info.stdout)).toMatchObject({ format: 'qcow2', 'virtual-size': 8 * MIB });
    for (const words of [
      ['map', device],
      ['amend', device, '--refcounts', 'lazy'],
      ['snapshot', device, '--create', 'one'],
      ['resize', device, '12MiB'],
      ['check', device],
      ['convert', device, 'copy.raw', '--to', 'raw'],
      ['create', 'top', '--backing', device, '--backing-format', 'qcow2'],
      ['convert', 'top', 'through.raw', '--to', 'raw', '--any-backing'],
    ]) {
      expect(await callCli(folder, ...words), words.join(' ')).toMatchObject({ code: 0 });
    }
    runTool('qemu-img', ['check', '-q', '-f', 'qcow2', device], folder);
    runTool('qemu-img', ['compare', '-f', 'qcow2', '-F', 'raw', device, 'copy.raw'], folder);
    expect(readFileSync(join(folder, 'through.raw')).equals(readFileSync(join(folder, 'copy.raw')))).toBe(
      true,
    );
  });

  test('is the disk of a raw image, and as large as it is', async () => {
    const folder = testDirectory();
    const device = loopDevice(folder, 3 * MIB);
    runTool('qemu-io', ['-f', 'raw', '-c', 'write -P 7 1M 1M', device], folder);
    const words = ['convert', device, 'copy.raw', '--from', 'raw', '--to', 'raw'];
    expect(await callCli(folder, ...words)).toMatchObject({ code: 0 });
    expect(readFileSync(join(folder, 'copy.raw')).equals(readFileSync(join(folder, 'file')))).toBe(true);
  });

  test('is written by a run only in place, and says when it is full', async () => {
    const folder = testDirectory();
    const device = loopDevice(folder, 2 * MIB);
    const create = ['create', '-q', '-f', 'qcow2', device, '1G'];
    runTool('qemu-img', create, folder);
    const before = readFileSync(join(folder, 'file'));
    const run = ['run', '--workload', 'stride', '--image', device, '--cache', 'none', '--samples', '0'];
    const copied = await callCli(folder, ...run);
    expect(copied).toMatchObject({ code: 2, stdout: '' });
    expect(errorLine(copied)).toContain('--in-place');
    expect(readFileSync(join(folder, 'file')).equals(before)).toBe(true);
    expect((await callCli(folder, ...run, '--in-place', '--requests', '5')).code).toBe(0);
    const full = await callCli(folder, ...run, '--in-place');
    expect(full.code).toBe(1);
    expect(full.stderr).toContain('ENOSPC');
    // Leaks at most.
    expect([0, 3]).toContain((await callCli(folder, 'check', device)).code);
  });

  /** Data, written zeroes and holes, over 3 MiB. */
  function makeDisk(folder: string): void {
    runTool('qemu-img', ['create', '-q', '-f', 'qcow2', 'disk', '3M'], folder);
    for (const write of ['write -P 1 64k 1M', 'write -z 512k 64k', 'write -P 2 2M 4k']) {
      runTool('qemu-io', ['-f', 'qcow2', '-c', write, 'disk'], folder);
    }
  }

  test('takes a disk in place, raw, as qemu-img convert -n writes it; what is behind the disk stays', async () => {
    const [ours, theirs] = [testDirectory(), testDirectory()];
    for (const folder of [ours, theirs]) makeDisk(folder);
    const ourDevice = loopDevice(ours, 4 * MIB, 9);
    const theirDevice = loopDevice(theirs, 4 * MIB, 9);
    const words = ['convert', 'disk', ourDevice, '--to', 'raw', '--in-place'];
    const ended = await callCli(ours, ...words);
    expect(ended).toMatchObject({ code: 0 });
    expect(ended.stdout).toContain('wrote to');
    runTool('qemu-img', ['convert', '-n', '-f', 'qcow2', '-O', 'raw', 'disk', theirDevice], theirs);
    for (const device of [ourDevice, theirDevice]) spawnSync('blockdev', ['--flushbufs', device]);
    const [written, expected] = [ours, theirs].map((folder) => readFileSync(join(folder, 'file')));
    expect(expected?.subarray(3 * MIB).equals(Buffer.alloc(MIB, 9))).toBe(true);
    expect(written?.equals(expected ?? Buffer.alloc(0))).toBe(true);
  });

  test('takes a disk in place, as the qcow2 image on it, with the bytes of qemu-img convert -n', async () => {
    const [ours, theirs] = [testDirectory(), testDirectory()];
    const devices = [ours, theirs].map((folder) => {
      makeDisk(folder);
      const device = loopDevice(folder, 16 * MIB);
      runTool('qemu-img', ['create', '-q', '-f', 'qcow2', device, '8M'], folder);
      runTool('qemu-io', ['-f', 'qcow2', '-c', 'write -P 7 0 3M', device], folder);
      return device;
    });
    const [ourDevice = '', theirDevice = ''] = devices;
    expect(await callCli(ours, 'convert', 'disk', ourDevice, '--in-place')).toMatchObject({ code: 0 });
    runTool('qemu-img', ['convert', '-n', '-f', 'qcow2', '-O', 'qcow2', 'disk', theirDevice], theirs);
    for (const device of devices) spawnSync('blockdev', ['--flushbufs', device]);
    const [written, expected] = [ours, theirs].map((folder) => readFileSync(join(folder, 'file')));
    expect(written?.equals(expected ?? Buffer.alloc(0))).toBe(true);
  });

  test('that is smaller than the disk is left as it is', async () => {
    const folder = testDirectory();
    makeDisk(folder);
    const device = loopDevice(folder, 2 * MIB, 9);
    const ended = await callCli(folder, 'convert', 'disk', device, '--to', 'raw', '--in-place');
    expect(errorLine(ended)).toContain('[target-too-small]');
    expect(readFileSync(join(folder, 'file')).equals(Buffer.alloc(2 * MIB, 9))).toBe(true);
  });

  test.each([
    [['create'], ['8MiB']],
    [['convert', 'disk.raw'], ['--overwrite']],
  ] as const)('is never the output of %j', async (words, rest) => {
    const folder = testDirectory();
    const device = loopDevice(folder, MIB);
    writeFileSync(join(folder, 'disk.raw'), Buffer.alloc(MIB, 7));
    const ended = await callCli(folder, ...words, device, ...rest);
    expect(errorLine(ended)).toContain('[not-an-output]');
    expect(readFileSync(join(folder, 'file')).equals(Buffer.alloc(MIB))).toBe(true);
  });
});
