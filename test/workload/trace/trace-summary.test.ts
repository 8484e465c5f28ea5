/** The figures of `trace info` against sets of blocks. */

import fc from 'fast-check';
import { expect, test } from 'vitest';

import { REQUEST_OPS, type Request } from '../../../src/workload/request.ts';
import { RequestColumns } from '../../../src/workload/trace/request-columns.ts';
import { TraceSummary } from '../../../src/workload/trace/trace-summary.ts';
import { amount } from '../../amount.ts';

const SECTOR = 512;
const CLUSTER = 65_536;
const GIB = 1024 ** 3;

/** Near each other, so that they meet, and at the borders of words and pages of the maps. */
const request: fc.Arbitrary<Request> = fc
  .record({
    op: fc.constantFrom(...REQUEST_OPS),
    base: fc.constantFrom(0, 32 * 1024 * 1024, 5 * GIB, 9000 * GIB),
    sector: fc.nat(300),
    sectors: fc.oneof(fc.integer({ min: 1, max: 70 }), fc.constantFrom(32, 64, 128, 70_000)),
    fua: fc.boolean(),
    gapNs: fc.nat(1_000_000),
  })
  .map(({ op, base, sector, sectors, fua, gapNs: timeNs }) => ({
    op,
    offset: op === 'flush' ? 0 : Math.max(0, base + (sector - (base > 0 ? 150 : 0)) * SECTOR),
    length: op === 'flush' ? 0 : sectors * SECTOR,
    fua: fua && op !== 'flush' && op !== 'read',
    unmap: false,
    timeNs,
  }));

interface Expected {
  readonly touched: Set<number>;
  readonly written: Set<number>;
  readonly defined: Set<number>;
  readonly clusters: Set<number>;
  allocatingWrites: number;
  unwrittenReadBytes: number;
}

function bySets(requests: readonly Request[]): Expected {
  const all: Expected = {
    touched: new Set(),
    written: new Set(),
    defined: new Set(),
    clusters: new Set(),
    allocatingWrites: 0,
    unwrittenReadBytes: 0,
  };
  for (const { op, offset, length } of requests) {
    for (let sector = offset / SECTOR; sector < (offset + length) / SECTOR; sector++) {
      if (op === 'read' && !all.defined.has(sector)) all.unwrittenReadBytes += SECTOR;
      if (op !== 'discard') all.touched.add(sector);
      if (op === 'write') all.written.add(sector);
      if (op !== 'read') all.defined.add(sector);
    }
    if (op !== 'write') continue;
    const before = all.clusters.size;
    for (let at = Math.floor(offset / CLUSTER); at * CLUSTER < offset + length; at++) all.clusters.add(at);
    if (all.clusters.size > before) all.allocatingWrites++;
  }
  return all;
}

test('footprint, allocating writes and reads of what was not written are those of sets of sectors', () => {
  fc.assert(
    fc.property(fc.array(request, { maxLength: 30 }), fc.nat(30), (unsorted, cut) => {
      const requests = unsorted.toSorted((a, b) => a.timeNs - b.timeNs);
      const summary = new TraceSummary(CLUSTER);
      for (const part of [requests.slice(0, cut), requests.slice(cut)]) {
        const columns = new RequestColumns();
        for (const each of part) columns.add(each);
        expect(columns.requests()).toEqual(part);
        summary.add(columns);
      }
      const { touched, written, clusters, allocatingWrites, unwrittenReadBytes } = bySets(requests);
      const of = (op: string): readonly Request[] => requests.filter((each) => each.op === op);
      const bytesOf = (op: string): number => of(op).reduce((sum, { length }) => sum + length, 0);
      expect(summary.figures()).toMatchObject({
        requests: requests.length,
        reads: of('read').length,
        writes: of('write').length,
        flushes: of('flush').length,
        discards: of('discard').length,
        writeZeroes: of('write-zeroes').length,
        fuaWrites: of('write').filter(({ fua }) => fua).length,
        readBytes: bytesOf('read'),
        writeBytes: bytesOf('write'),
        discardBytes: bytesOf('discard'),
        writeZeroesBytes: bytesOf('write-zeroes'),
        footprintBytes: touched.size * SECTOR,
        writtenBytes: written.size * SECTOR,
        footprintBlock: SECTOR,
        clusters: clusters.size,
        allocatingWrites,
        unwrittenReadBytes,
        endOffset: Math.max(0, ...requests.map(({ offset, length }) => offset + length)),
        durationNs: (requests.at(-1)?.timeNs ?? 0) - (requests[0]?.timeNs ?? 0),
      });
    }),
    { numRuns: amount({ everyday: 60, full: 600 }) },
  );
});

test('blocks grow when a trace touches too many stretches, and reads are counted at their ends', () => {
  const summary = new TraceSummary(CLUSTER);
  const columns = new RequestColumns();
  const stretch = 32 * 1024 * 1024;
  const add = (op: 'read' | 'write', offset: number, length: number): void =>
    columns.add({ op, offset, length, fua: false, unmap: false, timeNs: 0 });
  for (let at = 0; at < 4097; at++) add('write', at * stretch, SECTOR);
  // Its first half is in a block of 1 KiB that was written to, and so is its last third.
  add('read', SECTOR, 2 * 1024);
  add('read', stretch / 2 + SECTOR, SECTOR);
  summary.add(columns);
  expect(summary.figures()).toMatchObject({
    footprintBlock: 1024,
    writtenBytes: 4097 * 1024,
    footprintBytes: (4097 + 2 + 1) * 1024,
    unwrittenReadBytes: 1024 + SECTOR + SECTOR,
  });
});
