import { readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';

import fc from 'fast-check';
import { describe, expect, test } from 'vitest';

import type { Request } from '../../../src/workload/request.ts';
import { WRITABLE_FORMATS, type WritableFormat } from '../../../src/workload/trace/trace-encoder.ts';
import { TraceLosses } from '../../../src/workload/trace/trace-losses.ts';
import { TraceWriter, writeTrace } from '../../../src/workload/trace/trace-writer.ts';
import { testDirectory } from '../../test-directory.ts';
import { faultOf, readWhole, requestsIn } from './trace-files.ts';

const MIB = 1024 * 1024;
const write: Request = { op: 'write', offset: 0, length: 512, fua: false, unmap: false, timeNs: 0 };

const VIRTUAL_SIZE = 2 ** 43;
const address = fc.record({
  offset: fc.integer({ min: 0, max: 2 ** 33 - 2 ** 17 }).map((n) => n * 512),
  // Any size that a trace can say, small ones more often.
  length: fc
    .oneof(
      { weight: 4, arbitrary: fc.integer({ min: 1, max: 2 ** 16 }) },
      { weight: 1, arbitrary: fc.integer({ min: 1, max: 2 ** 26 }) },
      { weight: 1, arbitrary: fc.constantFrom(2 ** 16 + 1, 2 ** 23 - 1, 2 ** 23, 2 ** 23 + 1) },
    )
    .map((n) => n * 512),
});
const anyRequest: fc.Arbitrary<Omit<Request, 'timeNs'>> = fc.oneof(
  fc.constant({ op: 'flush', offset: 0, length: 0, fua: false, unmap: false } as const),
  address.map((place) => ({ op: 'read', ...place, fua: false, unmap: false }) as const),
  fc
    .tuple(fc.constantFrom('write', 'discard'), address, fc.boolean())
    .map(([op, place, fua]) => ({ op, ...place, fua, unmap: false })),
  fc
    .tuple(address, fc.boolean(), fc.boolean())
    .map(([place, fua, unmap]) => ({ op: 'write-zeroes', ...place, fua, unmap }) as const),
);
/** Requests at times that never go backwards, up to the largest a trace can hold. */
const requestLists = fc
  .array(fc.tuple(anyRequest, fc.integer({ min: 0, max: 2 ** 45 })), { maxLength: 200 })
  .map((list) => {
    let timeNs = 0;
    return list.map(([request, wait]): Request => ({ ...request, timeNs: (timeNs += wait) }));
  });
const facts = fc.uniqueArray(
  fc.tuple(
    fc.stringMatching(/^[a-z][a-z0-9-]{0,12}$/).filter((key) => key !== 'virtual-size'),
    fc.string({ unit: 'grapheme', maxLength: 60 }).filter((value) => !/[\r\n]/.test(value)),
  ),
  { selector: ([key]) => key, maxLength: 5 },
);

test.each(['none', 'gzip', 'zstd'] as const)(
  'what is written is read back, compression %s',
  async (compression) => {
    const path = join(testDirectory(), 'trace');
    await fc.assert(
      fc.asyncProperty(requestLists, facts, async (requests, provenance) => {
        const count = await writeTrace(path, requests, {
          virtualSize: VIRTUAL_SIZE,
          provenance,
          compression,
        });
        expect(count).toBe(requests.length);
        if (requests.length === 0) {
          expect((await faultOf(path)).code).toBe('no-requests');
          return;
        }
        const trace = await readWhole(path);
        expect(trace.virtualSize).toBe(VIRTUAL_SIZE);
        expect([...trace.provenance]).toEqual(provenance);
        expect(trace.requests).toEqual(requests);
      }),
      { numRuns: 15 },
    );
  },
);

test('the text is the format of the documentation, byte by byte', async () => {
  const path = join(testDirectory(), 'a.trace.csv');
  const requests: Request[] = [
    write,
    { ...write, offset: 65536, length: 4096, fua: true, timeNs: 1200 },
    { op: 'flush', offset: 0, length: 0, fua: false, unmap: false, timeNs: 2400 },
    { op: 'write-zeroes', offset: 0, length: 65536, fua: true, unmap: true, timeNs: 4800 },
  ];
  await writeTrace(path, requests, { virtualSize: MIB, provenance: [['tool', 'by hand']] });
  expect(readFileSync(path, 'utf8')).toBe(
    '#qcow2-bench trace v1\n#virtual-size 1048576\n#tool by hand\ntime_ns,op,offset,length,flags\n' +
      '0,write,0,512,\n1200,write,65536,4096,fua\n2400,flush,,,\n4800,write-zeroes,0,65536,unmap|fua\n',
  );
});

test('the name chooses the compression, and the same trace gives the same bytes', async () => {
  const folder = testDirectory();
  const magics = [];
  for (const name of ['a.trace.csv', 'a.trace.csv.gz', 'a.trace.csv.zst']) {
    const path = join(folder, name);
    await writeTrace(path, [write], { virtualSize: MIB });
    const first = readFileSync(path);
    await writeTrace(path, [write], { virtualSize: MIB });
    expect(readFileSync(path)).toEqual(first);
    magics.push(first.subarray(0, 2).toString('hex'));
  }
  expect(magics).toEqual(['2371', '1f8b', '28b5']);
});

test('a trace larger than all buffers arrives whole', async () => {
  const path = join(testDirectory(), 'a.trace.csv');
  const count = 30_000;
  function* requests(): Generator<Request> {
    for (let n = 0; n < count; n++) yield { ...write, offset: (n % 2048) * 512, timeNs: n };
  }
  await writeTrace(path, requests(), { virtualSize: MIB });
  const trace = await readWhole(path);
  expect(trace.requests.every(({ timeNs }, n) => timeNs === n)).toBe(true);
  expect(trace.requests).toHaveLength(count);
});

describe('what no trace can hold is refused, and nothing of it is written', () => {
  test.each<[string, Partial<Request>, RegExp]>([
    ['a time before the last one', { timeNs: 4 }, /time 4 is not a whole number of nanoseconds from 5/],
    ['half a nanosecond', { timeNs: 5.5 }, /time 5\.5 is not a whole number/],
    ['FUA on a read', { op: 'read', fua: true }, /a read has no FUA flag/],
    ['unmap on a write', { unmap: true }, /a write has no unmap flag/],
    ['a flush of a range', { op: 'flush' }, /a flush has no offset and no length/],
    ['a negative offset', { offset: -512 }, /whole numbers of bytes from 0/],
    ['no whole sectors', { length: 100 }, /length 100 is not a multiple of 512/],
    ['a request past the end', { offset: MIB }, /past the device's end/],
  ])('%s', async (_, changes, rule) => {
    const path = join(testDirectory(), 'a.trace.csv');
    await using writer = new TraceWriter(path, { virtualSize: MIB });
    const before = { ...write, timeNs: 5 };
    await writer.write(before);
    expect(() => writer.write({ ...before, ...changes })).toThrow(rule);
    await writer.close();
    expect((await readWhole(path)).requests).toEqual([before]);
  });

  test.each<[string, [string, string][], RegExp]>([
    ['a value of two lines', [['tool', 'a\n0,flush,,,']], /more than one line/],
    ['a key of two words', [['my tool', 'a']], /not a valid header key/],
    [
      'a key twice',
      [
        ['tool', 'a'],
        ['tool', 'b'],
      ],
      /duplicated in the header, or is reserved/,
    ],
    ['the size as a fact', [['virtual-size', '1']], /duplicated in the header, or is reserved/],
    ['a value longer than a line may be', [['tool', 'a'.repeat(5000)]], /too long/],
  ])('%s', (_, provenance, rule) => {
    expect(() => new TraceWriter('/nonexistent/a', { virtualSize: MIB, provenance })).toThrow(rule);
  });

  test('a device of no whole sectors', () => {
    expect(() => new TraceWriter('/nonexistent/a', { virtualSize: 100 })).toThrow(/not a multiple of 512/);
  });
});

describe('a file that cannot be written is one error with the system code', () => {
  test('a folder that is not there', async () => {
    const writer = new TraceWriter('/nonexistent/a.trace.csv', { virtualSize: MIB });
    await expect(writer.close()).rejects.toMatchObject({
      code: 'bad-trace',
      message: expect.stringContaining('ENOENT') as string,
    });
    await writer.close();
  });

  test.skipIf(!isCharacterDevice('/dev/full'))('a full disk, noticed while writing', async () => {
    const endless = function* (): Generator<Request> {
      while (true) yield write;
    };
    await expect(writeTrace('/dev/full', endless(), { virtualSize: MIB })).rejects.toMatchObject({
      code: 'bad-trace',
      message: expect.stringContaining('/dev/full: cannot be written (ENOSPC)') as string,
    });
  });
});

function isCharacterDevice(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false })?.isCharacterDevice() === true;
}

/** Where data are stored, small enough that their zeroes take no time. */
function lengthIn(format: WritableFormat, { op, length }: Pick<Request, 'op' | 'length'>): number {
  const hasData = format === 'dm-log-writes' && (op === 'write' || op === 'write-zeroes');
  return hasData ? Math.min(length, 65536) : length;
}

/** The requests as a format can hold them: with its times, and without what it does not know. */
function asHeldBy(format: WritableFormat, requests: readonly Request[]): readonly Request[] {
  const unitNs = { native: 1, 'fio-v2': 1e6, 'fio-v3': 1e3, 'dm-log-writes': Infinity }[format];
  return requests
    .map((request) => ({
      ...request,
      length: lengthIn(format, request),
      timeNs: unitNs === Infinity ? 0 : Math.floor(request.timeNs / unitNs) * unitNs,
    }))
    .filter((request) => {
      const losses = new TraceLosses(format);
      losses.add(request);
      return losses.list().length === 0;
    });
}

test.each(WRITABLE_FORMATS)('%s: what is lost by no count is read back as it was', async (format) => {
  const path = join(testDirectory(), 'trace');
  let held = 0;
  await fc.assert(
    fc.asyncProperty(requestLists, fc.constantFrom('none', 'zstd'), async (list, compression) => {
      const requests = asHeldBy(format, list);
      held += requests.length;
      const options = { format, virtualSize: VIRTUAL_SIZE, count: requests.length, compression } as const;
      await writeTrace(path, requests, options);
      expect(await requestsIn(path, { format })).toEqual(requests);
    }),
    { numRuns: 40 },
  );
  expect(held).toBeGreaterThan(0);
});

test.each(WRITABLE_FORMATS)('%s: every loss that is counted is one', async (format) => {
  const path = join(testDirectory(), 'trace');
  await fc.assert(
    fc.asyncProperty(anyRequest, fc.integer({ min: 0, max: 2 ** 40 }), async (request, timeNs) => {
      const length = lengthIn(format, request);
      const whole: Request = { ...request, length, timeNs };
      const losses = new TraceLosses(format);
      losses.add(whole);
      const kept = losses.keeps(whole) ? [whole] : [];
      await writeTrace(path, kept, { format, virtualSize: VIRTUAL_SIZE, count: kept.length });
      const requests = await requestsIn(path, { format });
      if (request.length <= 2 ** 32 - 512) expect(requests).toHaveLength(kept.length);
      else expect(requests.length).toBeGreaterThanOrEqual(kept.length);
      expect(losses.list().length === 0).toBe(JSON.stringify(requests) === JSON.stringify([whole]));
    }),
    { numRuns: 60 },
  );
});

test('dm-log-writes: a write of 64 MiB, as blklogwrites logs zero-writes, is read back', async () => {
  const path = join(testDirectory(), 'trace');
  const requests = [
    { ...write, length: 64 * MIB },
    { ...write, offset: 512 },
  ];
  await writeTrace(path, requests, { format: 'dm-log-writes', virtualSize: 64 * MIB, count: 2 });
  expect((await readWhole(path)).requests).toEqual(requests);
});
