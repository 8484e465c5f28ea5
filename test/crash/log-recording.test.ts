/** Logs of other programs: what they are, what they promise, and that what breaks it is found. */

import { describe, expect, test } from 'vitest';

import { readBaseImage, type BaseImage } from '../../src/crash/base-image.ts';
import { explore, type Exploration } from '../../src/crash/explore.ts';
import { recordingOfLog, type Acknowledgements, type LoggedRequest } from '../../src/crash/log-recording.ts';
import { recordCell } from '../../src/crash/record-cell.ts';
import { FILE_BYTES_MAX, tokensOf } from '../../src/crash/pages.ts';
import { STRONGEST_MODEL } from '../../src/crash/state-space.ts';
import { readWriteLog } from '../../src/crash/write-log.ts';
import type { Pending } from '../../src/core/pending.ts';
import { DeviceFilter } from '../../src/device/filter.ts';
import type { Purpose } from '../../src/device/purpose.ts';
import { MemoryStorage } from '../../src/device/memory-storage.ts';
import type { Format } from '../../src/format/disk-image.ts';
import { createImage } from '../../src/format/registry.ts';
import { asLog, baseOf, logDevice, logOf, qemuLog, type NewEntry } from './foreign-log.ts';
import { DropsSyncs, ForgetsDirtyBit } from './planted.ts';
import { recordSmall, smallPlan, type SmallCell } from './small-recording.ts';

const SEED = 7;
const BUDGET = 300;
const DISK = 1024 * 1024;
const FLUSHES = { from: 'flushes' } as const;
const QCOW2 = { format: 'qcow2', refcounts: 'eager' } as const;

async function explored(
  image: BaseImage,
  log: Uint8Array,
  acknowledgements: Acknowledgements,
): Promise<Exploration> {
  const { entries } = await readWriteLog(logDevice(log), { isWhole: true });
  const recording = await recordingOfLog(image, entries, acknowledgements);
  return explore(recording, { model: STRONGEST_MODEL, budget: BUDGET, seed: SEED });
}

async function imageOf(bytes: Uint8Array, format: Format): Promise<BaseImage> {
  const storage = new MemoryStorage();
  const device = storage.create('disk');
  device.write(0, bytes, 'data');
  const files = { open: (name: string) => storage.open(name, { readOnly: true }) };
  return readBaseImage({ name: 'disk', format, cache: 'writeback', files });
}

describe('as far as a file or a request can reach', () => {
  const ENTRIES: readonly NewEntry[] = [
    { op: 'write', offset: 0, bytes: new Uint8Array(512).fill(1) },
    { op: 'flush' },
    { op: 'write', offset: FILE_BYTES_MAX - 512, bytes: new Uint8Array(512).fill(2) },
  ];

  test('a write at the end of the longest file', async () => {
    const { bad, tried } = await explored(
      await imageOf(new Uint8Array(4096), 'raw'),
      logOf(ENTRIES),
      FLUSHES,
    );
    expect(bad).toEqual([]);
    expect(tried).toBeGreaterThan(3);
  });

  test('a discard of all that there is', async () => {
    const write: LoggedRequest = {
      op: 'write',
      offset: 0,
      length: 512,
      fua: false,
      unmap: false,
      began: 0,
      done: 1,
      beganAt: 0,
      doneAt: 1,
      tokens: tokensOf(new Uint8Array(512).fill(1)),
    };
    const flush = { ...write, op: 'flush', length: 0, began: 1, done: 2, beganAt: 2, doneAt: 3 } as const;
    const discard = {
      ...write,
      op: 'discard',
      length: 2 ** 52,
      began: 2,
      done: 2,
      beganAt: 4,
      doneAt: 5,
    } as const;
    const requests = [write, flush, discard].map((each) => ({
      ...each,
      tokens: each.op === 'write' ? each.tokens : undefined,
    }));
    const image = await imageOf(new Uint8Array(4096), 'raw');
    const { bad } = await explored(image, logOf(ENTRIES.slice(0, 2)), { from: 'requests', requests });
    expect(bad).toEqual([]);
  });
});

describe('logs that qemu-io made', () => {
  test.each([
    { name: 'qcow2-eager', format: 'qcow2', refcounts: 'eager' },
    { name: 'qcow2-lazy', format: 'qcow2', refcounts: 'lazy' },
    { name: 'qed', format: 'qed', refcounts: undefined },
  ] as const)('$name: no state breaks what its flushes promise', async ({ name, format, refcounts }) => {
    const { base, log } = qemuLog(name);
    const image = await imageOf(base, format);
    expect(image.subject.refcounts).toBe(refcounts);
    const { bad, tried, space } = await explored(image, log, FLUSHES);
    expect(bad.slice(0, 3)).toEqual([]);
    expect(tried).toBeGreaterThan(100);
    expect(space.epochs).toBeGreaterThan(4);
  });

  test('a flush that is taken out of the log breaks it', async () => {
    const { base, log } = qemuLog('qcow2-eager');
    const { entries } = await readWriteLog(logDevice(log));
    const kept = entries.filter(({ kind }) => kind !== 'flush').map(newEntry);
    const image = await imageOf(base, 'qcow2');
    // Marks say where the guest had an answer to its flush.
    const marked = entries.map((entry): NewEntry =>
      entry.kind === 'flush' ? { op: 'mark' } : newEntry(entry),
    );
    expect((await explored(image, logOf(marked), { from: 'marks' })).badStates).toBeGreaterThan(0);
    expect((await explored(image, logOf(kept), FLUSHES)).badStates).toBeGreaterThan(0);
  });
});

function newEntry({
  kind,
  offset,
  length,
  bytes,
}: Awaited<ReturnType<typeof readWriteLog>>['entries'][number]): NewEntry {
  return { op: kind, offset, length, ...(bytes === undefined ? {} : { bytes }) };
}

/** Of each a recording of ours, as a log. */
const cells: readonly SmallCell[] = [
  { format: 'qcow2', refcounts: 'eager', cache: 'writeback', prefilled: true },
  { format: 'qcow2', refcounts: 'lazy', cache: 'writethrough' },
  { format: 'qcow2', refcounts: 'lazy', cache: 'writeback', backed: true, releases: true },
  { format: 'qed', cache: 'writeback', backed: true },
  { format: 'raw', cache: 'writeback', prefilled: true },
];

describe('a recording of ours, as a log', () => {
  test.each(cells)('$format $refcounts, $cache: nothing is lost', async (cell) => {
    const recording = await recordSmall({ ...cell, requests: 20 });
    const { entries, requests } = asLog(recording);
    const image = baseOf(recording);
    for (const acknowledgements of [FLUSHES, { from: 'requests', requests } as const]) {
      const { bad, tried } = await explored(image, logOf(entries), acknowledgements);
      expect(bad.slice(0, 3), acknowledgements.from).toEqual([]);
      expect(tried).toBeGreaterThan(60);
    }
  });

  test.each<SmallCell & { readonly what: string }>([
    {
      what: 'L2 entries before their refcounts',
      format: 'qcow2',
      refcounts: 'eager',
      cache: 'writeback',
      deviation: (device) => new DropsSyncs(device, 'l2-after-refcount'),
    },
    {
      what: 'no dirty bit',
      format: 'qcow2',
      refcounts: 'lazy',
      cache: 'writeback',
      deviation: (device) => new ForgetsDirtyBit(device),
    },
  ])('$what is found, by flushes and by requests', async (cell) => {
    const recording = await recordSmall({ ...cell, requests: 20 });
    const { entries, requests } = asLog(recording);
    for (const acknowledgements of [FLUSHES, { from: 'requests', requests } as const]) {
      const { badStates } = await explored(baseOf(recording), logOf(entries), acknowledgements);
      expect(badStates, acknowledgements.from).toBeGreaterThan(0);
    }
  });

  test('an answer before its flush is found by requests alone', async () => {
    const recording = await recordSmall({ ...QCOW2, cache: 'writethrough', requests: 12 });
    const { entries, requests } = asLog(recording);
    const early = requests.map((request) => ({ ...request, done: request.began }));
    const image = baseOf(recording);
    const known = await explored(image, logOf(entries), { from: 'requests', requests: early });
    expect(known.badStates).toBeGreaterThan(0);
    expect((await explored(image, logOf(entries), FLUSHES)).bad).toEqual([]);
  });
});

describe('requests that overlap', () => {
  test.each<SmallCell>([
    { format: 'qcow2', refcounts: 'eager', cache: 'writeback', queueDepth: 8 },
    { format: 'qcow2', refcounts: 'lazy', cache: 'writethrough', queueDepth: 8 },
    { format: 'raw', cache: 'writeback', queueDepth: 32 },
  ])('$format $refcounts, $cache, depth $queueDepth: nothing is lost', async (cell) => {
    const recording = await recordSmall({ ...cell, requests: 60 });
    const { entries, requests } = asLog(recording);
    expect(requests.some(({ beganAt }, index) => beganAt < (requests[index - 1]?.doneAt ?? 0))).toBe(true);
    const { bad, tried } = await explored(baseOf(recording), logOf(entries), { from: 'requests', requests });
    expect(bad.slice(0, 3)).toEqual([]);
    expect(tried).toBeGreaterThan(60);
    // Each write is answered while the next one is served.
    const early = requests.map((request) => ({ ...request, done: request.began, doneAt: request.beganAt }));
    const known = await explored(baseOf(recording), logOf(entries), { from: 'requests', requests: early });
    expect(known.badStates).toBeGreaterThan(0);
  });

  test('a flush promises what was answered before it began, and by the clock alone', async () => {
    const bytes = new Uint8Array(512).fill(1);
    const entries: readonly NewEntry[] = [{ op: 'write', offset: 0, bytes }];
    const of = { offset: 0, fua: false, unmap: false };
    const write = {
      ...of,
      op: 'write',
      length: 512,
      began: 0,
      done: 1,
      beganAt: 0,
      tokens: tokensOf(bytes),
    } as const;
    const flush = { ...of, op: 'flush', length: 0, began: 1, done: 1, doneAt: 9, tokens: undefined } as const;
    const image = await imageOf(new Uint8Array(4096), 'raw');
    for (const [answered, begun, lost] of [
      [2, 3, 1],
      [3, 2, 0],
      // Which of the two was first is not known.
      [3, 3, 0],
    ] as const) {
      const requests = [
        { ...write, doneAt: answered },
        { ...flush, beganAt: begun },
      ];
      const { badStates } = await explored(image, logOf(entries), { from: 'requests', requests });
      expect(badStates, `${String(answered)}, ${String(begun)}`).toBe(lost);
    }
  });
});

describe('a disk that gets another size', () => {
  test.each(['eager', 'lazy'] as const)(
    'qcow2 %s: a crash leaves the old or the new one',
    async (refcounts) => {
      const { plan, requests } = await smallPlan({ ...QCOW2, refcounts, cache: 'writeback', requests: 8 });
      const flush = { op: 'flush', offset: 0, length: 0, fua: false, unmap: false, timeNs: 0 } as const;
      const half = DISK / 2;
      const recording = await recordCell(plan, {
        requests: [
          ...requests,
          flush,
          { op: 'shrink', offset: half, length: half },
          { op: 'grow', offset: half, length: DISK },
          flush,
        ],
      });
      expect(recording.requests.map(({ op }) => op)).toContain('shrink');
      const { entries, requests: logged } = asLog(recording);
      for (const acknowledgements of [FLUSHES, { from: 'requests', requests: logged } as const]) {
        const { bad } = await explored(baseOf(recording), logOf(entries), acknowledgements);
        expect(bad.slice(0, 3), acknowledgements.from).toEqual([]);
      }
      // The size is promised, and was not made durable.
      const late = logged.map((each) =>
        each.op === 'resize' ? { ...each, began: 0, beganAt: -1, done: 0, doneAt: -1 } : each,
      );
      const early = await explored(baseOf(recording), logOf(entries), { from: 'requests', requests: late });
      expect(early.bad.flatMap(({ findings }) => findings.map(({ kind }) => kind))).toContain('wrong-size');
    },
  );

  test('a raw disk: its size is promised once it is flushed', async () => {
    const write: NewEntry = { op: 'write', offset: 8192, bytes: new Uint8Array(512).fill(1) };
    const mark = { op: 'mark' } as const;
    const image = await imageOf(new Uint8Array(4096), 'raw');
    const of = (entries: readonly NewEntry[]): Promise<Exploration> =>
      explored(image, logOf(entries), { from: 'marks' });
    expect((await of([write, { op: 'flush' }, mark])).bad).toEqual([]);
    const { bad } = await of([write, mark]);
    expect(bad[0]?.findings.map(({ kind }) => kind)).toContain('wrong-size');
  });
});

describe('a raw disk', () => {
  const block = (value: number): Uint8Array => new Uint8Array(512).fill(value);
  const raw = (): Promise<BaseImage> => imageOf(new Uint8Array(8192), 'raw');
  const write = (offset: number, value: number, fua = false): NewEntry => ({
    op: 'write',
    offset,
    bytes: block(value),
    fua,
  });
  const request = (done: number, more: Partial<LoggedRequest>): LoggedRequest => ({
    op: 'write',
    offset: 0,
    length: 512,
    fua: false,
    unmap: false,
    began: 0,
    done,
    beganAt: 0,
    doneAt: done === Infinity ? Infinity : 1,
    tokens: tokensOf(block(1)),
    ...more,
  });

  test('a write with FUA is durable alone', async () => {
    const log = logOf([write(0, 1), write(1024, 2, true), write(4096, 3)]);
    const { bad, space } = await explored(await raw(), log, FLUSHES);
    expect(bad).toEqual([]);
    // Before it: two writes, each there or not; at the end: the first and the last.
    expect(space).toMatchObject({ whole: 8n, epochs: 2 });
  });

  test('a request with FUA that is written without it is lost', async () => {
    const requests = [request(1, { fua: true })];
    for (const [fua, lost] of [
      [true, 0],
      [false, 1],
    ] as const) {
      const { badStates } = await explored(await raw(), logOf([write(0, 1, fua)]), {
        from: 'requests',
        requests,
      });
      expect(badStates).toBe(lost);
    }
  });

  test('what a mark promises has to be flushed before', async () => {
    const mark = { op: 'mark', text: 'fsync' } as const;
    const marks = { from: 'marks' } as const;
    expect((await explored(await raw(), logOf([write(0, 1), mark]), marks)).badStates).toBe(1);
    expect((await explored(await raw(), logOf([write(0, 1), { op: 'flush' }, mark]), marks)).bad).toEqual([]);
  });

  test('a discard may be there or not, until a flush', async () => {
    const log = [write(0, 1), { op: 'flush' }, { op: 'discard', offset: 0, length: 512 }] as const;
    const { bad, space } = await explored(await raw(), logOf(log), FLUSHES);
    expect(bad).toEqual([]);
    expect(space.whole).toBe(4n);
  });

  test('a request that was not answered promises nothing', async () => {
    const requests = [request(Infinity, { fua: true })];
    const { bad } = await explored(await raw(), logOf([write(0, 1)]), { from: 'requests', requests });
    expect(bad).toEqual([]);
  });
});

const GIB = 1024 * 1024 * 1024;

/** As long as its entry says, and not to be read there. */
class HugeLog extends DeviceFilter {
  override size(): number {
    return 3 * GIB;
  }

  override read(offset: number, target: Uint8Array, purpose: Purpose): Pending {
    if (target.byteLength > 4096) throw new Error('the data were read');
    return this.inner.read(offset, target, purpose);
  }
}

describe('bad logs', () => {
  const good = (): Buffer =>
    Buffer.from(logOf([{ op: 'write', offset: 0, bytes: new Uint8Array(512) }, { op: 'flush' }]));
  const changed = (change: (log: Buffer) => Buffer): Uint8Array => change(good());

  test.each([
    ['empty', () => Buffer.alloc(0), /is not a dm-log-writes log/],
    ['another magic number', (log: Buffer) => (log.writeUInt8(0, 3), log), /magic number is missing/],
    ['version 2', (log: Buffer) => (log.writeUInt8(2, 8), log), /version 2 of the log is not supported/],
    ['sectors of 1000 bytes', (log: Buffer) => (log.writeUInt32LE(1000, 24), log), /sector size 1000/],
    ['sectors of 1 MiB', (log: Buffer) => (log.writeUInt32LE(1024 * 1024, 24), log), /sector size 1048576/],
    [
      'more entries than there are',
      (log: Buffer) => (log.writeUInt8(3, 16), log),
      /entry 2: is behind the end/,
    ],
    [
      'data cut off',
      (log: Buffer) => log.subarray(0, 1200),
      /entry 0 of 2 ends at 0x600, behind the end of the file \(0x4b0\)/,
    ],
    ['unknown flags', (log: Buffer) => (log.writeUInt8(64, 512 + 16), log), /entry 0: unknown flags/],
    [
      'a length of 2^60',
      (log: Buffer) => (log.writeUInt8(16, 512 + 15), log),
      /entry 0: the entry is 2\^53 bytes/,
    ],
    [
      'an offset of 2^60',
      (log: Buffer) => (log.writeUInt8(16, 512 + 7), log),
      /entry 0: the entry is at 2\^53/,
    ],
    [
      'an offset of 2^48',
      (log: Buffer) => (log.writeUInt8(128, 512 + 4), log),
      /entry 0: it ends at 0x[0-9a-f]+, behind 64TiB/,
    ],
    [
      'an entry of nothing',
      (log: Buffer) => (log.writeUInt8(0, 512 + 8), log),
      /entry 0: an entry without sectors/,
    ],
  ] as const)('%s', async (_what, change, message) => {
    const log = changed(change);
    await expect(readWriteLog(logDevice(log))).rejects.toThrow(message);
    await expect(readWriteLog(logDevice(log))).rejects.toMatchObject({ code: 'bad-write-log' });
  });

  test('more data than memory is to hold are refused before they are read', async () => {
    const head = Buffer.from(logOf([{ op: 'write', bytes: new Uint8Array(0), offset: 0 }]));
    head.writeBigUInt64LE(BigInt((2 * GIB) / 512), 512 + 8);
    await expect(readWriteLog(new HugeLog(logDevice(head)))).rejects.toMatchObject({
      code: 'write-log-too-large',
    });
  });

  test('entries behind those that are counted are read on request', async () => {
    const entries: readonly NewEntry[] = [
      { op: 'write', offset: 0, bytes: new Uint8Array(512).fill(1) },
      { op: 'flush' },
      { op: 'write', offset: 512, bytes: new Uint8Array(512).fill(2) },
    ];
    const log = logOf(entries, 1);
    expect(await readWriteLog(logDevice(log))).toMatchObject({ counted: 1, read: 1 });
    expect(await readWriteLog(logDevice(log), { isWhole: true })).toMatchObject({ counted: 1, read: 3 });
    // The last one was being written.
    const cut = log.subarray(0, log.byteLength - 100);
    expect(await readWriteLog(logDevice(cut), { isWhole: true })).toMatchObject({ counted: 1, read: 2 });
  });
});

test('an image with a data file is refused', async () => {
  const storage = new MemoryStorage();
  await createImage({
    format: 'qcow2',
    device: storage.create('disk'),
    virtualSize: 65_536,
    shape: { dataFile: 'plain' },
    dataFile: { name: 'data', device: storage.create('data') },
  });
  const files = { open: (name: string) => storage.open(name, { readOnly: true }) };
  await expect(
    readBaseImage({ name: 'disk', format: 'qcow2', cache: 'writeback', files }),
  ).rejects.toMatchObject({ code: 'base-has-data-file' });
});
