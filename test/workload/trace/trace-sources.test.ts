/** Where a trace comes from: a directory of files, a pipe; and requests that are widened. */

import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';

import fc from 'fast-check';
import { describe, expect, test } from 'vitest';

import { logParts } from '../../../src/workload/trace/log-parts.ts';
import { openTrace } from '../../../src/workload/trace/trace-reader.ts';
import { amount } from '../../amount.ts';
import { testDirectory } from '../../test-directory.ts';
import { faultOf, HEADER, inWords, readWhole, temporaryFile } from './trace-files.ts';

function directoryOf(files: Readonly<Record<string, string | Uint8Array>>): string {
  const folder = join(testDirectory(), 'hours');
  mkdirSync(folder);
  for (const [name, content] of Object.entries(files)) writeFileSync(join(folder, name), content);
  return folder;
}

describe('a directory is one trace', () => {
  test('its files are merged by time, compressed ones too', async () => {
    const path = directoryOf({
      'hour-10': '7,30,W,1024,512\n',
      'hour-2.gz': gzipSync('7,10,W,0,512\n7,20,W,512,512\n7,40,R,0,512\n'),
      '.hidden': 'no trace',
    });
    const { format, requests } = await readWhole(path);
    expect(format).toBe('k5cloud');
    expect(requests.map(inWords)).toEqual([
      'write 0+512 @0',
      'write 512+512 @10000000000',
      'write 1024+512 @20000000000',
      'read 0+512 @30000000000',
    ]);
  });

  test('a file of another format is an error with its path', async () => {
    const error = await faultOf(directoryOf({ a: '7,10,W,0,512\n', b: '0,0,512,W,0.5\n' }));
    expect(error.code).toBe('bad-trace');
    expect(error.path).toMatch(/hours\/b$/);
  });

  test('files whose times begin at 0 have no common clock', async () => {
    const error = await faultOf(
      directoryOf({ a: `${HEADER}1,write,0,512,\n`, b: `${HEADER}1,write,0,512,\n` }),
    );
    expect(error).toMatchObject({ code: 'no-common-clock' });
    expect(error.message).toMatch(/read them one by one/);
  });

  test('without files it is an error', async () => {
    expect(await faultOf(directoryOf({}))).toMatchObject({ code: 'no-trace-files' });
  });
});

describe('logs of several jobs of fio', () => {
  const FIRST = 'fio version 3 iolog\n';

  /** The log of a job, whose requests are times in microseconds and sectors. */
  function logOf(requests: readonly (readonly [number, number])[]): string {
    const lines = requests.map(([us, sector]) => `${String(us)} f write ${String(sector * 512)} 512\n`);
    return `${FIRST}0 f add\n0 f open\n${lines.join('')}`;
  }
  const one = logOf([
    [10, 0],
    [30, 1],
  ]);
  const two = logOf([
    [20, 2],
    [40, 3],
  ]);
  const MERGED = [
    'write 0+512 @10000',
    'write 1024+512 @20000',
    'write 512+512 @30000',
    'write 1536+512 @40000',
  ];

  test.each([
    ['in one file', () => temporaryFile(one + two)],
    ['in one file, with line ends of DOS', () => temporaryFile((one + two).replaceAll('\n', '\r\n'))],
    ['in a directory', () => directoryOf({ one, two })],
    ['in a directory, compressed', () => directoryOf({ one: gzipSync(one), two })],
  ])('are merged by time: %s', async (_where, make) => {
    const { requests, adjusted } = await readWhole(make());
    expect(requests.map(inWords)).toEqual(MERGED);
    expect(adjusted).toEqual([{ what: 'logs joined as if they began together', count: 2 }]);
  });

  test('lines count from the beginning of the file', async () => {
    const error = await faultOf(temporaryFile(`${one}${two}50 f scribble 0 512\n`));
    expect(error.message).toMatch(/, line 11: the action is none of/);
  });

  test('any logs come out in the order of their times, none lost', async () => {
    const job = fc.array(fc.tuple(fc.nat(20_000), fc.nat(2000)), { maxLength: 300 });
    const property = fc.asyncProperty(fc.array(job, { minLength: 2, maxLength: 8 }), async (jobs) => {
      fc.pre(jobs.some((requests) => requests.length > 0));
      const sorted = jobs.map((requests) => requests.toSorted(([a], [b]) => a - b));
      const { requests } = await readWhole(temporaryFile(sorted.map(logOf).join('')));
      const times = requests.map(({ timeNs }) => timeNs);
      expect(times).toEqual(times.toSorted((a, b) => a - b));
      const expected = jobs
        .flat()
        .map(([us, sector]) => `write ${String(sector * 512)}+512 @${String(us * 1000)}`);
      expect(requests.map(inWords).toSorted()).toEqual(expected.toSorted());
    });
    await fc.assert(property, { numRuns: amount({ everyday: 40, full: 400 }) });
  });

  test('logs larger than the chunks of a file are merged too', async () => {
    const count = 20_000;
    // In order in each log; which log is next changes all the time.
    const usOf = (job: number, n: number): number => n * 3 + ((n * n + job * 5) % 3);
    const jobs = [0, 1, 2].map((job) => logOf(Array.from({ length: count }, (_, n) => [usOf(job, n), n])));
    const { requests } = await readWhole(temporaryFile(jobs.join('')));
    const times = [0, 1, 2].flatMap((job) => Array.from({ length: count }, (_, n) => usOf(job, n) * 1000));
    expect(requests.map(({ timeNs }) => timeNs)).toEqual(times.toSorted((x, y) => x - y));
  });

  test('a log is found wherever it begins in the chunks of a file', async () => {
    const chunk = 64 * 1024;
    for (let start = chunk - FIRST.length - 2; start <= chunk + 2; start++) {
      const before = FIRST + '5 f write 0 512\n'.repeat(9);
      const filler = `${'x'.repeat(start - before.length - 1)}\n`;
      const parts = await logParts(temporaryFile(before + filler + FIRST), FIRST.trimEnd());
      expect(parts.map((part) => part.start)).toEqual([0, start]);
      expect(parts.map((part) => part.linesBefore)).toEqual([0, 11]);
    }
  });

  test.each([
    [
      'of a compressed file',
      gzipSync(one + two),
      /line 6: the log of another job begins here: .* not compressed/,
    ],
    [
      'of version 2',
      'fio version 2 iolog\nf write 0 512\nfio version 2 iolog\nf write 0 512\n',
      /line 3: .* version 2 has no times to join them by: split the file/,
    ],
  ])('%s are an error, also where bad lines are skipped', async (_what, content, rule) => {
    for (const skipBad of [false, true]) {
      expect((await faultOf(temporaryFile(content), { skipBad })).message).toMatch(rule);
    }
  });

  test.each([
    '5',
    '50 ',
    '50 f wri',
    '50 f write ',
    '50 f write 5',
    '50 f write 512 5',
    '50 f datasync 0 ',
    '50 f sync_file_range 0 5',
    '50 f wait 5',
    '50 other write 5',
  ])("that tore each other in the line '%s' are an error, whatever it is", async (torn) => {
    for (const skipBad of [false, true]) {
      const error = await faultOf(temporaryFile(`${one}${torn}${two}`), { skipBad, volume: 'f' });
      expect(error.message).toMatch(/line 6: .* tore its lines; record again/);
    }
  });
});

test('what can be read only once is refused by those who read it more often', async () => {
  await expect(openTrace('/dev/null')).rejects.toMatchObject({ code: 'trace-is-stream' });
});

describe('requests that are not aligned', () => {
  const text = '7,1,W,100,200\n7,2,W,4096,4096\n7,3,W,8191,2\n';

  test('are bad lines', async () => {
    expect((await faultOf(temporaryFile(text))).message).toMatch(
      /line 1: offset 100 is not a multiple of 512/,
    );
  });

  test('are widened and counted where that is asked for', async () => {
    const { requests, adjusted } = await readWhole(temporaryFile(text), { align: 4096 });
    expect(requests.map(inWords)).toEqual([
      'write 0+4096 @0',
      'write 4096+4096 @1000000000',
      'write 4096+8192 @2000000000',
    ]);
    expect(adjusted).toEqual([{ what: 'requests widened to multiples of 4096 bytes', count: 2 }]);
  });

  test('are bad lines still if they have no length, or end past the device', async () => {
    const options = { align: 512 };
    expect((await faultOf(temporaryFile('7,1,W,100,0\n'), options)).message).toMatch(/length 0/);
    expect((await faultOf(temporaryFile('7,1,W,900,200\n'), { ...options, size: 1024 })).message).toMatch(
      /past the device's end/,
    );
  });
});
