/** Traces adapted to a replay: flushes that they do not hold, images of another size. */

import fc from 'fast-check';
import { describe, expect, test } from 'vitest';

import { adapted, type Adaptation } from '../../src/workload/adaptation.ts';
import { flushPolicyName, parseFlushPolicy } from '../../src/workload/flush-policy.ts';
import { imageSize, REMAPS } from '../../src/workload/remap.ts';
import { parseReplayTiming, replayTimingName } from '../../src/workload/replay-timing.ts';
import { REQUEST_OPS, type Request, type RequestOp } from '../../src/workload/request.ts';

const MS = 1_000_000;
const MIB = 1024 * 1024;

function at(ms: number, op: RequestOp, offset = 0, length = op === 'flush' ? 0 : 4096): Request {
  return { op, offset, length, fua: false, unmap: false, timeNs: ms * MS };
}

async function through(
  requests: readonly Request[],
  adaptation: Adaptation,
  { limit, batch = 3 }: { readonly limit?: number; readonly batch?: number } = {},
): Promise<readonly Request[]> {
  const batches = Array.from({ length: Math.ceil(requests.length / batch) }, (_, index) =>
    requests.slice(index * batch, (index + 1) * batch),
  );
  async function* stream(): AsyncGenerator<readonly Request[], undefined> {
    for (const each of batches) yield await Promise.resolve(each);
    return undefined;
  }
  const source = { virtualSize: 0, batches: stream(), [Symbol.asyncDispose]: () => Promise.resolve() };
  const result: Request[] = [];
  for await (const each of adapted(source, adaptation, limit).batches) result.push(...each);
  return result;
}

const flushesAt = (requests: readonly Request[]): number[] =>
  requests.flatMap(({ op, timeNs }) => (op === 'flush' ? [timeNs / MS] : []));

describe('requests longer than a disk takes at once', () => {
  test('are split in order, and cover what they covered', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.integer({ min: 1, max: 300 }),
        fc.integer({ min: 1, max: 40 }),
        fc.constantFrom('read', 'write'),
        fc.boolean(),
        async (sectors, most, op, isFua) => {
          const fua = isFua && op === 'write';
          const request: Request = { ...at(1, op, 512, sectors * 512), fua };
          const parts = await through([at(0, 'flush'), request], { transferBytes: most * 512 });
          expect(parts).toHaveLength(1 + Math.ceil(sectors / most));
          let next = 512;
          for (const part of parts.slice(1)) {
            expect(part).toMatchObject({ op, offset: next, timeNs: MS, unmap: false });
            expect(part.length).toBeLessThanOrEqual(most * 512);
            next += part.length;
          }
          expect(next).toBe(512 + sectors * 512);
          expect(parts.map((part) => part.fua)).toEqual(parts.map((_, n) => fua && n === parts.length - 1));
        },
      ),
    );
  });

  test('by default to what an image takes; those without data stay whole', async () => {
    const long = [
      at(0, 'write', 0, 64 * MIB),
      at(1, 'discard', 0, 2 ** 32),
      at(2, 'write-zeroes', 0, 2 ** 31),
    ];
    expect((await through(long, {})).map(({ op, offset, length }) => [op, offset, length])).toEqual([
      ['write', 0, 32 * MIB],
      ['write', 32 * MIB, 32 * MIB],
      ['discard', 0, 2 ** 32],
      ['write-zeroes', 0, 2 ** 31],
    ]);
    expect(await through([at(0, 'discard', 0, 2 ** 33)], {})).toHaveLength(2);
  });
});

describe('a flush policy', () => {
  test.each(['none', 'every=1', 'every=32', 'interval=100'])(
    '%s is read and named as it was given',
    (text) => {
      const policy = parseFlushPolicy(text);
      expect(policy && flushPolicyName(policy)).toBe(text);
    },
  );

  test.each([
    '',
    'every',
    'every=0',
    'every=-1',
    'every=1.5',
    'interval=',
    'interval=99999999999',
    'each=3',
    'none=1',
  ])('%j is none', (text) => expect(parseFlushPolicy(text)).toBeUndefined());

  test('every=N flushes after N changes; reads are none, and a flush of the trace starts over', async () => {
    const ops: RequestOp[] = ['write', 'read', 'discard', 'write', 'flush', 'write', 'write-zeroes', 'write'];
    const requests = ops.map((op, index) => at(index, op));
    const policy = { kind: 'every', changes: 2 } as const;
    expect((await through(requests, { flushPolicy: policy })).map(({ op }) => op)).toEqual([
      ...['write', 'read', 'discard', 'flush', 'write', 'flush', 'write', 'write-zeroes', 'flush', 'write'],
    ]);
  });

  test('interval=MS flushes at the first tick after a change, once, and never without one', async () => {
    const requests = [
      at(1, 'write'),
      at(99, 'write'),
      at(100, 'read'),
      at(350, 'read'),
      at(420, 'write'),
      at(910, 'read'),
    ];
    const policy = { kind: 'interval', ms: 100 } as const;
    const result = await through(requests, { flushPolicy: policy });
    expect(flushesAt(result)).toEqual([100, 500]);
    expect(result.map(({ op }) => op).join()).toBe('write,write,flush,read,read,write,flush,read');
  });

  test('requests stay as they are and in order, times never go backwards, whatever the batches', async () => {
    const arbitrary = fc.record({
      requests: fc.array(fc.record({ op: fc.constantFrom(...REQUEST_OPS), gap: fc.nat(500) }), {
        maxLength: 60,
      }),
      policy: fc.constantFrom('none', 'every=1', 'every=7', 'interval=1', 'interval=130'),
      batch: fc.integer({ min: 1, max: 20 }),
    });
    await fc.assert(
      fc.asyncProperty(arbitrary, async ({ requests: drawn, policy, batch }) => {
        let ms = 0;
        const requests = drawn.map(({ op, gap }) => at((ms += gap), op));
        const flushPolicy = parseFlushPolicy(policy);
        const result = await through(requests, { flushPolicy }, { batch });
        const own = new Set(requests);
        expect(result.filter((request) => own.has(request))).toEqual(requests);
        const times = result.map(({ timeNs }) => timeNs);
        expect(times).toEqual(times.toSorted((a, b) => a - b));
        expect(await through(requests, { flushPolicy }, { batch: 100 })).toEqual(result);
        if (policy !== 'every=1') return;
        // Nothing that was changed stays unflushed.
        result.forEach(({ op }, index) => {
          if (op !== 'flush' && op !== 'read') expect(result[index + 1]?.op).toBe('flush');
        });
      }),
    );
  });

  test('the limit counts added flushes', async () => {
    const requests = Array.from({ length: 10 }, (_, index) => at(index, 'write'));
    const flushPolicy = parseFlushPolicy('every=1');
    const result = await through(requests, { flushPolicy }, { limit: 5 });
    expect(result.map(({ op }) => op)).toEqual(['write', 'flush', 'write', 'flush', 'write']);
  });
});

describe('a remapped trace', () => {
  const request = fc
    .record({
      op: fc.constantFrom(...REQUEST_OPS),
      shift: fc.integer({ min: 9, max: 20 }),
      start: fc.nat(1 << 20),
      units: fc.integer({ min: 1, max: 4 }),
    })
    .map(({ op, shift, start, units }) =>
      op === 'flush' ? at(0, op) : at(0, op, start * 2 ** shift, units * 2 ** shift),
    );

  test('is within the image, as long and as aligned as before', async () => {
    const arbitrary = fc.record({
      requests: fc.array(request, { minLength: 1, maxLength: 30 }),
      way: fc.constantFrom(...REMAPS),
      image: fc.integer({ min: 64, max: 4096 }).map((count) => count * MIB),
    });
    await fc.assert(
      fc.asyncProperty(arbitrary, async ({ requests, way, image }) => {
        const recorded = Math.max(MIB, ...requests.map(({ offset, length }) => offset + length));
        const sizes = { recorded, image };
        const size = imageSize(way, sizes);
        const result = await through(requests, { remap: { way, sizes } });
        expect(result).toHaveLength(requests.length);
        result.forEach(({ op, offset, length }, index) => {
          const before = requests[index];
          expect([op, length]).toEqual([before?.op, before?.length]);
          expect(offset + length).toBeLessThanOrEqual(size);
          let unit = 512;
          while (unit < MIB && (before?.offset ?? 0) % (2 * unit) === 0 && length % (2 * unit) === 0) {
            unit *= 2;
          }
          expect(offset % unit).toBe(0);
        });
      }),
    );
  });

  test('wrap goes on at the beginning, scale keeps proportions, grow leaves offsets alone', async () => {
    const requests = [at(0, 'write', 0), at(0, 'write', 5 * MIB), at(0, 'write', 16 * MIB - 4096)];
    const sizes = { recorded: 16 * MIB, image: 4 * MIB };
    const offsets = async (way: (typeof REMAPS)[number]): Promise<number[]> =>
      (await through(requests, { remap: { way, sizes } })).map(({ offset }) => offset);
    expect(await offsets('wrap')).toEqual([0, MIB, 4 * MIB - 4096]);
    expect(await offsets('scale')).toEqual([0, 1.25 * MIB, 4 * MIB - 4096]);
    expect(await offsets('grow')).toEqual([0, 5 * MIB, 16 * MIB - 4096]);
    expect(imageSize('grow', sizes)).toBe(16 * MIB);
  });

  test('a request longer than the image is an error that says what to do', async () => {
    const remap = { way: 'wrap', sizes: { recorded: 16 * MIB, image: MIB } } as const;
    await expect(through([at(0, 'write', 0, 2 * MIB)], { remap })).rejects.toMatchObject({
      code: 'remap-too-long',
    });
  });
});

describe('the timing of a replay', () => {
  test('is asap, recorded or a factor', () => {
    expect(parseReplayTiming('asap')).toBe('asap');
    expect(parseReplayTiming('recorded')).toEqual({ scale: 1 });
    expect(parseReplayTiming('scale=0.5')).toEqual({ scale: 0.5 });
    for (const text of ['recorded', 'scale=4', 'scale=2.5']) {
      const timing = parseReplayTiming(text);
      expect(timing === undefined || timing === 'asap' ? timing : replayTimingName(timing)).toBe(text);
    }
  });

  test.each(['', 'fast', 'scale', 'scale=0', 'scale=-1', 'scale=1e9', 'scale=99999999', 'recorded=2'])(
    '%j is none',
    (text) => expect(parseReplayTiming(text)).toBeUndefined(),
  );
});
