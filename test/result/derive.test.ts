import { expect, test } from 'vitest';

import { cellKey, cellName, countingKey } from '../../src/result/cell.ts';
import { bytesPerWriteByPurpose, deriveFigures, syncsPerWriteByCause } from '../../src/result/derive.ts';
import type { Cell, Counts } from '../../src/result/schema.ts';
import { spreadOf } from '../../src/result/statistics.ts';
import { phase } from '../report/synthetic-result.ts';

const guest = {
  reads: 0,
  writes: 10,
  flushes: 0,
  discards: 0,
  writeZeroes: 0,
  writeBytes: 40_960,
  allocatingWrites: 5,
};
const counts: Counts = {
  guest,
  open: phase({ causes: { repair: 100 }, writes: { header: { ops: 1, bytes: 65_536 } } }),
  run: phase({
    writes: {
      data: { ops: 10, bytes: 40_960 },
      cow: { ops: 0, bytes: 1000 },
      'l2-table': { ops: 4, bytes: 262_144 },
    },
    zeroRanges: { cow: { ops: 5, bytes: 327_680 } },
    causes: { writethrough: 10, 'l2-after-refcount': 5 },
    elided: 2,
  }),
  close: phase({ writes: { header: { ops: 1, bytes: 65_536 } }, causes: { close: 5 } }),
};

test('a guest write costs what run and close did, and opening is left out', () => {
  expect(deriveFigures(counts)).toEqual({
    syncsPerWrite: 2,
    syncsPerAllocatingWrite: 4,
    elidedPerWrite: 0.2,
    metadataBytesPerWrite: (262_144 + 65_536) / 10,
    metadataWritesPerWrite: 0.5,
    fillBytesPerWrite: 100,
    bytesPerWrite: (40_960 + 1000 + 262_144 + 65_536) / 10,
    writeAmplification: (40_960 + 1000 + 262_144 + 65_536) / 40_960,
    zeroRangeAmplification: 8,
  });
});

test('the parts by cause and by purpose add up to the whole', () => {
  const causes = syncsPerWriteByCause(counts);
  expect([...causes]).toEqual([
    ['writethrough', 1],
    ['l2-after-refcount', 0.5],
    ['close', 0.5],
  ]);
  const bytes = [...bytesPerWriteByPurpose(counts).values()].reduce((sum, value) => sum + value, 0);
  expect(bytes).toBe(deriveFigures(counts).bytesPerWrite);
});

test('figures per write of a workload that writes nothing do not exist', () => {
  const none = deriveFigures({
    ...counts,
    guest: { ...guest, writes: 0, writeBytes: 0, allocatingWrites: 0 },
  });
  expect(Object.values(none).every((figure) => figure === null)).toBe(true);
});

test('the spread of samples is that of the sorted values', () => {
  expect(spreadOf([])).toBeUndefined();
  expect(spreadOf([10, 9, 100])).toEqual({ n: 3, min: 9, q1: 9.5, median: 10, q3: 55, max: 100 });
});

const cell: Cell = {
  engine: 'builtin',
  workload: 'stride',
  format: 'qcow2',
  refcounts: 'lazy',
  cache: 'none',
  clusterSize: 65_536,
  queueDepth: 1,
  device: 'file',
};

test('a cell is known by all its coordinates, its counts by all but the timed device', () => {
  const elsewhere: Cell = { ...cell, device: 'null' };
  const others: readonly Partial<Cell>[] = [
    { engine: 'qemu' },
    { workload: 'stride2' },
    { format: 'qed', refcounts: null },
    { refcounts: 'eager' },
    { cache: 'unsafe' },
    { clusterSize: 131_072 },
    { queueDepth: 32 },
    { backing: 'raw' },
    { payload: 'random' },
  ];
  const keys = [cell, ...others.map((other) => ({ ...cell, ...other }))].map(cellKey);
  expect(new Set(keys).size).toBe(others.length + 1);
  expect(cellKey(elsewhere)).not.toBe(cellKey(cell));
  expect(countingKey(elsewhere)).toBe(countingKey(cell));
  expect(cellKey({ ...cell, payload: 'pattern' })).toBe(cellKey(cell));
  expect(cellName(cell)).toBe('stride · qcow2 lazy · none · 64KiB · depth 1 · like qemu-7.2');
});
