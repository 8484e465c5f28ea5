/** `--engine qemu` as a user meets it: the verdict in the answer, the record and the exit code. */

import { spawnSync } from 'node:child_process';
import { chmodSync, mkdirSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import { describe, expect, onTestFinished, test, vi } from 'vitest';

import { parseResult } from '../../src/result/store.ts';
import { WORKLOAD_SCHEMA } from '../../src/workload/schema.ts';
import { STRIDE, WRITES } from '../bench/small-run.ts';
import { reasonToSkip } from '../format/system-tools.ts';
import { testDirectory } from '../test-directory.ts';
import { callCli } from './call-cli.ts';
import { errorLine, linesOf, startCli } from './cli-process.ts';

const WORDS = 'run --workload small.json --cache writethrough --samples 0 --engine builtin,qemu';

/** A directory with a "build" of QEMU that is a script; `$QEMU_IO` in it is the installed one. */
function scriptedBuild(folder: string, version: string, lines: readonly string[], name = 'build'): string {
  const directory = join(folder, name);
  mkdirSync(directory);
  const program = join(directory, 'qemu-io');
  const real = spawnSync('sh', ['-c', 'command -v qemu-io'], { encoding: 'utf8' }).stdout.trim();
  const head = [
    '#!/bin/sh',
    `QEMU_IO=${real}`,
    `if [ "$1" = --version ]; then echo "qemu-io version ${version} (other)"; exit; fi`,
    // What reads the disk afterwards is the installed one, unless the lines say otherwise.
    'for LAST; do :; done',
  ];
  writeFileSync(program, `${[...head, ...lines].join('\n')}\n`);
  chmodSync(program, 0o755);
  return directory;
}

/** The installed QEMU in a cache mode of its own choice. */
function otherBuild(folder: string, version: string): string {
  const lines = ['[ "$1" = -r ] && exec $QEMU_IO "$@"', 'shift 2', 'exec $QEMU_IO -t writeback "$@"'];
  return scriptedBuild(folder, version, lines);
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
  const folder = testDirectory();
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
    const ended = await callCli(folder, ...`${WORDS} --format raw,qcow2 --out result.json`.split(' '));
    expect(ended.code).toBe(0);
    const told = linesOf(ended.stdout).filter((line) => /parity/i.test(line));
    expect(told).toHaveLength(1);
    expect(told[0]).toMatch(/^Parity: 3 of 3 cells identical to QEMU [\d.]+ \(\d+ operations\)\.$/);
    const result = parseResult(readFileSync(join(folder, 'result.json'), 'utf8'));
    const { qemu } = result.environment;
    expect(qemu).toMatch(/^\d+\.\d+/);
    for (const { cell, parity } of result.cells) {
      expect(parity?.qemu).toBe(cell.engine === 'qemu' ? qemu : undefined);
    }
  });

  test('--discard ignore holds for both engines, and is in the cells', async () => {
    const folder = folderWithWorkload({ discard: 1, writeZeroes: 1, write: 1 });
    const words = `${WORDS} --format raw,qcow2 --refcounts eager --discard`;
    const holes = async (mode: string): Promise<readonly number[]> => {
      const ended = await callCli(folder, ...`${words} ${mode} --out ${mode}.json`.split(' '));
      expect(ended.code).toBe(0);
      expect(ended.stdout).toContain('Parity: 2 of 2 cells identical to QEMU');
      const { cells } = parseResult(readFileSync(join(folder, `${mode}.json`), 'utf8'));
      for (const { cell } of cells) expect(cell.discard).toBe(mode === 'ignore' ? mode : undefined);
      return cells.map(({ counts }) => counts?.run.punchHoles.ops ?? -1);
    };
    const [served, dropped] = [await holes('unmap'), await holes('ignore')];
    expect(Math.max(...served)).toBeGreaterThan(0);
    expect(Math.max(...dropped)).toBe(0);
  });

  test('--discard-no-unref holds for both engines, where QEMU has it', async () => {
    const folder = folderWithWorkload({ discard: 3, writeZeroes: 1, write: 1 });
    const words = `${WORDS} --format qcow2 --refcounts eager,lazy --discard-no-unref on --out kept.json`;
    const ended = await callCli(folder, ...words.split(' '));
    if (ended.code === 2) {
      expect(errorLine(ended)).toContain('qemu-7.2 has no discard-no-unref');
      return;
    }
    expect(ended.stdout).toContain('Parity: 2 of 2 cells identical to QEMU');
    const { cells } = parseResult(readFileSync(join(folder, 'kept.json'), 'utf8'));
    for (const { cell } of cells) expect(cell.discardNoUnref).toBe(true);
  });

  test.each([
    ['7.2.99', 3],
    ['10.0.99', 3],
    ['9.1.0', 0],
  ])('a build of %s that does other things is shown, with exit code %i', async (version, code) => {
    const folder = folderWithWorkload();
    const build = otherBuild(folder, version);
    const ended = await callCli(folder, ...`${WORDS} --format raw --qemu-bin-dir ${build}`.split(' '));
    expect(ended.code).toBe(code);
    expect(ended.stdout).toContain(`parity: different from QEMU ${version}`);
    expect(ended.stdout).toMatch(/^ {2}> +1 +F +W 0x10000 4096$/m);
    if (code !== 0) expect(errorLine(ended)).toContain('differs from QEMU in 1 cell');
  });

  test('two builds of one version are cells of one run, compared by cause and request', async () => {
    const folder = folderWithWorkload();
    const other = otherBuild(folder, '7.2.99');
    const same = scriptedBuild(folder, '7.2.99', ['exec $QEMU_IO "$@"'], 'same');
    const words = `${WORDS} --engine qemu --format raw --qemu-bin-dir ${same},${other} --out two.json`;
    const ended = await callCli(folder, ...words.split(' '));
    expect(ended.code, ended.stderr).toBe(3);
    expect(ended.stdout).toContain(`A  QEMU 7.2.99 in ${same}`);
    expect(ended.stdout).toContain('Counts: 1 of 1 cell changed, by one cause; 0 unchanged.');
    expect(ended.stdout).toMatch(/first: request \d+: write data, sync [\w-]+ → write data$/m);
    const { cells, environment } = parseResult(readFileSync(join(folder, 'two.json'), 'utf8'));
    expect(cells.map(({ cell }) => cell.qemuBuild)).toEqual([`7.2.99 in ${same}`, `7.2.99 in ${other}`]);
    expect(environment.qemu).toBe('7.2.99');
    const split = await callCli(folder, 'compare', 'two.json', '--by', 'qemuBuild');
    expect(split.stdout).toContain('Counts: 1 of 1 cell changed, by one cause');
  });

  test.each([
    {
      what: 'other data are written: both the file and the disk are reported',
      lines: [
        '[ "$1" = -r ] && exec $QEMU_IO "$@"',
        'sed "s/write -q -P 3 /write -q -P 200 /" | $QEMU_IO "$@"',
      ],
      told: [
        /the images end with different bytes, first at 0x70000 \(data of guest offset 0x20000\)/,
        /the guest then reads 0x03 from ours, 0xc8 from QEMU at guest offset 0x20000/,
      ],
      traced: false,
    },
    {
      what: 'the same bytes are read otherwise: the disk is reported',
      lines: [
        `[ "$1" = -r ] && printf '\\011' | dd of="$LAST" bs=1 seek=$((0x50801)) conv=notrunc status=none`,
        'exec $QEMU_IO "$@"',
      ],
      told: [/the guest then reads 0x01 from ours, 0x09 from QEMU at guest offset 0x801/],
      traced: true,
    },
  ])('a build where $what', async ({ lines, told, traced }) => {
    const folder = folderWithWorkload();
    const build = scriptedBuild(folder, '7.2.99', lines);
    const words = `${WORDS} --format qcow2 --refcounts eager --qemu-bin-dir ${build} --out result.json`;
    const ended = await callCli(folder, ...words.split(' '));
    expect(ended.stdout).toMatch(/parity: different from\s+QEMU 7\.2\.99/);
    for (const words of told) expect(ended.stdout).toMatch(words);
    expect(ended.code).toBe(3);
    const { cells } = parseResult(readFileSync(join(folder, 'result.json'), 'utf8'));
    const parity = cells.find(({ cell }) => cell.engine === 'qemu')?.parity;
    expect(parity).toMatchObject({ guestData: 'different', finalBytes: traced ? 'identical' : 'different' });
  });

  test('a read that gives other bytes is reported with its place', async () => {
    const folder = folderWithWorkload({ read: 1 });
    const lines = [
      '[ "$1" = -r ] && exec $QEMU_IO "$@"',
      'sed "s/read -q -P 0/read -q -P 1/" | $QEMU_IO "$@"',
    ];
    const build = scriptedBuild(folder, '7.2.99', lines);
    const ended = await callCli(folder, ...`${WORDS} --format raw --qemu-bin-dir ${build}`.split(' '));
    expect(ended.stdout).toMatch(
      /a read by QEMU returned different bytes than ours within the 4096 at guest offset 0x0/,
    );
    expect(ended.code).toBe(3);
  });

  const ZEROED = { name: 'zero', requests: 4, mix: { writeZeroes: 1 }, blockSizes: [{ size: '64KiB' }] };
  const SEQUENTIAL = { pattern: { kind: 'sequential' } };
  test.each([
    { where: 'in the image', after: [], guestReads: false },
    {
      where: 'in a read alone, as all was written over later',
      after: [
        { name: 'read', requests: 4, mix: { read: 1 }, blockSizes: [{ size: '64KiB' }], ...SEQUENTIAL },
        { name: 'over', requests: 4, blockSizes: [{ size: '64KiB' }], ...SEQUENTIAL },
      ],
      guestReads: true,
    },
  ])('zeroes that QEMU loses over a backing file of QED are named $where, and no failure', async (lost) => {
    const folder = folderWithWorkload();
    const workload = JSON.parse(readFileSync(join(folder, 'small.json'), 'utf8')) as Record<string, object>;
    const fill = [{ name: 'fill', bytes: '1MiB', blockSizes: [{ size: '64KiB' }], ...SEQUENTIAL }];
    workload['image'] = { size: '4MiB', backing: { format: 'raw', fill } };
    const part = { name: 'part', requests: 4, ...WRITES, pattern: STRIDE };
    workload['phases'] = [{ ...ZEROED, ...SEQUENTIAL }, part, ...lost.after];
    writeFileSync(join(folder, 'small.json'), JSON.stringify(workload));
    const ended = await callCli(folder, ...`${WORDS} --format qed --out result.json`.split(' '));
    expect(ended.stdout).toContain('(qed-zero-over-backing in docs/qemu-rules.md)');
    expect(ended.stdout.includes('a read by QEMU returned different bytes')).toBe(lost.guestReads);
    expect(ended.code).toBe(0);
    const { cells } = parseResult(readFileSync(join(folder, 'result.json'), 'utf8'));
    expect(cells.find(({ cell }) => cell.engine === 'qemu')?.parity).toMatchObject({
      verdict: 'different',
      finalBytes: lost.guestReads ? 'identical' : 'different',
      exceptions: ['qed-zero-over-backing'],
    });
  });

  test.each([
    { entries: 'L2 entries', layout: '' },
    // What a subcluster needs as fill may end between two of those 4 KiB.
    { entries: 'extended L2 entries', layout: ' --extended-l2' },
  ])(
    'a data file that begins with a hole, $entries: both pad O_DIRECT requests to 4 KiB',
    async ({ layout }) => {
      const folder = folderWithWorkload();
      const workload = JSON.parse(readFileSync(join(folder, 'small.json'), 'utf8')) as Record<string, object>;
      // The disk cuts its last cluster off: qemu-img then leaves the data file without a first
      // block, and so do we.
      workload['image'] = { size: 1_266_688 };
      const pattern = { kind: 'uniform', alignment: 512 };
      workload['phases'] = [
        {
          name: 'part',
          requests: 60,
          mix: { write: 2, writeZeroes: 1, read: 1 },
          blockSizes: [{ size: 1024 }, { size: 12_800 }],
          pattern,
        },
      ];
      writeFileSync(join(folder, 'small.json'), JSON.stringify(workload));
      const words =
        'run --workload small.json --samples 0 --engine builtin,qemu --dir . --out result.json --format qcow2';
      const cell = `--refcounts eager --cache none --data-file raw${layout}`;
      const ended = await callCli(folder, ...`${words} ${cell}`.split(' '));
      expect(ended.stdout).toContain('Parity: 1 of 1 cell identical');
      expect(ended.code).toBe(0);
      const { cells } = parseResult(readFileSync(join(folder, 'result.json'), 'utf8'));
      expect(cells.find(({ cell }) => cell.engine === 'qemu')?.parity).toMatchObject({
        verdict: 'identical',
      });
    },
  );

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
    const folder = testDirectory();
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
    const ended = await callCli(folder, ...`${words} --engine builtin,qemu`.split(' '));
    expect(ended.stderr).not.toContain('differs');
    expect(ended.stdout).toContain('Parity: 8 of 8 cells identical to QEMU');
    expect(ended.stdout).not.toContain('runs of QEMU differ');
    expect(ended.code).toBe(0);
  });

  test('a named directory without QEMU ends the run before it begins', async () => {
    const ended = await callCli(folderWithWorkload(), ...`${WORDS} --format raw --qemu-bin-dir .`.split(' '));
    expect(ended.code).toBe(1);
    expect(errorLine(ended)).toMatch(/qemu-io not found in \.: give the directory .*\[peer-missing\]/);
    expect(ended.stdout).toBe('');
  });
});
