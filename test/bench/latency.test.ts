import { describe, expect, it } from 'vitest';

import { Latencies, LatencyRecorder } from '../../src/bench/latency.ts';
import { rejectionCodeOf } from '../format/rejection.ts';
import { request } from './small-run.ts';

describe('latencies', () => {
  it('are percentiles to three digits, and never above what was recorded', () => {
    const latencies = new Latencies();
    for (let us = 1; us <= 10_000; us++) latencies.add('write', us * 1000);
    const { write } = latencies.byOp();
    expect(write).toMatchObject({ requests: 10_000, maxNs: expect.closeTo(10_000_000, -4) as number });
    for (const [ns, expected] of [
      [write?.p50Ns, 5_000_000],
      [write?.p90Ns, 9_000_000],
      [write?.p99Ns, 9_900_000],
      [write?.p999Ns, 9_990_000],
    ] as const) {
      expect(Math.abs((ns ?? 0) / expected - 1)).toBeLessThan(0.001);
    }
    expect(write?.p9999Ns).toBeLessThanOrEqual(write?.maxNs ?? 0);
  });

  it('go on from their stored form', () => {
    const before = new Latencies();
    for (let ns = 1; ns <= 1000; ns++) before.add('read', ns);
    const after = new Latencies(before.byOp());
    after.add('read', 50_000);
    after.add('flush', 7);
    expect(after.byOp().read).toMatchObject({ requests: 1001, p50Ns: 501 });
    expect(after.byOp().flush?.requests).toBe(1);
  });

  it('a stored form that is none is refused', async () => {
    const { write } = withOne().byOp();
    if (write === undefined) throw new Error('nothing recorded');
    const broken = { write: { ...write, histogram: 'SElTVEZBQUE=' } };
    expect(await rejectionCodeOf(() => new Latencies(broken))).toBe('bad-histogram');
  });

  function withOne(): Latencies {
    const latencies = new Latencies();
    latencies.add('write', 1);
    return latencies;
  }
});

describe('a recorder', () => {
  const requests = [request('write'), request('flush'), request('write')];
  const clockOf = (times: readonly number[]): (() => number) => {
    let index = 0;
    return () => times[index++] ?? NaN;
  };

  it('at depth 1 takes the time since the request before was done, pauses left out', () => {
    const recorder = new LatencyRecorder(requests, {
      queueDepth: 1,
      ticksNs: clockOf([0, 10, 30, 1000, 1005]),
    });
    recorder.resumes();
    recorder.issued(0);
    recorder.done(0);
    recorder.issued(1);
    recorder.done(1);
    recorder.resumes();
    recorder.issued(2);
    recorder.done(2);
    const latencies = new Latencies();
    recorder.addTo(latencies);
    expect(latencies.byOp()).toMatchObject({
      write: { requests: 2, maxNs: 10, p50Ns: 5 },
      flush: { maxNs: 20 },
    });
  });

  it('at a greater depth takes the time since the request was issued', () => {
    const recorder = new LatencyRecorder(requests, {
      queueDepth: 2,
      ticksNs: clockOf([0, 1, 2, 11, 12, 33, 52]),
    });
    recorder.resumes();
    recorder.issued(0);
    recorder.issued(1);
    recorder.done(0);
    recorder.issued(2);
    recorder.done(1);
    recorder.done(2);
    const latencies = new Latencies();
    recorder.addTo(latencies);
    expect(latencies.byOp()).toMatchObject({
      write: { requests: 2, p50Ns: 10, maxNs: 40 },
      flush: { maxNs: 31 },
    });
  });

  it('of a pass that did not serve all its requests says nothing', () => {
    const recorder = new LatencyRecorder(requests, { queueDepth: 1, ticksNs: () => 0 });
    recorder.issued(0);
    recorder.done(0);
    const latencies = new Latencies();
    recorder.addTo(latencies);
    expect(latencies.byOp()).toEqual({});
  });
});
