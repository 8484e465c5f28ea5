/** Each host operation of a run fails in turn: what the guest was promised is kept all the same. */

import { describe, expect, test } from 'vitest';

import { Surveyor } from '../../src/crash/explore.ts';
import { tryFaults, type FaultFindings } from '../../src/crash/fault-cell.ts';
import { FAULT_KINDS, FaultInjector, faultText } from '../../src/crash/faults.ts';
import { recordCell } from '../../src/crash/record-cell.ts';
import { STRONGEST_MODEL } from '../../src/crash/state-space.ts';
import { timelineOf } from '../../src/crash/timeline.ts';
import type { Request } from '../../src/workload/request.ts';
import { smallPlan, type SmallCell } from './small-recording.ts';

const UNIT = 4096;

function request(op: Request['op'], offset = 0, length = UNIT): Request {
  return { op, offset, length: op === 'flush' ? 0 : length, fua: false, unmap: true, timeNs: 0 };
}

/** Allocates, fills, flushes, frees and uses again. */
const REQUESTS = [
  request('write', 0, 2 * UNIT),
  request('write', 65_536, 512),
  request('flush'),
  request('write-zeroes'),
  request('write', 131_072),
  request('discard', UNIT),
  request('flush'),
  request('write', 262_144),
];

const CELLS: readonly SmallCell[] = [
  { format: 'raw', cache: 'writeback' },
  { format: 'qcow2', refcounts: 'eager', cache: 'writeback' },
  { format: 'qcow2', refcounts: 'lazy', cache: 'writeback' },
  { format: 'qcow2', refcounts: 'lazy', cache: 'writethrough', backed: true },
  { format: 'qcow2', refcounts: 'eager', cache: 'writeback', shape: { dataFile: 'raw' } },
  { format: 'qcow2', refcounts: 'eager', cache: 'writeback', queueDepth: 4 },
  { format: 'qed', cache: 'writeback' },
];

async function linesOf({
  fault,
  state,
  recording,
}: NonNullable<FaultFindings['example']>): Promise<readonly string[]> {
  return [faultText(fault), ...(await timelineOf(state, await Surveyor.of(recording)))];
}

async function faultsOf(cell: SmallCell): Promise<FaultFindings> {
  const { plan } = await smallPlan(cell);
  return tryFaults(plan, REQUESTS, { model: STRONGEST_MODEL, seed: 7, turn: () => undefined });
}

test.each(CELLS)('$format $refcounts in $cache, depth $queueDepth, backed: $backed', async (cell) => {
  const { tried, reported, violations, example } = await faultsOf(cell);
  expect(example === undefined ? [] : await linesOf(example)).toEqual([]);
  expect(violations).toBe(0);
  expect(tried).toBeGreaterThan(REQUESTS.length);
  // A hole that cannot be punched wastes space and is no error of the guest.
  expect(reported).toBeGreaterThan(tried * 0.7);
});

describe('a fault', () => {
  test('is the same in every run, and each comes to pass', async () => {
    const { plan } = await smallPlan({ format: 'qcow2', refcounts: 'eager', cache: 'writeback' });
    const survey = async (): Promise<FaultInjector> => {
      const inject = new FaultInjector();
      await recordCell(plan, { requests: REQUESTS, inject });
      return inject;
    };
    const { possible } = await survey();
    expect((await survey()).possible).toEqual(possible);
    expect(new Set(possible.map(({ kind }) => kind))).toEqual(new Set(FAULT_KINDS));
    expect(new Set(possible.map((fault) => faultText(fault))).size).toBe(possible.length);
    for (const fault of possible) {
      const inject = new FaultInjector(fault);
      await recordCell(plan, { requests: REQUESTS, inject });
      expect(inject.hasStruck, faultText(fault)).toBe(true);
    }
  });

  test('of a sync fails all that is to be durable afterwards; half of a short write is there', async () => {
    const { plan } = await smallPlan({ format: 'raw', cache: 'writeback' });
    const run = async (kind: 'failed-sync' | 'short-write', part: number) =>
      recordCell(plan, { requests: REQUESTS, inject: new FaultInjector({ kind, part, nth: 0 }) });
    const unsynced = await run('failed-sync', 2);
    const failed = unsynced.requests.flatMap(({ doneAt }, index) => (doneAt === Infinity ? index : []));
    expect({ failed, isClosed: unsynced.isClosed }).toEqual({ failed: [2, 6], isClosed: false });

    const short = await run('short-write', 0);
    const failing = short.requests.flatMap(({ doneAt }, index) => (doneAt === Infinity ? index : []));
    expect({ failing, isClosed: short.isClosed }).toEqual({ failing: [0], isClosed: true });
    expect(short.operations[0]).toMatchObject({ op: 'write', offset: 0, length: UNIT });
  });
});
