import { describe, expect, it } from 'vitest';

import { BuiltinEngine } from '../../src/bench/builtin-engine.ts';
import { runMatrix } from '../../src/bench/run.ts';
import { DEVICE_MODELS } from '../../src/device/device-models.ts';
import type { CellRecord } from '../../src/result/schema.ts';
import { MemorySink, mixedSource, smallMatrix, steppingClock } from './small-run.ts';

const models = new Map(DEVICE_MODELS.map((model) => [model.name, model]));

async function run(queueDepths: readonly number[], samples = 3): Promise<readonly CellRecord[]> {
  const sink = new MemorySink();
  const plans = smallMatrix(
    { sources: [mixedSource()], caches: ['writethrough', 'none'], queueDepths },
    { device: 'model:nvme-plp' },
  );
  const engines = [new BuiltinEngine({ models })];
  const outcome = await runMatrix({
    plans,
    engines,
    sink,
    samples,
    timedRequests: 10,
    clock: steppingClock(),
    seed: 1,
  });
  expect(outcome).toMatchObject({ timed: plans.length, skipped: 0 });
  return sink.all();
}

describe('cells on a modelled device', () => {
  it('take the same virtual time in every run, at any depth', async () => {
    const [first, second] = [await run([1, 16]), await run([1, 16])];
    expect(second).toEqual(first);
  });

  it('are timed once and over the whole workload, and every request has a latency', async () => {
    for (const { timings, timedRequests, counts, latency } of await run([1, 16])) {
      expect(timings).toHaveLength(1);
      const { reads = 0, writes = 0, flushes = 0, discards = 0, writeZeroes = 0 } = counts?.guest ?? {};
      expect(timedRequests).toBe(reads + writes + flushes + discards + writeZeroes);
      expect(latency?.write?.requests).toBe(writes);
      expect(latency?.read?.requests).toBe(reads);
      expect(latency?.flush?.requests).toBe(flushes);
    }
  });

  it('spend their time in data, metadata, syncs and harness, and nowhere else', async () => {
    for (const { cell, timings, timeSplit, latency } of await run([1])) {
      const elapsedNs = timings[0]?.elapsedNs ?? NaN;
      const { dataNs, metadataNs, syncNs, harnessNs } = timeSplit ?? {
        dataNs: 0,
        metadataNs: 0,
        syncNs: 0,
        harnessNs: 0,
      };
      expect(Math.abs(dataNs + metadataNs + syncNs + harnessNs - elapsedNs)).toBeLessThanOrEqual(2);
      expect(metadataNs > 0).toBe(cell.format !== 'raw');
      const summed = Object.values(latency ?? {}).reduce((sum, each) => sum + each.meanNs * each.requests, 0);
      expect(summed / elapsedNs).toBeGreaterThan(0.99);
      expect(summed / elapsedNs).toBeLessThan(1.01);
    }
  });

  it('overlap at a depth: O_DIRECT writes take less time together than one after another', async () => {
    const records = await run([1, 16]);
    const elapsed = (depth: number): number =>
      records
        .filter(({ cell }) => cell.cache === 'none' && cell.format === 'raw' && cell.queueDepth === depth)
        .reduce((sum, { timings }) => sum + (timings[0]?.elapsedNs ?? 0), 0);
    expect(elapsed(16)).toBeLessThan(elapsed(1) / 2);
  });
});
