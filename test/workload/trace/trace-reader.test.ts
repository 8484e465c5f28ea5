import { gzipSync, zstdCompressSync } from 'node:zlib';

import { describe, expect, test } from 'vitest';

import { openTrace } from '../../../src/workload/trace/trace-reader.ts';
import { testDirectory } from '../../test-directory.ts';
import { HEADER, faultOf, readWhole, temporaryFile } from './trace-files.ts';

const SAMPLE = `#qcow2-bench trace v1
#virtual-size 1073741824
#tool made by hand
#empty
# a remark
time_ns,op,offset,length,flags
0,write,0,4096,
1200,write,65536,4096,fua
# a comment
2400,flush,,,
3600,discard,131072,65536,
4800,write-zeroes,0,65536,unmap|fua
6000,read,0,4096,
`;

test('the sample of the format is read as it says', async () => {
  const trace = await readWhole(temporaryFile(SAMPLE));
  expect(trace.virtualSize).toBe(2 ** 30);
  expect([...trace.provenance]).toEqual([
    ['tool', 'made by hand'],
    ['empty', ''],
  ]);
  const plain = { fua: false, unmap: false };
  expect(trace.requests).toEqual([
    { op: 'write', offset: 0, length: 4096, ...plain, timeNs: 0 },
    { op: 'write', offset: 65536, length: 4096, fua: true, unmap: false, timeNs: 1200 },
    { op: 'flush', offset: 0, length: 0, ...plain, timeNs: 2400 },
    { op: 'discard', offset: 131072, length: 65536, ...plain, timeNs: 3600 },
    { op: 'write-zeroes', offset: 0, length: 65536, fua: true, unmap: true, timeNs: 4800 },
    { op: 'read', offset: 0, length: 4096, ...plain, timeNs: 6000 },
  ]);
});

test('lines may end as they do on Windows', async () => {
  const { requests } = await readWhole(temporaryFile(SAMPLE.replaceAll('\n', '\r\n')));
  expect(requests).toHaveLength(6);
  expect(requests[1]?.fua).toBe(true);
});

test('compression is detected from the content, whatever the name', async () => {
  const { requests } = await readWhole(temporaryFile(SAMPLE));
  expect((await readWhole(temporaryFile(gzipSync(SAMPLE), 'x.csv'))).requests).toEqual(requests);
  expect((await readWhole(temporaryFile(zstdCompressSync(SAMPLE), 'x.gz'))).requests).toEqual(requests);
});

test('a trace without requests is an error with what was passed over', async () => {
  expect(await faultOf(temporaryFile(HEADER))).toMatchObject({ code: 'no-requests' });
  const { message } = await faultOf(temporaryFile(`${HEADER}# a remark\n0,write,0,1,\n`), { skipBad: true });
  expect(message).toMatch(/has no requests; passed over: invalid lines or records 1, comment lines 1$/);
});

test('the header is known before the first request is asked for', async () => {
  await using trace = await openTrace(temporaryFile(SAMPLE));
  expect(trace).toMatchObject({ format: 'native', virtualSize: 2 ** 30 });
  expect(trace.provenance.get('tool')).toBe('made by hand');
});

describe('a broken header is an error that names path, line and rule', () => {
  const columns = 'time_ns,op,offset,length,flags\n';
  test.each<[string, string, number | undefined, RegExp]>([
    ['an empty file', '', undefined, /is empty; a trace starts with/],
    ['a foreign file', 'hello\n', 1, /the first line is not '#qcow2-bench trace v1'/],
    ['a later version', '#qcow2-bench trace v2\n', 1, /version 'v2' of the trace format is not supported/],
    ['no size', `#qcow2-bench trace v1\n${columns}`, 2, /has no '#virtual-size BYTES' line/],
    [
      'no column names',
      '#qcow2-bench trace v1\n#virtual-size 512\n',
      undefined,
      /ends before the line 'time_ns/,
    ],
    [
      'a request before the column names',
      '#qcow2-bench trace v1\n#virtual-size 512\n0,flush,,,\n',
      3,
      /expected a '#key value' line or/,
    ],
    [
      'a size that is no number',
      '#qcow2-bench trace v1\n#virtual-size 1GiB\n',
      2,
      /virtual size is not a number/,
    ],
    [
      'a size of 2^53',
      '#qcow2-bench trace v1\n#virtual-size 9007199254740992\n',
      2,
      /virtual size is not a number of bytes below 2\^53/,
    ],
    ['a size of no whole sectors', '#qcow2-bench trace v1\n#virtual-size 1000\n', 2, /not a multiple of 512/],
    [
      'two sizes',
      '#qcow2-bench trace v1\n#virtual-size 512\n#virtual-size 512\n',
      3,
      /a second '#virtual-size' line/,
    ],
    ['a fact twice', '#qcow2-bench trace v1\n#tool a\n#tool b\n', 3, /a second '#tool' line/],
    [
      'a header without end',
      `#qcow2-bench trace v1\n${Array.from({ length: 1001 }, (_, n) => `#k${String(n)} v\n`).join('')}`,
      1002,
      /more than 1000 header lines/,
    ],
    ['a first line without end', 'x'.repeat(5000), 1, /longer than 4096 bytes/],
  ])('%s', async (_, content, line, rule) => {
    const path = temporaryFile(content);
    for (const skipBad of [false, true]) {
      const error = await faultOf(path, { skipBad, format: 'native' });
      expect(error.code).toBe('bad-trace');
      expect(error.path).toBe(path);
      expect(error.line).toBe(line);
      expect(error.message).toMatch(rule);
    }
  });

  test('a file that is not there', async () => {
    const error = await faultOf(`${testDirectory()}/none`);
    expect(error.code).toBe('bad-trace');
    expect(error.message).toMatch(/none: no such file: check the path/);
  });
});

describe('a line that breaks a rule is an error with its number, or is skipped and counted', () => {
  test.each<[string, RegExp]>([
    ['5,rite,0,4096,', /the op is none of read, write, flush, discard, write-zeroes/],
    ['5,,0,4096,', /the op is none of/],
    ['x,write,0,4096,', /time_ns is not a whole number/],
    [',write,0,4096,', /time_ns is not a whole number/],
    ['-5,write,0,4096,', /time_ns is not a whole number/],
    ['9007199254740993,write,0,4096,', /time_ns is not a whole number below 2\^53/],
    ['4,write,0,4096,', /time 4 is before 5, the time of the previous request/],
    ['5,write,zero,4096,', /offset is not a whole number/],
    ['5,write,,4096,', /offset is not a whole number/],
    ['5,write,1e3,4096,', /offset is not a whole number/],
    ['5,write,0,,', /length is not a whole number/],
    ['5,write,0,0x200,', /length is not a whole number/],
    ['5,write,0,99999999999999999999999,', /length is not a whole number below 2\^53/],
    ['5,write,0,0,', /a write of length 0/],
    ['5,write,100,4096,', /offset 100 is not a multiple of 512/],
    ['5,read,0,4097,', /length 4097 is not a multiple of 512/],
    ['5,write,1048576,512,', /ends at 1049088, past the device's end at 1048576/],
    ['5,discard,512,1048576,', /past the device's end/],
    [
      '5,write,9007199254740480,9007199254740480,',
      /the request ends at 18014398509480960, past the device's end/,
    ],
    ['5,write,0,33554944,', /the request ends at 33554944, past the device's end/],
    ['5,write-zeroes,0,4294967808,', /the request ends at 4294967808, past the device's end/],
    ['5,write', /fewer than the five fields/],
    ['5,write,0,4096', /fewer than the five fields/],
    ['5,flush', /fewer than the five fields/],
    ['5,flush,,', /fewer than the five fields/],
    ['5,flush,512,,', /a flush has no offset and no length/],
    ['5,flush,,,fua', /a flush has no flags/],
    ['5,read,0,4096,fua', /a read has no flags/],
    ['5,write,0,4096,unmap', /the only flag of a write is fua/],
    ['5,discard,0,4096,unmap', /the only flag of a discard is fua/],
    ['5,write-zeroes,0,4096,fua|', /the flags of a write-zeroes are fua and unmap/],
    ['5,write-zeroes,0,4096,|fua', /the flags of a write-zeroes are/],
    ['5,write,0,4096,fua,', /the only flag of a write is fua/],
    ['5,write,0,4096,fu', /the only flag of a write is fua/],
  ])('%s', expectBadLine);

  test('a line of more than 4096 bytes', () =>
    expectBadLine(`5,write,0,4096,${'f'.repeat(5000)}`, /the line is longer than 4096 bytes/));

  /** The line as line 6 of a file, between a flush and a read that are good. */
  async function expectBadLine(line: string, rule: RegExp): Promise<void> {
    const path = temporaryFile(`${HEADER}5,flush,,,\n\n${line}\n6,read,0,512,\n`);
    const error = await faultOf(path);
    expect(error.code).toBe('bad-trace');
    expect(error.path).toBe(path);
    expect(error.line).toBe(6);
    expect(error.message).toMatch(rule);

    const skipped = await readWhole(path, { skipBad: true });
    expect(skipped.skippedCount).toBe(1);
    expect(skipped.requests.map(({ op }) => op)).toEqual(['flush', 'read']);
  }
});

describe('a file that was cut short is an error, also with skipBad', () => {
  test('plain: the last line lacks its line feed', async () => {
    const path = temporaryFile(`${HEADER}0,write,0,4096,`);
    for (const skipBad of [false, true]) {
      const error = await faultOf(path, { skipBad });
      expect(error.line).toBe(4);
      expect(error.message).toMatch(/the last line does not end with a line feed: the file is truncated/);
    }
  });

  test.each([
    ['gzip', gzipSync],
    ['Zstandard', zstdCompressSync],
  ] as const)('%s: wherever it is cut', async (_, compress) => {
    const lines = Array.from(
      { length: 3000 },
      (__, n) => `${String(n * 7919)},write,${String(((n * 31) % 2000) * 512)},512,\n`,
    );
    const packed = compress(HEADER + lines.join(''));
    for (const share of [0.01, 0.3, 0.6, 0.9, 0.999]) {
      const cut = packed.subarray(0, Math.max(6, Math.floor(packed.length * share)));
      const error = await faultOf(temporaryFile(cut), { skipBad: true });
      expect(error.code).toBe('bad-trace');
      expect(error.message).toMatch(/the compressed file is damaged or truncated/);
    }
  });

  test('damage inside a compressed file is an error', async () => {
    const packed = gzipSync(SAMPLE);
    packed.fill(0xff, 30, 60);
    expect((await faultOf(temporaryFile(packed))).message).toMatch(/damaged or truncated/);
  });
});

describe('streaming', () => {
  const many = (count: number) =>
    HEADER +
    Array.from({ length: count }, (_, n) => `${String(n)},write,${String((n % 2048) * 512)},512,\n`).join('');

  test('lines are whole whatever chunks they come in, and batches are small', async () => {
    const trace = await readWhole(temporaryFile(many(50_000)));
    expect(trace.requests).toHaveLength(50_000);
    expect(trace.requests.every(({ timeNs, offset }, n) => timeNs === n && offset === (n % 2048) * 512)).toBe(
      true,
    );
    expect(trace.batchSizeMax).toBeLessThanOrEqual(4096);
  });

  test('a limit ends the trace, and what is behind it is not looked at', async () => {
    const path = temporaryFile(`${many(5000)}garbage`);
    const { requests } = await readWhole(path, { limit: 4097 });
    expect(requests).toHaveLength(4097);
    expect((await readWhole(path, { limit: 0 })).requests).toEqual([]);
  });

  test('a reader that stops early lets go of the file', async () => {
    await using trace = await openTrace(temporaryFile(gzipSync(many(50_000))));
    for await (const batch of trace.batches) {
      expect(batch.length).toBeGreaterThan(0);
      break;
    }
    const again: unknown[] = [];
    for await (const batch of trace.batches) again.push(batch);
    expect(again).toEqual([]);
  });
});
