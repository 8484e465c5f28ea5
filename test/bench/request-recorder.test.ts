/** What a counting pass keeps of its requests: a digest of the workload, and what each request cost. */

import fc from 'fast-check';
import { expect, test } from 'vitest';

import { BuiltinEngine } from '../../src/bench/builtin-engine.ts';
import type { HostLogRecord } from '../../src/device/host-log.ts';
import { RequestRecorder } from '../../src/bench/request-recorder.ts';
import {
  COST_LENGTH_MAX,
  COSTS_MAX,
  costSequence,
  REQUESTS_MAX,
  requestCostsSchema,
  type RequestCosts,
} from '../../src/result/request-costs.ts';
import type { Request } from '../../src/workload/request.ts';
import { mixedSource, smallMatrix, smallSource } from './small-run.ts';

const source = smallSource('small');

function write(offset: number): Request {
  return { op: 'write', offset, length: 4096, fua: false, unmap: false, timeNs: 0 };
}

function recorded(requests: readonly Request[], records: readonly HostLogRecord[]): RequestCosts {
  const recorder = new RequestRecorder(source);
  recorder.add(requests);
  for (const record of records) recorder.sink(record);
  return requestCostsSchema.parse(recorder.costs());
}

function metadata(request: number, length: number): HostLogRecord {
  return { phase: 'run', op: 'write', file: 'image', offset: 0, length, purpose: 'l2-table', request };
}

test('the digest depends on requests and image, and not on batches', () => {
  const requests = [write(0), write(65_536), write(4096)];
  const whole = new RequestRecorder(source);
  whole.add(requests);
  const single = new RequestRecorder(source);
  for (const request of requests) single.add([request]);
  expect(single.costs().digest).toBe(whole.costs().digest);
  const others: readonly (readonly Request[])[] = [
    [write(0), write(65_536)],
    [write(0), write(65_536), write(8192)],
    [write(0), write(65_536), { ...write(4096), fua: true }],
    [write(0), write(65_536), { ...write(4096), op: 'write-zeroes' }],
    [write(0), write(65_536), { ...write(4096), op: 'write-zeroes', unmap: true }],
  ];
  const digests = others.map((each) => recorded(each, []).digest);
  const onOther = new RequestRecorder(smallSource('small', { image: { size: '128MiB' } }));
  onOther.add(requests);
  const all = [whole.costs().digest, onOther.costs().digest, ...digests];
  expect(new Set(all).size).toBe(all.length);
});

test('costs are those of the host log, request by request, at any queue depth', async () => {
  for (const queueDepth of [1, 8]) {
    const log: HostLogRecord[] = [];
    const [plan] = smallMatrix({ sources: [mixedSource()], formats: ['qcow2'], queueDepths: [queueDepth] });
    if (plan === undefined) throw new Error('no cell');
    const { requests, counts } = await new BuiltinEngine().count(plan, {
      hostLog: (record) => log.push(record),
    });
    if (requests === undefined) throw new Error('no costs');
    const costs = costSequence(requests);
    expect(costs).toHaveLength(300);
    for (const [number, cost] of costs.entries()) {
      const own = log.filter(({ request }) => request === number).map(({ op }) => op);
      const shown = cost
        .split(', ')
        .flatMap((text) =>
          Array.from({ length: Number(/ × (\d+)$/.exec(text)?.[1] ?? 1) }, () => text.split(' ')[0]),
        );
      expect(cost === '' ? [] : shown, `request ${String(number)}`).toEqual(own);
    }
    const syncs = costs.join(', ').match(/sync [\w-]+( × \d+)?/g) ?? [];
    const total = syncs.reduce((sum, text) => sum + Number(/ × (\d+)$/.exec(text)?.[1] ?? 1), 0);
    expect(total).toBe(counts.run.syncs.ops);
  }
});

test('what was recorded is read back', () => {
  fc.assert(
    fc.property(fc.array(fc.nat(40), { maxLength: 400 }), (lengths) => {
      const costs = recorded(
        lengths.map(() => write(0)),
        lengths.flatMap((length, request) => (length === 0 ? [] : [metadata(request, length)])),
      );
      const texts = lengths.map((length) => (length === 0 ? '' : `write l2-table ${String(length)} B`));
      expect(costSequence(costs)).toEqual(texts);
    }),
    { seed: 17 },
  );
});

test('a record is bounded: the beginning of a run is kept', () => {
  const many = REQUESTS_MAX + 10;
  const long = recorded(
    Array.from({ length: many }, () => write(0)),
    [metadata(many - 1, 512)],
  );
  expect(costSequence(long)).toHaveLength(REQUESTS_MAX);
  const varied = recorded(
    Array.from({ length: 3000 }, () => write(0)),
    Array.from({ length: 3000 }, (_, request) => metadata(request, request + 1)),
  );
  expect(costSequence(varied)).toHaveLength(COSTS_MAX);
  const busy = (last: number): readonly HostLogRecord[] =>
    Array.from({ length: 2000 }, (_, index) => metadata(0, index === 1999 ? last : index + 1));
  const [one] = costSequence(recorded([write(0)], busy(1)));
  const [other] = costSequence(recorded([write(0)], busy(2)));
  expect(one).toHaveLength(COST_LENGTH_MAX);
  expect(one).not.toBe(other);
});

test('a damaged sequence is read as far as it goes', () => {
  const costs = recorded([write(0), write(0)], [metadata(1, 512)]);
  expect(costSequence({ ...costs, sequence: 'AAAA' })).toEqual([]);
  expect(costSequence({ ...costs, costs: [''] })).toEqual(['']);
});
