/** `run --host-fs` as a user starts it, and what is left when it is killed: nothing. */

import { readFileSync, readdirSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';

import { expect, test, vi } from 'vitest';

import { EXIT } from '../../src/cli/terminal/exit-code.ts';
import type { ResultRecord } from '../../src/result/schema.ts';
import { runCli, startCli } from '../cli/cli-process.ts';
import { testDirectory } from '../test-directory.ts';
import { reasonWithout } from './root-guard.ts';

const folder = testDirectory();
const reason = await reasonWithout('ext4', folder);
const title = reason === undefined ? '' : ` (${reason})`;
const WORDS = ['run', '--workload', 'stride', '--format', 'raw,qcow2', '--refcounts', 'eager'];
const CELLS = [...WORDS, '--cache', 'writethrough', '--host-fs', 'ext4', '--dir', '.', '--warmup', '0'];

/** Backing files of all loop devices, and mounts, that lead here. */
function traces(): readonly string[] {
  const loops = readdirSync('/sys/block').flatMap((name) => {
    try {
      return [readFileSync(`/sys/block/${name}/loop/backing_file`, 'utf8')];
    } catch {
      return [];
    }
  });
  const mounts = readFileSync('/proc/self/mounts', 'utf8').split('\n');
  return [...loops, ...mounts].filter((line) => line.includes(folder));
}

test.skipIf(reason !== undefined)(
  `what reaches the device is in the result and in the summary${title}`,
  { timeout: 120_000 },
  async () => {
    const words = [...CELLS, '--samples', '2', '--requests', '20', '--out', 'r.json'];
    const { code, stdout, stderr } = await runCli(folder, ...words);
    expect(code, stderr).toBe(EXIT.good);
    expect(stderr).toContain('times there are of a loop device, not of a disk');
    expect(stdout).toMatch(/^stride +raw, writethrough +ext4 +\d\.\d\d +\d+\.\d\d +[\d,]+ +\d+$/m);
    const { cells } = JSON.parse(readFileSync(join(folder, 'r.json'), 'utf8')) as ResultRecord;
    for (const { cell, hostFileSystem, timings } of cells) {
      expect(cell.hostFs).toBe('ext4');
      expect(hostFileSystem?.type).toBe('ext4');
      expect(hostFileSystem?.madeBy).toMatch(/^mkfs\.ext4 /);
      expect(hostFileSystem?.mountOptions).toContain('noinit_itable');
      expect(timings).toHaveLength(2);
      // Each write is synced: each makes the device flush.
      for (const { below } of timings) expect(below?.flushes).toBeGreaterThanOrEqual(20);
    }
    const [raw, qcow2] = cells.map(({ timings }) => timings[0]?.below?.flushes ?? 0);
    expect(qcow2).toBeGreaterThan(raw ?? 0);
    expect(traces()).toEqual([]);
  },
);

test.skipIf(reason !== undefined).each(['SIGINT', 'SIGKILL'] as const)(
  `%s leaves no mount, no loop device and no file${title}`,
  { timeout: 120_000 },
  async (signal) => {
    const started = startCli(folder, ...CELLS, '--samples', '50');
    await started.said('timing, round 1');
    await vi.waitFor(() => expect(traces()).not.toEqual([]), { timeout: 30_000, interval: 5 });
    await delay(50);
    started.process.kill(signal);
    await started.ended;
    await vi.waitFor(() => expect(traces()).toEqual([]), { timeout: 10_000 });
    expect(readdirSync(folder).filter((name) => name.startsWith('.'))).toEqual([]);
    // The next start removes the empty directory of a mount.
    const before = leftDirectories(started.process.pid);
    if (signal === 'SIGINT') expect(before).toEqual([]);
    await runCli(folder, ...CELLS, '--samples', '1', '--requests', '1');
    expect(leftDirectories(started.process.pid)).toEqual([]);
  },
);

/** Temporary directories of a process. */
function leftDirectories(pid: number | undefined): readonly string[] {
  return readdirSync(tmpdir()).filter((name) => name.includes(`-${String(pid)}-`));
}

test.skipIf(reason !== undefined)(
  `two runs at once do not touch each other's${title}`,
  { timeout: 120_000 },
  async () => {
    const words = [...CELLS, '--samples', '3', '--requests', '50'];
    const ended = await Promise.all([runCli(folder, ...words), runCli(folder, ...words)]);
    for (const { code, stderr } of ended) expect(code, stderr).toBe(EXIT.good);
    expect(traces()).toEqual([]);
  },
);

test.each([
  [['--samples', '0'], '--host-fs counts below the file system in timing samples: omit --samples 0'],
  [['--device', 'memory'], '--host-fs needs the engine builtin and the device file'],
  [['--image', 'x.qcow2'], '--host-fs makes new images on file systems of its own: omit --image'],
])('%s is a usage error', async (words, message) => {
  const { code, stderr } = await runCli(folder, ...CELLS, ...words);
  expect(code).toBe(EXIT.usage);
  expect(stderr).toContain(message);
});
