/** What a verdict says where QEMU is not the same from one run to the next. */

import { expect, test } from 'vitest';

import type { HostOperation } from '../../src/peer/host-operation.ts';
import { parityVerdict } from '../../src/peer/parity-verdict.ts';
import { judgeOrder, type TaggedRecord } from '../../src/peer/varying-order.ts';
import type { Parity } from '../../src/result/schema.ts';

/** One write in each request, at these offsets. */
function writes(...offsets: readonly number[]): readonly HostOperation[] {
  return offsets.map((offset, request) => {
    return { phase: 'run', request, op: 'write', file: 'image', offset, length: 512, error: undefined };
  });
}

function ours(...offsets: readonly number[]): readonly TaggedRecord[] {
  return offsets.map((offset, request) => {
    return { phase: 'run', request, op: 'write', file: 'image', offset, length: 512, purpose: 'data' };
  });
}

function verdict(records: readonly TaggedRecord[], ...runs: readonly (readonly HostOperation[])[]): Parity {
  const order = judgeOrder(records, runs);
  const same = { files: [], misreads: [], guest: undefined, isLostZeroes: false };
  return parityVerdict({ qemu: '7.2', order, ...same });
}

test('a difference outside the requests in which QEMU varies is reported, and says that QEMU varies', () => {
  const { verdict: word, difference } = verdict(
    ours(0, 512, 9216),
    writes(0, 512, 1024),
    writes(0, 2048, 1024),
  );
  expect(word).toBe('different');
  expect(difference).toContain('differs (in QEMU');
  expect(difference).toContain(
    'QEMU itself varies: its 2 runs differ from each other in 1 request (first: 1)',
  );
});

test('a difference within them is a named exception', () => {
  const runs = [writes(0, 512, 1024), writes(0, 2048, 1024)];
  expect(verdict(ours(0, 4096, 1024), ...runs)).toMatchObject({
    verdict: 'identical',
    exceptions: ['varying-order'],
    leftOutRequests: 1,
  });
});

test('where QEMU repeats itself nothing is said of varying', () => {
  const { difference } = verdict(ours(0, 9216), writes(0, 512), writes(0, 512));
  expect(difference).not.toContain('varies');
});
