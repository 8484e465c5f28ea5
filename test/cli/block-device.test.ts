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
function loopDevice(folder: string, bytes: number): string {
  const file = join(folder, 'file');
  writeFileSync(file, '');
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
