import { describe, expect, test } from 'vitest';

import { reportCells } from '../../src/report/report-cells.ts';
import type { Cell, CellRecord, ResultRecord } from '../../src/result/schema.ts';
import { syntheticResult } from './synthetic-result.ts';

const result = syntheticResult();
const place = { workload: 'stride', cache: 'writethrough' } as const;

/** A result of one raw cell and lazy qcow2 cells that differ as given. */
function withCells(rawCell: Partial<Cell>, ...others: readonly Partial<Cell>[]): ResultRecord {
  const cells = [
    recordOf(({ format }) => format === 'raw', rawCell),
    ...others.map((other) => recordOf(({ refcounts }) => refcounts === 'lazy', other)),
  ];
  return { ...result, cells };
}

function recordOf(isWanted: (cell: Cell) => boolean, other: Partial<Cell>): CellRecord {
  const record = result.cells.find(({ cell }) => isWanted(cell));
  if (record === undefined) throw new Error('the result has no such cell');
  return { ...record, cell: { ...record.cell, ...place, ...other } };
}

function rowsOf(of: ResultRecord): readonly string[] {
  return reportCells(of).cells.map(({ setup, variant }) => `${setup}: ${variant}`);
}

describe('a format without a coordinate', () => {
  test('is beside every value of the formats that have it', () => {
    const caches = [{ l2CacheSize: 65_536 }, { l2CacheSize: 1_048_576 }];
    expect(rowsOf(withCells({}, ...caches.map((sizes) => ({ caches: sizes }))))).toEqual([
      'l2-cache-size 64KiB: raw',
      'l2-cache-size 64KiB: qcow2 lazy',
      'l2-cache-size 1MiB: raw',
      'l2-cache-size 1MiB: qcow2 lazy',
    ]);
    expect(rowsOf(withCells({}, { clusterSize: 4096 }, { clusterSize: 65_536 }))).toHaveLength(4);
    expect(rowsOf(withCells({}, { shape: { compat: '0.10' } }, {}))).toHaveLength(4);
  });

  test('is in a setup of its own where it has another value of what it does have', () => {
    const metadata = { shape: { preallocation: 'metadata' } } as const;
    expect(rowsOf(withCells(metadata, metadata, {}))).toEqual([
      'preallocation metadata: raw',
      'preallocation metadata: qcow2 lazy',
      'default shape: qcow2 lazy',
    ]);
  });
});
