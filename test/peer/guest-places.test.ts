/**
 * Where a request's data writes lie, also where their clusters belong to others by the end of the
 * run.
 */

import { expect, test } from 'vitest';

import type { Format } from '../../src/format/disk-image.ts';
import { guestPlaces } from '../../src/peer/guest-places.ts';
import type { HostOperation } from '../../src/peer/host-operation.ts';
import type { FileLayout } from '../../src/format/file-layout.ts';
import type { Request } from '../../src/workload/request.ts';

const CLUSTER = 4096;
const WRITE: Request = { op: 'write', offset: 0, length: 0, fua: false, unmap: false, timeNs: 0 };

/** Guest cluster by host cluster. */
function layout(owners: Readonly<Record<number, number>>): FileLayout {
  return {
    clusterSize: CLUSTER,
    metadataAt: () => undefined,
    guestOffsetAt: (hostOffset) => {
      const owner = owners[Math.floor(hostOffset / CLUSTER)];
      return owner === undefined ? undefined : owner * CLUSTER + (hostOffset % CLUSTER);
    },
  };
}

function write(offset: number, length: number): HostOperation {
  return { phase: 'run', request: 0, op: 'write', file: 'image', offset, length, error: undefined };
}

function places(
  request: Partial<Request>,
  writes: readonly HostOperation[],
  after: Readonly<Record<number, number>>,
  format: Format = 'qcow2',
): readonly number[] {
  return guestPlaces({ ...WRITE, ...request }, writes, { format, before: layout({}), after: layout(after) });
}

test('owners are believed where they make up the request, in whatever order its extents were issued', () => {
  const writes = [write(9 * CLUSTER, CLUSTER), write(5 * CLUSTER + 512, CLUSTER - 512)];
  expect(places({ offset: 512, length: 2 * CLUSTER - 512 }, writes, { 5: 0, 9: 1 })).toEqual([CLUSTER, 512]);
});

test('a cluster that another guest cluster has by now is fitted to what is left', () => {
  const writes = [write(5 * CLUSTER + 512, CLUSTER - 512), write(9 * CLUSTER, CLUSTER)];
  const request = { offset: 512, length: 2 * CLUSTER - 512 };
  expect(places(request, writes, { 5: 70, 9: 1 })).toEqual([512, CLUSTER]);
  // Both owners are of the request, but not of that time.
  expect(places(request, writes, { 5: 1, 9: 1 })).toEqual([512, CLUSTER]);
});

test('a merged write begins with its fill', () => {
  expect(places({ offset: 8704, length: 512 }, [write(3 * CLUSTER, CLUSTER)], {})).toEqual([8192]);
});

test('fill that is written apart is beside the request', () => {
  const writes = [write(5 * CLUSTER, 512), write(5 * CLUSTER + 1024, 3072), write(5 * CLUSTER + 512, 512)];
  expect(places({ offset: 512, length: 512 }, writes, {})).toEqual([0, 1024, 512]);
});

test('a zero-write writes the ends of its range', () => {
  const writes = [write(5 * CLUSTER + 3584, 512), write(9 * CLUSTER, 1024)];
  const request = { op: 'write-zeroes', offset: 3584, length: 512 + 2 * CLUSTER + 1024 } as const;
  expect(places(request, writes, { 5: 0, 9: 1 })).toEqual([3584, CLUSTER]);
  expect(places(request, writes, {})).toEqual([3584, 3 * CLUSTER]);
});
