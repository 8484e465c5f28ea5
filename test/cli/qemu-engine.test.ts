/** `--engine qemu` as a user meets it: the verdict in the answer, the record and the exit code. */

import { spawnSync } from 'node:child_process';
import { chmodSync, mkdirSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import { describe, expect, onTestFinished, test, vi } from 'vitest';

import { parseResult } from '../../src/result/store.ts';
import { WORKLOAD_SCHEMA } from '../../src/workload/schema.ts';
import { STRIDE, WRITES } from '../bench/small-run.ts';
import { reasonToSkip } from '../format/system-tools.ts';
import { errorLine, linesOf, makeFolder, runCli, startCli } from './cli-process.ts';

const WORDS = 'run --workload small.json --cache writethrough --samples 0 --engine builtin,qemu';

/** A directory with a "build" of QEMU: the installed one in a cache mode of its own choice. */
function otherBuild(folder: string, version: string): string {
  const directory = join(folder, 'build');
  mkdirSync(directory);
  const program = join(directory, 'qemu-io');
  const real = spawnSync('sh', ['-c', 'command -v qemu-io'], { encoding: 'utf8' }).stdout.trim();
  const lines = [
    '#!/bin/sh',
    `if [ "$1" = --version ]; then echo "qemu-io version ${version} (other)"; exit; fi`,
    'shift 2',
    `exec ${real} -t writeback "$@"`,
  ];
  writeFileSync(program, `${lines.join('\n')}\n`);
  chmodSync(program, 0o755);
  return directory;
}

/** Command lines of programs that work on files in `folder`, this test's own apart. */
function processesIn(folder: string): readonly string[] {
  return readdirSync('/proc').flatMap((entry) => {
    if (!/^\d+$/.test(entry)) return [];
    try {
      const line = readFileSync(`/proc/${entry}/cmdline`, 'latin1').replaceAll('\0', ' ');
      return /qemu-io|strace/.test(line) && line.includes(folder) ? [line] : [];
    } catch {
      return []; // It has ended.
    }
  });
}

/** A folder with a workload on a disk so small that it is compared in no time. */
function folderWithWorkload(mix: Readonly<Record<string, number>> = WRITES.mix): string {
  const folder = makeFolder();
  const workload = {
    schema: WORKLOAD_SCHEMA,
    name: 'small',
    title: 'Small',
    description: 'One write in each of a few clusters.',
    image: { size: '4MiB' },
    phases: [{ name: 'run', requests: 5, ...WRITES, mix, pattern: STRIDE }],
  };
  writeFileSync(join(folder, 'small.json'), JSON.stringify(workload));
  return folder;
}

describe.skipIf(reasonToSkip('qemu-io', 'strace') !== undefined)('--engine builtin,qemu', () => {
  test('says of each cell that it is identical, and keeps the verdict with the version', async () => {
    const folder = folderWithWorkload();
    const ended = await runCli(folder, ...`${WORDS} --format raw,qcow2 --out result.json`.split(' '));
    expect(ended.code).toBe(0);
    const told = linesOf(ended.stdout).filter((line) => line.includes('parity'));
    expect(told).toHaveLength(3);
    for (const line of told) expect(line).toMatch(/qemu: parity: identical \(\d+ operations\)$/);
    const result = parseResult(readFileSync(join(folder, 'result.json'), 'utf8'));
    const { qemu } = result.environment;
    expect(qemu).toMatch(/^\d+\.\d+/);
    for (const { cell, parity } of result.cells) {
      expect(parity?.qemu).toBe(cell.engine === 'qemu' ? qemu : undefined);
    }
  });

  test('--discard ignore holds for both engines, and stands in the cells', async () => {
    const folder = folderWithWorkload({ discard: 1, writeZeroes: 1, write: 1 });
    const words = `${WORDS} --format raw,qcow2 --refcounts eager --discard`;
    const holes = async (mode: string): Promise<readonly number[]> => {
      const ended = await runCli(folder, ...`${words} ${mode} --out ${mode}.json`.split(' '));
      expect(ended.code).toBe(0);
      expect(ended.stdout.match(/parity: identical/g)).toHaveLength(2);
      const { cells } = parseResult(readFileSync(join(folder, `${mode}.json`), 'utf8'));
      for (const { cell } of cells) expect(cell.discard).toBe(mode === 'ignore' ? mode : undefined);
      return cells.map(({ counts }) => counts?.run.punchHoles.ops ?? -1);
    };
    const [served, dropped] = [await holes('unmap'), await holes('ignore')];
    expect(Math.max(...served)).toBeGreaterThan(0);
    expect(Math.max(...dropped)).toBe(0);
  });

  test.each([
    ['7.2.99', 3],
    ['9.1.0', 0],
  ])('a build of %s that does other things is shown, with exit code %i', async (version, code) => {
    const folder = folderWithWorkload();
    const build = otherBuild(folder, version);
    const ended = await runCli(folder, ...`${WORDS} --format raw --qemu-bin-dir ${build}`.split(' '));
    expect(ended.code).toBe(code);
    expect(ended.stdout).toContain(`parity: different from QEMU ${version}`);
    expect(ended.stdout).toMatch(/^ {2}> +1 +F +W 0x10000 4096$/m);
    if (code !== 0) expect(errorLine(ended)).toContain('differs from QEMU in 1 cell');
  });

  test('Ctrl-C ends QEMU with the program: no process and no file is left', async () => {
    const folder = folderWithWorkload();
    const workload = JSON.parse(readFileSync(join(folder, 'small.json'), 'utf8')) as { phases: object[] };
    // Minutes of syncs, so that the signal meets qemu-io at work.
    workload.phases = [{ name: 'run', requests: 200_000, ...WRITES, pattern: STRIDE }];
    writeFileSync(join(folder, 'small.json'), JSON.stringify(workload));
    const words =
      'run --workload small.json --cache writethrough --samples 0 --engine qemu --format raw --dir .';
    const started = startCli(folder, ...words.split(' '));
    onTestFinished(() => void started.process.kill('SIGKILL'));
    await vi.waitUntil(() => processesIn(folder).length > 0, { timeout: 30_000, interval: 20 });
    started.process.kill('SIGINT');
    expect(await started.ended).toMatchObject({ code: 130 });
    await vi.waitUntil(() => processesIn(folder).length === 0, { timeout: 10_000, interval: 20 });
    expect(readdirSync(folder)).toEqual(['small.json']);
  });

  test('a recording with every kind of request is replayed by both, alike', async () => {
    const folder = makeFolder();
    const requests = [
      'write,0,131072,',
      'write,66048,4096,fua',
      'discard,0,65536,',
      'write-zeroes,131072,65536,unmap',
      'write-zeroes,67072,1024,fua',
      'read,0,262144,',
      'flush,,,',
      'write,0,512,',
    ];
    const lines = requests.map((request, index) => `${String(index * 1000)},${request}`);
    const head = ['#qcow2-bench trace v1', '#virtual-size 1048576', 'time_ns,op,offset,length,flags'];
    writeFileSync(join(folder, 'all.trace.csv'), `${[...head, ...lines].join('\n')}\n`);
    const words = 'replay all.trace.csv --format raw,qcow2,qed --cache writeback,directsync --samples 0';
    const ended = await runCli(folder, ...`${words} --engine builtin,qemu`.split(' '));
    expect(ended.stderr).not.toContain('differs');
    const told = linesOf(ended.stdout).filter((line) => line.includes('parity'));
    expect(told).toHaveLength(8);
    for (const line of told) expect(line).toMatch(/parity: identical \(\d+ operations\)$/);
    expect(ended.code).toBe(0);
  });

  test('a directory without QEMU skips its cells and says why', async () => {
    const ended = await runCli(folderWithWorkload(), ...`${WORDS} --format raw --qemu-bin-dir .`.split(' '));
    expect(ended.code).toBe(0);
    expect(ended.stdout).toContain('skipped: there is no program qemu-io in .');
  });
});
