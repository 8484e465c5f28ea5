import fc from 'fast-check';
import { describe, expect, it } from 'vitest';

import type { DeviceModel } from '../../src/device/device-model.ts';
import { DEVICE_MODELS } from '../../src/device/device-models.ts';
import { ModelStorage } from '../../src/device/model-storage.ts';
import { VirtualTime } from '../../src/device/virtual-time.ts';
import { WrittenBlocks } from '../../src/device/written-blocks.ts';

const KIB = 1024;
const costs = { baseNs: 100, nsPerKiB: 10, jumpNs: 1000, allocationNs: 0 };
const path = {
  read: costs,
  write: costs,
  zeroRange: { ...costs, nsPerKiB: 0 },
  punchHole: costs,
  truncate: { baseNs: 7, nsPerKiB: 0, jumpNs: 0, allocationNs: 0 },
  sync: { baseNs: 10_000, nsPerKiB: 1, extentNs: 100, allocationNs: 50_000 },
};
const model: DeviceModel = {
  name: 'test',
  description: '',
  parallelism: 2,
  requestNs: { raw: 0, qcow2: 0, qed: 0 },
  buffered: path,
  direct: { ...path, write: { ...costs, baseNs: 5000 } },
};
const block = new Uint8Array(4 * KIB);

/** What each step took. */
function tookNs(storage: ModelStorage, work: () => unknown): number {
  const before = storage.time.nowNs;
  expect(work()).toBeUndefined();
  return storage.time.nowNs - before;
}

describe('the time of operations, one after another', () => {
  it('is base, transfer, and a jump where the last operation ended elsewhere', () => {
    const storage = new ModelStorage(model);
    const file = storage.create('a');
    expect(tookNs(storage, () => file.write(0, block, 'data'))).toBe(100 + 40 + 1000);
    expect(tookNs(storage, () => file.write(4096, block, 'data'))).toBe(100 + 40);
    expect(tookNs(storage, () => file.read(0, new Uint8Array(1024), 'data'))).toBe(100 + 10 + 1000);
    const parts = [{ purpose: 'cow', bytes: block } as const, { purpose: 'data', bytes: block } as const];
    expect(tookNs(storage, () => file.writeMerged(1024, parts))).toBe(100 + 80);
    expect(tookNs(storage, () => file.zeroRange(0, 4096, 'cow'))).toBe(100 + 1000);
    expect(tookNs(storage, () => file.truncate(65536, 'data'))).toBe(7);
  });

  it('is more for a write into new blocks', () => {
    const allocating = { ...path, write: { ...costs, jumpNs: 0, allocationNs: 300 } };
    const storage = new ModelStorage({ ...model, buffered: allocating });
    const file = storage.create('a');
    expect(tookNs(storage, () => file.write(0, block, 'data'))).toBe(100 + 40 + 300);
    expect(tookNs(storage, () => file.write(0, block, 'data'))).toBe(100 + 40);
    void file.punchHole(0, 4096, 'data');
    expect(tookNs(storage, () => file.write(0, block, 'data'))).toBe(100 + 40 + 300);
  });

  it('has costs of its own past the page cache', () => {
    const storage = new ModelStorage(model);
    const file = storage.create('a', { direct: true });
    expect(tookNs(storage, () => file.write(0, block, 'data'))).toBe(5000 + 40 + 1000);
  });
});

describe('the time of a sync', () => {
  it('is that of bytes and extents since the last one, and of allocation where there was one', () => {
    const storage = new ModelStorage(model);
    const file = storage.create('a');
    void file.write(0, block, 'data');
    void file.write(4096, block, 'data');
    void file.write(65536, block, 'data');
    expect(tookNs(storage, () => file.sync('close'))).toBe(10_000 + 12 + 200 + 50_000);
    void file.write(0, block, 'data');
    expect(tookNs(storage, () => file.sync('close'))).toBe(10_000 + 4 + 100);
    expect(tookNs(storage, () => file.sync('close'))).toBe(10_000);
  });

  it.each<[string, (file: ReturnType<ModelStorage['create']>) => unknown]>([
    ['a zero-range', (file) => file.zeroRange(0, 65536, 'cow')],
    ['a hole', (file) => file.punchHole(0, 65536, 'data')],
  ])('%s allocates, and so does the write after it', (_name, zero) => {
    const storage = new ModelStorage(model);
    const file = storage.create('a');
    void file.write(0, new Uint8Array(65536), 'data');
    void file.sync('close');
    void zero(file);
    expect(tookNs(storage, () => file.sync('close'))).toBeGreaterThanOrEqual(60_000);
    void file.write(4096, block, 'data');
    expect(tookNs(storage, () => file.sync('close'))).toBe(10_000 + 4 + 100 + 50_000);
  });

  it('is of its own file', () => {
    const storage = new ModelStorage(model);
    const [one, other] = [storage.create('one'), storage.create('other')];
    void one.write(0, block, 'data');
    expect(tookNs(storage, () => other.sync('close'))).toBe(10_000);
  });
});

describe('operations that overlap', () => {
  it('are served at as many places as the model has, syncs one at a time', async () => {
    const storage = new ModelStorage({ ...model, buffered: { ...path, write: { ...costs, jumpNs: 0 } } });
    const file = storage.create('a');
    storage.isConcurrent = true;
    const ends: number[] = [];
    const note = (): void => void ends.push(storage.time.nowNs);
    const writes = [0, 1, 2].map((index) =>
      Promise.resolve(file.write(index * 4096, block, 'data')).then(note),
    );
    await Promise.all(writes);
    expect(ends).toEqual([140, 140, 280]);
    await Promise.all(
      [file.sync('close'), file.sync('close')].map((sync) => Promise.resolve(sync).then(note)),
    );
    expect(ends.slice(3)).toEqual([280 + 60_112, 280 + 60_112 + 10_000]);
  });
});

describe('virtual time', () => {
  it('lets events happen in the order of their times, equal ones in the order they were put down', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(fc.nat(20), { maxLength: 50 }), async (times) => {
        const time = new VirtualTime();
        const happened: [number, number][] = [];
        await Promise.all(
          times.map(async (atNs, order) => {
            await time.until(atNs);
            expect(time.nowNs).toBe(atNs);
            happened.push([atNs, order]);
          }),
        );
        expect(happened).toEqual(happened.toSorted((a, b) => a[0] - b[0] || a[1] - b[1]));
      }),
      { numRuns: 50 },
    );
  });
});

describe('written blocks', () => {
  it('tell a write into new blocks from an overwrite, as a set of block numbers does', () => {
    const range = fc.record({ isClear: fc.boolean(), offset: fc.nat(300_000_000), length: fc.nat(40_000) });
    fc.assert(
      fc.property(fc.array(range, { maxLength: 40 }), (ranges) => {
        const blocks = new WrittenBlocks();
        const expected = new Set<number>();
        for (const { isClear, offset, length } of ranges) {
          const first = Math.floor(offset / 4096);
          const end = Math.ceil((offset + length) / 4096);
          if (isClear) {
            blocks.clear(offset, length);
            for (
              let block = Math.ceil(offset / 4096);
              block < Math.floor((offset + length) / 4096);
              block++
            ) {
              expected.delete(block);
            }
          } else {
            let isNew = false;
            for (let block = first; length > 0 && block < end; block++) {
              isNew ||= !expected.has(block);
              expected.add(block);
            }
            expect(blocks.write(offset, length)).toBe(isNew);
          }
          expect(blocks.count).toBe(expected.size);
        }
      }),
    );
  });
});

it('the models that ship tell a sync from a write, and no two have one name', () => {
  expect(new Set(DEVICE_MODELS.map(({ name }) => name)).size).toBe(DEVICE_MODELS.length);
  for (const { buffered, direct } of DEVICE_MODELS) {
    expect(buffered.sync.baseNs + buffered.sync.allocationNs).toBeGreaterThan(buffered.write.baseNs);
    expect(direct.write.baseNs).toBeGreaterThan(buffered.write.baseNs);
  }
});
