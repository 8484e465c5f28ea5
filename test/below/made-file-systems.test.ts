/** File systems on loop devices: what is counted below them, and that nothing of them is left. */

import {
  closeSync,
  constants,
  fdatasyncSync,
  mkdirSync,
  openSync,
  readFileSync,
  readdirSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { describe, expect, test, vi } from 'vitest';

import { MadeFileSystems } from '../../src/below/made-file-systems.ts';
import type { MadeFileSystem } from '../../src/bench/host-file-system.ts';
import { HOST_FILE_SYSTEMS } from '../../src/device/file-system-kinds.ts';
import { FileStorage } from '../../src/device/file-storage.ts';
import { reasonToSkip, runTool } from '../format/system-tools.ts';
import { testDirectory } from '../test-directory.ts';
import { reasonWithout, reasonWithoutTrace } from './root-guard.ts';

const folder = testDirectory();
const GIB = 1024 ** 3;
const WRITES = 50;
const INSTANCES = '/sys/kernel/tracing/instances';

const kinds = await Promise.all(
  HOST_FILE_SYSTEMS.map(async (kind) => ({ kind, reason: await reasonWithout(kind, folder) })),
);

const noTrace = kinds.find(({ kind }) => kind === 'ext4')?.reason ?? (await reasonWithoutTrace(folder));

/** Overwrites 4 KiB so many times, each made durable. */
function overwrite(path: string): void {
  const fd = openSync(path, constants.O_RDWR);
  for (let block = 0; block < WRITES; block++) {
    writeSync(fd, new Uint8Array(4096).fill(block), 0, 4096, 8192 * block);
    fdatasyncSync(fd);
  }
  closeSync(fd);
}

async function filled({ storage }: MadeFileSystem, name: string): Promise<string> {
  const device = storage.create(name);
  await device.write(0, new Uint8Array(8192 * WRITES).fill(7), 'data');
  await device.sync('guest-flush');
  await device.close();
  return storage instanceof FileStorage ? storage.pathOf(name) : '';
}

function loopsOf(directory: string): readonly string[] {
  return readdirSync('/sys/block').filter((name) => {
    try {
      return readFileSync(`/sys/block/${name}/loop/backing_file`, 'utf8').startsWith(directory);
    } catch {
      return false;
    }
  });
}

async function soon(isTrue: () => boolean): Promise<void> {
  await vi.waitFor(() => expect(isTrue()).toBe(true), { timeout: 10_000 });
}

describe.each(kinds)('$kind', ({ kind, reason }) => {
  const title = reason === undefined ? '' : ` (${reason})`;

  test.skipIf(reason !== undefined)(
    `counts what synced overwrites cost the device below${title}`,
    async () => {
      const made = await MadeFileSystems.tried([kind], { directory: folder, isTraced: false });
      await using place = await made.make(kind, { bytes: GIB });
      const path = await filled(place, 'disk');
      const watch = place.watch(['disk', 'no-such-file']);
      await watch.begin();
      overwrite(path);
      const counts = await watch.end();
      expect(counts.writes).toBeGreaterThanOrEqual(WRITES);
      expect(counts.writeBytes).toBeGreaterThanOrEqual(WRITES * 4096);
      expect(counts.flushes).toBeGreaterThanOrEqual(WRITES);
      // A copy on write moves what is overwritten; in place nothing moves.
      if (kind === 'btrfs') expect(counts.fragmentsAfter).toBeGreaterThan(counts.fragmentsBefore + WRITES);
      else expect(counts.fragmentsAfter).toBeLessThanOrEqual(counts.fragmentsBefore + 1);
      if (reasonToSkip('filefrag') === undefined) {
        const [, counted] = /: (\d+) extents? found/.exec(runTool('filefrag', [path])) ?? [];
        expect(counts.fragmentsAfter).toBe(Number(counted));
      }
      await watch.begin();
      const idle = await watch.end();
      expect(idle).toMatchObject({ flushes: 0, reads: 0 });
    },
  );

  test.skipIf(reason !== undefined)(`is seen by this process alone, and leaves nothing${title}`, async () => {
    const made = await MadeFileSystems.tried([kind], { directory: folder, isTraced: false });
    const place = await made.make(kind, { bytes: GIB });
    const path = await filled(place, 'disk');
    const mountPoint = path.slice(0, -'/disk'.length);
    expect(readFileSync('/proc/self/mounts', 'utf8')).toContain(` ${mountPoint} `);
    expect(readFileSync(`/proc/${String(process.ppid)}/mounts`, 'utf8')).not.toContain(` ${mountPoint} `);
    // The file under the device has no name from the start.
    expect(readdirSync(folder)).toEqual([]);
    expect(loopsOf(folder)).toHaveLength(1);
    await place[Symbol.asyncDispose]();
    expect(readFileSync('/proc/self/mounts', 'utf8')).not.toContain(` ${mountPoint} `);
    await soon(() => loopsOf(folder).length === 0);
    expect(readdirSync(tmpdir()).map((name) => join(tmpdir(), name))).not.toContain(mountPoint);
  });
});

describe('a trace of the requests', () => {
  const title = noTrace === undefined ? '' : ` (${noTrace})`;

  test.skipIf(noTrace !== undefined)(`counts seeks, and leaves no instance of tracefs${title}`, async () => {
    const made = await MadeFileSystems.tried(['ext4'], { directory: folder, isTraced: true });
    const place = await made.make('ext4', { bytes: GIB });
    const path = await filled(place, 'disk');
    const watch = place.watch(['disk']);
    await watch.begin();
    expect(instances()).toHaveLength(1);
    // Every second block: the head moves for each.
    overwrite(path);
    const { seeks = 0, writes, reads } = await watch.end();
    expect(seeks).toBeGreaterThanOrEqual(WRITES - 1);
    expect(seeks).toBeLessThanOrEqual(writes + reads);
    await place[Symbol.asyncDispose]();
    expect(instances()).toEqual([]);
  });

  test.skipIf(noTrace !== undefined)(`of a killed process is removed by the next one${title}`, async () => {
    const made = await MadeFileSystems.tried(['ext4'], { directory: folder, isTraced: true });
    mkdirSync(join(INSTANCES, 'qcow2-bench-0'));
    await using place = await made.make('ext4', { bytes: GIB });
    await place.watch([]).begin();
    expect(instances()).toHaveLength(1);
    expect(instances()).not.toContain('qcow2-bench-0');
  });
});

function instances(): readonly string[] {
  return readdirSync(INSTANCES).filter((name) => name.startsWith('qcow2-bench-'));
}

test('without root the reason is said, and nothing is tried', async () => {
  const user = vi.spyOn(process, 'getuid').mockReturnValue(1000);
  try {
    const made = await MadeFileSystems.tried(['ext4', 'btrfs'], { directory: folder, isTraced: false });
    expect(made.unsupportedReason('ext4', 0)).toBe('file systems on loop devices need root');
  } finally {
    user.mockRestore();
  }
});

test('a disk for which there is no room is refused with the sizes', async () => {
  const made = await MadeFileSystems.tried([], { directory: folder, isTraced: false });
  const reason = made.unsupportedReason('ext4', 2 ** 50);
  expect(reason).toMatch(/^a file system for this disk may take 1 PiB, and .* has .* free$/);
});
