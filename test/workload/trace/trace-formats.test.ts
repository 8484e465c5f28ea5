/** Lines as they are published, or as the tools print them, and what each of them means. */

import { writeFileSync } from 'node:fs';
import { gzipSync, zstdCompressSync } from 'node:zlib';

import { describe, expect, test } from 'vitest';

import { TRACE_FORMATS, type TraceFormat } from '../../../src/workload/trace/trace-formats.ts';
import type { OpenTraceOptions } from '../../../src/workload/trace/trace-reader.ts';
import { openTrace } from '../../../src/workload/trace/trace-reader.ts';
import { SAMPLES } from './trace-samples.ts';
import { faultOf, inWords, readWhole, temporaryFile } from './trace-files.ts';

const MIB = 1024 * 1024;
/** Of dm-log-writes in its sample. */
const SECTOR_BYTES = 4096;

describe.each(TRACE_FORMATS)('%s', (format) => {
  const sample = SAMPLES[format];
  const read = (path: string, options: OpenTraceOptions = {}) =>
    readWhole(path, { ...sample.options, ...options });
  const requestsOf = async (path: string, options: OpenTraceOptions = {}) =>
    (await read(path, options)).requests.map(inWords);

  test('is recognised or asked for, and its lines mean what its users take them to mean', async () => {
    const path = temporaryFile(sample.content, 'anything');
    if (sample.options !== undefined) {
      expect((await faultOf(path)).code).toBe(format === 'columns' ? 'bad-trace' : 'ambiguous-trace');
    }
    expect((await openTrace(path, sample.options)).format).toBe(format);
    expect(await requestsOf(path)).toEqual(sample.requests);
  });

  test('records or implies the size of the device', async () => {
    const { virtualSize, requests } = await read(temporaryFile(sample.content));
    const end = Math.max(...requests.map(({ offset, length }) => offset + length));
    expect(virtualSize).toBe(sample.virtualSize ?? Math.ceil(end / MIB) * MIB);
    expect((await read(temporaryFile(sample.content), { size: 2 ** 43 })).virtualSize).toBe(2 ** 43);
  });

  test('a request past the end of the device that was named is a bad one', async () => {
    const path = temporaryFile(sample.content);
    expect((await faultOf(path, { ...sample.options, size: 512 })).message).toMatch(
      /past the device's end at 512/,
    );
    const inside = sample.requests.filter((request) => /^flush| 0\+512/.test(request)).length;
    if (inside === 0) {
      const error = await faultOf(path, { ...sample.options, size: 512, skipBad: true });
      expect(error.code).toBe('no-requests');
      expect(error.message).toMatch(/invalid lines or records \d/);
      return;
    }
    const { skippedCount, requests } = await read(path, { size: 512, skipBad: true });
    expect(skippedCount).toBeGreaterThan(0);
    expect(requests).toHaveLength(inside);
    expect(requests.every(({ offset, length }) => offset + length <= 512)).toBe(true);
  });

  test('is read compressed as well', async () => {
    expect(await requestsOf(temporaryFile(gzipSync(sample.content)))).toEqual(sample.requests);
    expect(await requestsOf(temporaryFile(zstdCompressSync(sample.content)))).toEqual(sample.requests);
  });

  test('cut short anywhere it is an error or fewer requests, and never other ones', async () => {
    const bytes = Buffer.from(sample.content);
    const path = temporaryFile('');
    for (const length of cutsOf(bytes.length)) {
      writeFileSync(path, bytes.subarray(0, length));
      const before: string[] = [];
      try {
        const trace = await openTrace(path, { format, ...sample.options, size: 2 ** 43 });
        for await (const batch of trace.batches) before.push(...batch.map(inWords));
      } catch (error) {
        expect(error).toMatchObject({ code: expect.stringMatching(/^(?:bad-trace|no-requests)$/) as string });
      }
      const times = (words: readonly string[]) => words.map((word) => word.replace(/@\d+/, ''));
      const all = times(sample.requests);
      expect(all).toEqual(expect.arrayContaining(times(before)));
    }
  });

  test('garbage in the format that was named is one error, and nothing but errors', async () => {
    const garbage = Buffer.from(Array.from({ length: 3000 }, (_, n) => (n * 7919 + (n >> 3)) % 251));
    const error = await faultOf(temporaryFile(garbage), { format, ...sample.options });
    expect(error.code).toBe('bad-trace');
    const lines = Array.from({ length: 50 }, (_, n) => `no such line ${String(n)} ,,, + 0x 1 2 3`).join('\n');
    expect((await faultOf(temporaryFile(`${lines}\n`), { format, ...sample.options })).code).toMatch(
      /^(?:bad-trace|no-requests)$/,
    );
  });

  test('no other format recognises it', async () => {
    for (const other of TRACE_FORMATS) {
      if (other === format) continue;
      expect((await openTrace(temporaryFile(SAMPLES[other].content), SAMPLES[other].options)).format).toBe(
        other,
      );
    }
  });
});

/** Every seventh byte of a short file; of one in sectors, their beginnings and some between. */
function cutsOf(length: number): readonly number[] {
  const every = Array.from({ length: Math.ceil((length - 1) / 7) }, (_, index) => 1 + 7 * index);
  return every.filter((at) => length < SECTOR_BYTES || at % SECTOR_BYTES < 64 || at % 101 < 7);
}

describe('a line that breaks a rule is an error with its number, or is skipped and counted', () => {
  const cases: readonly [TraceFormat, string, RegExp][] = [
    ['fio-v2', '/dev/vdb write 1 4096', /offset 1 is not a multiple of 512/],
    ['fio-v2', '/dev/vdb write 0 0', /a write of length 0/],
    ['fio-v2', '/dev/vdb write 0', /the length is not a whole number/],
    ['fio-v2', '/dev/vdb scribble 0 512', /the action is none of/],
    ['fio-v2', '/dev/vdb wait soon 0', /the wait is not a number of milliseconds/],
    ['fio-v3', '/dev/vdb write 0 4096', /the time is not a whole number of microseconds/],
    ['blkparse', '  8,0 3 1 0.1 697 Q W 0 + 8 [x]', /is not a blkparse event/],
    ['blkparse', '  8,0 3 1 0.000000009 697 Q W 0 + 0 [x]', /a write of length 0/],
    ['blkparse', '  8,0 3 1 0.000000009 697 Q W 99999999999999999 + 8 [x]', /below 2\^53 bytes/],
    ['blkparse', 'CPU:1 [LOST 25 EVENTS]', /the tracer lost events/],
    ['msr', '12816637200306163x,hm,0,Read,0,512,1', /not a number of 100 ns ticks/],
    ['msr', '128166372003061630,hm,0,Trim,0,512,1', /neither Read nor Write/],
    ['msr', '128166372003061630,hm,0,Read,0', /fewer fields/],
    ['msr', '128166372003061630,hm,0,Read,100,512,1', /offset 100 is not a multiple of 512/],
    ['alibaba', '419,X,0,512,1577808144360767', /neither R nor W/],
    ['alibaba', '419,W,0,0,1577808144360767', /a write of length 0/],
    ['alibaba', '419,W,0,512', /not the five fields/],
    ['alibaba', 'device,W,0,512,1577808144360767', /the device is not a whole number/],
    ['tencent', '1538323200,8,8,2,1063', /neither 0 \(read\) nor 1 \(write\)/],
    ['tencent', '1538323200,8,8,1', /not the five fields/],
    ['tencent', '1538323200,8,0,1,1063', /a write of length 0/],
    ['systor17', '1456095145,0.1,R,0,0,512', /seconds with decimals/],
    ['systor17', '1456095145.1,0.1,X,0,0,512', /neither R, W nor blank/],
    ['systor17', '1456095145.1,0.1,R,0,0,511', /length 511 is not a multiple of 512/],
    ['fiu', '9 1 x 0 8 X 6 0 aa', /neither R nor W/],
    ['fiu', '9 1 x 0', /fewer fields/],
    ['fiu', '9 1 x 0 0 W 6 0 aa', /a write of length 0/],
    ['qemu-trace-log', 'blk_co_pwritev blk 0x55d0 bs 0x1 offset 0 bytes 512', /is not a QEMU trace event/],
    [
      'qemu-trace-log',
      'blk_co_pwritev blk 0x55d0 bs 0x1 offset 7 bytes 512 flags 0x0',
      /offset 7 is not a multiple/,
    ],
    [
      'qemu-trace-log',
      'blk_co_pwritev blk 0x55d0 bs 0x1 offset 0 bytes 512 flags zero',
      /is not a QEMU trace/,
    ],
    [
      'nbdkit-log',
      '2026-03-01 12:00:00.000140 connection=1 ...Write id=9 return=0',
      /a reply without a request/,
    ],
    [
      'nbdkit-log',
      '2026-03-01 12:00:00.000140 connection=1 Read id=4 offset=0x1 count=0x200 ...',
      /offset 1 is no/,
    ],
  ];
  test.each(cases)('%s: %s', async (format, line, rule) => {
    const sample = SAMPLES[format];
    const lines = Buffer.from(sample.content).toString('latin1').split('\n');
    // After the first request, before what may follow the events.
    const at =
      format === 'nbdkit-log' ? lines.length - 1 : lines.findIndex((text) => /summary|CPU0/.test(text));
    lines.splice(at < 0 ? lines.length - 1 : at, 0, line);
    const path = temporaryFile(lines.join('\n'));
    const error = await faultOf(path);
    expect(error.code).toBe('bad-trace');
    expect(error.message).toMatch(rule);
    expect(error.line).toBe(lines.indexOf(line) + 1);
    const skipped = await readWhole(path, { skipBad: true });
    expect(skipped.skippedCount).toBe(1);
    expect(skipped.requests.map(inWords)).toEqual(sample.requests);
  });
});

describe('several volumes in one file', () => {
  const cases: readonly [TraceFormat, string, string, string][] = [
    ['fio-v2', '/dev/vdc write 0 512', '/dev/vdb', '/dev/vdc'],
    ['blkparse', '  8,16 3 1 0.000002198 697 Q W 0 + 1 [x]', '8,0', '8,16'],
    ['msr', '128166372003061630,usr,1,Write,0,512,1', 'hm_0', 'usr_1'],
    ['alibaba', '7,W,0,512,1577808144360767', '419', '7'],
    ['tencent', '1538323200,0,1,1,12', '1063', '12'],
    ['systor17', '1456095145.2,0.1,W,3,0,512', '0', '3'],
    ['fiu', '89968195793 20782 gzip 0 1 W 8 1 aa', '6,0', '8,1'],
    ['qemu-trace-log', 'blk_co_pwritev blk 0x99 bs 0x1 offset 0 bytes 512 flags 0x0', '0x55d0', '0x99'],
  ];
  test.each(cases)('%s: an error that lists them, unless one is chosen', async (format, line, one, other) => {
    const sample = SAMPLES[format];
    const lines = Buffer.from(sample.content).toString('latin1').split('\n');
    lines.splice(format === 'blkparse' ? 3 : lines.length - 1, 0, line);
    const path = temporaryFile(lines.join('\n'));
    const error = await faultOf(path);
    expect(error.code).toBe('several-volumes');
    expect(error.message).toMatch(/choose one with --volume/);
    for (const name of [one, other]) expect(error.message.split(/[: ]+/)).toContain(name);

    const first = await readWhole(path, { volume: one });
    expect(first.requests.map(inWords)).toEqual(sample.requests);
    expect(first.otherVolumeCount).toBe(1);
    const second = await readWhole(path, { volume: other });
    expect(second.requests).toHaveLength(1);
    expect(second.virtualSize).toBe(MIB);
    const missing = await faultOf(path, { volume: 'none' });
    expect(missing.code).toBe('unknown-volume');
    expect(missing.message).toContain(other);
  });

  test('nbdkit: an export is a volume, with a size of its own', async () => {
    const at = (micros: number, rest: string) =>
      `2026-03-01 12:00:00.${String(micros).padStart(6, '0')} ${rest}\n`;
    const path = temporaryFile(
      at(1, 'connection=1 Connect export="a" tls=0 size=0x100000') +
        at(2, 'connection=2 Connect export="b" tls=0 size=0x200000') +
        at(3, 'connection=1 Write id=1 offset=0x0 count=0x200 fua=0 ...') +
        at(4, 'connection=2 Write id=1 offset=0x100000 count=0x200 fua=0 ...') +
        at(5, 'connection=2 ...Write id=1 return=0') +
        at(6, 'connection=1 ...Write id=1 return=0'),
    );
    expect((await faultOf(path)).message).toMatch(/--volume \(export\): a b/);
    const b = await readWhole(path, { volume: 'b' });
    expect(b.requests.map(inWords)).toEqual(['write 1048576+512 @0']);
    expect(b.virtualSize).toBe(2 * MIB);
  });

  test('the list of thousands is cut, and bounded', async () => {
    const lines = Array.from({ length: 5000 }, (_, n) => `${String(n)},W,0,512,1577808144360767\n`);
    const error = await faultOf(temporaryFile(lines.join('')));
    expect(error.message).toMatch(/: 0 1 2 3 .* … \(5000 in all\)/);
    expect(error.message.length).toBeLessThan(1000);
  });
});

describe('times', () => {
  test('what is after its place comes out in order, within the window of the format', async () => {
    const times = Array.from({ length: 40_000 }, (_, n) => n + (n % 100 === 0 ? -Math.min(n, 5000) : 0));
    const lines = times.map((time, n) => `1,W,${String(n * 512)},512,${String(1577808144360767 + time)}\n`);
    const { requests } = await readWhole(temporaryFile(lines.join('')));
    expect(requests).toHaveLength(times.length);
    expect(requests.every(({ timeNs }, n) => timeNs >= (requests[n - 1]?.timeNs ?? 0))).toBe(true);
    const expected = times.toSorted((a, b) => a - b).map((time) => time * 1000);
    expect(requests.map(({ timeNs }) => timeNs)).toEqual(expected);
  });

  test('of equal times the order of the file stays', async () => {
    const lines = Array.from({ length: 1000 }, (_, n) => `1538323200,${String(n)},1,1,7\n`);
    const { requests } = await readWhole(temporaryFile(lines.join('')));
    expect(requests.every(({ offset }, n) => offset === n * 512)).toBe(true);
  });

  test('a request too far after its place is invalid', async () => {
    const lines = Array.from({ length: 25_000 }, (_, n) => `1,W,0,512,${String(1577808144360767 + n)}\n`);
    const path = temporaryFile(`${lines.join('')}1,W,0,512,1577808144360768\n`);
    const error = await faultOf(path);
    expect(error.line).toBe(25_001);
    expect(error.message).toMatch(/its time is [\d.]+ ms before .* more than 16384 requests earlier/);
    expect(await readWhole(path, { skipBad: true })).toMatchObject({ skippedCount: 1 });
  });
});

describe('what is no trace', () => {
  test.each<[string, string | Uint8Array, RegExp]>([
    ['an empty file', '', /is empty/],
    [
      'text',
      'hello\nworld\n',
      /is not a trace of a known format \(it starts with 'hello'\); give it with --trace-format/,
    ],
    ['bytes', Buffer.from([1, 2, 3, 4]), /is not a trace of a known format; give it with --trace-format/],
    ['bzip2', 'BZh91AY&SY', /is bzip2, which cannot be read directly: unpack it/],
    ['xz', Buffer.from([0xfd, 0x37, 0x7a, 0x58, 0x5a, 0]), /is xz, which/],
    ['a tar archive in gzip', gzipSync(tarOf('traces.csv')), /is a tar archive, which/],
  ])('%s', async (_, content, rule) => {
    const error = await faultOf(temporaryFile(content));
    expect(error.code).toBe('bad-trace');
    expect(error.message).toMatch(rule);
  });
});

function tarOf(name: string): Uint8Array {
  const header = Buffer.alloc(512);
  header.write(name, 0);
  header.write('ustar', 257);
  return header;
}
