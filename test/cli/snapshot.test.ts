/**
 * `snapshot`: what `qemu-img snapshot` says and does, and snapshots that either program can use.
 */

import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import { describe, expect, test } from 'vitest';

import { reasonToSkip, runTool } from '../format/system-tools.ts';
import { testDirectory } from '../test-directory.ts';
import { callCli } from './call-cli.ts';
import { errorLine } from './cli-process.ts';

const skipped = reasonToSkip('qemu-img', 'qemu-io');
const DISK = 'disk.qcow2';

describe.skipIf(skipped !== undefined)(`snapshot${skipped === undefined ? '' : ` (${skipped})`}`, () => {
  test('ours and those of QEMU are in one list and are interchangeable', async () => {
    const folder = testDirectory();
    create(folder);
    write(folder, 1);
    expect((await callCli(folder, 'snapshot', DISK, '--create', 'ours')).code).toBe(0);
    write(folder, 2);
    runTool('qemu-img', ['snapshot', '-c', 'theirs', DISK], folder);
    write(folder, 3);

    const { stdout } = await callCli(folder, 'snapshot', DISK, '--list');
    expect(stdout).toBe(runTool('qemu-img', ['snapshot', '-l', DISK], folder));
    expect((await callCli(folder, 'info', DISK)).stdout).toContain(stdout);
    const info = await callCli(folder, 'info', DISK, '--json');
    const theirInfo: unknown = JSON.parse(runTool('qemu-img', ['info', '--output=json', DISK], folder));
    expect(JSON.parse(info.stdout)).toMatchObject({
      snapshots: (theirInfo as { snapshots: unknown }).snapshots,
    });

    expect((await callCli(folder, 'snapshot', DISK, '--apply', 'theirs')).code).toBe(0);
    expectByte(folder, 2);
    runTool('qemu-img', ['snapshot', '-a', 'ours', DISK], folder);
    expectByte(folder, 1);
    runTool('qemu-img', ['snapshot', '-d', 'ours', DISK], folder);
    const left = await callCli(folder, 'snapshot', DISK, '--delete', 'theirs', '--json');
    expect(JSON.parse(left.stdout)).toEqual([]);
    expect((await callCli(folder, 'snapshot', DISK)).stdout).toBe(`${DISK} has no snapshots\n`);
    expect(runTool('qemu-img', ['check', DISK], folder)).toContain('No errors were found');
  });

  test.each([765, 999, 1000, 92_160, 1_048_064, 2 ** 32, 5 * 2 ** 30])(
    'one with %i bytes of a machine in it is listed as by QEMU',
    async (stateSize) => {
      const folder = testDirectory();
      create(folder);
      write(folder, 1);
      runTool('qemu-img', ['snapshot', '-c', 'vm', DISK], folder);
      const path = join(folder, DISK);
      const bytes = readFileSync(path);
      const entry = Number(bytes.readBigUInt64BE(64));
      bytes.writeBigUInt64BE(3_723_004_005_006n, entry + 24);
      bytes.writeUInt32BE(stateSize < 2 ** 32 ? stateSize : 0, entry + 32);
      bytes.writeBigUInt64BE(BigInt(stateSize), entry + 40);
      bytes.writeBigUInt64BE(12_345_678n, entry + 56);
      writeFileSync(path, bytes);
      const { stdout } = await callCli(folder, 'snapshot', DISK, '--list');
      expect(stdout).toBe(runTool('qemu-img', ['snapshot', '-l', DISK], folder));
      const info = await callCli(folder, 'info', DISK, '--json');
      const { snapshots } = JSON.parse(
        runTool('qemu-img', ['info', '--output=json', DISK], folder),
      ) as Record<'snapshots', unknown>;
      expect(JSON.parse(info.stdout)).toMatchObject({ snapshots });
      const checked = await callCli(folder, 'check', DISK);
      expect(checked).toMatchObject({ code: 0, stdout: runTool('qemu-img', ['check', DISK], folder) });
    },
  );

  test('what is refused leaves the image as it was', async () => {
    const folder = testDirectory();
    create(folder);
    runTool('qemu-img', ['snapshot', '-c', 'one', DISK], folder);
    const before = readFileSync(join(folder, DISK));
    const missing = await callCli(folder, 'snapshot', DISK, '--apply', 'two');
    expect(missing.code).toBe(1);
    expect(errorLine(missing)).toContain("no snapshot 'two': it has 1 'one'");
    const long = await callCli(folder, 'snapshot', DISK, '--create', 'x'.repeat(256));
    expect(errorLine(long)).toContain('at most 255');
    const both = await callCli(folder, 'snapshot', DISK, '--create', 'x', '--delete', 'one');
    expect(both.code).toBe(2);
    expect(readFileSync(join(folder, DISK)).equals(before)).toBe(true);
  });

  test('other formats have none', async () => {
    const folder = testDirectory();
    writeFileSync(join(folder, 'disk.raw'), new Uint8Array(4096));
    const refused = await callCli(folder, 'snapshot', 'disk.raw', '--create', 'x');
    expect(refused.code).toBe(1);
    expect(errorLine(refused)).toContain('the file is raw: convert it to qcow2 or btree first');
  });
});

function create(folder: string): void {
  runTool('qemu-img', ['create', '-q', '-f', 'qcow2', DISK, '16M'], folder);
}

function write(folder: string, byte: number): void {
  runTool('qemu-io', ['-f', 'qcow2', '-c', `write -P ${String(byte)} 1M 100k`, DISK], folder);
}

function expectByte(folder: string, byte: number): void {
  runTool('qemu-io', ['-f', 'qcow2', '-c', `read -P ${String(byte)} 1M 100k`, DISK], folder);
}
