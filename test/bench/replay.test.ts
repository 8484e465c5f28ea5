/** Replays by the times of a trace, and reads verified against what was written. */

import { describe, expect, test } from 'vitest';

import { BuiltinEngine, type BuiltinEngineOptions } from '../../src/bench/builtin-engine.ts';
import type { Clock } from '../../src/bench/clock.ts';
import { runMatrix } from '../../src/bench/run.ts';
import { DEVICE_MODELS } from '../../src/device/device-models.ts';
import type { Pending } from '../../src/core/pending.ts';
import type { BlockDevice } from '../../src/device/block-device.ts';
import { DeviceFilter } from '../../src/device/filter.ts';
import type { Purpose } from '../../src/device/purpose.ts';
import type { CellRecord } from '../../src/result/schema.ts';
import { findSource, type RecordedSource } from '../../src/workload/library.ts';
import { HEADER, temporaryFile } from '../workload/trace/trace-files.ts';
import { MemorySink, smallMatrix, steppingClock, type SmallSetting } from './small-run.ts';

const models = new Map(DEVICE_MODELS.map((model) => [model.name, model]));
const MS = 1_000_000;

async function traceOf(lines: readonly string[]): Promise<RecordedSource> {
  const source = await findSource(temporaryFile(`${HEADER}${lines.join('\n')}\n`, 'made.trace.csv'));
  if (source.kind !== 'recording') throw new Error('not a recording');
  return source;
}

interface RunOptions {
  readonly depth?: number;
  readonly device?: string;
  readonly clock?: Clock;
  readonly engine?: BuiltinEngineOptions;
  readonly setting?: SmallSetting;
}

/** One raw cell in cache=none by default. */
async function run(source: RecordedSource, options: RunOptions = {}): Promise<CellRecord> {
  const sink = new MemorySink();
  const plans = smallMatrix(
    { sources: [source], formats: ['raw'], caches: ['none'], queueDepths: [options.depth ?? 1] },
    { device: options.device ?? 'model:nvme-plp', ...options.setting },
  );
  await runMatrix({
    plans,
    engines: [new BuiltinEngine({ models, ...options.engine })],
    sink,
    samples: 1,
    clock: options.clock ?? steppingClock(),
    seed: 1,
  });
  const [record] = sink.all();
  if (record === undefined) throw new Error('no cell');
  return record;
}

/** A write each `ms`. */
function writesEvery(ms: number, count: number): readonly string[] {
  return Array.from({ length: count }, (_, n) => `${String(n * ms * MS)},write,${String(n * 4096)},4096,`);
}

describe('a replay at recorded times on a modelled device', () => {
  const timing = { scale: 1 };

  test.each([1, 4])('takes as long as the trace where the device keeps up (depth %i)', async (depth) => {
    const source = await traceOf(writesEvery(1, 50));
    const record = await run(source, { depth, setting: { timing } });
    expect(record.cell.timing).toBe('recorded');
    expect(record.fidelity).toMatchObject({ requests: 50, onTime: 50 });
    expect(record.fidelity?.maxNs).toBeLessThan(0.1 * MS);
    const elapsedNs = record.timings[0]?.elapsedNs ?? NaN;
    expect(elapsedNs).toBeGreaterThanOrEqual(49 * MS);
    expect(elapsedNs).toBeLessThan(49.5 * MS);
    const faster = await run(source, { depth, setting: { timing: { scale: 10 } } });
    expect(faster.cell.timing).toBe('scale=10');
    expect(faster.timings[0]?.elapsedNs).toBeLessThan(5.2 * MS);
  });

  test('is the same in every run, at any depth', async () => {
    for (const depth of [1, 4, 32]) {
      const source = await findSource('ext4-unpack');
      if (source.kind !== 'recording') throw new Error('not a recording');
      const [a, b] = [
        await run(source, { depth, setting: { timing } }),
        await run(source, { depth, setting: { timing } }),
      ];
      expect(a).toEqual(b);
    }
  });

  test('a stall counts against every request that it delays', async () => {
    // A flush of much data on a disk stalls what is due every millisecond after it.
    const stall = Array.from({ length: 8 }, (_, n) => `0,write,${String(n * 65536)},65536,`);
    const after = Array.from(
      { length: 20 },
      (_, n) => `${String((n + 1) * MS)},read,${String(n * 4096)},4096,`,
    );
    const source = await traceOf([...stall, '0,flush,,,', ...after]);
    const timed = await run(source, { device: 'model:hdd-7200', setting: { timing } });
    const asap = await run(source, { device: 'model:hdd-7200' });
    // In the closed loop only the flush is slow; by their times the reads behind it are late, and
    // slow for the guest.
    const [timedRead, asapRead] = [timed.latency?.read, asap.latency?.read];
    expect(asapRead?.requests).toBe(20);
    expect(timedRead?.meanNs).toBeGreaterThan(2 * (asapRead?.meanNs ?? NaN));
    expect(timed.fidelity?.onTime).toBeLessThan(20);
    expect(timed.counts).toEqual(asap.counts);
  });

  test('at a greater depth what waits in the queue does not delay what follows', async () => {
    const lines = Array.from(
      { length: 64 },
      (_, n) => `${String(n * 20_000)},read,${String(n * 8192)},4096,`,
    );
    const source = await traceOf(lines);
    const late = async (depth: number): Promise<number> =>
      (await run(source, { depth, device: 'model:ssd-sata', setting: { timing } })).fidelity?.maxNs ?? NaN;
    expect(await late(32)).toBeLessThan((await late(1)) / 2);
  });
});

describe('a replay at recorded times by a real clock', () => {
  /** A clock that waits exactly and counts its waits. */
  function waitingClock(): Clock & { waits: number } {
    let nowNs = 0;
    const clock = {
      waits: 0,
      nowNs: () => BigInt(nowNs),
      ticksNs: () => (nowNs += 100),
      waitUntil: (untilNs: number) => {
        clock.waits++;
        nowNs = Math.max(nowNs, untilNs);
        return Promise.resolve();
      },
    };
    return clock;
  }

  test.each([1, 8])('waits for each request and issues them in order (depth %i)', async (depth) => {
    const clock = waitingClock();
    const offsets: number[] = [];
    class Seen extends DeviceFilter {
      override write(
        offset: number,
        bytes: Uint8Array,
        purpose: Purpose,
        from?: number,
        to?: number,
      ): Pending {
        offsets.push(offset);
        return this.inner.write(offset, bytes, purpose, from, to);
      }
    }
    const record = await run(await traceOf(writesEvery(1, 40)), {
      depth,
      clock,
      device: 'memory',
      setting: { timing: { scale: 1 } },
      engine: { wrap: (device: BlockDevice) => new Seen(device) },
    });
    expect(clock.waits).toBe(39);
    expect(record.fidelity).toMatchObject({ requests: 40, onTime: 40 });
    const timed = offsets.slice(-40);
    expect(timed).toEqual(timed.toSorted((a, b) => a - b));
  });

  test('a stop is heard while it waits', async () => {
    const stopped = new Error('stopped');
    const clock: Clock = { ...steppingClock(), waitUntil: () => Promise.reject(stopped) };
    for (const depth of [1, 4]) {
      const replayed = run(await traceOf(writesEvery(1000, 5)), {
        depth,
        clock,
        device: 'memory',
        setting: { timing: { scale: 1 } },
      });
      await expect(replayed).rejects.toThrow('stopped');
    }
  });
});

/**
 * Answers reads of data wrongly from the `from`-th on, as a bug would: with what is a sector
 * further.
 */
class Misreading extends DeviceFilter {
  readonly #shift: number;
  #left: number;

  constructor(inner: BlockDevice, { from, shift }: { readonly from: number; readonly shift: number }) {
    super(inner);
    this.#left = from;
    this.#shift = shift;
  }

  override read(offset: number, target: Uint8Array, purpose: Purpose): undefined | Promise<void> {
    if (purpose !== 'data' || this.#left-- > 0) return this.inner.read(offset, target, purpose);
    return this.inner.read(offset + this.#shift, target, purpose);
  }
}

/** Drops the writes of data after the first `keep`. */
class Forgetting extends DeviceFilter {
  #keep: number;

  constructor(inner: BlockDevice, keep: number) {
    super(inner);
    this.#keep = keep;
  }

  override write(offset: number, bytes: Uint8Array, purpose: Purpose, from?: number, to?: number): Pending {
    if (purpose === 'data' && this.#keep-- <= 0) return undefined;
    return this.inner.write(offset, bytes, purpose, from, to);
  }
}

describe('--verify', () => {
  const verify = { setting: { verify: true }, device: 'memory' };
  const LINES = [
    '0,write,0,8192,',
    '1,write,4096,4096,',
    '2,read,0,16384,',
    '3,write,0,8192,',
    '4,read,0,4096,',
    '5,discard,0,65536,',
    '6,read,0,8192,',
    '7,write-zeroes,131072,65536,unmap',
    '8,write,131072,512,',
    '9,read,131072,65536,',
  ];

  test.each([1, 32])(
    'finds nothing where nothing is wrong: every recording, every format (depth %i)',
    async (depth) => {
      for (const name of ['debian-boot', 'xfs-unpack', 'btrfs-unpack']) {
        const source = await findSource(name);
        if (source.kind !== 'recording') throw new Error('not a recording');
        for (const plan of smallMatrix(
          { sources: [source], queueDepths: [depth], caches: ['none'] },
          { verify: true },
        )) {
          const { verification, counts } = await new BuiltinEngine().count(plan, {});
          expect(verification?.reads).toBe(counts.guest.reads);
          expect(verification?.sectors).toBeGreaterThan(0);
          // In a closed loop requests meet that did not in the recording.
          if (depth === 1) expect(verification?.notCompared).toBe(0);
        }
      }
    },
  );

  test('counts what it compared, and costs the counts nothing', async () => {
    const source = await traceOf(LINES);
    const [plain, verified] = [await run(source, { device: 'memory' }), await run(source, verify)];
    expect(verified.counts).toEqual(plain.counts);
    expect(verified.verification).toEqual({
      reads: 4,
      sectors: (16384 + 4096 + 8192 + 65536) / 512,
      notCompared: 0,
    });
    expect(plain.verification).toBeUndefined();
  });

  test.each([
    ['data of another place', (device: BlockDevice) => new Misreading(device, { from: 0, shift: 512 })],
    [
      'data of another place, later',
      (device: BlockDevice) => new Misreading(device, { from: 1, shift: 4096 }),
    ],
    ['what was there before', (device: BlockDevice) => new Forgetting(device, 2)],
    ['nothing at all', (device: BlockDevice) => new Forgetting(device, 0)],
  ])('finds %s', async (_, wrap) => {
    await expect(run(await traceOf(LINES), { ...verify, engine: { wrap } })).rejects.toMatchObject({
      message: expect.stringMatching(
        /request \d+ \(counted from 0\), a read .* wrong data at guest offset 0x/,
      ) as string,
    });
  });

  test('says where, what was expected and what was found', async () => {
    const engine = { wrap: (device: BlockDevice) => new Forgetting(device, 2) };
    await expect(run(await traceOf(LINES), { ...verify, engine })).rejects.toThrow(
      /request 4 .*guest offset 0x0: expected what write 2 wrote, found what write 0 wrote/,
    );
    const misreading = { wrap: (device: BlockDevice) => new Misreading(device, { from: 0, shift: 512 }) };
    await expect(run(await traceOf(LINES), { ...verify, engine: misreading })).rejects.toThrow(
      /request 2 .*expected what write 0 wrote, found what write 0 wrote at guest offset 0x200/,
    );
  });

  test('claims nothing of sectors that two requests change at once', async () => {
    const lines = [
      '0,write,0,8192,',
      '0,write,4096,8192,',
      '0,read,0,12288,',
      '9,flush,,,',
      '9,read,0,12288,',
    ];
    const { verification } = await run(await traceOf(lines), { ...verify, depth: 4 });
    expect(verification).toMatchObject({ reads: 2 });
    expect(verification?.notCompared).toBeGreaterThan(8);
  });
});
