import { createHash } from 'node:crypto';

import fc from 'fast-check';
import { describe, expect, test } from 'vitest';

import { generateBackingFill, generatePrefill, generateRequests } from '../../src/workload/generator.ts';
import type { Request } from '../../src/workload/request.ts';
import { phaseJson, workload } from './workload-texts.ts';
import type { Json } from './workload-texts.ts';

const run = (changes: Json, limit?: number) => [...generateRequests(workload(changes), { limit })];
const runPhase = (phase: Json, image: Json = { size: '1MiB' }) => run({ image, phases: [phaseJson(phase)] });
const offsets = (requests: readonly Request[]) => requests.map(({ offset }) => offset);
const ops = (requests: readonly Request[]) => requests.map(({ op }) => op).join(' ');

const KIB = 1024;
const sectors = (max: number) => fc.integer({ min: 1, max }).map((count) => count * 512);
const anyPattern = fc.oneof(
  fc.record({ kind: fc.constant('sequential') }),
  fc.record({ kind: fc.constant('stride'), stride: sectors(300) }),
  fc.record({ kind: fc.constant('uniform'), replacement: fc.boolean(), alignment: sectors(200) }),
  fc.record({
    kind: fc.constant('zipf'),
    theta: fc.double({ min: 0.1, max: 3, noNaN: true }),
    alignment: sectors(200),
  }),
);

test('every request is whole sectors and is within its region', () => {
  const shape = fc.record({
    pattern: anyPattern,
    region: fc.record({
      offset: sectors(1000),
      length: fc.integer({ min: 64, max: 1000 }).map((n) => n * 512),
    }),
    blockSizes: fc.array(fc.record({ size: sectors(64), weight: fc.integer({ min: 1, max: 5 }) }), {
      minLength: 1,
      maxLength: 4,
    }),
    seed: fc.nat(),
  });
  fc.assert(
    fc.property(shape, ({ pattern, region, blockSizes, seed }) => {
      const mix = { read: 1, write: 2, flush: 1, discard: 1, writeZeroes: 1 };
      const phase = phaseJson({
        requests: 80,
        mix,
        blockSizes,
        pattern: { ...pattern, region },
        fuaShare: 0.3,
        unmap: true,
      });
      const requests = run({ seed, image: { size: '2MiB' }, phases: [phase] });
      expect(requests).toHaveLength(80);
      for (const { op, offset, length, fua, unmap, timeNs } of requests) {
        expect(timeNs).toBe(0);
        expect(unmap).toBe(op === 'write-zeroes');
        if (op !== 'write') expect(fua).toBe(false);
        if (op === 'flush') {
          expect([offset, length]).toEqual([0, 0]);
          continue;
        }
        expect(blockSizes.map(({ size }) => size)).toContain(length);
        expect(offset % 512).toBe(0);
        expect(offset).toBeGreaterThanOrEqual(region.offset);
        expect(offset + length).toBeLessThanOrEqual(region.offset + region.length);
      }
    }),
    { numRuns: 60 },
  );
});

describe('addresses', () => {
  test('sequential: each where the last one ended, and from the start when the region is full', () => {
    const phase = {
      requests: 5,
      pattern: { kind: 'sequential', region: { offset: '8KiB', length: '10KiB' } },
    };
    expect(offsets(runPhase(phase))).toEqual([8, 12, 8, 12, 8].map((n) => n * KIB));
    const full = { requests: 3, pattern: { kind: 'sequential', region: { length: '8KiB' } } };
    expect(offsets(runPhase(full))).toEqual([0, 4, 0].map((n) => n * KIB));
  });

  test('stride: a fixed step, and from the start past the end', () => {
    const phase = { requests: 5, pattern: { kind: 'stride', stride: '384KiB' } };
    expect(offsets(runPhase(phase))).toEqual([0, 384, 768, 0, 384].map((n) => n * KIB));
  });

  test('uniform without replacement: every cluster once, then every one once again in another order', () => {
    const pattern = { kind: 'uniform', replacement: false, alignment: '64KiB' };
    const clusters = offsets(runPhase({ requests: 32, pattern })).map((offset) => offset / (64 * KIB));
    const all = Array.from({ length: 16 }, (_, index) => index);
    expect(clusters.slice(0, 16).toSorted((a, b) => a - b)).toEqual(all);
    expect(clusters.slice(16).toSorted((a, b) => a - b)).toEqual(all);
    expect(clusters.slice(0, 16)).not.toEqual(all);
    expect(clusters.slice(16)).not.toEqual(clusters.slice(0, 16));
  });

  test('uniform with replacement: all addresses equally often, as chance goes', () => {
    const drawn = offsets(runPhase({ requests: 16_000, pattern: { kind: 'uniform', alignment: '64KiB' } }));
    const hits = new Map<number, number>();
    for (const offset of drawn) hits.set(offset, (hits.get(offset) ?? 0) + 1);
    expect(hits.size).toBe(16);
    // 1,000 expected, deviation 31.
    for (const count of hits.values()) expect(Math.abs(count - 1000)).toBeLessThan(160);
  });

  test('zipf: the popular addresses are few and are not side by side', () => {
    const drawn = offsets(runPhase({ requests: 10_000, pattern: { kind: 'zipf', theta: 1.2 } }));
    const hits = new Map<number, number>();
    for (const offset of drawn) hits.set(offset, (hits.get(offset) ?? 0) + 1);
    const popular = [...hits].toSorted((a, b) => b[1] - a[1]).slice(0, 4);
    expect(popular.reduce((sum, [, count]) => sum + count, 0)).toBeGreaterThan(4000);
    const places = popular.map(([offset]) => offset / 4096);
    expect(places).not.toEqual([0, 1, 2, 3]);
  });
});

describe('the kinds of request', () => {
  test('come in the proportions of the mix', () => {
    const counts = new Map<string, number>();
    for (const { op } of runPhase({ requests: 10_000, mix: { read: 6, write: 3, discard: 1 } })) {
      counts.set(op, (counts.get(op) ?? 0) + 1);
    }
    expect([...counts.keys()].toSorted()).toEqual(['discard', 'read', 'write']);
    expect(Math.abs((counts.get('read') ?? 0) - 6000)).toBeLessThan(300);
    expect(Math.abs((counts.get('write') ?? 0) - 3000)).toBeLessThan(300);
  });

  test('flushEvery adds a flush after so many requests that change data, and never after reads alone', () => {
    expect(ops(runPhase({ requests: 5, flushEvery: 2 }))).toBe('write write flush write write flush write');
    expect(ops(runPhase({ requests: 2, flushEvery: 1 }))).toBe('write flush write flush');
    expect(ops(runPhase({ requests: 3, flushEvery: 1, mix: { read: 1 } }))).toBe('read read read');
  });

  test('fuaShare is the share of the writes with FUA', () => {
    const fua = (share: number) =>
      runPhase({ requests: 1000, fuaShare: share }).filter((request) => request.fua).length;
    expect(fua(0)).toBe(0);
    expect(fua(1)).toBe(1000);
    expect(Math.abs(fua(0.25) - 250)).toBeLessThan(80);
  });
});

describe('phases', () => {
  test('a phase in bytes ends with the request that reaches them', () => {
    const phase = { requests: undefined, bytes: '10KiB', mix: { write: 1 } };
    expect(runPhase(phase)).toHaveLength(3);
  });

  test('repeated phases take turns, and each goes on where it stopped', () => {
    const data = phaseJson({ requests: 2, pattern: { kind: 'sequential', region: { offset: '512KiB' } } });
    const journal = phaseJson({ requests: 1, flushEvery: 1, pattern: { kind: 'sequential' } });
    const requests = run({ phases: [{ repeat: 2, phases: [data, journal] }] });
    expect(ops(requests)).toBe('write write write flush write write write flush');
    expect(offsets(requests)).toEqual([512, 516, 0, 0, 520, 524, 4, 0].map((n) => n * KIB));
  });

  test('what one phase does leaves the addresses of the next alone', () => {
    const second = phaseJson({ name: 'second', requests: 50, pattern: { kind: 'uniform' } });
    const after = (first: Json) => offsets(run({ phases: [phaseJson(first), second] }).slice(-50));
    expect(after({ requests: 3, fuaShare: 0.5 })).toEqual(
      after({ requests: 90, pattern: { kind: 'zipf', theta: 1 } }),
    );
  });

  test('prefill, backing file and run are lists of their own', () => {
    const random = phaseJson({ requests: 20, pattern: { kind: 'uniform' } });
    const built = workload({
      image: { size: '1MiB', prefill: [random], backing: { size: '2MiB', fill: [random] } },
      phases: [random],
    });
    const lists = [generateRequests, generatePrefill, generateBackingFill].map((list) =>
      offsets([...list(built)]),
    );
    expect(lists.map((list) => list.length)).toEqual([20, 20, 20]);
    expect(new Set(lists.map(String)).size).toBe(3);
    const chain = workload({
      image: { size: '1MiB', backing: { fill: [random], backing: { fill: [random] } } },
    });
    const layers = [0, 1, 2].map((layer) => offsets([...generateBackingFill(chain, { layer })]));
    expect(layers.map((list) => list.length)).toEqual([20, 20, 0]);
    expect(new Set(layers.map(String)).size).toBe(3);
    expect([...generatePrefill(workload())]).toEqual([]);
    expect([...generateBackingFill(workload())]).toEqual([]);
  });
});

describe('the seed', () => {
  const random = {
    phases: [phaseJson({ requests: 100, mix: { read: 1, write: 1 }, pattern: { kind: 'uniform' } })],
  };

  test('decides everything: an iterable can be run through again, another seed is another run', () => {
    const requests = generateRequests(workload(random));
    expect([...requests]).toEqual([...requests]);
    expect(run({ ...random, seed: 2 })).not.toEqual(run(random));
    expect([...generateRequests(workload(random), { seed: 2 })]).toEqual(run({ ...random, seed: 2 }));
  });

  // A change of this digest changes every published count: raise the version of the workload schema
  // with it.
  test('gives the same requests on every machine', () => {
    const patterns = [
      { kind: 'sequential' },
      { kind: 'stride', stride: '12KiB' },
      { kind: 'uniform' },
      { kind: 'uniform', replacement: false },
    ];
    const phases = patterns.map((pattern) =>
      phaseJson({
        requests: 500,
        pattern,
        mix: { read: 1, write: 2 },
        fuaShare: 0.1,
        blockSizes: [{ size: 512 }, { size: 4096 }],
      }),
    );
    const digest = createHash('sha256').update(JSON.stringify(run({ seed: 11, phases })));
    expect(digest.digest('hex').slice(0, 16)).toMatchInlineSnapshot(`"782b3979a66ab14f"`);
  });
});

test('a limit cuts the run, flushes included', () => {
  expect(ops(run({ phases: [phaseJson({ flushEvery: 1 })] }, 3))).toBe('write flush write');
  expect(run({}, 0)).toEqual([]);
});

test('a run of 10^12 requests begins at once and takes no memory', () => {
  const phase = phaseJson({ requests: 1e12, pattern: { kind: 'uniform', replacement: false } });
  const huge = workload({ image: { size: '4096TiB' }, phases: [{ repeat: 1e12, phases: [phase] }] });
  let count = 0;
  for (const request of generateRequests(huge)) {
    expect(request.offset + request.length).toBeLessThanOrEqual(2 ** 52);
    if (++count === 1000) break;
  }
  expect(count).toBe(1000);
});
