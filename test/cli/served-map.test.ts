/** A served image has the holes that it has under qemu-nbd. */

import { truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import { describe, expect, test } from 'vitest';

import { ioWords, reasonToSkip, runTool } from '../format/system-tools.ts';
import { startQemuNbd } from '../image/qemu-nbd.ts';
import { testDirectory } from '../test-directory.ts';
import { startCli } from './cli-process.ts';

const skip = reasonToSkip('nbdinfo', 'qemu-nbd', 'qemu-img', 'qemu-io');
const MIB = 1024 * 1024;
const WRITES = ['write -P 1 1M 64k', 'write -z 2M 128k', 'write -P 2 3M 1k'];

const IMAGES: readonly (readonly [what: string, format: 'raw' | 'qcow2', make: (folder: string) => void])[] =
  [
    ['a sparse raw file', 'raw', () => undefined],
    ['qcow2 with zero clusters', 'qcow2', (folder) => create(folder)],
    ['qcow2 with subclusters', 'qcow2', (folder) => create(folder, '-o', 'extended_l2=on')],
    ['qcow2 with preallocated data', 'qcow2', (folder) => create(folder, '-o', 'preallocation=metadata')],
    [
      'qcow2 over a sparse raw file',
      'qcow2',
      (folder) => {
        sparse(join(folder, 'base'));
        create(folder, '-b', 'base', '-F', 'raw');
      },
    ],
  ];

describe.skipIf(skip !== undefined)(`holes${skip === undefined ? '' : ` (${skip})`}`, () => {
  test.each(IMAGES)('of %s', async (_, format, make) => {
    const folder = testDirectory();
    if (format === 'raw') sparse(join(folder, 'disk'));
    else make(folder);
    runTool('qemu-io', ioWords(WRITES, 'disk', format), folder);

    const theirs = await startQemuNbd(
      join(folder, 'theirs'),
      ['-e', '2', '-r', '-f', format, 'disk'],
      folder,
    );
    if (typeof theirs === 'string') throw new Error(theirs);
    const expected = mapOf(folder, 'theirs');
    await theirs.end();

    const served = ['--image', 'disk', '--format', format, '--socket', 'ours', '--read-only'];
    const ours = startCli(folder, 'serve', ...served);
    await new Promise((resolve) => ours.process.stdout?.once('data', resolve));
    const found = mapOf(folder, 'ours');
    ours.process.kill('SIGTERM');
    await ours.ended;
    expect(found).toEqual(expected);
  });
});

function create(folder: string, ...words: readonly string[]): void {
  runTool('qemu-img', ['create', '-q', '-f', 'qcow2', ...words, 'disk', '8M'], folder);
}

function sparse(path: string): void {
  writeFileSync(path, Buffer.alloc(MIB / 2, 7));
  truncateSync(path, 8 * MIB);
}

function mapOf(folder: string, socket: string): unknown {
  const uri = `nbd+unix:///?socket=${join(folder, socket)}`;
  return JSON.parse(runTool('nbdinfo', ['--map', '--json', uri]));
}
