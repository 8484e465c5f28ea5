import { describe, expect, it } from 'vitest';

import { cellKey, cellName, countingKey } from '../../src/result/cell.ts';
import { unsupportedByFormat } from '../../src/bench/unsupported.ts';
import type { CellPlan } from '../../src/bench/engine.ts';
import type { Cell } from '../../src/result/schema.ts';
import type { WorkloadSource } from '../../src/workload/library.ts';
import { ALL_CACHES, mixedSource, smallMatrix, smallSource } from './small-run.ts';

describe('the matrix', () => {
  it('has each variant in each cache mode of each workload: 4 × 5 × workloads', () => {
    const sources = Array.from({ length: 9 }, (_, index) => smallSource(`w${String(index)}`));
    expect(smallMatrix({ sources, caches: ALL_CACHES })).toHaveLength(180);
  });

  it('has raw once whatever the cluster sizes, and refcounts for qcow2 only', () => {
    const plans = smallMatrix({ clusterSizes: [4096, 65_536, 4096] });
    expect(plans.map(({ cell }) => [cell.format, cell.refcounts, cell.clusterSize])).toEqual([
      ['raw', null, null],
      ['qcow2', 'eager', 4096],
      ['qcow2', 'lazy', 4096],
      ['qed', null, 4096],
      ['qcow2', 'eager', 65_536],
      ['qcow2', 'lazy', 65_536],
      ['qed', null, 65_536],
    ]);
  });

  it('has file systems in cells that the builtin engine times on files, and in no other', () => {
    const axes = { formats: ['raw'], devices: ['file', 'memory'], engines: ['builtin', 'qemu'] } as const;
    const others = { hostFs: [undefined, 'ext4', 'btrfs'] } as const;
    const cells = smallMatrix({ ...axes, others }).map(({ cell }) => cell);
    expect(cells.map(({ device, engine, hostFs }) => [device, engine, hostFs])).toEqual([
      ['file', 'builtin', undefined],
      ['file', 'qemu', undefined],
      ['file', 'builtin', 'ext4'],
      ['file', 'builtin', 'btrfs'],
      ['memory', 'builtin', undefined],
      ['memory', 'qemu', undefined],
    ]);
    expect(new Set(cells.map(countingKey)).size).toBe(2);
  });

  it('has no cell twice, in an order that repeats', () => {
    const axes = { sources: [smallSource('a'), mixedSource()], caches: ALL_CACHES, queueDepths: [1, 32] };
    const keys = smallMatrix(axes).map(({ cell }) => cellKey(cell));
    expect(new Set(keys).size).toBe(keys.length);
    expect(smallMatrix(axes).map(({ cell }) => cellKey(cell))).toEqual(keys);
  });

  it('names the backing file in the cells of formats that can have one', () => {
    const plans = smallMatrix({ sources: [mixedSource()] });
    expect(plans.map(({ cell }) => cell.backing)).toEqual([undefined, 'qcow2', 'qcow2', 'qcow2']);
  });

  it('leaves out the default payload and names any other', () => {
    const [plain] = smallMatrix({ formats: ['raw'] });
    const [random] = smallMatrix({ formats: ['raw'] }, { payload: 'random' });
    expect(plain?.cell).not.toHaveProperty('payload');
    expect(random === undefined ? '' : cellName(random.cell)).toContain('payload random');
  });

  it('leaves out the default of what becomes of discards', () => {
    const cells = (discard: 'unmap' | 'ignore') =>
      smallMatrix({}, { discard }).map(({ cell }) => cell.discard);
    expect(new Set(cells('unmap'))).toEqual(new Set([undefined]));
    expect(new Set(cells('ignore'))).toEqual(new Set(['ignore']));
  });

  it('has discard-no-unref in cells of qcow2 alone, and in none where it is off', () => {
    const cells = smallMatrix({ refcounts: ['lazy'], others: { discardNoUnref: [undefined, true] } }).map(
      ({ cell }) => cell,
    );
    expect(cells.map(({ format, discardNoUnref }) => [format, discardNoUnref])).toEqual([
      ['raw', undefined],
      ['qcow2', undefined],
      ['qed', undefined],
      ['qcow2', true],
    ]);
    expect(cellName(cells[3] as Cell)).toBe(
      'small · qcow2 lazy · writethrough · 64KiB · depth 1 · discard-no-unref',
    );
  });

  it.each([
    ['qemu-7.2', '1.1', 'qemu-7.2 has no discard-no-unref; use it with qemu-10.0'],
    ['qemu-10.0', '0.10', 'discard-no-unref needs version 3 of qcow2 (compat 1.1)'],
    ['qemu-10.0', '1.1', undefined],
  ] as const)('skips discard-no-unref, with the reason: %s, compat %s', (like, compat, reason) => {
    const axes = {
      formats: ['qcow2'],
      refcounts: ['eager'],
      others: { shape: [{ compat }], discardNoUnref: [true], like: [like] },
    } as const;
    const [plan] = smallMatrix(axes);
    expect(unsupportedByFormat(plan as CellPlan)).toBe(reason);
  });

  it('has a policy in cells of formats with metadata, and none where it is that of QEMU', () => {
    const cells = smallMatrix({
      refcounts: ['lazy'],
      clusterSizes: [4096],
      others: { policy: ['qemu', 'strict'] },
    }).map(({ cell }) => cell);
    expect(cells.map(({ format, policy }) => [format, policy])).toEqual([
      ['raw', undefined],
      ['qcow2', undefined],
      ['qed', undefined],
      ['qcow2', 'strict'],
      ['qed', 'strict'],
    ]);
    expect(cellName(cells[3] as Cell)).toBe(
      'small · qcow2 lazy · writethrough · 4KiB · depth 1 · policy strict',
    );
  });

  it('refuses two workloads of one name, which no record could tell apart', () => {
    const other = { ...smallSource('same'), path: 'elsewhere/same.json' };
    expect(() => smallMatrix({ sources: [smallSource('same'), other] })).toThrow(
      /two workloads have the name/,
    );
  });

  it('makes every option of an image an axis, and one cell of points that mean the same', () => {
    const plans = smallMatrix({
      formats: ['raw', 'qcow2'],
      refcounts: ['lazy'],
      payloads: ['pattern', 'zero'],
      others: {
        shape: [{}, { extendedL2: false }, { extendedL2: true }, { compat: '1.1' }],
        caches: [{}, { l2CacheSize: 1_048_576 }],
        discard: [undefined, 'ignore'],
      },
    });
    const cells = plans.map(({ cell }) => cell);
    const names = cells.map((cell) => cellName(cell));
    // Raw has no extended L2 entries and no caches; 2 payloads × 2 ways of discards are left.
    expect(cells.filter(({ format }) => format === 'raw')).toHaveLength(4);
    expect(cells.filter(({ format }) => format === 'qcow2')).toHaveLength(16);
    expect(new Set(names).size).toBe(names.length);
    expect(names).toContain(
      'small · qcow2 lazy · writethrough · 64KiB · depth 1 · payload zero · extended L2 · l2-cache-size 1MiB · discard ignore',
    );
  });

  it('names the QEMU to follow in each cell, but for the oldest, which cells of older results have', () => {
    const plans = smallMatrix({ formats: ['raw'], others: { like: ['qemu-7.2', 'qemu-10.0'] } });
    expect(plans.map(({ cell }) => cell.like)).toEqual([undefined, 'qemu-10.0']);
    expect(smallMatrix({ formats: ['raw'] })[0]?.cell.like).toBe('qemu-10.0');
    const names = plans.map(({ cell }) => cellName(cell));
    expect(names).toEqual([
      'small · raw · writethrough · depth 1 · like qemu-7.2',
      'small · raw · writethrough · depth 1',
    ]);
  });

  it('puts as many backing files behind an image as asked, none behind raw, and no cell twice', () => {
    const backing = (source: WorkloadSource): readonly unknown[] =>
      smallMatrix({ sources: [source], formats: ['raw', 'qed'], backingDepths: [0, 1, 4] }).map(
        ({ cell }) => [cell.format, cell.backing, cell.backingDepth],
      );
    const expected = [
      ['raw', undefined, undefined],
      ['qed', undefined, undefined],
      ['qed', 'qcow2', undefined],
      ['qed', 'qcow2', 4],
    ];
    expect(backing(mixedSource())).toEqual(expected);
    expect(backing(smallSource('without'))).toEqual(expected);
  });

  it('overlaps operations only where some can be in flight at once, on files', () => {
    const plans = smallMatrix({
      formats: ['raw'],
      overlaps: [false, true],
      queueDepths: [1, 8],
      devices: ['file', 'memory'],
    });
    const overlapping = plans.filter(({ cell }) => cell.overlap === true);
    expect(overlapping.map(({ cell }) => [cell.queueDepth, cell.device])).toEqual([[8, 'file']]);
    expect(plans).toHaveLength(5);
  });

  it('refuses more combinations than a run can hold, before it makes one', () => {
    const many = Array.from({ length: 400 }, (_, index) => index + 1);
    expect(() => smallMatrix({ clusterSizes: many, queueDepths: many })).toThrow(
      /640000 cells, but a run has at most 100000/,
    );
  });
});
