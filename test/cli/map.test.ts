/** `map` says of every byte what `qemu-img map` says. */

import { mkdirSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import { describe, expect, test } from 'vitest';

import { reasonToSkip, runTool } from '../format/system-tools.ts';
import { testDirectory } from '../test-directory.ts';
import { callCli } from './call-cli.ts';
import { errorLine } from './cli-process.ts';

const skipped = reasonToSkip('qemu-img', 'qemu-io');
const CLUSTER = 65_536;
const COMPRESSION = /, "compressed": (?:true|false)/g;

describe.skipIf(skipped !== undefined)(`map${skipped === undefined ? '' : ` (${skipped})`}`, () => {
  test('prints the JSON of qemu-img map through a chain of qcow2 over qcow2 over raw', async () => {
    const folder = testDirectory();
    makeRaw(folder, 'base.raw');
    create(folder, 'qcow2', 'middle.qcow2', '-b', 'base.raw', '-F', 'raw');
    change(folder, 'middle.qcow2', 'write -c -P 2 128k 64k', 'write 256k 64k', 'write -z 256k 64k');
    create(folder, 'qcow2', 'top.qcow2', '-b', 'middle.qcow2', '-F', 'qcow2', '4M');
    change(folder, 'top.qcow2', 'write 300k 64k', 'write -z 640k 128k', 'write 3M 1k', 'discard 3M 64k');
    for (const image of ['middle.qcow2', 'top.qcow2']) await expectSameJson(folder, image);
  });

  test('prints the JSON and the table of qemu-img map for QED and for the holes of a raw file', async () => {
    const folder = testDirectory();
    makeRaw(folder, 'base.raw');
    create(folder, 'qed', 'top.qed', '-b', 'base.raw', '-F', 'raw');
    change(folder, 'top.qed', 'write 70k 1k', 'write -z 512k 64k', 'write 800k 200k');
    for (const image of ['top.qed', 'base.raw']) {
      await expectSameJson(folder, image);
      const format = ['-f', image.endsWith('.raw') ? 'raw' : 'qed'];
      const { stdout } = await callCli(folder, 'map', image);
      expect(stdout).toBe(runTool('qemu-img', ['map', ...format, image], folder));
    }
  });

  test('prints the JSON of qemu-img map where clusters have subclusters', async () => {
    const folder = testDirectory();
    makeRaw(folder, 'base.raw');
    const shape = ['-o', 'extended_l2=on'];
    runTool('qemu-img', ['create', '-q', '-f', 'qcow2', ...shape, 'alone.qcow2', '1M'], folder);
    const backing = ['-b', 'base.raw', '-F', 'raw'];
    runTool('qemu-img', ['create', '-q', '-f', 'qcow2', ...shape, ...backing, 'top.qcow2'], folder);
    for (const image of ['alone.qcow2', 'top.qcow2']) {
      const writes = ['write 4k 2k', 'write 62k 4k', 'write 190k 140k', 'write -c 512k 64k'];
      change(folder, image, ...writes, 'write -z 10k 4k', 'write -z 194k 20k', 'write -zu 320k 64k');
      await expectSameJson(folder, image);
    }
  });

  test.each(['0.10', '1.1'])(
    'prints the JSON of qemu-img map after zero-writes, unmapped or not, version %s (qemu-iotests 179)',
    async (compat) => {
      const folder = testDirectory();
      makeRaw(folder, 'base.raw');
      const shape = ['-o', `compat=${compat}`];
      runTool('qemu-img', ['create', '-q', '-f', 'qcow2', ...shape, 'alone.qcow2', '2M'], folder);
      runTool(
        'qemu-img',
        ['create', '-q', '-f', 'qcow2', ...shape, '-b', 'base.raw', '-F', 'raw', 'top.qcow2', '2M'],
        folder,
      );
      const untouched = ['write -z 0 64k', 'write -zu 128k 64k', 'discard 192k 64k'];
      const written = ['write 512k 512k', 'write -z 576k 64k', 'write -zu 704k 64k', 'discard 832k 64k'];
      const again = ['write -zu 576k 64k', 'write -z 704k 64k', 'write -zu 960k 96k'];
      for (const image of ['alone.qcow2', 'top.qcow2']) {
        change(folder, image, ...untouched, ...written, ...again);
        await expectSameJson(folder, image);
      }
    },
  );

  test.each(['cluster_size=65536', 'cluster_size=4096', 'extended_l2=on', 'data_file=disk.data'])(
    'prints the JSON and the table of qemu-img map where data were preallocated, %s',
    async (shape) => {
      const folder = testDirectory();
      const options = ['-o', `preallocation=metadata,${shape}`];
      runTool('qemu-img', ['create', '-q', '-f', 'qcow2', ...options, 'disk.qcow2', '8M'], folder);
      change(folder, 'disk.qcow2', 'write 1M 64k', 'write 3M 1k', 'write -z 4M 64k');
      await expectSameJson(folder, 'disk.qcow2');
      const { stdout } = await callCli(folder, 'map', 'disk.qcow2');
      expect(stdout).toBe(runTool('qemu-img', ['map', 'disk.qcow2'], folder));
    },
  );

  test('prints the JSON of qemu-img map for raw files whose end cuts a sector, alone and below', async () => {
    const folder = testDirectory();
    const end = 1_000_001;
    writeFileSync(join(folder, 'full.raw'), Buffer.alloc(end, 7));
    writeFileSync(join(folder, 'tail.raw'), '');
    truncateSync(join(folder, 'tail.raw'), end - 10);
    writeFileSync(join(folder, 'tail.raw'), Buffer.alloc(10, 7), { flag: 'a' });
    writeFileSync(join(folder, 'hole.raw'), '');
    truncateSync(join(folder, 'hole.raw'), end);
    writeFileSync(join(folder, 'empty.raw'), '');
    for (const base of ['full.raw', 'tail.raw', 'hole.raw', 'empty.raw']) {
      // For an empty disk qemu-img prints an extent of no bytes; we print none.
      if (base !== 'empty.raw') await expectSameJson(folder, base);
      create(folder, 'qcow2', `${base}.qcow2`, '-b', base, '-F', 'raw', '4M');
      change(folder, `${base}.qcow2`, 'write 0 1k', 'write 500k 70k');
      await expectSameJson(folder, `${base}.qcow2`);
    }
  });

  test('says of compressed clusters that the table has no place for them', async () => {
    const folder = testDirectory();
    create(folder, 'qcow2', 'disk.qcow2', '1M');
    change(folder, 'disk.qcow2', 'write -c 0 64k');
    const ended = await callCli(folder, 'map', 'disk.qcow2');
    expect(ended.code).toBe(1);
    expect(errorLine(ended)).toContain('--json');
  });

  test('does not follow a symbolic link out of the allowed directory', async () => {
    const folder = testDirectory();
    mkdirSync(join(folder, 'images'));
    makeRaw(folder, 'secret.raw');
    symlinkSync('../secret.raw', join(folder, 'images', 'innocent.raw'));
    create(folder, 'qcow2', 'images/top.qcow2', '-b', 'innocent.raw', '-F', 'raw');
    const refused = await callCli(folder, 'map', 'images/top.qcow2', '--json');
    expect(refused.code).toBe(1);
    expect(errorLine(refused)).toContain('allowed directory');
    for (const allowed of [['--any-backing'], ['--backing-dir', '.']]) {
      expect((await callCli(folder, 'map', 'images/top.qcow2', '--json', ...allowed)).code).toBe(0);
    }
  });
});

function create(folder: string, format: string, name: string, ...rest: readonly string[]): void {
  runTool('qemu-img', ['create', '-q', '-f', format, ...order(name, rest)], folder);
}

/** The options of a backing file are before the name, a size after it. */
function order(name: string, rest: readonly string[]): readonly string[] {
  return rest[0] === '-b' ? [...rest.slice(0, 4), name, ...rest.slice(4)] : [name, ...rest];
}

function change(folder: string, name: string, ...commands: readonly string[]): void {
  runTool('qemu-io', ['-d', 'unmap', ...commands.flatMap((command) => ['-c', command]), name], folder);
}

function makeRaw(folder: string, name: string): void {
  const path = join(folder, name);
  writeFileSync(path, new Uint8Array(CLUSTER).fill(7));
  truncateSync(path, 16 * CLUSTER);
  runTool('qemu-io', ['-f', 'raw', '-c', 'write 500k 12k', name], folder);
}

async function expectSameJson(folder: string, image: string): Promise<void> {
  const format = image.endsWith('.raw') ? ['-f', 'raw'] : [];
  const theirs = runTool('qemu-img', ['map', '--output=json', ...format, image], folder);
  const { stdout, code } = await callCli(folder, 'map', image, '--json');
  expect(code).toBe(0);
  // 7.2 does not report compression; 10.0 does so of every extent.
  const hasCompression = theirs.includes('"compressed"');
  expect(hasCompression ? stdout : stdout.replaceAll(COMPRESSION, '')).toBe(theirs);
}
