/** `crash` from the command line: threads, suites, and options that it hands on. */

import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import { expect, test } from 'vitest';

import { caseOf } from '../../src/crash/crash-case.ts';
import { epochsOf } from '../../src/crash/epochs.ts';
import { FaultInjector } from '../../src/crash/faults.ts';
import { recordCell } from '../../src/crash/record-cell.ts';
import { smallPlan } from '../crash/small-recording.ts';
import { testDirectory } from '../test-directory.ts';
import { callCli } from './call-cli.ts';
import { TINY } from './tiny-workload.ts';

test('threads find what one finds, in the same order', async () => {
  const folder = testDirectory();
  writeFileSync(join(folder, 'tiny.json'), JSON.stringify(TINY));
  const explored = async (jobs: string): Promise<unknown> => {
    const words = [
      '--workload',
      'tiny.json',
      '--requests',
      '6',
      '--states',
      '30',
      '--cache',
      'writeback,unsafe',
    ];
    const { stdout, code } = await callCli(folder, 'crash', ...words, '--json', '--jobs', jobs);
    expect(code).toBe(0);
    return JSON.parse(stdout, (key, value: unknown) => (/seconds/i.test(key) ? undefined : value));
  };
  const alone = await explored('1');
  expect(alone).toMatchObject({ cells: { length: 8 } });
  expect(await explored('3')).toEqual(alone);
});

test('the options of opening an image reach the cells', async () => {
  const folder = testDirectory();
  writeFileSync(join(folder, 'tiny.json'), JSON.stringify(TINY));
  const words = ['--workload', 'tiny.json', '--states', '1', '--cache', 'writeback', '--refcounts', 'lazy'];
  const opening = ['--discard', 'ignore', '--discard-no-unref', 'off,on', '--l2-cache-size', '128KiB'];
  const { stdout } = await callCli(folder, 'crash', ...words, '--format', 'qcow2', ...opening, '--json');
  const common = { discard: 'ignore', caches: { l2CacheSize: 131_072 } };
  expect(JSON.parse(stdout)).toMatchObject({
    cells: [{ cell: common }, { cell: { ...common, discardNoUnref: true } }],
  });
});

test('each host operation fails in turn, and a case with a fault runs again', async () => {
  const folder = testDirectory();
  writeFileSync(join(folder, 'tiny.json'), JSON.stringify(TINY));
  const words = ['--workload', 'tiny.json', '--requests', '3', '--states', '4', '--cache', 'writeback'];
  const { code, stdout } = await callCli(folder, 'crash', ...words, '--format', 'raw', '--faults');
  expect(code).toBe(0);
  // Three faults of each write, and those of the close.
  expect(stdout).toMatch(/Bad faults\n.* 0 of 10\n/);
  expect(stdout).toContain('10 faults, 10 of them errors of a request, the opening or the close');

  const { plan } = await smallPlan({ format: 'raw', cache: 'writeback' });
  const request = { offset: 0, length: 4096, fua: false, unmap: false, timeNs: 0 };
  const requests = [
    { ...request, op: 'write' },
    { ...request, op: 'flush', length: 0 },
  ] as const;
  const fault = { kind: 'failed-sync', part: 1, nth: 0 } as const;
  const recording = await recordCell(plan, { requests, inject: new FaultInjector(fault) });
  const last = [...epochsOf(recording)].at(-1);
  const fates = last?.pending.map(() => ({ kept: true, sizeKept: true, tear: undefined })) ?? [];
  const state = { crashes: [{ of: 'run', epoch: last?.number ?? 0, fates }], findings: [] } as const;
  const file = caseOf(plan, { requests, recording, state }, { what: 'nothing', timeline: [], fault });
  writeFileSync(join(folder, 'case.json'), JSON.stringify(file));
  const again = await callCli(folder, 'crash', '--reproduce', 'case.json');
  expect(again.code).toBe(0);
  expect(again.stdout).toContain('EIO of a sync, operation 0 of request 1');
  expect(again.stdout).toContain('FAILED  sync (guest-flush)');
  expect(again.stdout).not.toContain('request 1 is answered');
});

test('what lazy refcounts save and what a crash costs them is printed for pairs of cells', async () => {
  const folder = testDirectory();
  writeFileSync(join(folder, 'tiny.json'), JSON.stringify(TINY));
  const words = ['--workload', 'tiny.json', '--states', '1', '--cache', 'writethrough,writeback'];
  const { stdout } = await callCli(folder, 'crash', ...words, '--format', 'qcow2');
  const text = stdout.replaceAll(/\s+/g, ' ');
  expect(text).toMatch(
    /price tiny · qcow2 lazy · writethrough .* \(disk of 1MiB, 10 allocating writes\): lazy refcounts save 0.90 syncs per write; opening .* paid back after \d+ writes? on hdd-7200/,
  );
  expect(text).toMatch(/price tiny · qcow2 lazy · writeback .* lazy refcounts save no syncs; opening/);
  const eager = await callCli(folder, 'crash', ...words, '--refcounts', 'eager', '--json');
  expect(JSON.parse(eager.stdout)).toMatchObject({ prices: [] });
});

test('a suite chooses workloads and image options, and nothing else does beside it', async () => {
  const folder = testDirectory();
  const cell = ['--refcounts', 'lazy', '--cache', 'writethrough'];
  const few = ['--states', '1', '--requests', '2', '--json'];
  for (const [format, least] of [
    ['qcow2', 15],
    ['qed', 8],
    ['raw', 6],
  ] as const) {
    const full = await callCli(folder, 'crash', '--suite', 'full', '--format', format, ...cell, ...few);
    expect(full).toMatchObject({ code: 0, stderr: '' });
    const { cells } = JSON.parse(full.stdout) as {
      cells: readonly { cell: { format: string }; steps: unknown }[];
    };
    expect(cells.length, format).toBeGreaterThan(least);
    expect(new Set(cells.map(({ cell: each, steps }) => JSON.stringify([each, steps]))).size).toBe(
      cells.length,
    );
    expect(new Set(cells.map((each) => each.cell.format))).toEqual(new Set([format]));
  }
  for (const option of [
    ['--workload', 'stride'],
    ['--data-file', 'raw'],
    ['--compat', '1.1'],
    ['--queue-depth', '4'],
    ['--discard', 'ignore'],
  ]) {
    const { code, stderr } = await callCli(folder, 'crash', '--suite', 'quick', ...option);
    expect(code).toBe(2);
    expect(stderr).toContain(`--suite chooses ${option[0] ?? ''}`);
  }
});

test('a run that was broken off goes on behind its cells, and finds the same', async () => {
  const folder = testDirectory();
  writeFileSync(join(folder, 'tiny.json'), JSON.stringify(TINY));
  const words = ['--workload', 'tiny.json', '--requests', '6', '--states', '30', '--steps', 'resize'];
  const cells = ['--format', 'qcow2,raw', '--cache', 'writeback,unsafe'];
  const found = async (...more: readonly string[]): Promise<unknown> => {
    const { stdout, code, stderr } = await callCli(folder, 'crash', ...words, ...more, '--json');
    expect(code, stderr).toBe(0);
    return JSON.parse(stdout, (key, value: unknown) => (/seconds/i.test(key) ? undefined : value));
  };
  const whole = await found(...cells);
  const file = join(folder, 'progress.json');
  await found('--format', 'raw', '--cache', 'unsafe', '--resume', 'progress.json');
  const one = readFileSync(file, 'utf8');
  expect(JSON.parse(one)).toMatchObject({ cells: { length: 1 } });
  // As if the cell had come to something else: it is not explored again.
  writeFileSync(file, one.replace('"tried":', '"tried":9'));
  expect(JSON.stringify(await found(...cells, '--resume', 'progress.json'))).toMatch(/"tried":9\d/);
  writeFileSync(file, one);
  expect(await found(...cells, '--resume', 'progress.json')).toEqual(whole);
  expect(JSON.parse(readFileSync(file, 'utf8'))).toMatchObject({ cells: { length: 6 } });
  expect(await found(...cells, '--resume', 'progress.json')).toEqual(whole);
  // Of a workload that was edited since, nothing is taken over.
  const doctored = readFileSync(file, 'utf8').replaceAll('"tried":30', '"tried":31');
  writeFileSync(file, doctored);
  writeFileSync(join(folder, 'tiny.json'), JSON.stringify(TINY).replace('64KiB', '128KiB'));
  expect(JSON.stringify(await found(...cells, '--resume', 'progress.json'))).not.toContain('"tried":31,');
  writeFileSync(join(folder, 'tiny.json'), JSON.stringify(TINY));

  const other = await callCli(folder, 'crash', ...words, '--seed', '8', '--resume', 'progress.json');
  expect(other.code).toBe(1);
  expect(other.stderr).toContain('of a run with other options');
  writeFileSync(file, one.slice(0, 200));
  const broken = await callCli(folder, 'crash', ...words, '--resume', 'progress.json');
  expect(broken).toMatchObject({ code: 1 });
  expect(broken.stderr).toContain('progress.json');
  expect(readFileSync(file, 'utf8')).toBe(one.slice(0, 200));
});

test('options of a log and of runs exclude each other', async () => {
  const folder = testDirectory();
  for (const [words, message] of [
    [['--acks', 'marks'], /--acks and --all-entries are for a log/],
    [['--all-entries'], /--acks and --all-entries are for a log/],
    [['--log', 'a.log', '--format', 'raw'], /--log and --base go together/],
    [['--log', 'a.log', '--base', 'a.img'], /--log needs one --format/],
    [['--log', 'a.log', '--base', 'a.img', '--format', 'raw', '--suite', 'quick'], /--suite is for runs/],
    [['--log', 'a.log', '--base', 'a.img', '--format', 'raw', '--jobs', '2'], /--jobs is for runs/],
    [['--keep-logs', '.'], /--keep-logs applies only to the engine qemu/],
    [['--qemu-bin-dir', '.'], /--qemu-bin-dir applies only to the engine qemu/],
    [['--engine', 'qemu', '--faults'], /--faults is for the builtin engine/],
  ] as const) {
    const { code, stderr } = await callCli(folder, 'crash', ...words);
    expect(code, words.join(' ')).toBe(2);
    expect(stderr).toMatch(message);
  }
});
