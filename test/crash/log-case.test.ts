/** Examples of logs as files: short, whole in themselves, and run again with the same answer. */

import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { deflateRawSync } from 'node:zlib';

import { describe, expect, test } from 'vitest';

import { crashesOfCase } from '../../src/crash/crash-case.ts';
import type { Crash } from '../../src/crash/crashes.ts';
import { exploreLog } from '../../src/crash/explore-log.ts';
import { readCrashAcks } from '../../src/crash/log-acks.ts';
import { logCaseOf, readCase, runOfLogCase, type LogCase } from '../../src/crash/log-case.ts';
import { partOf, recordingOfRun, type LogRun } from '../../src/crash/log-run.ts';
import { judgeAgain } from '../../src/crash/shrink.ts';
import { STRONGEST_MODEL } from '../../src/crash/state-space.ts';
import { timelineOf } from '../../src/crash/timeline.ts';
import { readWriteLog, writeLogOf } from '../../src/crash/write-log.ts';
import { callCli } from '../cli/call-cli.ts';
import { testDirectory } from '../test-directory.ts';
import { asLog, baseOf, logDevice, logOf, qemuLog, type NewEntry } from './foreign-log.ts';
import { DropsSyncs } from './planted.ts';
import { recordSmall } from './small-recording.ts';

const SEED = 7;
const OPTIONS = {
  model: STRONGEST_MODEL,
  seed: SEED,
  nested: 1,
  states: 300,
  qemu: undefined,
  turn: () => undefined,
};

const write = (offset: number, value: number): NewEntry => ({
  op: 'write',
  offset,
  bytes: new Uint8Array(512).fill(value),
});
const FLUSH = { op: 'flush' } as const;
const MARK = { op: 'mark', text: 'fsync' } as const;

function noSuchMoment({ epoch }: Crash): never {
  throw new Error(`no epoch ${String(epoch)}`);
}

/** The case of the first example, through a file. */
async function firstCase(run: LogRun): Promise<{ readonly path: string; readonly file: LogCase }> {
  const { examples } = await exploreLog(run, OPTIONS, () => 0n);
  const [example] = examples;
  if (example === undefined) throw new Error('nothing was found');
  const path = join(testDirectory(), 'case.json');
  writeFileSync(path, JSON.stringify(logCaseOf(example.run, { ...example, log: 'a.log' })));
  const file = readCase(path);
  if (!('entries' in file)) throw new Error('it is of a log');
  // What is read again is what was written, moment by moment.
  const recording = await recordingOfRun(await runOfLogCase(file, path));
  const { state, surveyor } = await judgeAgain(recording, crashesOfCase(file), noSuchMoment);
  expect(await timelineOf(state, surveyor)).toEqual(file.timeline);
  return { path, file };
}

async function findingsOf(file: LogCase): Promise<readonly string[]> {
  const recording = await recordingOfRun(await runOfLogCase(file, 'case.json'));
  const { findings } = await judgeAgain(recording, crashesOfCase(file), noSuchMoment);
  return findings.map(({ kind }) => kind);
}

describe('an example of a log', () => {
  test('of a planted fault, is a part of the log', async () => {
    const recording = await recordSmall({
      format: 'qcow2',
      refcounts: 'eager',
      cache: 'writeback',
      requests: 20,
      backed: true,
      deviation: (device) => new DropsSyncs(device, 'l2-after-refcount'),
    });
    const { entries } = await readWriteLog(logDevice(logOf(asLog(recording).entries)));
    const { file } = await firstCase({ image: baseOf(recording), entries, promised: 'flushes' });
    expect(await findingsOf(file)).toContain(file.what);
    const part = await runOfLogCase(file, 'case.json');
    expect(part.entries.length).toBeLessThan(entries.length);
    expect(part.image.subject.constants.size).toBe(1);
    // With nothing lost, nothing is wrong.
    const fates = file.fates.map(() => ({ kept: true, sizeKept: true }));
    expect(await findingsOf({ ...file, fates })).toEqual([]);
  });

  test('of requests that overlap, has those that the part needs', async () => {
    const folder = testDirectory();
    const request = (op: string, offset: number, at: readonly number[], more: object = {}): object => {
      const [began, done, beganAt, doneAt] = at;
      return { op, offset, length: op === 'flush' ? 0 : 512, began, done, beganAt, doneAt, ...more };
    };
    const acks = {
      schema: 'qcow2-bench/crash-acks@1',
      cache: 'writeback',
      requests: [
        request('write', 0, [0, 1, 1, 3], { pattern: 1 }),
        request('write', 512, [0, 2, 2, 4], { pattern: 2 }),
        request('flush', 0, [2, 3, 5, 6]),
        request('write', 1024, [3, 4, 7, 9], { pattern: 3 }),
        request('write', 1536, [3, 5, 8, 10], { pattern: 4 }),
        // Answered, without one of the log.
        request('flush', 0, [5, 5, 11, 12]),
      ],
    };
    writeFileSync(join(folder, 'acks.json'), JSON.stringify(acks));
    const log = logOf([write(0, 1), write(512, 2), FLUSH, write(1024, 3), write(1536, 4)]);
    const { entries } = await readWriteLog(logDevice(log));
    const recording = await recordSmall({ format: 'raw', cache: 'writeback', requests: 1 });
    const promised = readCrashAcks(join(folder, 'acks.json'));
    const { file } = await firstCase({ image: baseOf(recording), entries, promised });
    expect(await findingsOf(file)).toContain(file.what);
    const part = await runOfLogCase(file, 'case.json');
    expect(part.entries.map(({ offset }) => offset)).toEqual([1024, 1536]);
    expect(
      typeof part.promised === 'string' ? [] : part.promised.requests.map(({ pattern }) => pattern),
    ).toEqual([3, 4, undefined]);
  });

  test('begins at the latest flush, and is run again without the files it was made of, and exits as it is found', async () => {
    const folder = testDirectory();
    writeFileSync(join(folder, 'before.raw'), new Uint8Array(8192));
    writeFileSync(join(folder, 'a.log'), logOf([write(0, 1), FLUSH, MARK, write(4096, 2), MARK, FLUSH]));
    mkdirSync(join(folder, 'examples'));
    const log = ['--log', 'a.log', '--base', 'before.raw', '--format', 'raw', '--acks', 'marks'];
    const found = await callCli(folder, 'crash', ...log, '--examples', 'examples');
    expect(found.code).toBe(3);
    const [name = ''] = readdirSync(join(folder, 'examples'));
    expect(found.stdout).toContain(`Example  ${join('examples', name)}`);
    const { stdout } = await callCli(folder, 'crash', ...log, '--json');
    const [cell] = (JSON.parse(stdout) as { readonly cells: readonly { readonly examples: unknown }[] })
      .cells;
    expect(cell?.examples).toEqual([{ what: 'wrong-data', timeline: expect.any(Array) as unknown }]);
    const path = join(folder, 'examples', name);
    const text = readFileSync(path, 'utf8');
    expect((JSON.parse(text) as LogCase).timeline.join()).not.toContain('at 0x0');
    rmSync(join(folder, 'a.log'));
    rmSync(join(folder, 'before.raw'));
    const again = await callCli(folder, 'crash', '--reproduce', path);
    expect(again.code).toBe(3);
    expect(again.stdout).toContain('reproduced');
    writeFileSync(path, text.replace('"kept": false', '"kept": true'));
    const kept = await callCli(folder, 'crash', '--reproduce', path);
    expect(kept.code).toBe(0);
    expect(kept.stdout).toContain('no longer found');
  });
});

describe('a damaged case of a log', () => {
  const damaged = async (change: (file: Record<string, unknown> & LogCase) => object): Promise<unknown> => {
    const { path, file } = await rawCase();
    writeFileSync(path, JSON.stringify(change({ ...file })));
    const { code, stderr } = await callCli(testDirectory(), 'crash', '--reproduce', path);
    expect(code).toBe(1);
    expect(stderr).toContain(path);
    return stderr;
  };
  const rawCase = async (): Promise<{ readonly path: string; readonly file: LogCase }> => {
    const { entries } = await readWriteLog(logDevice(logOf([write(0, 1), MARK])));
    const recording = await recordSmall({ format: 'raw', cache: 'writeback', requests: 1, prefilled: true });
    return firstCase({ image: baseOf(recording), entries, promised: 'marks' });
  };
  const packed = (bytes: Uint8Array): string => Buffer.from(bytes).toString('base64');

  test.each<[string, (file: LogCase) => object, RegExp]>([
    [
      'pages that are no deflated data',
      (file) => ({ ...file, image: { ...file.image, data: packed(new Uint8Array(99)) } }),
      /packed data are damaged/,
    ],
    [
      'a page too few',
      (file) => ({ ...file, image: { ...file.image, pages: file.image.pages.slice(1) } }),
      /has not all its pages/,
    ],
    [
      'data that are unpacked to more than all may be together',
      (file) => {
        const data = packed(deflateRawSync(new Uint8Array(50 * 1024 * 1024)));
        return { ...file, behind: ['a', 'b', 'c'].map((name) => ({ name, data })) };
      },
      /more than 128MiB/,
    ],
    ['a page behind the end', (file) => ({ ...file, image: { ...file.image, size: 512 } }), /behind its end/],
    [
      'two files of a name',
      (file) => ({ ...file, behind: [{ name: file.image.name, data: '' }] }),
      /the same name/,
    ],
    ['no such moment', (file) => ({ ...file, epoch: 77 }), /no longer has the host operations/],
    ['another promise', (file) => ({ ...file, promised: 'hopes' }), /field promised/],
    ['a later version', (file) => ({ ...file, schema: 'qcow2-bench/crash-log-case@2' }), /crash-log-case@2/],
  ])('%s', async (_what, change, message) => {
    expect(await damaged(change)).toMatch(message);
  });
});

test('a part of a log with very many requests has those that are not durable before it', async () => {
  const { entries } = await readWriteLog(logDevice(logOf([write(0, 1), FLUSH, write(512, 2), FLUSH])));
  const recording = await recordSmall({ format: 'raw', cache: 'writeback', requests: 1 });
  const request = { offset: 0, length: 0, fua: false, unmap: false };
  const flushes = Array.from(
    { length: 200_000 },
    () => ({ ...request, op: 'flush', began: 2, done: 2 }) as const,
  );
  const last = { ...request, op: 'flush', began: 2, done: 4 } as const;
  const promised = {
    schema: 'qcow2-bench/crash-acks@1',
    cache: 'writeback',
    requests: [...flushes, last],
  } as const;
  const part = await partOf(
    { image: baseOf(recording), entries, promised: { ...promised, requests: [...promised.requests] } },
    2,
    4,
  );
  expect(part.promised).toMatchObject({ requests: [{ began: 0, done: 2 }] });
});

test('a log that is written has what was read', async () => {
  const { entries } = await readWriteLog(logDevice(qemuLog('qcow2-lazy').log));
  const again = await readWriteLog(logDevice(writeLogOf(entries)));
  expect(again.entries).toEqual(entries);
  const all: readonly NewEntry[] = [
    write(0, 1),
    MARK,
    FLUSH,
    { op: 'discard', offset: 512, length: 1024 },
    { ...write(512, 2), fua: true },
  ];
  const made = await readWriteLog(logDevice(logOf(all)));
  expect((await readWriteLog(logDevice(writeLogOf(made.entries)))).entries).toEqual(made.entries);
});

test.each<[string, string, object, RegExp]>([
  ['one after the other, without times', 'qcow2', { began: 0 }, /begins when the one before it was answered/],
  ['one time', 'qcow2', { beganAt: 3 }, /has both times/],
  ['times of one request alone', 'qcow2', { beganAt: 3, doneAt: 4 }, /times are of all requests or of none/],
  [
    'more data than memory is taken for',
    'qcow2',
    { op: 'write', length: 2 ** 31, pattern: 2, done: 1 },
    /more than 2 GiB together/,
  ],
  ['a new size of a raw disk', 'raw', { op: 'resize', offset: 512 }, /which is not in a log/],
])('requests that cannot be are refused: %s', async (_what, format, change, message) => {
  const folder = testDirectory();
  const write512 = { op: 'write', offset: 0, length: 512, pattern: 1, began: 0, done: 1 };
  const flush = { op: 'flush', offset: 0, length: 0, began: 1, done: 2 };
  const file = {
    schema: 'qcow2-bench/crash-acks@1',
    cache: 'writeback',
    requests: [write512, { ...flush, ...change }],
  };
  writeFileSync(join(folder, 'acks.json'), JSON.stringify(file));
  const log = ['--log', 'a.log', '--base', 'a.img', '--format', format, '--acks', 'acks.json'];
  const { code, stderr } = await callCli(folder, 'crash', ...log);
  expect(stderr).toMatch(message);
  expect(code).toBe(1);
});
