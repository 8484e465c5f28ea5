/**
 * What is peculiar to the binary formats: several files, both byte orders, versions, heads, records
 * cut short.
 */

import { mkdirSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';

import { describe, expect, test } from 'vitest';

import { testDirectory } from '../../test-directory.ts';
import {
  blktraceEvent,
  dmLog,
  simpletrace,
  vscsiRecord,
  type BlktraceEvent,
  type SimpletraceRecord,
} from './binary-traces.ts';
import { faultOf, readWhole, temporaryFile } from './trace-files.ts';

describe('blktrace', () => {
  const write = (timeNs: number, sector: number, more: Partial<BlktraceEvent> = {}) =>
    blktraceEvent({ timeNs, category: ['write'], sector, bytes: 512, ...more });

  function cpuFiles(files: Readonly<Record<string, Uint8Array>>): string {
    const folder = testDirectory();
    for (const [name, content] of Object.entries(files)) writeFileSync(join(folder, name), content);
    return folder;
  }

  test('the files of all CPUs are merged by time, whichever of them is named', async () => {
    const events = Array.from({ length: 3000 }, (_, n) => ({
      cpu: (n * 7919) % 3,
      time: 1_000_000 + n * 10,
      n,
    }));
    const fileOf = (cpu: number) =>
      Buffer.concat(
        events.filter((event) => event.cpu === cpu).map(({ time, n }) => write(time, n, { cpu })),
      );
    const folder = cpuFiles({
      'sda.blktrace.0': fileOf(0),
      'sda.blktrace.1': gzipSync(fileOf(1)),
      'sda.blktrace.10': fileOf(2),
      'sdb.blktrace.0': write(0, 0),
    });
    renameSync(join(folder, 'sda.blktrace.1'), join(folder, 'sda.blktrace.1.gz'));
    for (const name of ['sda', 'sda.blktrace.0', 'sda.blktrace.10']) {
      const { requests } = await readWhole(join(folder, name));
      expect(requests.map(({ offset }) => offset / 512)).toEqual(events.map(({ n }) => n));
      expect(requests.map(({ timeNs }) => timeNs)).toEqual(events.map(({ n }) => n * 10));
    }
  });

  test('a CPU without requests, or far ahead, holds nothing up', async () => {
    const folder = cpuFiles({
      't.blktrace.0': new Uint8Array(0),
      't.blktrace.1': Buffer.concat([write(5, 5), write(900, 9)]),
      't.blktrace.2': blktraceEvent({ timeNs: 1, category: ['notify'], action: 0 }),
      't.blktrace.3': Buffer.concat([write(700, 7), write(800, 8)]),
    });
    const { requests } = await readWhole(join(folder, 't'));
    expect(requests.map(({ offset }) => offset / 512)).toEqual([5, 7, 8, 9]);
  });

  test('a folder called like the trace is not in the way', async () => {
    const folder = cpuFiles({ 't.blktrace.0': write(5, 5) });
    mkdirSync(join(folder, 'other'));
    expect((await readWhole(join(folder, 't'))).requests).toHaveLength(1);
  });

  test('both byte orders mean the same', async () => {
    const events = [write(1, 3), write(9, 2 ** 33, { category: ['write', 'flush', 'fua'] })];
    const swapped = [
      write(1, 3, { bigEndian: true }),
      write(9, 2 ** 33, { category: ['write', 'flush', 'fua'], bigEndian: true }),
    ];
    const { requests } = await readWhole(temporaryFile(Buffer.concat(events)));
    expect(requests).toHaveLength(3);
    expect((await readWhole(temporaryFile(Buffer.concat(swapped)))).requests).toEqual(requests);
  });

  test('several devices are several volumes', async () => {
    const path = temporaryFile(Buffer.concat([write(1, 3), write(2, 4, { device: [253, 17] })]));
    expect((await faultOf(path)).message).toMatch(/--volume \(device\): 8,0 253,17/);
    const { requests } = await readWhole(path, { volume: '253,17' });
    expect(requests.map(({ offset }) => offset)).toEqual([2048]);
  });

  test('bad events: with the offset and number of the record, or skipped where the next one can be found', async () => {
    const good = write(1, 3);
    const bad = write(2, 4, { bytes: 100 });
    const path = temporaryFile(Buffer.concat([good, bad, good]));
    const error = await faultOf(path);
    expect(error.message).toMatch(/offset 0x30: record 2: length 100 is not a multiple of 512/);
    expect((await readWhole(path, { skipBad: true })).requests).toHaveLength(2);

    for (const [lost, rule] of [
      [Buffer.alloc(48, 7), /record 2: the event does not start with blktrace.s magic number/],
      [write(2, 4, { version: 6 }), /record 2: version 6 of blktrace is not supported/],
    ] as const) {
      const broken = temporaryFile(Buffer.concat([good, lost, good]));
      for (const skipBad of [false, true]) expect((await faultOf(broken, { skipBad })).message).toMatch(rule);
    }
  });

  test('a file that ends within an event was cut short', async () => {
    const event = write(1, 3, { pdu: Buffer.alloc(20) });
    for (const bytes of [10, 47, 48, 60]) {
      const path = temporaryFile(Buffer.concat([event, event.subarray(0, bytes)]));
      const error = await faultOf(path, { skipBad: true });
      expect(error.message).toMatch(/the file is truncated within record/);
    }
  });
});

describe('vscsi', () => {
  test.each([1, 2] as const)('version %i, with times and blocks of 64 bits', async (version) => {
    const records = [
      vscsiRecord(version, { command: 0x28, length: 4096, block: 2 ** 33, timeUs: 10 }),
      vscsiRecord(version, { command: 0x8a, length: 512, block: 0, timeUs: 5 }),
    ];
    const { requests } = await readWhole(temporaryFile(Buffer.concat(records)));
    const plain = { fua: false, unmap: false };
    expect(requests).toEqual([
      { op: 'write', offset: 0, length: 512, ...plain, timeNs: 0 },
      { op: 'read', offset: 2 ** 42, length: 4096, ...plain, timeNs: 5000 },
    ]);
  });

  test('a record of the other version, or of no whole sectors, breaks a rule', async () => {
    const record = (length: number) => vscsiRecord(1, { command: 0x2a, length, block: 0, timeUs: 1 });
    const good = Array.from({ length: 8 }, () => record(512));
    const path = temporaryFile(Buffer.concat([...good, record(100)]));
    expect((await faultOf(path)).message).toMatch(/offset 0x100: record 9: length 100 is not a multiple/);
    const other = record(512);
    other.writeUInt16LE(2 << 8, 14);
    const mixed = temporaryFile(Buffer.concat([...good, other]));
    expect((await faultOf(mixed)).message).toMatch(
      /record 9: the record has version 2, the file has version 1/,
    );
    expect((await readWhole(mixed, { skipBad: true })).requests).toHaveLength(8);
  });
});

describe('dm-log-writes', () => {
  const entry = { sector: 8, sectors: 2, flags: 0 };

  test('data is passed over, also where it is longer than any chunk', async () => {
    const log = dmLog({ sectorSize: 512 }, [{ ...entry, sectors: 20_000 }, entry, { ...entry, flags: 2 }]);
    const { requests } = await readWhole(temporaryFile(log));
    expect(requests.map(({ length, fua }) => [length, fua])).toEqual([
      [20_000 * 512, false],
      [1024, false],
      [1024, true],
    ]);
  });

  test('what is behind the last entry is not looked at', async () => {
    const log = Buffer.concat([dmLog({ sectorSize: 512, entries: 1 }, [entry, entry]), Buffer.alloc(77, 1)]);
    expect((await readWhole(temporaryFile(log))).requests).toHaveLength(1);
  });

  test.each<[string, Buffer, RegExp]>([
    [
      'fewer entries than the head says',
      dmLog({ sectorSize: 512, entries: 3 }, [entry]),
      /has 2 entries fewer/,
    ],
    [
      'a sector size of 0',
      dmLog({ sectorSize: 512 }, []).fill(0, 24, 28),
      /sector size 0 is not a power of two/,
    ],
    [
      'another version',
      dmLog({ sectorSize: 512 }, []).fill(9, 8, 9),
      /version 9 of the log is not supported/,
    ],
    ['unknown flags', dmLog({ sectorSize: 512 }, [{ ...entry, flags: 64 }]), /record 2: unknown flags/],
    [
      'an entry of 2^53 bytes',
      dmLog({ sectorSize: 512 }, [{ ...entry, sectors: 2 ** 45 }]),
      /2\^53 bytes or more long/,
    ],
    [
      'an entry of nothing',
      dmLog({ sectorSize: 512 }, [{ ...entry, sectors: 0 }]),
      /without sectors that is neither a/,
    ],
  ])('%s', async (_, log, rule) => {
    expect((await faultOf(temporaryFile(log))).message).toMatch(rule);
  });

  test('data that is cut short', async () => {
    const log = dmLog({ sectorSize: 512 }, [entry]);
    const error = await faultOf(temporaryFile(log.subarray(0, log.length - 1)), { skipBad: true });
    expect(error.message).toMatch(/truncated/);
  });
});

describe("QEMU's simple trace backend", () => {
  const NAMES: readonly SimpletraceRecord[] = [
    { id: 7n, name: 'blk_co_preadv' },
    { id: 8n, name: 'blk_co_pwritev' },
  ];
  const event = (offset: bigint, blk = 0x55d0n): SimpletraceRecord => ({
    id: 8n,
    timeNs: 1000n + offset,
    arguments: [blk, 1n, offset, 512n, 0n],
  });

  test('is read in the byte order of the machine that wrote it', async () => {
    const records = [...NAMES, event(0n), event(1024n)];
    const little = await readWhole(temporaryFile(simpletrace(records)));
    const big = await readWhole(temporaryFile(simpletrace(records, { bigEndian: true })));
    expect(little.format).toBe('qemu-simpletrace');
    expect(little.requests.map(({ offset, timeNs }) => [offset, timeNs])).toEqual([
      [0, 0],
      [1024, 1024],
    ]);
    expect(big.requests).toEqual(little.requests);
  });

  test('events that QEMU dropped are an error, or counted', async () => {
    const dropped: SimpletraceRecord = { id: 2n ** 64n - 2n, timeNs: 1000n, arguments: [77n] };
    const path = temporaryFile(simpletrace([...NAMES, event(0n), dropped, event(1024n)]));
    expect((await faultOf(path)).message).toMatch(/QEMU dropped 77 events here/);
    const { requests, skippedCount } = await readWhole(path, { skipBad: true });
    expect([requests.length, skippedCount]).toEqual([2, 1]);
  });

  test('a second block backend has to be chosen, and other events are counted', async () => {
    const other: SimpletraceRecord = { id: 3n, timeNs: 1n, arguments: [] };
    const path = temporaryFile(simpletrace([...NAMES, event(0n), other, event(512n, 0x99n)]));
    expect((await faultOf(path)).message).toMatch(/several volumes.*0x55d0 0x99/);
    const { requests, otherVolumeCount, passedOver } = await readWhole(path, { volume: '0x99' });
    expect([requests.length, otherVolumeCount]).toEqual([1, 1]);
    expect(passedOver).toEqual([{ what: 'events without a name', count: 1 }]);
  });

  test.each<[string, Buffer, RegExp]>([
    [
      'another version',
      simpletrace([], { version: 3n }),
      /version 3 of the format is not supported; only 4 is/,
    ],
    [
      'a record of another type',
      Buffer.concat([simpletrace(NAMES), Buffer.alloc(8, 9)]),
      /neither a mapping \(0\) nor an event \(1\)/,
    ],
    ['a name of no bytes', simpletrace([{ id: 1n, name: '' }]), /has 0 bytes; expected 1 to 256/],
    [
      'a name that is too long',
      simpletrace([{ id: 1n, name: 'x'.repeat(257) }]),
      /has 257 bytes; expected 1/,
    ],
    [
      'fewer arguments',
      simpletrace([...NAMES, { id: 7n, timeNs: 1n, arguments: [1n] }]),
      /blk_co_preadv has 8 bytes of arguments, not 40/,
    ],
    [
      'an event longer than a buffer',
      simpletrace([...NAMES, { id: 9n, timeNs: 1n, arguments: Array.from({ length: 32_768 }, () => 0n) }]),
      /an event of 262168 bytes; expected 24 to 262144/,
    ],
    [
      'an offset below 0',
      simpletrace([...NAMES, event(-512n)]),
      /the offset is not a whole number below 2\^53/,
    ],
  ])('%s breaks a rule', async (_, content, rule) => {
    expect((await faultOf(temporaryFile(content))).message).toMatch(rule);
  });

  test('a file that ends anywhere within its records is truncated', async () => {
    const whole = simpletrace([...NAMES, event(0n)]);
    const start = simpletrace(NAMES).length;
    for (let bytes = start + 1; bytes < whole.length; bytes++) {
      const error = await faultOf(temporaryFile(whole.subarray(0, bytes)));
      expect(error.message).toMatch(/truncated/);
    }
  });
});
