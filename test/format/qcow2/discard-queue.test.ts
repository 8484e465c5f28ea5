import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Qcow2BenchError } from '../../../src/core/error.ts';
import { FaultDevice } from '../../../src/device/fault.ts';
import { MemoryDevice } from '../../../src/device/memory-device.ts';
import { WriteLog } from '../../../src/device/write-log.ts';
import { DiscardQueue } from '../../../src/format/qcow2/metadata/discard-queue.ts';

const CLUSTER = 4096;

async function holesFor(clusters: readonly number[]): Promise<[number, number][]> {
  const log = new WriteLog(new MemoryDevice());
  const queue = new DiscardQueue(log);
  for (const cluster of clusters) queue.add(cluster * CLUSTER, CLUSTER);
  expect(queue.isEmpty).toBe(clusters.length === 0);
  await queue.process();
  expect(queue.isEmpty).toBe(true);
  return log.entries.map((entry) => {
    if (entry.op !== 'punch-hole') throw new Error(`a discard did a ${entry.op}`);
    return [entry.offset / CLUSTER, entry.length / CLUSTER];
  });
}

describe('freed clusters', () => {
  it('that touch become one hole, in whatever order they were freed', async () => {
    expect(await holesFor([4, 5, 6])).toEqual([[4, 3]]);
    expect(await holesFor([6, 5, 4])).toEqual([[4, 3]]);
    expect(await holesFor([4, 6, 5])).toEqual([[4, 3]]);
    expect(await holesFor([9, 4, 6])).toEqual([
      [9, 1],
      [4, 1],
      [6, 1],
    ]);
  });

  it('are punched once each, no hole touches another, and nothing else is punched', async () => {
    const clusters = fc.uniqueArray(fc.nat(40), { maxLength: 25 });
    await fc.assert(
      fc.asyncProperty(clusters, async (freed) => {
        const holes = await holesFor(freed);
        const punched = holes.flatMap(([first, count]) => Array.from({ length: count }, (_, n) => first + n));
        const ascending = (a: number, b: number): number => a - b;
        expect(punched.toSorted(ascending)).toEqual(freed.toSorted(ascending));
        const starts = new Set(holes.map(([first]) => first));
        for (const [first, count] of holes) expect(starts.has(first + count)).toBe(false);
      }),
    );
  });

  it('that cannot be punched are kept, without an error', async () => {
    const device = new FaultDevice(new MemoryDevice(), () => 'EIO');
    const queue = new DiscardQueue(device);
    queue.add(0, CLUSTER);
    queue.add(8 * CLUSTER, CLUSTER);
    const outcome = await queue.process().catch((error: unknown) => error);
    expect(outcome instanceof Qcow2BenchError ? outcome.message : outcome).toBeUndefined();
    expect(queue.isEmpty).toBe(true);
  });

  it('whose refcount update failed are forgotten', async () => {
    const log = new WriteLog(new MemoryDevice());
    const queue = new DiscardQueue(log);
    queue.add(0, CLUSTER);
    queue.clear();
    await queue.process();
    expect(log.entries).toEqual([]);
  });
});
