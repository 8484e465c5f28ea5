/** What the tools print beside requests, and in how many ways: read, or an error, never gone. */

import { describe, expect, test } from 'vitest';

import { TRACE_FORMATS } from '../../../src/workload/trace/trace-formats.ts';
import { faultOf, inWords, readWhole, temporaryFile } from './trace-files.ts';

const words = async (content: string | Uint8Array, options = {}) =>
  (await readWhole(temporaryFile(content), options)).requests.map(inWords);

describe('blkparse', () => {
  const event = (sector: number) =>
    `  8,0    0        1     0.000001000   100  Q  WS ${String(sector)} + 8 [dd]`;
  /** As blkparse 1.2.0 prints them, with `-s`, under `script`, and one such output after another. */
  const others = [
    'Script started on 2026-11-30 12:16:49+00:00 [COMMAND="blkparse -i t" <not executed on terminal>]',
    'Input file t.blktrace.0 added\r',
    'cpu 1 trace info has error cpu 0',
    event(8),
    'dd (100)',
    'kworker/0:1H (12, ...)',
    ' Reads Queued:           1,        4KiB\t Writes Queued:           1,        4KiB',
    ' Read depth:             1        \t Write depth:             2',
    ' PC Read Disp.:          0,        0KiB\t PC Write Disp.:          0,        0KiB',
    ' IO unplugs:             0        \t Timer unplugs:           0',
    ' Allocation wait:        0        \t Allocation wait:         0',
    '',
    'CPU0 (t):',
    'Total (t):',
    'Throughput (R/W): 0KiB/s / 0KiB/s',
    'Events (t): 17 entries',
    'Skips: 0 forward (0 -   0.0%)',
    'Input file u.blktrace.0 added',
    event(16),
    'Script done on 2026-11-30 12:16:49+00:00 [COMMAND_EXIT_CODE="0"]',
  ];

  test('summaries, messages and the words of script, before, between and after events', async () => {
    const trace = await readWhole(temporaryFile(`${others.join('\n')}\n`));
    expect(trace.requests.map(inWords)).toEqual(['write 4096+4096 @0', 'write 8192+4096 @0']);
    expect(trace.passedOver).toEqual([
      { what: "lines of blkparse's own", count: 5 },
      { what: 'summary lines', count: 12 },
    ]);
  });

  test.each([
    '  8,0    0        1     0.000001000   100  Q  WS 8 + [dd]',
    '  8,0    0        1     0.000001000   100  Q  WS 8x + 8 [dd]',
    '  8,0    0        1     0.000001000   100  Q  WS 8 8 [dd]',
    '  8,0    0        1     0.000001000   100  Q',
    '  8,0    0        1     0.000001000   100  Y  WS 8 + 8 [dd]',
    '  8,0    0        1     0.000001000   1x0  Q  WS 8 + 8 [dd]',
    '    0        1     0.000001000   100  Q  WS 8 + 8 [dd]',
    '  Q  WS 8 + 8 [dd]',
    'dd: no such file',
  ])('a garbled line is an error: %s', async (line) => {
    const error = await faultOf(temporaryFile(`${event(8)}\n${line}\n${event(16)}\n`));
    expect(error.line).toBe(2);
    expect(error.message).toMatch(/is not a blkparse event/);
    expect((await readWhole(temporaryFile(`${event(8)}\n${line}\n`), { skipBad: true })).skippedCount).toBe(
      1,
    );
  });

  test('an event without a place moves no data, and is counted', async () => {
    const line = '  8,0    0        1     0.000001000   100  Q   R [dd]';
    const { passedOver } = await readWhole(temporaryFile(`${event(8)}\n${line}\n`));
    expect(passedOver).toEqual([{ what: 'events without data', count: 1 }]);
  });

  test('skips of the tracer are an error', async () => {
    const error = await faultOf(temporaryFile(`${event(8)}\nSkips: 12 forward (3,456 -  10.0%)\n`));
    expect(error.message).toMatch(/the tracer lost events/);
  });
});

test('a byte order mark is before the text of any format', async () => {
  const MARK = '\ufeff';
  const samples = [
    '#qcow2-bench trace v1\n#virtual-size 1048576\ntime_ns,op,offset,length,flags\n0,write,0,512,\n',
    'fio version 2 iolog\nf write 0 512\n',
    '  8,0 3 1 0.000000000 697 Q W 0 + 1 [x]\n',
    '128166372003061629,hm,0,Write,0,512,113736\n',
    'Timestamp,Hostname,DiskNumber,Type,Offset,Size,ResponseTime\r\n128166372003061629,hm,0,Write,0,512,1\r\n',
    '419,W,0,512,1577808144360767\n',
    'blk_co_pwritev blk 0x55d0 bs 0x5581f2 offset 0 bytes 512 flags 0x0\n',
  ];
  for (const sample of samples) {
    expect(await words(MARK + sample)).toEqual(['write 0+512 @0']);
    expect(await words(sample)).toEqual(['write 0+512 @0']);
  }
  const utf16 = await faultOf(temporaryFile(Buffer.from(`${MARK}419,W,0,512,1\n`, 'utf16le')));
  expect(utf16.message).toMatch(/is UTF-16 text: convert it/);
});

test('column names of MSR are passed over and counted', async () => {
  const columns = 'Timestamp,Hostname,DiskNumber,Type,Offset,Size,ResponseTime\n';
  const trace = await readWhole(temporaryFile(`${columns}128166372003061629,hm,0,Read,0,512,1\n`));
  expect(trace.format).toBe('msr');
  expect(trace.passedOver).toEqual([{ what: 'column names', count: 1 }]);
  const none = await faultOf(temporaryFile(columns));
  expect(none.message).toMatch(/has no requests; passed over: column names 1/);
});

describe('QEMU', () => {
  const event = 'blk_co_pwritev blk 0x55d0 bs 0x5581f2 offset 0 bytes 512 flags 0x0';

  test.each([
    ['2026-03-01T12:00:00.000100Z ', '2026-03-01T12:00:00.000600Z '],
    ['2026-03-01T14:00:00.000100+02:00 ', '2026-03-01T12:00:00.000600Z '],
    ['2026-03-01T12:00:00.000100Z 77@1772366400.000100:', '2026-03-01T12:00:00.9Z 77@1772366400.000600:'],
    ['77@1772366400.000100:', '77@1772366400.000600:'],
    [
      '2026-03-01T12:00:00.000100Z [a guest] qemu-system-x86_64: (77:main): ',
      '2026-03-01T12:00:00.000600Z [a guest] qemu-system-x86_64: (78:IO iothread1): ',
    ],
  ])('a time before the event: %s', async (one, other) => {
    expect(await words(`${one}${event}\n${other}${event}\n`)).toEqual([
      'write 0+512 @0',
      'write 0+512 @500000',
    ]);
  });

  test.each(['77:', '[77] ', 'qemu-img: (77:qemu-img): '])('no time, but %s', async (prefix) => {
    expect(await words(`${prefix}${event}\n`)).toEqual(['write 0+512 @0']);
  });

  test('other events and what its tools print are counted; a garbled event is an error', async () => {
    const log =
      `QEMU 7.2.22 monitor - type 'help' for more information\n${event}\nwrote 512/512 bytes at offset 0\n` +
      '512 bytes, 1 ops; 00.02 sec (207.045 KiB/sec)\nblk_root_attach child 0x1 blk 0x2 bs 0x3\n';
    const trace = await readWhole(temporaryFile(log));
    expect(trace.requests).toHaveLength(1);
    expect(trace.passedOver).toEqual([
      { what: 'lines of other output', count: 3 },
      { what: 'events blk_root_attach', count: 1 },
    ]);
    for (const part of [event.slice(3), event.replace('offset 0', 'offset'), event.slice(0, 40)]) {
      expect((await faultOf(temporaryFile(`${event}\n${part}\n`))).line).toBe(2);
    }
  });
});

describe('fio', () => {
  test('tabs, padding, syncfs and sync_file_range', async () => {
    const log =
      'fio version 3 iolog\n0\tf\tadd\n 10  f   write\t 0   512\n20 f sync_file_range 0 512\n30 f syncfs 0 0\n';
    const trace = await readWhole(temporaryFile(log));
    expect(trace.requests.map(inWords)).toEqual(['write 0+512 @10000', 'flush @30000']);
    expect(trace.passedOver).toContainEqual({ what: 'sync_file_range', count: 1 });
  });

  test('times since 1970 count from the first line, and the order of the file stays', async () => {
    const from = 1_700_000_000_000_000;
    const at = (us: number, rest: string) => `${String(from + us)} f ${rest}\n`;
    const log = `fio version 3 iolog\n${at(0, 'add')}${at(50, 'write 0 512')}${at(40, 'read 512 512')}${at(60, 'sync')}`;
    const trace = await readWhole(temporaryFile(log));
    expect(trace.requests.map(inWords)).toEqual([
      'write 0+512 @50000',
      'read 512+512 @50000',
      'flush @60000',
    ]);
    expect(trace.adjusted).toEqual([{ what: 'times that step back', count: 1 }]);
  });
});

describe("nbdkit's log that goes on after its server was killed", () => {
  const at = (second: number, rest: string) =>
    `2026-03-01 12:00:${String(second).padStart(2, '0')}.000000 ${rest}\n`;
  const connect = (second: number) => at(second, 'connection=1 Connect export="" tls=0 size=0x100000');
  const killed =
    connect(1) +
    at(2, 'connection=1 Write id=1 offset=0x0 count=0x200 fua=0 ...') +
    at(3, 'connection=1 ...Write id=1 return=0') +
    at(4, 'connection=1 Write id=2 offset=0x200 count=0x200 fua=0 ...');
  const again =
    at(6, 'connection=1 Flush id=1 ...') +
    at(7, 'connection=1 ...Flush id=1 return=0') +
    at(8, 'connection=1 Flush id=2 ...') +
    at(9, 'connection=1 ...Flush id=2 return=0');

  test.each([
    ['Ready and Connect', at(5, 'Ready thread_model=3') + connect(5)],
    ['Connect alone', connect(5)],
  ])('what was not answered is not done, and what begins again is: %s', async (_, begins) => {
    for (const skipBad of [false, true]) {
      const trace = await readWhole(temporaryFile(killed + begins + again), { skipBad });
      expect(trace.requests.map(inWords)).toEqual([
        'write 0+512 @0',
        'flush @4000000000',
        'flush @6000000000',
      ]);
      expect({ failed: trace.failedCount, skipped: trace.skippedCount }).toEqual({ failed: 1, skipped: 0 });
    }
  });

  test('another connection is not touched by a Connect', async () => {
    const log =
      killed +
      at(5, 'connection=2 Connect export="" tls=0 size=0x100000') +
      at(6, 'connection=1 ...Write id=2 return=0');
    expect((await readWhole(temporaryFile(log))).requests).toHaveLength(2);
  });
});

describe('a file that may be of several formats is not guessed', () => {
  test('five small numbers', async () => {
    const error = await faultOf(temporaryFile('1,2,8,0,5\n2,16,8,1,5\n'));
    expect(error.code).toBe('ambiguous-trace');
    expect(error.message).toMatch(/may be .*tencent.*; give it with --trace-format/);
    expect(await words('1,2,8,0,5\n2,16,8,1,5\n', { format: 'tencent' })).toEqual([
      'read 1024+4096 @0',
      'write 8192+4096 @1000000000',
    ]);
  });

  test.each([
    ['msr', '5,hm,0,Read,0,512,1\n'],
    ['alibaba', '419,W,0,512,15\n'],
  ] as const)('%s with times that are not its own', async (format, line) => {
    expect((await faultOf(temporaryFile(line))).message).toMatch(`may be ${format}: `);
    expect(TRACE_FORMATS).toContain(format);
    expect(await words(line, { format })).toHaveLength(1);
  });
});
