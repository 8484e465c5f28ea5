/** `trace info`, `trace convert`, `trace slice` and the options of traces, as a user types them. */

import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';

import { describe, expect, test } from 'vitest';

import { testDirectory } from '../test-directory.ts';
import { blktraceEvent } from '../workload/trace/binary-traces.ts';
import { callCli } from './call-cli.ts';
import { errorLine, linesOf, MAIN } from './cli-process.ts';

const NATIVE =
  '#qcow2-bench trace v1\n#virtual-size 1073741824\n#tool by hand\ntime_ns,op,offset,length,flags\n' +
  '0,write,0,4096,\n1000,write,65536,4096,fua\n2000000,flush,,,\n3000000,discard,131072,65536,\n' +
  '4000000,write-zeroes,0,65536,unmap\n5000000,read,512,512,\n6000000,write,1048576,131072,\n7000000,write,0,4096,\n';

const MSR = [
  '128166372003061629,hm,0,Write,0,4096,113736',
  '128166372003061630,hm,1,Write,4096,4096,113736',
  '128166372003061631,hm,0,Read,8192,4096,113736',
  '128166372003061632,hm,1,Read,8191,4096,113736',
].join('\n');

function folderWith(files: Readonly<Record<string, string | Uint8Array>>): string {
  const folder = testDirectory();
  for (const [name, content] of Object.entries(files)) writeFileSync(join(folder, name), content);
  return folder;
}

test('trace info reads a pipe; what reads a trace more often refuses it', () => {
  const run = (...words: readonly string[]) =>
    spawnSync(process.execPath, [MAIN, ...words], { input: NATIVE, encoding: 'utf8' });
  const { status, stdout, stderr } = run('trace', 'info', '-', '--json');
  expect(status, stderr).toBe(0);
  expect(JSON.parse(stdout)).toMatchObject({ trace: '-', format: 'native', writes: 4, flushes: 1 });
  for (const words of [
    ['trace', 'convert', '-', join(testDirectory(), 'out.trace.csv')],
    ['replay', '-'],
  ]) {
    const refused = run(...words);
    expect(refused.status).toBe(1);
    expect(refused.stderr).toMatch(/reads a trace more than once: write it to a file first/);
  }
});

async function expectError(
  folder: string,
  words: readonly string[],
  pattern: RegExp,
  code = 1,
): Promise<void> {
  const ended = await callCli(folder, ...words);
  expect(errorLine(ended)).toMatch(pattern);
  expect(ended.code).toBe(code);
  expect(ended.stdout).toBe('');
}

describe('trace info', () => {
  test('figures as JSON', async () => {
    const { stdout, code } = await callCli(folderWith({ t: NATIVE }), 'trace', 'info', 't', '--json');
    expect(code).toBe(0);
    expect(JSON.parse(stdout)).toMatchObject({
      trace: 't',
      format: 'native',
      virtualSize: 2 ** 30,
      virtualSizeIsRecorded: true,
      requests: 8,
      reads: 1,
      writes: 4,
      flushes: 1,
      discards: 1,
      writeZeroes: 1,
      fuaWrites: 1,
      bytes: 512 + 3 * 4096 + 131072,
      readBytes: 512,
      durationNs: 7_000_000,
      allocatingWrites: 3,
      clusterSize: 65536,
      clusters: 4,
      allocatingShare: 0.75,
      readShare: 0.2,
      footprintBytes: 65536 + 4096 + 131072,
      writtenBytes: 4096 + 4096 + 131072,
      endOffset: 1048576 + 131072,
      alignments: [
        { bytes: 512, reads: 1, writes: 0 },
        { bytes: 4096, reads: 0, writes: 3 },
        { bytes: 131072, reads: 0, writes: 1 },
      ],
      provenance: { tool: 'by hand' },
    });
  });

  test('a recording that ships is known by its name, as in replay', async () => {
    const words = ['trace', 'info', 'sqlite-wal', '--limit', '10', '--json'];
    const { stdout } = await callCli(folderWith({}), ...words);
    expect(JSON.parse(stdout)).toMatchObject({ format: 'native', requests: 10 });
  });

  test('the cluster size decides what allocates', async () => {
    const words = ['trace', 'info', 't', '--json', '--cluster-size', '2MiB'];
    const { stdout } = await callCli(folderWith({ t: NATIVE }), ...words);
    expect(JSON.parse(stdout)).toMatchObject({ allocatingWrites: 1, clusters: 1, clusterSize: 2 ** 21 });
  });

  test('a picture without colour, in lines that fit', async () => {
    const { stdout } = await callCli(folderWith({ t: NATIVE }), 'trace', 'info', 't');
    expect(stdout).toMatch(/8 requests in 7 ms/);
    expect(stdout).toMatch(/1 GiB │/);
    expect(stdout).toMatch(/░▒▓█ writes {3}·: only reads/);
    expect(stdout).not.toContain('\u001b');
    expect(Math.max(...linesOf(stdout).map((line) => line.length))).toBeLessThanOrEqual(100);
  });

  test('says what the format does not hold', async () => {
    const folder = folderWith({ 'hm.csv': `${MSR}\n` });
    const { stdout } = await callCli(folder, 'trace', 'info', 'hm.csv', '--volume', 'hm_0');
    expect(stdout).toMatch(/flushes +not recorded in this format/);
    expect(stdout).toMatch(/1 MiB \(1,048,576 bytes\), from the last request/);
    expect(stdout).toMatch(/skipped +2 requests of other volumes/);
  });

  test('several volumes, an unknown one, a bad line, garbage, nothing', async () => {
    const folder = folderWith({ 'hm.csv': `${MSR}\n`, garbage: 'no trace\n', bz: 'BZh91AY', empty: '' });
    const info = ['trace', 'info'];
    await expectError(
      folder,
      [...info, 'hm.csv'],
      /hm\.csv: has requests of several volumes.*: hm_0 hm_1 \[[a-z-]+\]$/,
    );
    await expectError(
      folder,
      [...info, 'hm.csv', '--volume', 'x'],
      /no request of the volume 'x'; it has hm_0 hm_1/,
    );
    const bad = /hm\.csv, line 4: offset 8191 is not a multiple of 512/;
    await expectError(folder, [...info, 'hm.csv', '--volume', 'hm_1'], bad);
    const skipped = await callCli(folder, ...info, 'hm.csv', '--volume', 'hm_1', '--skip-bad', '--json');
    expect(JSON.parse(skipped.stdout)).toMatchObject({ requests: 1, skipped: 1, otherVolumes: 2 });
    await expectError(
      folder,
      [...info, 'garbage'],
      /is not a trace of a known format \(it starts with 'no trace'\)/,
    );
    await expectError(
      folder,
      [...info, 'garbage', '--trace-format', 'msr'],
      /garbage, line 1: the timestamp is not/,
    );
    await expectError(folder, [...info, 'bz'], /is bzip2, .* unpack it \(bzip2 -dc\)/);
    await expectError(folder, [...info, 'empty'], /empty: is empty/);
    await expectError(folder, [...info, 'none'], /none: no such file: check the path/);
    await expectError(
      folder,
      [...info, 'hm.csv', '--trace-format', 'x'],
      /--trace-format: invalid value 'x'; .* msr,/,
      2,
    );
    await expectError(folder, [...info, 'hm.csv', '--size', '1000'], /--size: invalid value '1000'/, 2);
    await expectError(folder, ['trace'], /trace needs a command; expected info, convert or slice/, 2);
    await expectError(folder, ['trace', 'show', 'x'], /unknown command 'trace show'/, 2);
    await expectError(folder, [...info], /an argument is missing: qcow2-bench trace info TRACE/, 2);
  });
});

describe('trace convert', () => {
  test('refuses to drop anything, and with --lossy counts what it drops by name', async () => {
    const folder = folderWith({ t: NATIVE });
    const convert = ['trace', 'convert', 't', 'out.iolog', '--to', 'fio-v2'];
    const what =
      /fio-v2 cannot store all of this trace: 1 FUA flags; 1 times, truncated to ms; 1 write-zeroes, which become writes; 1 unmap flags; 1 size of the device; 1 lines of provenance; use --lossy/;
    await expectError(folder, convert, what);
    expect(readdirSync(folder)).toEqual(['t']);

    const { stdout } = await callCli(folder, ...convert, '--lossy', '--json');
    const { requests, written, dropped } = JSON.parse(stdout) as Record<string, unknown>;
    expect({ requests, written }).toEqual({ requests: 8, written: 8 });
    expect(dropped).toHaveLength(6);
    expect(readFileSync(join(folder, 'out.iolog'), 'utf8').split('\n').slice(0, 5)).toEqual([
      'fio version 2 iolog',
      'disk add',
      'disk open',
      'disk write 0 4096',
      'disk write 65536 4096',
    ]);
  });

  test('a conversion that loses nothing and back gives the same trace', async () => {
    const events = [
      blktraceEvent({ timeNs: 5000, category: ['write'], sector: 8, bytes: 4096 }),
      blktraceEvent({ timeNs: 7000, category: ['write', 'discard'], sector: 0, bytes: 512 }),
      blktraceEvent({ timeNs: 9000, category: ['write', 'flush'] }),
    ];
    const folder = folderWith({ 'sda.blktrace.0': Buffer.concat(events) });
    const first = await callCli(folder, 'trace', 'convert', 'sda', 'a.iolog', '--to', 'fio-v3');
    expect(first.stdout).toBe('a.iolog: 3 requests, fio-v3\n');
    await callCli(folder, 'trace', 'convert', 'a.iolog', 'b.csv.gz');
    expect(gunzipSync(readFileSync(join(folder, 'b.csv.gz'))).toString()).toBe(
      '#qcow2-bench trace v1\n#virtual-size 1048576\n#converted-from fio-v3\n#volume disk\ntime_ns,op,offset,length,flags\n' +
        '0,write,4096,4096,\n2000,discard,0,512,\n4000,flush,,,\n',
    );
  });

  test('nothing is overwritten without --overwrite, and a failure leaves what was there', async () => {
    const folder = folderWith({ t: NATIVE, out: 'precious', broken: `${NATIVE}x\n` });
    await expectError(
      folder,
      ['trace', 'convert', 't', 'out'],
      /out: file exists; use --overwrite to replace it/,
    );
    await expectError(
      folder,
      ['trace', 'convert', 't', 't', '--overwrite'],
      /OUT t is the same file as TRACE t/,
      2,
    );
    await expectError(
      folder,
      ['trace', 'convert', 'broken', 'out', '--overwrite'],
      /broken, line 13: time_ns is not/,
    );
    expect(readFileSync(join(folder, 'out'), 'utf8')).toBe('precious');
    await expectError(folder, ['trace', 'convert', 'broken', 'new'], /broken, line 13/);
    expect(readdirSync(folder).toSorted()).toEqual(['broken', 'out', 't']);
    const { code } = await callCli(folder, 'trace', 'convert', 't', 'out', '--overwrite');
    expect(code).toBe(0);
    expect(readFileSync(join(folder, 'out'), 'utf8')).toBe(NATIVE);
    expect(readdirSync(folder).toSorted()).toEqual(['broken', 'out', 't']);
  });

  test('a folder, and a place where nothing can be', async () => {
    const folder = folderWith({ t: NATIVE });
    await expectError(folder, ['trace', 'convert', 't', '.'], /cannot be written|is a directory/);
    await expectError(folder, ['trace', 'convert', 't', 't/out'], /is not a directory/);
    await expectError(folder, ['trace', 'convert', 't', 'o', '--to', 'msr'], /--to: invalid value 'msr'/, 2);
  });

  test('a dm-log-writes log has holes for data', async () => {
    const folder = folderWith({ t: NATIVE });
    const { stdout } = await callCli(
      folder,
      'trace',
      'convert',
      't',
      'log',
      '--to',
      'dm-log-writes',
      '--lossy',
    );
    expect(stdout).toMatch(/log: 7 requests, dm-log-writes\ndropped: .*1 reads/);
    const { size, blocks } = statSync(join(folder, 'log'));
    expect(size).toBe(512 * 8 + 3 * 4096 + 65536 + 131072);
    expect(blocks * 512).toBeLessThan(size / 2);
  });
});

describe('trace slice', () => {
  const slice = async (...words: readonly string[]) => {
    const folder = folderWith({ t: NATIVE });
    const { code } = await callCli(folder, 'trace', 'slice', 't', 'out', ...words);
    expect(code).toBe(0);
    return linesOf(readFileSync(join(folder, 'out'), 'utf8')).slice(4);
  };

  test('by time: the span begins at 0', async () => {
    const lines = ['0,flush,,,', '1000000,discard,131072,65536,', '2000000,write-zeroes,0,65536,unmap'];
    expect(await slice('--from', '2ms', '--until', '5ms')).toEqual(lines);
  });

  test('by count, within the span', async () => {
    expect(await slice('--limit', '2')).toEqual(['0,write,0,4096,', '1000,write,65536,4096,fua']);
    expect(await slice('--skip', '7')).toEqual(['7000000,write,0,4096,']);
    expect(await slice('--from', '2ms', '--skip', '1', '--limit', '1')).toEqual([
      '1000000,discard,131072,65536,',
    ]);
    const nothing = /t: none of its requests is selected: change --from, --until, --skip or --limit/;
    await expectError(folderWith({ t: NATIVE }), ['trace', 'slice', 't', 'out', '--from', '1h'], nothing);
  });

  test('by volume, and what has no times refuses them', async () => {
    const folder = folderWith({
      'hm.csv': `${MSR}\n`,
      q: 'blk_co_preadv blk 0x1 bs 0x2 offset 0 bytes 512 flags 0x0\n',
    });
    await callCli(folder, 'trace', 'slice', 'hm.csv', 'out', '--volume', 'hm_0');
    expect(linesOf(readFileSync(join(folder, 'out'), 'utf8')).slice(-2)).toEqual([
      '0,write,0,4096,',
      '200,read,8192,4096,',
    ]);
    await callCli(folder, 'trace', 'convert', 'out', 'log', '--to', 'dm-log-writes', '--lossy');
    const noTimes = /log: dm-log-writes has no times/;
    await expectError(folder, ['trace', 'slice', 'log', 'x', '--from', '1s'], noTimes);
    expect(existsSync(join(folder, 'x'))).toBe(false);
    const usage = /--from: invalid value '1 minute'; expected a number with ns, us, ms, s, m or h/;
    await expectError(folder, ['trace', 'slice', 'out', 'x', '--from', '1 minute'], usage, 2);
  });
});

describe('what a trace reads before it writes', () => {
  const READS = ['Read,0,65536', 'Read,131072,4096', 'Write,0,4096', 'Read,0,4096'].map(
    (request, time) => `12816637200306162${String(time)},hm,0,${request},1`,
  );
  const cells = [
    '--format',
    'raw,qcow2',
    '--refcounts',
    'eager',
    '--cache',
    'none',
    '--samples',
    '0',
    '--json',
  ];
  interface Line {
    readonly cell: { readonly format: string; readonly fill?: string };
    readonly counts: {
      readonly run: {
        readonly reads: { readonly byPurpose: { readonly data?: { readonly bytes: number } } };
      };
    };
    readonly fallbacks: readonly string[];
  }
  const dataRead = (line: Line | undefined) => line?.counts.run.reads.byPurpose.data?.bytes;
  const replayed = async (...words: readonly string[]): Promise<readonly Line[]> => {
    const folder = folderWith({ 'hm.csv': `${READS.join('\n')}\n`, t: NATIVE });
    const { stdout, code } = await callCli(folder, 'replay', ...words, ...cells);
    expect(code).toBe(0);
    return (JSON.parse(stdout) as { readonly cells: readonly Line[] }).cells;
  };

  test('is written before the run of a foreign trace, and the result has it', async () => {
    const [raw, qcow2] = await replayed('hm.csv');
    expect(raw?.cell).toMatchObject({ format: 'raw', fill: 'reads' });
    expect(dataRead(raw)).toBe(65536 + 4096 + 4096);
    expect(dataRead(qcow2)).toBe(65536 + 4096 + 4096);
    expect(qcow2?.fallbacks.join()).toMatch(/68 KiB that the trace reads before it writes were written/);
  });

  test('stays unwritten with --fill-reads off, and in a native trace', async () => {
    const [raw, qcow2] = await replayed('hm.csv', '--fill-reads', 'off');
    expect(raw?.cell.fill).toBeUndefined();
    expect(dataRead(raw)).toBe(65536 + 4096 + 4096);
    expect(dataRead(qcow2)).toBe(4096);
    expect((await replayed('t'))[0]?.cell.fill).toBeUndefined();
  });

  test('is a share in trace info', async () => {
    const folder = folderWith({ 'hm.csv': `${READS.join('\n')}\n` });
    const { stdout } = await callCli(folder, 'trace', 'info', 'hm.csv');
    expect(stdout).toMatch(/unwritten +68 KiB \(94%\) of what is read was not written before/);
    const json = await callCli(folder, 'trace', 'info', 'hm.csv', '--json');
    expect(JSON.parse(json.stdout)).toMatchObject({
      unwrittenReadBytes: 69632,
      unwrittenReadShare: 69632 / 73728,
    });
  });

  test('a trace of reads alone has figures in its table', async () => {
    const folder = folderWith({ 'r.csv': `${READS.filter((line) => line.includes('Read')).join('\n')}\n` });
    const words = ['--format', 'raw,qcow2', '--refcounts', 'eager', '--cache', 'none', '--samples', '0'];
    const { stdout } = await callCli(folder, 'replay', 'r.csv', ...words);
    expect(stdout).toMatch(/Host reads\/read +Host B\/read/);
    expect(stdout).toMatch(/raw +1\.00 +24,576/);
  });
});

describe('replay takes the same options', () => {
  test('one volume of several, with a size', async () => {
    const folder = folderWith({ 'hm.csv': `${MSR}\n` });
    const cell = ['--format', 'raw', '--cache', 'unsafe', '--samples', '0', '--json'];
    await expectError(folder, ['replay', 'hm.csv', ...cell], /several volumes/);
    const { stdout, code } = await callCli(
      folder,
      'replay',
      'hm.csv',
      '--volume',
      'hm_0',
      '--size',
      '64MiB',
      ...cell,
    );
    expect(code).toBe(0);
    expect(stdout).toMatch(/"writes":1,/);
  });

  test('a request longer than a disk takes at once is split, and the result has how many', async () => {
    const folder = folderWith({ log: 'fio version 2 iolog\nf write 0 67108864\nf write 0 4096\n' });
    const words = ['replay', 'log', '--format', 'raw', '--cache', 'unsafe', '--samples', '0', '--json'];
    const whole = await callCli(folder, ...words);
    expect(whole.stdout).toMatch(/"writes":3,/);
    expect(whole.stdout).toMatch(/1 request longer than 32MiB \(--max-transfer\) split/);
    expect(whole.stdout).not.toContain('"maxTransfer"');
    // Its counts are of other requests: it is another cell.
    const split = (await callCli(folder, ...words, '--max-transfer', '1MiB')).stdout;
    expect(split).toMatch(/"writes":65,/);
    expect(split).toContain('"maxTransfer":1048576');
    await expectError(
      folder,
      [...words, '--max-transfer', '33MiB'],
      /--max-transfer: invalid value '33MiB'/,
      2,
    );
  });

  test('what fio cannot say in a line is several, and counted', async () => {
    const native =
      '#qcow2-bench trace v1\n#virtual-size 8589934592\ntime_ns,op,offset,length,flags\n0,discard,0,8589934592,\n';
    const folder = folderWith({ t: native });
    const convert = ['trace', 'convert', 't', 'log', '--to', 'fio-v3'];
    await expectError(folder, convert, /1 requests of 4GiB or more, which become several/);
    await callCli(folder, ...convert, '--lossy');
    expect(readFileSync(join(folder, 'log'), 'utf8').match(/trim/g)).toHaveLength(3);
    const { stdout } = await callCli(folder, 'trace', 'info', 'log', '--json');
    expect(JSON.parse(stdout)).toMatchObject({ discards: 3, discardBytes: 2 ** 33 });
  });

  test('blktrace by its base name', async () => {
    const events = blktraceEvent({ timeNs: 5000, category: ['write'], sector: 8, bytes: 4096 });
    const folder = folderWith({ 'sda.blktrace.0': events, 'sda.blktrace.1': events });
    const words = ['replay', 'sda', '--format', 'raw', '--cache', 'unsafe', '--samples', '0', '--json'];
    expect((await callCli(folder, ...words)).stdout).toMatch(/"writes":2,/);
  });
});
