import { readdirSync } from 'node:fs';

import { describe, expect, it } from 'vitest';

import { BuiltinEngine } from '../../src/bench/builtin-engine.ts';
import type { CellRecord } from '../../src/result/schema.ts';
import type { CellPlan, Engine } from '../../src/bench/engine.ts';
import { runMatrix, type MatrixRunOptions } from '../../src/bench/run.ts';
import { probeCapabilities } from '../../src/device/capabilities.ts';
import { FaultDevice } from '../../src/device/fault.ts';
import { FileStorage } from '../../src/device/file-storage.ts';
import type { HostLogRecord } from '../../src/device/host-log.ts';
import { cellKey, cellName } from '../../src/result/cell.ts';
import { cellRecordSchema } from '../../src/result/schema.ts';
import { testDirectory } from '../test-directory.ts';
import {
  ALL_CACHES,
  MemorySink,
  mixedSource,
  smallMatrix,
  smallSource,
  steppingClock,
  STRIDE,
  WRITES,
} from './small-run.ts';

const directory = testDirectory();
const capabilities = probeCapabilities(directory);
const files = new FileStorage(directory, capabilities);

function run(
  plans: readonly CellPlan[],
  sink: MemorySink,
  options: Partial<MatrixRunOptions> = {},
): ReturnType<typeof runMatrix> {
  return runMatrix({
    plans,
    engines: [new BuiltinEngine({ files })],
    sink,
    samples: 0,
    clock: steppingClock(),
    seed: 1,
    ...options,
  });
}

/** An engine like the builtin one that reports each pass. */
class ToldEngine implements Engine {
  readonly name = 'builtin';
  readonly passes: string[] = [];
  readonly #inner: Engine;

  constructor(inner: Engine = new BuiltinEngine({ files })) {
    this.#inner = inner;
  }

  unsupportedReason(...call: Parameters<Engine['unsupportedReason']>): string | undefined {
    return this.#inner.unsupportedReason(...call);
  }

  count(...call: Parameters<Engine['count']>): ReturnType<Engine['count']> {
    this.passes.push(`count ${cellName(call[0].cell)}`);
    return this.#inner.count(...call);
  }

  prepareTimed(...call: Parameters<Engine['prepareTimed']>): ReturnType<Engine['prepareTimed']> {
    this.passes.push(`${call[1].split === true ? 'split' : 'time'} ${cellName(call[0].cell)}`);
    return this.#inner.prepareTimed(...call);
  }
}

/** The disk is full from the `writes`-th write on of cells that `isHit`. */
function fullDisk(isHit: (plan: CellPlan) => boolean, writes = 5): BuiltinEngine {
  return new BuiltinEngine({
    files,
    wrap: (device, plan) =>
      new FaultDevice(device, ({ op, opIndex }) =>
        op === 'write' && opIndex >= writes && isHit(plan) ? 'ENOSPC' : undefined,
      ),
  });
}

const isLazy = ({ cell }: CellPlan): boolean => cell.refcounts === 'lazy';

describe('the cells that are timed', () => {
  it('are chosen when all are counted; the others have counts alone', async () => {
    const plans = smallMatrix({ caches: ['none', 'writeback'], devices: ['memory'] });
    const sink = new MemorySink();
    const asked: number[] = [];
    const [chosen] = plans;
    await run(plans, sink, {
      samples: 2,
      timedCells: (counted) => {
        asked.push(counted.filter(({ counts }) => counts !== null).length);
        return new Set(chosen === undefined ? [] : [cellKey(chosen.cell)]);
      },
    });
    expect(asked).toEqual([plans.length]);
    const samples = plans.map(({ cell }) => sink.cellRecord(cell)?.timings.length);
    expect(samples).toEqual(plans.map((plan) => (plan === chosen ? 2 : 0)));
  });

  it('on several models are counted once', async () => {
    const engine = new ToldEngine();
    const devices = ['model:ssd-sata', 'model:nvme-plp'];
    const plans = smallMatrix({ formats: ['raw'], caches: ['none'], devices });
    const sink = new MemorySink();
    await run(plans, sink, { engines: [engine] });
    expect(engine.passes).toHaveLength(1);
    const [one, other] = plans.map(({ cell }) => sink.cellRecord(cell));
    expect(other?.counts).toEqual(one?.counts);
    expect(other?.cell.device).toBe('model:nvme-plp');
  });
});

describe('counts', () => {
  it('are equal to the last digit in two runs over every variant and cache mode', async () => {
    const plans = smallMatrix({ sources: [smallSource('small'), mixedSource()], caches: ALL_CACHES });
    const [first, second] = [new MemorySink(), new MemorySink()];
    await run(plans, first);
    await run(plans, second);
    expect(first.all()).toHaveLength(40);
    expect(JSON.stringify(second.all())).toBe(JSON.stringify(first.all()));
  });

  it('make records that the schema takes', async () => {
    const sink = new MemorySink();
    await run(smallMatrix({ sources: [mixedSource()], caches: ALL_CACHES }), sink, {
      samples: 1,
      timedRequests: 20,
    });
    for (const record of sink.all()) expect(cellRecordSchema.safeParse(record).error).toBeUndefined();
  });

  it('come with a host log for one cell, and for one only', async () => {
    const log: HostLogRecord[] = [];
    const hostLog = (record: HostLogRecord): void => void log.push(record);
    await run(smallMatrix({ formats: ['raw'] }), new MemorySink(), { hostLog });
    // 30 writes with a sync each, and one more at the close.
    expect(log).toHaveLength(61);
    await expect(run(smallMatrix(), new MemorySink(), { hostLog })).rejects.toMatchObject({
      code: 'host-log-of-many',
    });
  });
});

describe('timing', () => {
  it('takes one sample a cell and round, over the cut, and leaves no file', async () => {
    const sink = new MemorySink();
    const plans = smallMatrix({}, { device: 'file' }).filter(
      ({ cell }) => cell.format !== 'qcow2' || capabilities.zeroRange.ok,
    );
    const outcome = await run(plans, sink, { samples: 3, timedRequests: 10 });
    expect(outcome).toEqual({ cells: plans.length, counted: plans.length, timed: plans.length, skipped: 0 });
    for (const { counts, timings, timedRequests } of sink.all()) {
      expect(counts?.guest.writes).toBe(30);
      expect(timedRequests).toBe(10);
      expect(timings.map(({ round, requests }) => [round, requests])).toEqual([
        [0, 10],
        [1, 10],
        [2, 10],
      ]);
      for (const { elapsedNs, openNs, closeNs } of timings) {
        expect([openNs, closeNs]).toEqual([1000, 1000]);
        expect(elapsedNs).toBeGreaterThanOrEqual(1000);
      }
    }
    expect(readdirSync(directory)).toEqual([]);
  });

  it('counts every cell before it times any, and shuffles each round by the seed', async () => {
    const plans = smallMatrix({ caches: ALL_CACHES });
    const rounds = async (seed: number): Promise<string[][]> => {
      const engine = new ToldEngine();
      await run(plans, new MemorySink(), { engines: [engine], samples: 2, seed });
      expect(engine.passes.slice(0, 20).every((pass) => pass.startsWith('count'))).toBe(true);
      // A pass a cell, and one more a cache mode: the control.
      return [engine.passes.slice(20, 45), engine.passes.slice(45)];
    };
    const [first, second] = await rounds(1);
    expect(first).toHaveLength(25);
    expect(first?.toSorted()).toEqual(second?.toSorted());
    expect(first).not.toEqual(second);
    expect(await rounds(1)).toEqual([first, second]);
    expect((await rounds(2))[0]).not.toEqual(first);
  });

  it('times the reference of each group twice in a round, as the control of what it is compared with', async () => {
    const sink = new MemorySink();
    await run(smallMatrix({ caches: ['writethrough', 'writeback'] }), sink, { samples: 3 });
    for (const { cell, timings, control } of sink.all()) {
      const isReference = cell.refcounts === 'eager';
      expect(control?.map(({ round }) => round)).toEqual(isReference ? [0, 1, 2] : undefined);
      expect(timings.map(({ round }) => round)).toEqual([0, 1, 2]);
    }
    const alone = new MemorySink();
    await run(smallMatrix({ formats: ['raw'] }), alone, { samples: 3 });
    expect(alone.all().map(({ control }) => control)).toEqual([undefined]);
  });

  it('goes on until every median of a group is known well enough, and no longer', async () => {
    const engine = new ToldEngine();
    const sink = new MemorySink();
    // The first clock makes every pass take the same time, the second none like the other.
    const outcome = await run(smallMatrix(), sink, { engines: [engine], samples: 40, precision: 0.05 });
    for (const { timings } of sink.all()) expect(timings).toHaveLength(5);
    expect(outcome.timed).toBe(4);

    const restless = new MemorySink();
    let [nowNs, step] = [0n, 1n];
    const clock = { nowNs: () => (nowNs += (step = (step * 7919n) % 10_007n) * 1000n) };
    const cut = await run(smallMatrix(), restless, { samples: 12, precision: 0.0001, clock });
    for (const { timings } of restless.all()) expect(timings).toHaveLength(12);
    expect(cut.timed).toBe(4);
  });

  it('warms up in rounds of which nothing is kept', async () => {
    const engine = new ToldEngine();
    const sink = new MemorySink();
    await run(smallMatrix(), sink, { engines: [engine], samples: 1, warmUps: 2 });
    expect(engine.passes.filter((pass) => pass.startsWith('time'))).toHaveLength(2 * 4 + 5);
    for (const { timings } of sink.all()) expect(timings.map(({ round }) => round)).toEqual([0]);
    expect(sink.all().map(({ warmUps }) => warmUps)).toEqual([2, 2, 2, 2]);
    // Further samples keep what came before the first.
    await run(smallMatrix(), sink, { engines: [engine], samples: 2, warmUps: 0, resume: true });
    expect(sink.all().map(({ warmUps }) => warmUps)).toEqual([2, 2, 2, 2]);
  });

  it('takes nothing over of a workload that was changed since', async () => {
    const sink = new MemorySink();
    await run(smallMatrix(), sink, { samples: 0 });
    const before = sink.all();
    const pattern = { ...STRIDE, stride: '128KiB' };
    const phases = [{ name: 'run', requests: 30, ...WRITES, pattern }];
    const changed = smallMatrix({ sources: [smallSource('small', { phases })] });
    await run(changed, sink, { samples: 0, resume: true });
    expect(sink.all().map(({ requests }) => requests?.digest)).toHaveLength(before.length);
    for (const [index, record] of sink.all().entries()) {
      expect(record.requests?.digest).not.toBe(before[index]?.requests?.digest);
    }
    const engine = new ToldEngine();
    await run(changed, sink, { engines: [engine], samples: 0, resume: true });
    expect(engine.passes).toEqual([]);
  });

  it('keeps the control of an earlier run, and drops one of another cut', async () => {
    const sink = new MemorySink();
    await run(smallMatrix(), sink, { samples: 2, timedRequests: 10 });
    await run(smallMatrix(), sink, { samples: 4, timedRequests: 10, resume: true });
    const control = (): (number | undefined)[] => sink.all().map((record) => record.control?.length);
    expect(control()).toEqual([undefined, 4, undefined, undefined]);
    await run(smallMatrix(), sink, { samples: 1, timedRequests: 5, resume: true });
    expect(control()).toEqual([undefined, 1, undefined, undefined]);
  });

  it('records processor times where the clock has them', async () => {
    const sink = new MemorySink();
    let ns = 0;
    const clock = {
      ...steppingClock(),
      cpuTimes: () => ({ userNs: (ns += 500), systemNs: (ns += 20), preemptions: 0 }),
    };
    await run(smallMatrix({ formats: ['raw'] }), sink, { samples: 1, clock });
    expect(sink.all()[0]?.timings[0]).toMatchObject({ userNs: 520, systemNs: 520 });
  });

  it('is skipped with its reason where the place cannot do it, and the counts stay', async () => {
    const direct = { ok: false, reason: 'nfs at /net has no O_DIRECT' } as const;
    const engine = new BuiltinEngine({ files: new FileStorage(directory, { ...capabilities, direct }) });
    const sink = new MemorySink();
    const plans = smallMatrix({ formats: ['raw'], caches: ALL_CACHES }, { device: 'file' });
    const outcome = await run(plans, sink, { engines: [engine], samples: 1 });
    expect(outcome).toEqual({ cells: 5, counted: 5, timed: 3, skipped: 2 });
    for (const { cell, counts, timings, skipped } of sink.all()) {
      const isDirect = cell.cache === 'none' || cell.cache === 'directsync';
      expect(counts).not.toBeNull();
      expect(timings).toHaveLength(isDirect ? 0 : 1);
      if (isDirect) expect(skipped).toContain(direct.reason);
      else expect(skipped).toBeNull();
    }
  });

  it('does not take a cell that cannot exist for an error', async () => {
    const sink = new MemorySink();
    const outcome = await run(smallMatrix({ clusterSizes: [1024] }), sink, { samples: 1 });
    expect(outcome).toEqual({ cells: 4, counted: 3, timed: 3, skipped: 1 });
    expect(sink.all().at(-1)).toMatchObject({
      counts: null,
      countsDevice: null,
      skipped: expect.stringMatching(/^qed does not support/) as string,
    });
  });
});

describe('a disk that is full in mid-run', () => {
  it('ends the counting with an error that names cell and request; finished cells stay and are not run again', async () => {
    const sink = new MemorySink();
    const plans = smallMatrix();
    const failing = run(plans, sink, { engines: [fullDisk(isLazy)] });
    await expect(failing).rejects.toMatchObject({
      code: 'cell-failed',
      message: expect.stringMatching(
        /^cell small · qcow2 lazy · writethrough .*request \d+ .*ENOSPC/,
      ) as string,
    });
    expect(sink.all().map(({ cell }) => cell.refcounts)).toEqual([null, 'eager']);

    const engine = new ToldEngine();
    const outcome = await run(plans, sink, { engines: [engine], resume: true });
    expect(outcome.counted).toBe(4);
    expect(engine.passes).toHaveLength(2);
    const whole = new MemorySink();
    await run(plans, whole);
    const timeless = ({ span: _, ...record }: CellRecord) => record;
    expect(sink.all().map(timeless)).toEqual(whole.all().map(timeless));
  });

  it('ends the timing likewise, removes the files and keeps the samples taken before', async () => {
    const sink = new MemorySink();
    const plans = smallMatrix({}, { device: 'file' });
    let lazyPasses = 0;
    const engine = new BuiltinEngine({
      files,
      wrap: (device, plan) => {
        // Counted once, timed in the first round, full in the second.
        const isFull = isLazy(plan) && ++lazyPasses === 3;
        return new FaultDevice(device, ({ op, opIndex }) =>
          isFull && op === 'write' && opIndex > 3 ? 'ENOSPC' : undefined,
        );
      },
    });
    await expect(run(plans, sink, { engines: [engine], samples: 3 })).rejects.toThrow(/qcow2 lazy .*ENOSPC/);
    expect(readdirSync(directory)).toEqual([]);
    for (const { timings } of sink.all()) expect(timings[0]?.round).toBe(0);
    const samples = sink.all().flatMap(({ timings, control = [] }) => [...timings, ...control]);
    expect(samples.length).toBeGreaterThanOrEqual(5);

    const told = new ToldEngine();
    await run(plans, sink, { engines: [told], samples: 3, resume: true });
    expect(told.passes.filter((pass) => pass.startsWith('time'))).toHaveLength(15 - samples.length);
    for (const { timings } of sink.all()) {
      expect(timings.map(({ round }) => round).toSorted()).toEqual([0, 1, 2]);
    }
  });
});

describe('stopping', () => {
  it.each([
    { stage: 'count', samples: 0, cellsLeft: 2 },
    { stage: 'time', samples: 2, cellsLeft: 4 },
  ])(
    'in the stage $stage keeps what was finished and rejects with the reason',
    async ({ stage, samples, cellsLeft }) => {
      const sink = new MemorySink();
      const controller = new AbortController();
      let present = '';
      let ended = 0;
      const stopping = run(smallMatrix({}, { device: 'file' }), sink, {
        samples,
        signal: controller.signal,
        observer: {
          stageBegins: ({ kind }) => {
            present = kind;
            ended = 0;
          },
          cellEnds: () => {
            if (present === stage && ++ended === 2) controller.abort();
          },
        },
      });
      const error: unknown = await stopping.catch((caught: unknown) => caught);
      expect(error).toBe(controller.signal.reason);
      expect(sink.all()).toHaveLength(cellsLeft);
      const taken = sink.all().flatMap(({ timings, control = [] }) => [...timings, ...control]);
      expect(taken).toHaveLength(samples === 0 ? 0 : 2);
      expect(readdirSync(directory)).toEqual([]);
    },
  );

  it('reaches a run on memory, which never waits by itself', async () => {
    const controller = new AbortController();
    setImmediate(() => controller.abort());
    const phases = [
      { name: 'long', requests: 10_000_000, blockSizes: [{ size: '512B' }], pattern: { kind: 'sequential' } },
    ];
    // Fifty milliseconds go by between two looks at this clock.
    let nowNs = 0n;
    const clock = { nowNs: () => (nowNs += 50_000_000n) };
    const plans = smallMatrix({
      formats: ['raw'],
      caches: ['unsafe'],
      sources: [smallSource('long', { phases })],
    });
    const stopping = run(plans, new MemorySink(), { clock, signal: controller.signal });
    await expect(stopping).rejects.toMatchObject({ name: 'AbortError' });
  });
});

describe('resuming', () => {
  it('takes samples of another cut again', async () => {
    const sink = new MemorySink();
    const plans = smallMatrix({ formats: ['raw'] });
    await run(plans, sink, { samples: 2, timedRequests: 10 });
    await run(plans, sink, { samples: 2, timedRequests: 20, resume: true });
    expect(sink.all()[0]?.timings.map(({ requests }) => requests)).toEqual([20, 20]);
  });

  it('does nothing where nothing is missing', async () => {
    const sink = new MemorySink();
    const plans = smallMatrix();
    await run(plans, sink, { samples: 2 });
    const engine = new ToldEngine();
    expect(await run(plans, sink, { engines: [engine], samples: 2, resume: true })).toMatchObject({
      counted: 4,
      timed: 4,
    });
    expect(engine.passes).toEqual([]);
  });
});

it('notifies an observer of each cell of each stage, in order', async () => {
  const seen: string[] = [];
  const [plan] = smallMatrix({ formats: ['raw'] });
  await run(plan === undefined ? [] : [plan], new MemorySink(), {
    samples: 1,
    observer: {
      stageBegins: (stage) => seen.push(stage.kind),
      cellBegins: (cell) => seen.push(`begin ${cellKey(cell) === cellKey(plan?.cell ?? cell) ? 'it' : ''}`),
      cellEnds: (_, outcome) => seen.push(outcome.kind),
      runEnds: () => seen.push('end'),
    },
  });
  expect(seen).toEqual(['count', 'begin it', 'done', 'time', 'begin it', 'done', 'end']);
});

it('an engine that is not there is an error that names those that are', async () => {
  await expect(run(smallMatrix({ engines: ['qemu'] }), new MemorySink())).rejects.toThrow(
    /unknown engine 'qemu'; expected builtin/,
  );
});
